# SPDX-License-Identifier: Apache-2.0
"""Frames: how messages travel between host and dongle, over any pipe of bytes.

    frame = 'T' | type u8 | transaction u16 | length u16 | flags u8 | check u8 | payload            big-endian
    check = the other seven bytes of the head added up, modulo 256, inverted
    flags = 1 where more frames of this message follow

The length stands in every frame, because USB does not end a transfer whose size is a multiple of the packet size. A
message has a transaction number that its answer repeats; a frame has at most 1,024 bytes, a
message 1 MiB and 16 KiB: any Tallystick message and what goes with it. A device may take less, and says so. Whoever
meets a bad head has lost the place and says so (`Broken`); the host then sends ``SYNC`` with eight random bytes, the
device drops whatever it has and answers with the same bytes, and what comes before that answer is dropped by the host.
"""

from __future__ import annotations

from typing import Final

from tallystick.errors import FormatError, error
from tallystick.record import Record

MESSAGE: Final = 1
CANCEL: Final = 2
WAIT: Final = 3
ERROR: Final = 4
SYNC: Final = 5
HELLO: Final = 6
TYPES: Final = frozenset((MESSAGE, CANCEL, WAIT, ERROR, SYNC, HELLO))

WORKING: Final = 1
TOUCH: Final = 2

LOST_PLACE: Final = 1
TOO_LONG: Final = 2
NO_CHANNEL: Final = 3
BUSY: Final = 4
REFUSED: Final = 5
CANCELLED: Final = 6

MAGIC: Final = 0x54
HEAD: Final = 8
MAX_FRAME: Final = 1024
MAX_PAYLOAD: Final = MAX_FRAME - HEAD
MAX_MESSAGE: Final = (1 << 20) + (1 << 14)
SYNC_BYTES: Final = 8
_MORE: Final = 1


class Frame(Record):
    """A whole message, put together from its frames.

    Attributes:
        type: one of `TYPES`.
        transaction: 0 to 65,535.
        payload: at most `MAX_MESSAGE` bytes.
    """

    type: int
    transaction: int
    payload: bytes


def encode(kind: int, transaction: int, payload: bytes = b"") -> bytes:
    """Cut a message into frames.

    Args:
        kind: one of `TYPES`.
        transaction: 0 to 65,535.
        payload: at most `MAX_MESSAGE` bytes.

    Returns:
        The frames, one behind the other.

    Raises:
        FormatError: ``too_large``.
    """
    if len(payload) > MAX_MESSAGE:
        raise error(
            "too_large", f"{len(payload)} bytes where a dongle takes {MAX_MESSAGE}", size=len(payload),
            limit=MAX_MESSAGE,
        )  # fmt: skip
    parts = [payload[at : at + MAX_PAYLOAD] for at in range(0, len(payload), MAX_PAYLOAD)] or [b""]
    last = len(parts) - 1
    return b"".join(
        _head(kind, transaction, len(part), _MORE if index < last else 0) + part for index, part in enumerate(parts)
    )


def _head(kind: int, transaction: int, length: int, flags: int) -> bytes:
    first = bytes((MAGIC, kind)) + transaction.to_bytes(2) + length.to_bytes(2) + bytes((flags,))
    return first + bytes((~sum(first) & 0xFF,))


class FrameReader:
    """Puts messages together from bytes that arrive in any pieces.

    It holds at most one message and one frame, however much the other side sends.
    """

    __slots__ = ("_buffer", "_kind", "_parts", "_size", "_transaction")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._parts: list[bytes] = []
        self._size = 0
        self._kind = 0
        self._transaction = 0

    @property
    def idle(self) -> bool:
        """Whether nothing of a message has arrived."""
        return not self._buffer and not self._parts

    def reset(self) -> None:
        """Drop what has arrived."""
        self._buffer.clear()
        self._drop()

    def feed(self, data: bytes) -> list[Frame]:
        """Take bytes in.

        Args:
            data: as they came.

        Returns:
            The messages that are whole now.

        Raises:
            FormatError: ``malformed`` where the place is lost, ``too_large`` for a message beyond `MAX_MESSAGE`;
                everything that has arrived is dropped then.
        """
        self._buffer += data
        done: list[Frame] = []
        try:
            while len(self._buffer) >= HEAD:
                kind, transaction, length, flags = _read_head(bytes(self._buffer[:HEAD]))
                if len(self._buffer) < HEAD + length:
                    break
                part = bytes(self._buffer[HEAD : HEAD + length])
                del self._buffer[: HEAD + length]
                self._join(kind, transaction, part, flags)
                if not flags & _MORE:
                    done.append(Frame(kind, transaction, b"".join(self._parts)))
                    self._drop()
        except FormatError:
            self.reset()
            raise
        return done

    def _join(self, kind: int, transaction: int, part: bytes, flags: int) -> None:
        if self._parts and (kind, transaction) != (self._kind, self._transaction):
            raise error("malformed", "a frame of another message inside a message")
        if flags & _MORE and len(part) != MAX_PAYLOAD:
            raise error("malformed", "a frame that is not full inside a message")
        self._size += len(part)
        if self._size > MAX_MESSAGE:
            raise error("too_large", f"a message beyond {MAX_MESSAGE} bytes", size=self._size, limit=MAX_MESSAGE)
        self._kind, self._transaction = kind, transaction
        self._parts.append(part)

    def _drop(self) -> None:
        self._parts = []
        self._size = 0


def _read_head(head: bytes) -> tuple[int, int, int, int]:
    kind, length, flags = head[1], int.from_bytes(head[4:6]), head[6]
    if head[0] != MAGIC or sum(head) & 0xFF != 0xFF or kind not in TYPES or flags > 1 or length > MAX_PAYLOAD:
        raise error("malformed", "bytes that are not a frame of a Tallystick dongle")
    return kind, int.from_bytes(head[2:4]), length, flags
