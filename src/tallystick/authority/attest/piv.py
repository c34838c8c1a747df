# SPDX-License-Identifier: Apache-2.0
"""Acceptance of the evidence ``piv`` of a YubiKey, in numbered steps; the first that fails refuses, with its reason.

1.  The evidence is one deterministic CBOR array of two certificates, at most 8192 bytes: of the key, made by the
    token's ATTEST command, and of slot F9, which made it. Neither has an extension twice, or a critical one that is not
    understood.
2.  The attested key is on P-256 and is the key that signed the request. Keys of another kind, RSA among them, are
    refused: containers have none.
3.  The subject names a slot for keys of users: 9A, 9C, 9D, 9E, or 82 to 95; not F9, whose key attests the others.
4.  Firmware, serial number, PIN and touch policy and form factor are there, each in its one form (`piv_fields`).
5.  The certificate of slot F9 signed that of the key; above it stand only authorities (`chains`); none is revoked.
6.  The level: 2 where the chain leads to a pinned root and no advisory caps it, otherwise 1, with the reasons.

**There is no nonce in an attestation.** It says that a key was made in a token and cannot leave it, which does not
change; whoever copies it has nothing, for a request counts only with the signature of the attested key, and that
signature is made for this one request. That is why a verifier sees requests only after `messages.read_request`
accepted them. Tokens attest no imported key.

What it does not show: that the container's account is kept anywhere safe (that would be level 3), that its key for key
agreement is in the token, and who holds the token. The key of slot F9 is shared by many tokens of one batch, so it
identifies none. One that its owner replaced leads to that owner's root, and counts as far as the vendor believes that.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tallystick.authority.attest import advisories, chains
from tallystick.authority.attest.advisories import YUBIKEY, YUBIKEY_BIO, Advisory
from tallystick.authority.attest.certificates import EXTENSIONS_OF_AUTHORITIES, Certificate
from tallystick.authority.attest.piv_fields import EXTENSIONS, NEVER, Fields, refusal
from tallystick.authority.attest.reasons import refusal as refusal_of_path
from tallystick.codec import cbor
from tallystick.codec.keys import ESP256, PublicKey
from tallystick.errors import FormatError

MAX_BYTES: Final = 8192  # a token takes no certificate above 3052
_CERTIFICATES: Final = 2
_PROVEN: Final = 2
_CLAIMED: Final = 1


@dataclass(frozen=True, slots=True)
class AttestedKey:
    """What evidence shows.

    Attributes:
        level: 2 or 1, lower where an advisory says so.
        remarks: why it is not 2, for the operator.
        pinned: it leads to a pinned root, without a doubt on the way; else anybody can have written it.
        fields: what the token says.
    """

    level: int
    remarks: tuple[str, ...]
    pinned: bool
    fields: Fields

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the operator should know whatever the level."""
        if self.fields.pin_policy == NEVER:
            return ("its token never asks for the PIN: whoever has the token has the license",)
        return ()


def certificates(data: bytes) -> tuple[bytes, bytes]:
    """Take evidence apart.

    Args:
        data: the evidence ``piv`` of a request.

    Returns:
        The certificates of the key and of slot F9, DER; nobody vouches for them.

    Raises:
        AuthorityError: ``attestation_refused``, reason ``piv_form``.
    """
    try:
        found = cbor.decode(data, MAX_BYTES)
    except FormatError as cause:
        raise refusal("piv_form") from cause
    if type(found) is not list or len(found) != _CERTIFICATES or any(type(one) is not bytes for one in found):
        raise refusal("piv_form")
    return found[0], found[1]


def examine(data: bytes, key: PublicKey, pinned: chains.Pinned, own: Iterable[Advisory], now: int) -> AttestedKey:
    """Examine the evidence ``piv`` of a request.

    Args:
        data: the evidence.
        key: the container's identity key, which signed the request.
        pinned: what the vendor believes about YubiKeys.
        own: the vendor's own advisories.
        now: seconds since 1970.

    Returns:
        What it shows.

    Raises:
        AuthorityError: ``attestation_refused``, with the ``reason`` in its details.
    """
    attestation, token = map(_read, certificates(data))
    _check_key(attestation, key)
    fields = Fields.read(attestation, token)
    if attestation.authority:
        raise refusal("piv_ca")
    if not attestation.critical <= EXTENSIONS_OF_AUTHORITIES | EXTENSIONS:
        raise refusal_of_path("certificate_critical")
    if not attestation.names_issuer(token):
        raise refusal("piv_issuer")
    if not attestation.issued_by(token):
        raise refusal_of_path("path_signature")
    remarks = [] if attestation.first <= now <= attestation.last else ["its attestation is not valid today"]
    found, why = chains.climb(attestation, (token,), pinned, "its attestation")
    remarks += why
    proven = found and not remarks
    level = _PROVEN if proven else _CLAIMED
    for row in _applying(fields, tuple(own)):
        level = min(level, row.level)
        remarks.append(row.reason)
    return AttestedKey(level, tuple(remarks), proven, fields)


def _read(der: bytes) -> Certificate:
    try:
        return Certificate.parse(der)
    except FormatError as cause:
        if isinstance(cause.__cause__, x509.DuplicateExtension):
            raise refusal("piv_twice") from cause
        raise refusal_of_path("certificate_form") from cause


def _check_key(attestation: Certificate, key: PublicKey) -> None:
    attested = attestation.key
    if not isinstance(attested, ec.EllipticCurvePublicKey):
        raise refusal("piv_key_type")
    if not isinstance(attested.curve, ec.SECP256R1):
        raise refusal("piv_key_curve")
    point = attested.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    if key.alg != ESP256 or point != key.p256_point():
        raise refusal("piv_key_other")


def _applying(fields: Fields, own: tuple[Advisory, ...]) -> tuple[Advisory, ...]:
    signs = (YUBIKEY, YUBIKEY_BIO) if fields.bio else (YUBIKEY,)
    firmware = advisories.version(*fields.firmware)
    return tuple(row for sign in signs for row in advisories.applying(sign, firmware, own))
