# SPDX-License-Identifier: Apache-2.0
"""Ed25519 verification (RFC 8032): libsodium where the extra ``fast`` is installed, else OpenSSL.

Both are pinned by the same vectors in the tests. Keys are checked here, the same for both: the encoding must be
canonical (y < 2^255 - 19) and not of small order, because a small-order key verifies constant signatures over any
message. A signature whose point R is of small order is refused by libsodium, so it is here in both: no message may be
good on one machine and bad on another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tallystick.errors import error

_P: Final = 2**255 - 19
_SIGN_BIT: Final = 1 << 255
# y coordinates of the points whose order divides 8: 0, 1, p - 1 and the two of order 8 (RFC 7748, section 6.1 lists
# the same points for the Montgomery form; the values are those libsodium blocks).
_SMALL_ORDER_Y: Final = frozenset(
    (
        0,
        1,
        _P - 1,
        0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
        0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7,
    )
)


def check_public(public: bytes) -> None:
    """Refuse keys that nobody owns alone.

    Args:
        public: 32 bytes.

    Raises:
        VerificationError: ``bad_key``.
    """
    y = _y(public)
    if y >= _P:
        raise error("bad_key", "a non-canonical Ed25519 key")
    if y in _SMALL_ORDER_Y:
        raise error("bad_key", "a small-order Ed25519 key")


def _y(point: bytes) -> int:
    return int.from_bytes(point, "little") & (_SIGN_BIT - 1)


def verifier(public: bytes) -> Callable[[bytes, bytes], bool]:
    """Build the verify function of one key.

    Args:
        public: 32 bytes.

    Returns:
        ``(message, signature) -> bool``.

    Raises:
        VerificationError: ``bad_key``.
    """
    check_public(public)
    try:
        from nacl import bindings, exceptions
    except ImportError:
        return _openssl(public)
    check = bindings.crypto_sign_open

    def verify(message: bytes, signature: bytes) -> bool:
        if len(signature) != 64:
            return False
        try:
            check(signature + message, public)
        except exceptions.BadSignatureError:
            return False
        return True

    return verify


def _openssl(public: bytes) -> Callable[[bytes, bytes], bool]:
    try:
        check = Ed25519PublicKey.from_public_bytes(public).verify
    except ValueError as cause:  # pragma: no cover - OpenSSL 3 loads any 32 bytes; other versions may not
        raise error("bad_key", "not an Ed25519 key") from cause

    def verify(message: bytes, signature: bytes) -> bool:
        if _y(signature[:32]) in _SMALL_ORDER_Y:
            return False
        try:
            check(signature, message)
        except InvalidSignature:
            return False
        return True

    return verify
