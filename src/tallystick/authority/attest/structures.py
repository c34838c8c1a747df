# SPDX-License-Identifier: Apache-2.0
"""Public areas of keys and NV indices, strictly read and written back byte for byte, and their Names.

TPMT_PUBLIC of RSA and elliptic-curve keys, TPMS_NV_PUBLIC (TPM 2.0 Library, Part 2, 12.2.4 and 13.5). Reading checks
form only: which attributes a key must have is decided in `objects`. A Name is computed over the bytes as the TPM wrote
them, so shorter coordinates (leading zeros left out) stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tallystick.authority.attest.algorithms import (
    AES,
    CURVES,
    ECC,
    ECDSA,
    NULL,
    RSA,
    RSAPSS,
    RSASSA,
    SHA256,
    SHA384,
    SHA512,
    name,
)
from tallystick.authority.attest.cursor import Cursor, malformed, sized

_OBJECT_RESERVED: Final = ~0x000F_0CF6 & 0xFFFF_FFFF  # of library 1.59; firmwareLimited and svnLimited are not used
_NV_RESERVED: Final = 0x01F0_0300
_NV_HANDLES: Final = 0x01  # the first byte of every NV index
_MAX_DIGEST: Final = 64
_MAX_MODULUS: Final = 512
_DEFAULT_EXPONENT: Final = 65537

_HASHES_READ: Final = frozenset((0x0004, SHA256, SHA384, SHA512, 0x0012, 0x0027, 0x0028, 0x0029))
_CIPHERS: Final = frozenset((0x0003, AES, 0x0013, 0x0026))
_WITH_HASH: Final = frozenset((RSASSA, RSAPSS, 0x0017, ECDSA, 0x0019, 0x001B, 0x001C, 0x001D))
_ECDAA, _RSAES = 0x001A, 0x0015
_KDFS: Final = frozenset((0x0007, 0x0020, 0x0021, 0x0022))


@dataclass(frozen=True, slots=True)
class Scheme:
    """How a key signs or decrypts.

    Attributes:
        algorithm: `NULL` where the user of the key chooses.
        hash: 0 where the scheme has none.
        count: of ECDAA, otherwise 0.
    """

    algorithm: int = NULL
    hash: int = 0
    count: int = 0


@dataclass(frozen=True, slots=True)
class Symmetric:
    """The cipher by which a storage key protects what is under it.

    Attributes:
        algorithm: `NULL` where it protects nothing.
        bits: of its key.
        mode: `CFB`.
    """

    algorithm: int = NULL
    bits: int = 0
    mode: int = 0


@dataclass(frozen=True, slots=True)
class Public:
    """TPMT_PUBLIC of an asymmetric key.

    Attributes:
        type: `RSA` or `ECC`.
        name_alg: the hash of its Name.
        attributes: TPMA_OBJECT.
        policy: authPolicy.
        symmetric: of storage keys.
        scheme: of signing keys.
        bits: RSA: of the modulus, otherwise 0.
        exponent: RSA, as written: 0 means 65537.
        curve: ECC: TPM_ECC_CURVE, otherwise 0.
        kdf: ECC.
        unique: RSA: (modulus,), ECC: (x, y); as the TPM wrote them.
    """

    type: int
    name_alg: int
    attributes: int
    policy: bytes
    symmetric: Symmetric
    scheme: Scheme
    bits: int = 0
    exponent: int = 0
    curve: int = 0
    kdf: Scheme = field(default_factory=Scheme)
    unique: tuple[bytes, ...] = ()

    @classmethod
    def parse(cls, data: bytes) -> Public:
        """Read a public area nobody vouches for.

        Args:
            data: TPMT_PUBLIC, without a size before it.

        Raises:
            FormatError: ``malformed``.
        """
        at = Cursor(data)
        kind, name_alg, attributes = at.number(2), _hash(at), at.number(4)
        if kind not in (RSA, ECC) or attributes & _OBJECT_RESERVED:
            malformed("no asymmetric key")
        policy = at.sized(_MAX_DIGEST)
        symmetric, scheme = _symmetric(at), _scheme(at)
        if kind == RSA:
            bits, exponent = at.number(2), at.number(4)
            unique: tuple[bytes, ...] = (at.sized(_MAX_MODULUS),)
            at.end()
            return cls(kind, name_alg, attributes, policy, symmetric, scheme, bits, exponent, unique=unique)
        curve, kdf = at.number(2), _kdf(at)
        if curve not in CURVES:
            malformed("an unknown curve")
        unique = (at.sized(_width(curve)), at.sized(_width(curve)))
        at.end()
        return cls(kind, name_alg, attributes, policy, symmetric, scheme, curve=curve, kdf=kdf, unique=unique)

    def encode(self) -> bytes:
        """Write it as the TPM does."""
        head = self.type.to_bytes(2, "big") + self.name_alg.to_bytes(2, "big") + self.attributes.to_bytes(4, "big")
        head += sized(self.policy) + _symmetric_bytes(self.symmetric) + _scheme_bytes(self.scheme)
        if self.type == RSA:
            head += self.bits.to_bytes(2, "big") + self.exponent.to_bytes(4, "big")
        else:
            head += self.curve.to_bytes(2, "big") + _scheme_bytes(self.kdf)
        return head + b"".join(map(sized, self.unique))

    def name(self) -> bytes:
        """Compute its Name: the hash's number and the hash of the public area.

        Raises:
            FormatError: ``malformed`` for a hash weaker than SHA-256.
        """
        return name(self.name_alg, self.encode())

    def key(self) -> rsa.RSAPublicKey | ec.EllipticCurvePublicKey:
        """Return the key itself.

        Raises:
            FormatError: ``malformed`` where it is none: a point off its curve, an even modulus, one of another size.
        """
        x, *rest = [int.from_bytes(part, "big") for part in self.unique]
        try:
            if self.type == ECC:
                return ec.EllipticCurvePublicNumbers(x, rest[0], CURVES[self.curve]()).public_key()
            if x.bit_length() != self.bits or not x & 1:
                malformed("no modulus of its size")
            return rsa.RSAPublicNumbers(self.exponent or _DEFAULT_EXPONENT, x).public_key()
        except ValueError:
            malformed("no public key")

    def canonical(self) -> bytes:
        """Return the key in its one form: an uncompressed point with full coordinates, or a modulus."""
        if self.type == RSA:
            return self.unique[0]
        return b"\x04" + b"".join(part.rjust(_width(self.curve), b"\0") for part in self.unique)


@dataclass(frozen=True, slots=True)
class NvPublic:
    """TPMS_NV_PUBLIC.

    Attributes:
        index: the handle.
        name_alg: the hash of its Name.
        attributes: TPMA_NV.
        policy: authPolicy.
        size: of the contents, bytes.
    """

    index: int
    name_alg: int
    attributes: int
    policy: bytes
    size: int

    @classmethod
    def parse(cls, data: bytes) -> NvPublic:
        """Read a public area nobody vouches for.

        Args:
            data: TPMS_NV_PUBLIC, without a size before it.

        Raises:
            FormatError: ``malformed``.
        """
        at = Cursor(data)
        index, name_alg, attributes = at.number(4), _hash(at), at.number(4)
        policy, size = at.sized(_MAX_DIGEST), at.number(2)
        at.end()
        if index >> 24 != _NV_HANDLES or attributes & _NV_RESERVED:
            malformed("no NV index")
        return cls(index, name_alg, attributes, policy, size)

    def encode(self) -> bytes:
        """Write it as the TPM does."""
        head = self.index.to_bytes(4, "big") + self.name_alg.to_bytes(2, "big") + self.attributes.to_bytes(4, "big")
        return head + sized(self.policy) + self.size.to_bytes(2, "big")

    def name(self) -> bytes:
        """Compute its Name, which changes when the index is first written.

        Raises:
            FormatError: ``malformed`` for a hash weaker than SHA-256.
        """
        return name(self.name_alg, self.encode())


def _width(curve: int) -> int:
    return (CURVES[curve].key_size + 7) // 8


def _hash(at: Cursor) -> int:
    found = at.number(2)
    if found not in _HASHES_READ:
        malformed("an unknown hash")
    return found


def _symmetric(at: Cursor) -> Symmetric:
    algorithm = at.number(2)
    if algorithm == NULL:
        return Symmetric()
    if algorithm not in _CIPHERS:
        malformed("an unknown cipher")
    return Symmetric(algorithm, at.number(2), at.number(2))


def _scheme(at: Cursor) -> Scheme:
    algorithm = at.number(2)
    if algorithm in _WITH_HASH:
        return Scheme(algorithm, _hash(at))
    if algorithm == _ECDAA:
        return Scheme(algorithm, _hash(at), at.number(2))
    if algorithm not in (NULL, _RSAES):
        malformed("an unknown scheme")
    return Scheme(algorithm)


def _kdf(at: Cursor) -> Scheme:
    algorithm = at.number(2)
    if algorithm == NULL:
        return Scheme()
    if algorithm not in _KDFS:
        malformed("an unknown key derivation")
    return Scheme(algorithm, _hash(at))


def _symmetric_bytes(symmetric: Symmetric) -> bytes:
    if symmetric.algorithm == NULL:
        return NULL.to_bytes(2, "big")
    return b"".join(part.to_bytes(2, "big") for part in (symmetric.algorithm, symmetric.bits, symmetric.mode))


def _scheme_bytes(scheme: Scheme) -> bytes:
    parts = [scheme.algorithm]
    if scheme.hash:
        parts.append(scheme.hash)
    if scheme.algorithm == _ECDAA:
        parts.append(scheme.count)
    return b"".join(part.to_bytes(2, "big") for part in parts)
