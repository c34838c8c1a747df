# SPDX-License-Identifier: Apache-2.0
"""The secure channel between a program and a dongle.

    program -> dongle   hello  = {1: 1, 2: point, 3: nonce}                                         in the clear
    dongle -> program   answer = {1: 1, 2: point, 3: nonce, 4: channel, 5: identity key, 6: certificate, 7: signature}

Both points are ephemeral (P-256, 65 bytes, uncompressed), both nonces 32 random bytes. The signature is the identity
key's over `_DOMAIN`, SHA-256 of the hello and of the answer without its member 7: whoever sits between cannot answer,
and a recording answers no fresh hello. The keys of the two directions are HKDF-SHA-256 of the shared point, salted with
the same digest. A sealed message is

    channel u16 | counter u64 | AES-256-GCM(key of the direction, nonce = 0 u32 | counter, aad = channel | transaction)

and each side takes exactly the next counter: a message replayed, left out, spliced in or sent back does not open. The
certificate says that a factory made this device; what an application trusts is the container's identity key.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tallystick.codec import cbor
from tallystick.codec.digest import sha256
from tallystick.codec.keys import POINT_BYTES, PublicKey
from tallystick.codec.signing import SoftwareKey
from tallystick.errors import error

VERSION: Final = 1
NONCE_BYTES: Final = 32
MAX_HELLO: Final = 16_384
CHANNEL_HEAD: Final = 10
_DOMAIN: Final = b"tallystick dongle channel 1\x00"
_TAG_BYTES: Final = 16
_MAX_COUNTER: Final = 1 << 40  # far below the 2^64 where a nonce would come again

Sign = Callable[[bytes], bytes]


class Channel:
    """One end of an open channel.

    Args:
        number: which of the device's channels, 0 to 65,535.
        sending: 32-byte key of what goes out.
        receiving: 32-byte key of what comes in.
    """

    __slots__ = ("_in", "_out", "_received", "_sent", "number")

    def __init__(self, number: int, sending: bytes, receiving: bytes) -> None:
        self.number = number
        self._out = AESGCM(sending)
        self._in = AESGCM(receiving)
        self._sent = 0
        self._received = 0

    def seal(self, transaction: int, plain: bytes) -> bytes:
        """Seal a message.

        Args:
            transaction: of the frames it travels in.
            plain: the message.

        Returns:
            The payload.

        Raises:
            VerificationError: ``channel_broken`` at the end of the counter.
        """
        if self._sent >= _MAX_COUNTER:
            raise error("channel_broken", "the channel to the dongle is worn out")
        counter = self._sent.to_bytes(8)
        self._sent += 1
        number = self.number.to_bytes(2)
        return number + counter + self._out.encrypt(bytes(4) + counter, plain, number + transaction.to_bytes(2))

    def open(self, transaction: int, payload: bytes) -> bytes:
        """Open a message.

        Args:
            transaction: of the frames it came in.
            payload: as received.

        Returns:
            The message.

        Raises:
            VerificationError: ``channel_broken``: it is not the next message of the other end.
        """
        number, counter = payload[:2], payload[2:CHANNEL_HEAD]
        if number_of(payload) != self.number or int.from_bytes(counter) != self._received:
            raise error("channel_broken", "not the next message of this channel")
        try:
            plain = self._in.decrypt(bytes(4) + counter, payload[CHANNEL_HEAD:], number + transaction.to_bytes(2))
        except InvalidTag as cause:
            raise error("channel_broken", "a message on the way to or from the dongle was changed") from cause
        self._received += 1
        return plain


def number_of(payload: bytes) -> int:
    """Tell which channel a sealed message is for.

    Raises:
        VerificationError: ``channel_broken`` for less than a sealed message.
    """
    if len(payload) < CHANNEL_HEAD + _TAG_BYTES:
        raise error("channel_broken", "less than a sealed message")
    return int.from_bytes(payload[:2])


class Hello:
    """The program's half of a handshake.

    Args:
        random: source of the nonce.
    """

    __slots__ = ("_ephemeral", "message")

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._ephemeral = SoftwareKey.generate()
        point = self._ephemeral.public_key.p256_point()
        self.message = cbor.encode({1: VERSION, 2: point, 3: random(NONCE_BYTES)})

    def finish(self, answer: bytes) -> tuple[Channel, PublicKey, bytes]:
        """Take the dongle's answer.

        Args:
            answer: as received.

        Returns:
            The channel, the identity key that signed, and the certificate (empty if it has none).

        Raises:
            FormatError: ``malformed``, ``too_large``.
            VerificationError: ``bad_signature``, ``bad_key``.
        """
        claims = cbor.decode(answer, MAX_HELLO)
        match claims:
            case {
                1: int(version), 2: bytes(point), 3: bytes(nonce), 4: int(number), 5: bytes(identity),
                6: bytes(certificate), 7: bytes(signature), **more,
            } if not more and version == VERSION and len(nonce) == NONCE_BYTES and 0 <= number < 1 << 16:  # fmt: skip
                pass
            case _:
                raise error("malformed", "not a dongle's answer")
        key = PublicKey.from_cose(identity)
        transcript = _transcript(self.message, {label: claims[label] for label in claims if label != 7})
        key.verify(_DOMAIN + transcript, signature)
        to_device, to_host = _keys(self._ephemeral, point, transcript)
        return Channel(number, to_device, to_host), key, certificate


def answer_hello(
    hello: bytes, number: int, identity: PublicKey, certificate: bytes, sign: Sign, random: Callable[[int], bytes]
) -> tuple[bytes, Channel]:
    """Answer a program's hello: the dongle's half.

    Args:
        hello: as received.
        number: of the channel to open.
        identity: the device's identity key.
        certificate: the factory's, empty if there is none.
        sign: signs with the identity key.
        random: source of the nonce.

    Returns:
        The answer and the channel.

    Raises:
        FormatError: ``malformed``, ``too_large``.
        VerificationError: ``bad_key``.
    """
    match cbor.decode(hello, MAX_HELLO):
        case {1: int(version), 2: bytes(point), 3: bytes(nonce), **more} if (
            not more and version == VERSION and len(nonce) == NONCE_BYTES and len(point) == POINT_BYTES
        ):
            pass
        case _:
            raise error("malformed", "not a hello")
    ephemeral = SoftwareKey.generate()
    own = ephemeral.public_key.p256_point()
    claims = {1: VERSION, 2: own, 3: random(NONCE_BYTES), 4: number, 5: identity.cose, 6: certificate}
    transcript = _transcript(hello, claims)
    to_device, to_host = _keys(ephemeral, point, transcript)
    answer = cbor.encode({**claims, 7: sign(_DOMAIN + transcript)})
    return answer, Channel(number, to_host, to_device)


def _transcript(hello: bytes, answer: dict[int, Any]) -> bytes:
    return sha256(sha256(hello) + sha256(cbor.encode(answer)))


def _keys(ephemeral: SoftwareKey, peer: bytes, transcript: bytes) -> tuple[bytes, bytes]:
    """Derive the keys of the two directions: to the device, to the host."""
    shared = ephemeral.agree(peer)
    both = HKDF(hashes.SHA256(), 64, transcript, _DOMAIN).derive(shared)
    return both[:32], both[32:]
