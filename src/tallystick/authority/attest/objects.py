# SPDX-License-Identifier: Apache-2.0
"""Which keys and NV indices evidence may be about: attributes, algorithms and sizes, each with its own refusal.

The templates are those of the `tpm:` backend (``docs/tpm.md``); of an endorsement key (EK), which its manufacturer
made, only what credentials rely on is required.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tallystick.authority.attest import algorithms as a
from tallystick.authority.attest import roca
from tallystick.authority.attest.reasons import refusal
from tallystick.authority.attest.structures import NvPublic, Public, Scheme, Symmetric
from tallystick.codec.digest import sha256
from tallystick.errors import FormatError

_ECDSA_SHA256: Final = Scheme(a.ECDSA, a.SHA256)
_INSIDE: Final = a.FIXED_TPM | a.FIXED_PARENT | a.SENSITIVE_DATA_ORIGIN
CONTAINER_KEY: Final = _INSIDE | a.USER_WITH_AUTH | a.SIGN | a.NO_DA
ATTESTATION_KEY: Final = CONTAINER_KEY | a.RESTRICTED
INDEX: Final = a.NV_AUTH_READ | a.NV_AUTH_WRITE | a.NV_OWNER_READ | a.NV_NO_DA | a.NV_WRITTEN
_MIN_RSA: Final = 2048
_CIPHER_BITS: Final = (128, 256)

_Rows = Sequence[tuple[bool, str]]


def read_public(data: bytes, part: str) -> Public:
    """Read a key's public area and insist that it holds a key.

    Args:
        data: TPMT_PUBLIC.
        part: begins the reasons of refusal.

    Raises:
        AuthorityError: ``attestation_refused``.
    """
    try:
        public = Public.parse(data)
        public.key()
    except FormatError as cause:
        raise refusal(f"{part}_form") from cause
    return public


def endorsement_key(data: bytes) -> Public:
    """Read an EK: it decrypts credentials for its own TPM, and nothing else.

    Args:
        data: TPMT_PUBLIC.

    Raises:
        AuthorityError: ``attestation_refused``.
    """
    public = read_public(data, "ek")
    symmetric = public.symmetric
    large = public.curve in (a.P256, a.P384) if public.type == a.ECC else public.bits >= _MIN_RSA
    cipher = symmetric.algorithm == a.AES and symmetric.mode == a.CFB and symmetric.bits in _CIPHER_BITS
    has = public.attributes
    _insist(
        "ek",
        (
            (public.name_alg in a.HASHES, "name_alg"),
            (bool(has & a.FIXED_TPM), "fixed_tpm"),
            (bool(has & a.FIXED_PARENT), "fixed_parent"),
            (bool(has & a.SENSITIVE_DATA_ORIGIN), "origin"),
            (bool(has & a.RESTRICTED), "restricted"),
            (bool(has & a.DECRYPT), "decrypt"),
            (not has & a.SIGN, "sign"),
            (large, "size"),
            (cipher, "symmetric"),
            (public.type == a.ECC or not roca.weak(int.from_bytes(public.unique[0], "big")), "roca"),
        ),
    )
    return public


def attestation_key(data: bytes) -> Public:
    """Read an AK: made inside its TPM, restricted to signing what the TPM itself states.

    Args:
        data: TPMT_PUBLIC.

    Raises:
        AuthorityError: ``attestation_refused``.
    """
    public = read_public(data, "ak")
    restricted = bool(public.attributes & a.RESTRICTED)
    _insist("ak", (*_inside(public), (restricted, "restricted"), *_signing(public)))
    if not _from_template(public, ATTESTATION_KEY):
        raise refusal("ak_template")
    return public


def container_key(data: bytes, point: bytes) -> Public:
    """Read the container's key (CK): made inside its TPM, signs messages.

    Args:
        data: TPMT_PUBLIC.
        point: of the key that signed the request, uncompressed.

    Raises:
        AuthorityError: ``attestation_refused``.
    """
    public = read_public(data, "key")
    free = not public.attributes & a.RESTRICTED
    user = bool(public.attributes & a.USER_WITH_AUTH)
    _insist("key", (*_inside(public), (free, "restricted"), (user, "user"), *_signing(public)))
    if not _from_template(public, CONTAINER_KEY):
        raise refusal("key_template")
    if public.canonical() != point:
        raise refusal("key_other")
    return public


def index(data: bytes, part: str, kind: int, size: int, thumbprint: bytes) -> NvPublic:
    """Read the public area of an NV index and insist that Tallystick made it for this container.

    Args:
        data: TPMS_NV_PUBLIC.
        part: ``counter`` or ``chain``; begins the reasons of refusal, and is in the marker.
        kind: `NV_COUNTER` or `NV_EXTEND`.
        size: of its contents, bytes.
        thumbprint: of the container's identity key.

    Raises:
        AuthorityError: ``attestation_refused``.
    """
    try:
        public = NvPublic.parse(data)
    except FormatError as cause:
        raise refusal(f"{part}_public") from cause
    _insist(
        part,
        (
            (public.name_alg in a.HASHES, "name_alg"),
            (public.attributes & a.NV_TYPE == kind, "kind"),
            (bool(public.attributes & a.NV_WRITTEN), "written"),
            (public.attributes == INDEX | kind, "attributes"),
            (public.policy == marker(part, thumbprint), "marker"),
            (public.size == size, "size"),
        ),
    )
    return public


def marker(part: str, thumbprint: bytes) -> bytes:
    """Return the authPolicy that binds an index to a container; nothing ever satisfies it.

    Args:
        part: ``counter`` or ``chain``.
        thumbprint: of the container's identity key.
    """
    return sha256(b"tallystick " + part.encode() + thumbprint)


def _inside(public: Public) -> _Rows:
    has = public.attributes
    return (
        (public.type == a.ECC, "type"),
        (public.name_alg in a.HASHES, "name_alg"),
        (bool(has & a.FIXED_TPM), "fixed_tpm"),
        (bool(has & a.FIXED_PARENT), "fixed_parent"),
        (bool(has & a.SENSITIVE_DATA_ORIGIN), "origin"),
    )


def _signing(public: Public) -> _Rows:
    return (
        (bool(public.attributes & a.SIGN), "sign"),
        (not public.attributes & a.DECRYPT, "decrypt"),
        (public.curve == a.P256, "curve"),
        (public.scheme == _ECDSA_SHA256, "scheme"),
        (not public.policy, "policy"),
    )


def _from_template(public: Public, attributes: int) -> bool:
    plain = public.symmetric == Symmetric() and public.kdf == Scheme()
    return plain and public.attributes == attributes and public.name_alg == a.SHA256


def _insist(part: str, rows: _Rows) -> None:
    for holds, reason in rows:
        if not holds:
            raise refusal(f"{part}_{reason}")
