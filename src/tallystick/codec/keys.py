# SPDX-License-Identifier: Apache-2.0
"""Public keys: four fully specified algorithms, COSE_Key (RFC 9052, 9053, 9964), thumbprints (RFC 9679).

A key record fixes the algorithm; a message's header must name the same one (rule R50). Keys from outside are checked
when they are read: points on the curve, moduli of 2048 to 4096 bits, no small-order or non-canonical Ed25519 key (such
a key is "possessed" by everybody: a constant signature verifies under it).

Numbers: algorithm identifiers from RFC 9864 (ESP256 -9, Ed25519 -19), RFC 9053 (PS256 -37), RFC 9964 (ML-DSA-44 -48,
key type AKP 7).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from tallystick.codec import cbor
from tallystick.codec.digest import sha256
from tallystick.errors import error
from tallystick.record import Record

ESP256: Final = -9
ED25519: Final = -19
PS256: Final = -37
ML_DSA_44: Final = -48

POINT_BYTES: Final = 65
SEC1_UNCOMPRESSED: Final = 4

_KTY: Final = 1
_ALG: Final = 3
_OKP, _EC2, _RSA, _AKP = 1, 2, 3, 7
_P256, _CURVE_ED25519 = 1, 6
_P256_FIELD: Final = 2**256 - 2**224 + 2**192 + 2**96 - 1

_MAX_BYTES: Final = 8192
_MEMO: Final = 256  # keys

Verify = Callable[[bytes, bytes], bool]


class _EcdsaSha256(ec.ECDSA):
    """ECDSA with SHA-256. Its own constructor would load 20 modules to learn whether deterministic signing, not used
    here, is supported: 7 ms at each start of an application.
    """

    algorithm = hashes.SHA256()
    deterministic_signing = False

    def __init__(self) -> None:
        """Set nothing: both properties are those of the class."""


ECDSA_SHA256: Final = _EcdsaSha256()


class Algorithm(Record):
    """One row of the algorithm table.

    Attributes:
        identifier: COSE algorithm number.
        name: registered name.
        signature_bytes: exact signature size, 0 where it depends on the key.
        required: COSE_Key labels that make up the key (and the thumbprint).
        verifier: builds the verify function from a COSE_Key map.
    """

    identifier: int
    name: str
    signature_bytes: int
    required: tuple[int, ...]
    verifier: Callable[[Mapping[int, Any]], Verify]


class PublicKey:
    """A public key with the one algorithm it is for.

    Attributes:
        alg: COSE algorithm number.
        cose: the encoded COSE_Key, deterministic, algorithm included.
        thumbprint: 32 bytes, RFC 9679 with SHA-256; the `kid` of messages and the identity of containers.
        verify_raw: ``(message, signature) -> bool``, for callers that build their own errors.
    """

    __slots__ = ("alg", "cose", "thumbprint", "verify_raw")

    def __init__(self, alg: int, cose: bytes, thumbprint: bytes, verify_raw: Verify) -> None:
        self.alg = alg
        self.cose = cose
        self.thumbprint = thumbprint
        self.verify_raw = verify_raw

    @classmethod
    def from_cose(cls, data: bytes | Mapping[int, Any]) -> PublicKey:
        """Read a COSE_Key nobody vouches for.

        Args:
            data: the encoded key, or the decoded map. Exactly key type, algorithm and the key's own members.

        Returns:
            The key.

        Raises:
            FormatError: ``malformed`` or ``too_large``.
            VerificationError: ``bad_key`` for an algorithm not allowed here, extra members or a weak key.
        """
        try:
            encoded = data if isinstance(data, bytes) else cbor.encode(dict(data))
        except TypeError as cause:
            raise error("bad_key", "members no key has") from cause
        known = _READ.get(encoded)
        if known is None:
            known = cls._from_members(cbor.decode(data, _MAX_BYTES) if isinstance(data, bytes) else dict(data))
            if len(_READ) >= _MEMO:
                _READ.clear()
            _READ[known.cose] = known
        return known

    @classmethod
    def _from_members(cls, members: Any) -> PublicKey:
        if type(members) is not dict:
            raise error("malformed", "a COSE key is a map")
        alg = members.get(_ALG)
        algorithm = ALGORITHMS.get(alg) if type(alg) is int else None
        if algorithm is None:
            raise error("bad_key", "the key names no algorithm that is allowed here")
        if set(members) != {_ALG, *algorithm.required}:
            raise error("bad_key", f"not the members of a {algorithm.name} key")
        verify = algorithm.verifier(members)
        subset = {label: members[label] for label in algorithm.required}
        return cls(algorithm.identifier, cbor.encode(members), sha256(cbor.encode(subset)), verify)

    @classmethod
    def from_p256_point(cls, point: bytes) -> PublicKey:
        """Make an ESP256 key from a point.

        Args:
            point: 65 bytes, uncompressed SEC1.

        Returns:
            The key.

        Raises:
            VerificationError: ``bad_key`` for anything that is not a point on P-256.
        """
        if len(point) != POINT_BYTES or point[0] != SEC1_UNCOMPRESSED:
            raise error("bad_key", "not an uncompressed P-256 point")
        return cls.from_cose({_KTY: _EC2, _ALG: ESP256, -1: _P256, -2: point[1:33], -3: point[33:]})

    def p256_point(self) -> bytes:
        """Return the 65-byte uncompressed point of a P-256 key.

        Raises:
            VerificationError: ``bad_key`` where this is another kind of key.
        """
        if self.alg != ESP256:
            raise error("bad_key", "not a P-256 key")
        members = self.to_map()
        point: bytes = b"\x04" + members[-2] + members[-3]
        return point

    def to_map(self) -> dict[int, Any]:
        """Return the decoded COSE_Key, to be embedded in another message."""
        members: dict[int, Any] = cbor.decode(self.cose)
        return members

    def verify(self, message: bytes, signature: bytes) -> None:
        """Verify a signature.

        Args:
            message: the signed bytes.
            signature: as COSE carries it (ECDSA: exactly 64 bytes, r || s).

        Raises:
            VerificationError: ``bad_signature``.
        """
        if not self.verify_raw(message, signature):
            raise error("bad_signature", "the signature does not verify")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PublicKey) and other.cose == self.cose

    def __hash__(self) -> int:
        return hash(self.cose)

    def __repr__(self) -> str:
        return f"PublicKey({ALGORITHMS[self.alg].name}, {self.thumbprint.hex()[:16]})"


# Keys read before, by their encoding. A key costs as much to make as to use: the library checks the point and converts
# it at its first verification, and a grant's chain or a request names the same few keys again and again.
_READ: Final[dict[bytes, PublicKey]] = {}


def _octets(members: Mapping[int, Any], label: int, size: int) -> bytes:
    value = members.get(label)
    if type(value) is not bytes or len(value) != size:
        raise error("bad_key", f"COSE key member {label} is not {size} bytes")
    return value


def _expect(members: Mapping[int, Any], label: int, value: int) -> None:
    if type(members.get(label)) is not int or members[label] != value:
        raise error("bad_key", f"COSE key member {label} is not {value}")


def _esp256(members: Mapping[int, Any]) -> Verify:
    _expect(members, _KTY, _EC2)
    _expect(members, -1, _P256)
    x = int.from_bytes(_octets(members, -2, 32))
    y = int.from_bytes(_octets(members, -3, 32))
    if x >= _P256_FIELD or y >= _P256_FIELD:  # OpenSSL reduces them: one key would have two thumbprints
        raise error("bad_key", "a P-256 coordinate beyond the field")
    try:
        key = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    except ValueError as cause:
        raise error("bad_key", "not a point on P-256") from cause
    check, scheme, number, to_der = key.verify, ECDSA_SHA256, int.from_bytes, encode_dss_signature

    def verify(message: bytes, signature: bytes) -> bool:
        if len(signature) != 64:
            return False
        try:
            check(to_der(number(signature[:32]), number(signature[32:])), message, scheme)
        except InvalidSignature:
            return False
        return True

    return verify


def _ed25519(members: Mapping[int, Any]) -> Verify:
    from tallystick.codec.ed25519 import verifier

    _expect(members, _KTY, _OKP)
    _expect(members, -1, _CURVE_ED25519)
    return verifier(_octets(members, -2, 32))


def _ps256(members: Mapping[int, Any]) -> Verify:
    from cryptography.hazmat.primitives.asymmetric import padding, rsa

    _expect(members, _KTY, _RSA)
    modulus, exponent = members.get(-1), members.get(-2)
    if type(modulus) is not bytes or not 256 <= len(modulus) <= 512 or modulus[0] < 0x80:
        raise error("bad_key", "an RSA modulus of 2048 to 4096 bits is needed")
    if exponent != b"\x01\x00\x01" or modulus[-1] % 2 == 0:
        raise error("bad_key", "the RSA exponent must be 65537, the modulus odd")
    try:
        key = rsa.RSAPublicNumbers(65537, int.from_bytes(modulus)).public_key()
    except ValueError as cause:
        raise error("bad_key", "not an RSA key") from cause
    check, pad, digest = key.verify, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256()
    size = len(modulus)

    def verify(message: bytes, signature: bytes) -> bool:
        if len(signature) != size:
            return False
        try:
            check(signature, message, pad, digest)
        except InvalidSignature:
            return False
        return True

    return verify


def _ml_dsa_44(members: Mapping[int, Any]) -> Verify:
    from cryptography.hazmat.primitives.asymmetric import mldsa

    _expect(members, _KTY, _AKP)
    key = mldsa.MLDSA44PublicKey.from_public_bytes(_octets(members, -1, 1312))
    check = key.verify

    def verify(message: bytes, signature: bytes) -> bool:
        try:
            check(signature, message)
        except InvalidSignature:
            return False
        return True

    return verify


ALGORITHMS: Final[Mapping[int, Algorithm]] = {
    ESP256: Algorithm(ESP256, "ESP256", 64, (_KTY, -1, -2, -3), _esp256),
    ED25519: Algorithm(ED25519, "Ed25519", 64, (_KTY, -1, -2), _ed25519),
    PS256: Algorithm(PS256, "PS256", 0, (_KTY, -1, -2), _ps256),
    # RFC 9964: the thumbprint of an AKP key covers its algorithm
    ML_DSA_44: Algorithm(ML_DSA_44, "ML-DSA-44", 2420, (_KTY, _ALG, -1), _ml_dsa_44),
}
