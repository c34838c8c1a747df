# SPDX-License-Identifier: Apache-2.0
"""Encryption (RFC 9052, RFC 9053): content keys sealed to a container, content sealed with a content key.

    sealed key  = [<< {1: 3} >>, {5: iv}, ciphertext, [[<< {1: -25} >>, {-1: ephemeral COSE_Key}, h'']]]   COSE_Encrypt
    content     = [<< {1: 3, 4: key id, 16: typ} >>, {5: iv}, ciphertext]                                COSE_Encrypt0

ECDH-ES with HKDF-SHA-256 (-25) on P-256 and AES-256-GCM (3). Both are untagged: a sealed key travels inside a signed
license, content is a file of its own. The private half of the agreement key stays in the container's anchor; this
module is given a function that agrees.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tallystick.codec import cbor
from tallystick.codec.cose import byte_string
from tallystick.codec.keys import PublicKey
from tallystick.codec.signing import SoftwareKey
from tallystick.errors import error

A256GCM: Final = 3
ECDH_ES_HKDF_256: Final = -25
CONTENT_TYPE: Final = "application/tallystick-content"
KEY_BYTES: Final = 32
IV_BYTES: Final = 12
MAX_SEALED_KEY: Final = 512
MAX_KEY_ID: Final = 64
MAX_CONTENT: Final = 64 << 20  # one AES-GCM call; larger content is the application's to split

_KEY_HEADER: Final = cbor.encode({1: A256GCM})
_RECIPIENT_HEADER: Final = cbor.encode({1: ECDH_ES_HKDF_256})
_KDF_CONTEXT: Final = cbor.encode([A256GCM, [None] * 3, [None] * 3, [KEY_BYTES * 8, _RECIPIENT_HEADER]])
_KEY_AAD: Final = cbor.encode(["Encrypt", _KEY_HEADER, b""])


def _derive(shared: bytes) -> bytes:
    return HKDF(hashes.SHA256(), KEY_BYTES, None, _KDF_CONTEXT).derive(shared)


def decrypt(key: bytes, iv: bytes, sealed: bytes, aad: bytes, what: str = "the content") -> bytes:
    """Open AES-256-GCM with a nonce of 96 bits and a tag of 128: the one AEAD of this format.

    Args:
        key: 32 bytes.
        iv: 12 bytes.
        sealed: ciphertext and tag.
        aad: authenticated with it.
        what: named in errors.

    Returns:
        The plaintext.

    Raises:
        VerificationError: ``decrypt_failed``, also for a key or nonce of another size.
    """
    if len(key) != KEY_BYTES or len(iv) != IV_BYTES:
        raise error("decrypt_failed", f"{what} needs a key of {KEY_BYTES} bytes and a nonce of {IV_BYTES}")
    try:
        return AESGCM(key).decrypt(iv, sealed, aad)
    except InvalidTag as cause:
        raise error("decrypt_failed", f"{what} was changed, or is sealed with another key") from cause


def seal_key(content_key: bytes, recipient: PublicKey) -> bytes:
    """Seal a content key to a container.

    Args:
        content_key: 32 bytes.
        recipient: the container's agreement key (P-256).

    Returns:
        The COSE_Encrypt structure.

    Raises:
        UsageError: ``usage`` for a content key of another size.
        VerificationError: ``bad_key`` where the recipient is not a P-256 key.
    """
    _check_content_key(content_key)
    ephemeral = SoftwareKey.generate()
    point = ephemeral.public_key.p256_point()
    iv = os.urandom(IV_BYTES)
    sealed = AESGCM(_derive(ephemeral.agree(recipient.p256_point()))).encrypt(iv, content_key, _KEY_AAD)
    public = {1: 2, -1: 1, -2: point[1:33], -3: point[33:]}
    return cbor.encode([_KEY_HEADER, {5: iv}, sealed, [[_RECIPIENT_HEADER, {-1: public}, b""]]])


def open_key(sealed: bytes, agree: Callable[[bytes], bytes]) -> bytes:
    """Open a sealed content key.

    Args:
        sealed: what `seal_key` returned.
        agree: ECDH with the container's agreement key: 65-byte point in, 32-byte x coordinate out.

    Returns:
        The 32-byte content key.

    Raises:
        FormatError: ``malformed`` or ``too_large``.
        VerificationError: ``decrypt_failed`` for another container's key, ``bad_key`` for a bad point.
        BackendError: the anchor fails.
    """
    match cbor.decode(sealed, MAX_SEALED_KEY):
        case [
            bytes(header),
            {5: bytes(iv), **more},
            bytes(body),
            [[bytes(inner), {-1: dict(public), **rest}, b""]],
        ] if header == _KEY_HEADER and inner == _RECIPIENT_HEADER and not more and not rest and len(iv) == IV_BYTES:
            point = _point(public)
        case _:
            raise error("malformed", "not a sealed content key")
    content_key = decrypt(_derive(agree(point)), iv, body, _KEY_AAD, "the content key")
    if len(content_key) != KEY_BYTES:
        raise error("malformed", f"a content key of {len(content_key)} bytes; {KEY_BYTES} are needed")
    return content_key


def _check_content_key(content_key: bytes) -> None:
    if len(content_key) != KEY_BYTES:
        raise error("usage", f"a content key of {len(content_key)} bytes; {KEY_BYTES} are needed")


def _point(public: dict[Any, Any]) -> bytes:
    match public:
        case {1: 2, -1: 1, -2: bytes(x), -3: bytes(y), **rest} if len(x) == len(y) == 32 and not rest:
            if public[-1] is not True:  # a literal pattern takes true for 1 (rule R61)
                return b"\x04" + x + y
    raise error("malformed", "not an ephemeral P-256 key")


def seal_content(content_key: bytes, key_id: str, plaintext: bytes) -> bytes:
    """Encrypt content for every container that is licensed for a content key.

    Args:
        content_key: 32 bytes.
        key_id: the content key's name in the licenses, at most `MAX_KEY_ID` bytes.
        plaintext: at most `MAX_CONTENT` bytes.

    Returns:
        The COSE_Encrypt0 structure.

    Raises:
        FormatError: ``too_large``.
        UsageError: ``usage`` for a content key or name of another size.
    """
    _check_content_key(content_key)
    if len(key_id.encode()) > MAX_KEY_ID:
        raise error("usage", f"the name of a content key has at most {MAX_KEY_ID} bytes")
    if len(plaintext) > MAX_CONTENT:
        raise error("too_large", f"content of {len(plaintext)} bytes; at most {MAX_CONTENT}", limit=MAX_CONTENT)
    header = cbor.encode({1: A256GCM, 4: key_id.encode(), 16: CONTENT_TYPE})
    iv = os.urandom(IV_BYTES)
    sealed = AESGCM(content_key).encrypt(iv, plaintext, cbor.encode(["Encrypt0", header, b""]))
    return b"".join((b"\x83", cbor.encode(header), cbor.encode({5: iv}), cbor.encode(sealed)))


class Content:
    """Encrypted content taken apart: `key_id` says which content key opens it.

    Args:
        data: what `seal_content` returned.

    Raises:
        FormatError: ``malformed`` or ``too_large``.
    """

    __slots__ = ("_header", "_iv", "_sealed", "key_id")

    _IV_HEAD: Final = b"\xa1\x05\x4c"

    def __init__(self, data: bytes) -> None:
        if len(data) > MAX_CONTENT + 1024:
            raise error("too_large", f"content of {len(data)} bytes; at most {MAX_CONTENT}", limit=MAX_CONTENT)
        if data[:1] != b"\x83":
            raise error("malformed", "not Tallystick content")
        start, end = byte_string(data, 1)
        self._header = data[start:end]
        at = end + 3 + IV_BYTES
        if data[end : end + 3] != self._IV_HEAD or len(data) < at:
            raise error("malformed", "not Tallystick content")
        self._iv = data[end + 3 : at]
        start, end = byte_string(data, at)
        if end != len(data):
            raise error("malformed", "bytes after the content")
        self._sealed = data[start:end]
        match cbor.decode(self._header, 256):
            case {1: 3, 4: bytes(key_id), 16: str(typ), **more} if typ == CONTENT_TYPE and not more:
                try:
                    self.key_id = key_id.decode()
                except UnicodeDecodeError as cause:
                    raise error("malformed", "not Tallystick content") from cause
            case _:
                raise error("malformed", "not Tallystick content")

    def open(self, content_key: bytes) -> bytes:
        """Decrypt.

        Args:
            content_key: 32 bytes.

        Returns:
            The plaintext.

        Raises:
            VerificationError: ``decrypt_failed``.
        """
        return decrypt(content_key, self._iv, self._sealed, cbor.encode(["Encrypt0", self._header, b""]))
