# SPDX-License-Identifier: Apache-2.0
"""Software signers: the private halves of `codec.keys`, for the file anchors of containers and issuers.

Anything with a `public_key` and a `sign` is a `Signer`; every container `Anchor` is one.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from tallystick.codec.keys import (
    ECDSA_SHA256,
    ED25519,
    ESP256,
    ML_DSA_44,
    POINT_BYTES,
    PS256,
    SEC1_UNCOMPRESSED,
    PublicKey,
)
from tallystick.errors import error

RSA_BITS: Final = 2048  # the fastest to verify; NIST SP 800-57 allows it to 2030, longer keys work too


class Signer(Protocol):
    """Something that signs with one key."""

    @property
    def public_key(self) -> PublicKey:
        """The key that verifies what `sign` returns."""

    def sign(self, message: bytes) -> bytes:
        """Sign a message in the algorithm of `public_key`."""


class SoftwareKey:
    """A private key in memory. Its repr never shows it."""

    __slots__ = ("_private", "public_key")

    def __init__(self, private: Any, alg: int) -> None:
        self._private = private
        self.public_key = _public(private, alg)

    @classmethod
    def generate(cls, alg: int = ESP256) -> SoftwareKey:
        """Make a new key.

        Args:
            alg: COSE algorithm number, one of `keys.ALGORITHMS`.

        Returns:
            The key.

        Raises:
            UsageError: ``usage`` for another algorithm.
        """
        if alg == ESP256:
            return cls(ec.generate_private_key(ec.SECP256R1()), alg)
        from cryptography.hazmat.primitives.asymmetric import ed25519, mldsa, rsa

        if alg == ED25519:
            return cls(ed25519.Ed25519PrivateKey.generate(), alg)
        if alg == PS256:
            return cls(rsa.generate_private_key(65537, RSA_BITS), alg)
        if alg == ML_DSA_44:
            return cls(mldsa.MLDSA44PrivateKey.generate(), alg)
        raise error("usage", f"algorithm {alg} is not allowed here")

    @classmethod
    def from_p256_scalar(cls, scalar: bytes) -> SoftwareKey:
        """Read a P-256 key kept as its bare secret number.

        Containers keep theirs so: reading PKCS #8 would cost each start of an application 20 ms of imports.

        Args:
            scalar: 32 bytes.

        Returns:
            The key (ESP256).

        Raises:
            VerificationError: ``bad_key`` outside the curve's order.
        """
        try:
            return cls(ec.derive_private_key(int.from_bytes(scalar), ec.SECP256R1()), ESP256)
        except ValueError as cause:
            raise error("bad_key", "not a P-256 private key") from cause

    def p256_scalar(self) -> bytes:
        """Return the 32-byte secret number of a P-256 key."""
        number: int = self._private.private_numbers().private_value
        return number.to_bytes(32)

    @classmethod
    def from_pkcs8(cls, data: bytes, password: bytes | None = None) -> SoftwareKey:
        """Read a PKCS #8 key (DER, or PEM).

        Args:
            data: the encoded key.
            password: if it is encrypted.

        Returns:
            The key, with the algorithm its type implies (RSA: PS256).

        Raises:
            VerificationError: ``bad_key`` if it cannot be read or is of another type.
        """
        from cryptography.hazmat.primitives import serialization

        pem = data.lstrip().startswith(b"-----")
        load = serialization.load_pem_private_key if pem else serialization.load_der_private_key
        try:
            private = load(data, password)
        except (ValueError, TypeError, UnsupportedAlgorithm) as cause:
            raise error("bad_key", "the private key cannot be read", "Check the file and the passphrase.") from cause
        alg = _ALG_BY_TYPE.get(type(private).__name__.lower())
        if alg is None:
            raise error("bad_key", f"a {type(private).__name__} cannot sign here")
        return cls(private, alg)

    def to_pkcs8(self, password: bytes | None = None) -> bytes:
        """Encode as PKCS #8 (DER; PEM encrypted with scrypt-free PBES2 where a password is given).

        Args:
            password: encrypt with it.

        Returns:
            The encoded key.
        """
        from cryptography.hazmat.primitives import serialization

        protection: serialization.KeySerializationEncryption = serialization.NoEncryption()
        encoding = serialization.Encoding.DER
        if password is not None:
            protection = serialization.BestAvailableEncryption(password)
            encoding = serialization.Encoding.PEM
        form = serialization.PrivateFormat.PKCS8
        return self._private.private_bytes(encoding, form, protection)  # type: ignore[no-any-return]  # union of key types

    def sign(self, message: bytes) -> bytes:
        """Sign a message.

        Args:
            message: the bytes to sign.

        Returns:
            The signature in COSE form.
        """
        alg = self.public_key.alg
        if alg == ESP256:
            r, s = decode_dss_signature(self._private.sign(message, ECDSA_SHA256))
            return r.to_bytes(32) + s.to_bytes(32)
        if alg == PS256:
            from cryptography.hazmat.primitives.asymmetric import padding

            digest = hashes.SHA256()
            return bytes(self._private.sign(message, padding.PSS(padding.MGF1(digest), 32), digest))
        return bytes(self._private.sign(message))

    def agree(self, peer: bytes) -> bytes:
        """Run ECDH with a P-256 key.

        Args:
            peer: 65 bytes, uncompressed SEC1 point.

        Returns:
            The 32-byte shared x coordinate.

        Raises:
            VerificationError: ``bad_key`` for a point that is not on the curve, or a key that cannot agree.
        """
        if self.public_key.alg != ESP256:
            raise error("bad_key", "not a P-256 key")
        if len(peer) != POINT_BYTES or peer[0] != SEC1_UNCOMPRESSED:
            raise error("bad_key", "not an uncompressed P-256 point")
        try:
            public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), peer)
        except ValueError as cause:
            raise error("bad_key", "not a point on P-256") from cause
        return bytes(self._private.exchange(ec.ECDH(), public))

    def __repr__(self) -> str:
        return f"SoftwareKey({self.public_key!r})"


_ALG_BY_TYPE: Final = {
    "ecprivatekey": ESP256,
    "ed25519privatekey": ED25519,
    "rsaprivatekey": PS256,
    "mldsa44privatekey": ML_DSA_44,
}


def _public(private: Any, alg: int) -> PublicKey:
    public = private.public_key()
    if alg == ESP256:
        if public.curve.name != "secp256r1":
            raise error("bad_key", f"curve {public.curve.name} where P-256 is needed")
        numbers = public.public_numbers()
        return PublicKey.from_p256_point(b"\x04" + numbers.x.to_bytes(32) + numbers.y.to_bytes(32))
    if alg == PS256:
        numbers = public.public_numbers()
        modulus = numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8)
        exponent = numbers.e.to_bytes((numbers.e.bit_length() + 7) // 8)
        return PublicKey.from_cose({1: 3, 3: PS256, -1: modulus, -2: exponent})
    if alg == ED25519:
        return PublicKey.from_cose({1: 1, 3: ED25519, -1: 6, -2: public.public_bytes_raw()})
    return PublicKey.from_cose({1: 7, 3: ML_DSA_44, -1: public.public_bytes_raw()})
