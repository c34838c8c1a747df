# SPDX-License-Identifier: Apache-2.0
"""Keys of a TPM in the form other programs read.

"TSS2 PRIVATE KEY" is what the OpenSSL provider of the tpm2-tss project and others read ("ASN.1 Specification for TPM
2.0 Key Files"). It holds nothing secret that is not encrypted by the TPM: only that TPM loads it.
"""

from __future__ import annotations

from typing import Final

from tallystick.backends.tpm.library import TPM2_RH, TSSPrivKey
from tallystick.backends.tpm.library import types as t
from tallystick.backends.tpm.record import Blob, ChipRecord
from tallystick.codec.keys import PublicKey

_OWNER: Final = int(TPM2_RH.OWNER)


def exported(known: ChipRecord, *, public: bool) -> bytes:
    """Write the identity key of a container.

    Args:
        known: what the container remembers of its TPM.
        public: the public half only, as any program reads it.

    Returns:
        PEM.
    """
    if public:
        return public_pem(known.public_key)
    return to_pem(known.identity, known.srk, empty_auth=not known.secret)


def to_pem(blob: Blob, parent: int, *, empty_auth: bool) -> bytes:
    """Write a key as "TSS2 PRIVATE KEY".

    Args:
        blob: the key.
        parent: persistent handle of the storage key; 0 where that is made anew each time.
        empty_auth: whether the key asks for nothing.

    Returns:
        PEM.
    """
    area, _ = t.TPMT_PUBLIC.unmarshal(blob.public)
    private, whole = t.TPM2B_PRIVATE(blob.private), t.TPM2B_PUBLIC(publicArea=area)
    pem: bytes = TSSPrivKey(private, whole, empty_auth, parent or _OWNER).to_pem()
    return pem


def public_pem(key: PublicKey) -> bytes:
    """Write a P-256 key as "PUBLIC KEY" (SubjectPublicKeyInfo).

    Args:
        key: the key.

    Returns:
        PEM.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), key.p256_point())
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
