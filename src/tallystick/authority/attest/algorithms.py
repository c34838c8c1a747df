# SPDX-License-Identifier: Apache-2.0
"""The numbers of the TPM 2.0 Library (Part 2) that evidence is made of, and Names."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from tallystick.authority.attest.cursor import malformed

RSA, ECC, NULL = 0x0001, 0x0023, 0x0010
AES, CFB = 0x0006, 0x0043
SHA256, SHA384, SHA512 = 0x000B, 0x000C, 0x000D
RSASSA, RSAPSS, ECDSA = 0x0014, 0x0016, 0x0018

# TPMA_OBJECT
FIXED_TPM, FIXED_PARENT, SENSITIVE_DATA_ORIGIN = 1 << 1, 1 << 4, 1 << 5
USER_WITH_AUTH, ADMIN_WITH_POLICY, NO_DA = 1 << 6, 1 << 7, 1 << 10
RESTRICTED, DECRYPT, SIGN = 1 << 16, 1 << 17, 1 << 18

# TPMA_NV; the index's type stands in bits 4 to 7
NV_AUTH_WRITE, NV_OWNER_READ, NV_AUTH_READ = 1 << 2, 1 << 17, 1 << 18
NV_NO_DA, NV_WRITTEN = 1 << 25, 1 << 29
NV_TYPE, NV_COUNTER, NV_EXTEND = 0xF << 4, 1 << 4, 4 << 4

HASHES: Final[Mapping[int, type[hashes.SHA256 | hashes.SHA384 | hashes.SHA512]]] = MappingProxyType(
    {SHA256: hashes.SHA256, SHA384: hashes.SHA384, SHA512: hashes.SHA512}
)
"""The hashes a Name may have: none weaker than SHA-256."""

CURVES: Final[Mapping[int, type[ec.SECP256R1 | ec.SECP384R1 | ec.SECP521R1]]] = MappingProxyType(
    {0x0003: ec.SECP256R1, 0x0004: ec.SECP384R1, 0x0005: ec.SECP521R1}
)
P256, P384 = 0x0003, 0x0004


def name(name_alg: int, public: bytes) -> bytes:
    """Compute the Name of an object: the hash's number and the hash.

    Args:
        name_alg: `SHA256`, `SHA384` or `SHA512`.
        public: the public area, or what stands for it.

    Raises:
        FormatError: ``malformed`` for another hash.
    """
    if name_alg not in HASHES:
        malformed("a Name by a weak hash")
    digest = hashes.Hash(HASHES[name_alg]())
    digest.update(public)
    return name_alg.to_bytes(2, "big") + digest.finalize()
