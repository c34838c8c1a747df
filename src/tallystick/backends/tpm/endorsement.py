# SPDX-License-Identifier: Apache-2.0
"""The endorsement key (EK) a maker put into a TPM, and the certificate that says so.

Sources: "TCG EK Credential Profile for TPM Family 2.0", 2.2.1 (indices, templates), B (policies); TPM 2.0 Library, part
1, 24 (credentials).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tallystick.backends.tpm import nv
from tallystick.backends.tpm.chip import Chip
from tallystick.backends.tpm.library import (
    ESAPI,
    ESYS_TR,
    TPM2_ALG,
    TPM2_SE,
    TPMA_OBJECT,
    NoSuchIndex,
    create_ek_template,
)
from tallystick.backends.tpm.library import types as t
from tallystick.backends.tpm.templates import area_bytes
from tallystick.codec.digest import sha256

# Index of the certificate, and the library's name of the kind of key; the first one found is used.
KINDS: Final = (
    (0x01C00002, "EK-RSA2048"), (0x01C0000A, "EK-ECC256"), (0x01C00012, "EK-HIGH-RSA2048"),
    (0x01C00014, "EK-HIGH-ECC256"), (0x01C00016, "EK-HIGH-ECC384"),
)  # fmt: skip
_CHAIN_INDEX: Final = 0x01C00100  # certificates of the maker, up to 0x01C001FF
_CHAIN_LIMIT: Final = 3
_CERTIFICATE_LIMIT: Final = 4096
_PERSISTENT: Final = 0x81010000


def fingerprint(chip: Chip) -> bytes:
    """Tell one TPM from another, also after it was cleared.

    Args:
        chip: the TPM.

    Returns:
        SHA-256 of its certificate; empty where it has none.
    """
    certificates, _ = find(chip)
    return sha256(certificates[0]) if certificates else b""


def was_cleared(chip: Chip, known: bytes) -> bool:
    """Tell a TPM that was cleared from another one, where it has not the storage key any more.

    Args:
        chip: the TPM.
        known: its fingerprint from before; empty where it had none.
    """
    return bool(known) and fingerprint(chip) == known


def find(chip: Chip) -> tuple[list[bytes], str]:
    """Find the certificate, and the maker's where the TPM has them.

    Args:
        chip: the TPM.

    Returns:
        DER certificates, the EK's first, none where there is none; and what kind of key it is for.
    """
    for number, kind in KINDS:
        certificate = _certificate(chip, number)
        if certificate:
            more = [_certificate(chip, _CHAIN_INDEX + at) for at in range(_CHAIN_LIMIT)]
            return [certificate, *filter(None, more)], kind
    return [], KINDS[0][1]


@contextmanager
def endorsement_key(chip: Chip, esys: ESAPI, kind: str) -> Iterator[tuple[ESYS_TR, t.TPM2B_PUBLIC]]:
    """Load the EK: the persistent one where there is one, else made anew from the TPM's seed.

    Args:
        chip: the TPM.
        esys: the library's object.
        kind: as `find` told.
    """

    def read(index: int) -> bytes:
        found = nv.contents(chip, index, _CERTIFICATE_LIMIT)
        if not found:
            raise NoSuchIndex(index)
        return found

    _, template = create_ek_template(kind, read)
    for number in chip.handles(_PERSISTENT):
        handle = esys.tr_from_tpmpublic(number)
        public, *_ = esys.read_public(handle)
        if _without_key(public) == _without_key(template):  # the same template and the same seed: the same key
            yield handle, public
            return
    handle, public, *_ = esys.create_primary(t.TPM2B_SENSITIVE_CREATE(), template, ESYS_TR.ENDORSEMENT)
    with chip.loaded(esys, handle):
        yield handle, public


@contextmanager
def endorsed(chip: Chip, esys: ESAPI, public: t.TPM2B_PUBLIC, salt: ESYS_TR) -> Iterator[ESYS_TR]:
    """Give what authorizes an EK: nothing, or its policy, which asks for the endorsement hierarchy.

    Args:
        chip: the TPM.
        esys: the library's object.
        public: of the EK.
        salt: the storage key, for the session to be salted to.
    """
    if public.publicArea.objectAttributes & TPMA_OBJECT.USERWITHAUTH:  # templates of the high range
        yield ESYS_TR.PASSWORD
        return
    session = esys.start_auth_session(
        tpm_key=salt,
        bind=ESYS_TR.NONE,
        session_type=TPM2_SE.POLICY,
        symmetric=t.TPMT_SYM_DEF(algorithm=TPM2_ALG.NULL),
        auth_hash=TPM2_ALG.SHA256,
    )
    with chip.loaded(esys, session):
        esys.policy_secret(ESYS_TR.ENDORSEMENT, session, nonce_tpm=b"", cp_hash_a=b"", policy_ref=b"", expiration=0)
        yield session


def _certificate(chip: Chip, number: int) -> bytes:
    """Read a certificate; makers leave padding behind it."""
    data = nv.contents(chip, number, _CERTIFICATE_LIMIT)
    if len(data) < 4 or data[:2] != b"\x30\x82":  # a DER sequence with a length of two bytes: any certificate
        return b""
    return data[: 4 + int.from_bytes(data[2:4])]


def _without_key(public: t.TPM2B_PUBLIC) -> bytes:
    area, _ = t.TPMT_PUBLIC.unmarshal(area_bytes(public))
    if area.type == TPM2_ALG.RSA:
        area.unique.rsa = t.TPM2B_PUBLIC_KEY_RSA(b"")
    else:
        area.unique.ecc = t.TPMS_ECC_POINT(x=t.TPM2B_ECC_PARAMETER(b""), y=t.TPM2B_ECC_PARAMETER(b""))
    return bytes(area.marshal())
