# SPDX-License-Identifier: Apache-2.0
"""What keys of a container look like to a TPM, and how its structures read.

Every object is ``noDA``: a program that is killed while it uses one must never bring the TPM into its lockout
(observed: three kills did). There is no PCR policy: it would lock customers out when they update their firmware, and
does not stop the owner of a machine. Sources: TCG TPM 2.0 Library, part 1 (11.4, 25), part 2 (8.3, 12.2).
"""

from __future__ import annotations

from typing import Final

from tallystick.backends.tpm.library import TPM2_ALG, TPM2_ECC, TPMA_OBJECT, TSS2_Exception
from tallystick.backends.tpm.library import types as t
from tallystick.codec.keys import PublicKey
from tallystick.errors import VerificationError, error

POINT: Final = 32

BASE: Final = TPMA_OBJECT.FIXEDTPM | TPMA_OBJECT.FIXEDPARENT | TPMA_OBJECT.USERWITHAUTH | TPMA_OBJECT.NODA
_MADE_HERE: Final = BASE | TPMA_OBJECT.SENSITIVEDATAORIGIN
STORAGE: Final = _MADE_HERE | TPMA_OBJECT.RESTRICTED | TPMA_OBJECT.DECRYPT
SIGNING: Final = _MADE_HERE | TPMA_OBJECT.SIGN_ENCRYPT
AGREEING: Final = _MADE_HERE | TPMA_OBJECT.DECRYPT
ATTESTING: Final = SIGNING | TPMA_OBJECT.RESTRICTED


def ecc_template(attributes: int, *, x: bytes = b"") -> t.TPM2B_PUBLIC:
    """Describe a P-256 key.

    Args:
        attributes: TPMA_OBJECT.
        x: bytes that make a primary key another one than its neighbors'.

    Returns:
        The template.
    """
    symmetric = t.TPMT_SYM_DEF_OBJECT(algorithm=TPM2_ALG.NULL)
    if attributes & STORAGE == STORAGE:
        symmetric = t.TPMT_SYM_DEF_OBJECT(
            algorithm=TPM2_ALG.AES, keyBits=t.TPMU_SYM_KEY_BITS(aes=128), mode=t.TPMU_SYM_MODE(aes=TPM2_ALG.CFB)
        )
    scheme = t.TPMT_ECC_SCHEME(scheme=TPM2_ALG.NULL)
    if attributes & TPMA_OBJECT.SIGN_ENCRYPT:
        scheme = t.TPMT_ECC_SCHEME(
            scheme=TPM2_ALG.ECDSA, details=t.TPMU_ASYM_SCHEME(ecdsa=t.TPMS_SCHEME_HASH(hashAlg=TPM2_ALG.SHA256))
        )
    parameters = t.TPMS_ECC_PARMS(
        symmetric=symmetric, scheme=scheme, curveID=TPM2_ECC.NIST_P256, kdf=t.TPMT_KDF_SCHEME(scheme=TPM2_ALG.NULL)
    )
    area = t.TPMT_PUBLIC(
        type=TPM2_ALG.ECC,
        nameAlg=TPM2_ALG.SHA256,
        objectAttributes=attributes,
        parameters=t.TPMU_PUBLIC_PARMS(eccDetail=parameters),
    )
    area.unique.ecc = t.TPMS_ECC_POINT(x=t.TPM2B_ECC_PARAMETER(x), y=t.TPM2B_ECC_PARAMETER(b""))
    return t.TPM2B_PUBLIC(publicArea=area)


def area_bytes(public: t.TPM2B_PUBLIC) -> bytes:
    """Return t.TPMT_PUBLIC as the TPM writes it."""
    return bytes(public.publicArea.marshal())


def key_of(area: bytes) -> PublicKey:
    """Return the P-256 key in a t.TPMT_PUBLIC; raises ``bad_key`` where there is none."""
    try:
        point = t.TPMT_PUBLIC.unmarshal(area)[0].unique.ecc
    except TSS2_Exception as cause:
        raise error("bad_key", "not the public key of a TPM") from cause
    return PublicKey.from_p256_point(b"\x04" + bytes(point.x).rjust(POINT, b"\0") + bytes(point.y).rjust(POINT, b"\0"))


def own_key(area: bytes) -> PublicKey:
    """Return the P-256 key in a t.TPMT_PUBLIC that a container keeps; raises ``tampered`` where there is none."""
    try:
        return key_of(area)
    except VerificationError as cause:
        raise error("tampered", "a key kept in the container's files was changed") from cause


def raw_signature(signature: t.TPMT_SIGNATURE) -> bytes:
    """Return r || s, 64 bytes: algorithm, hash, size and r, size and s are what the TPM writes."""
    data = bytes(signature.marshal())
    middle = 6 + int.from_bytes(data[4:6])
    return data[6:middle].rjust(POINT, b"\0") + data[middle + 2 :].rjust(POINT, b"\0")
