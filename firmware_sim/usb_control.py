# SPDX-License-Identifier: Apache-2.0
"""Endpoint 0 of the dongle: the stages of a control transfer, packet by packet.

`ControlEndpoint` knows nothing of requests: it asks ``decide`` once for each SETUP packet, copies the answer into RAM
and sends it from there. Its length is clamped twice, when the request arrives and again before each packet, so that
one skipped comparison (the classic fault attack on `min(wLength, size)`) sends nothing that is not the answer.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable
from typing import Final

POISON: Final = 0xA5
"""What unused RAM holds; no byte of it may ever leave the device."""
ANSWER_BYTES: Final = 4096
"""The longest answer to a control request."""
PACKET_BYTES: Final = 64
"""bMaxPacketSize0, at both speeds."""


class Handshake(enum.Enum):
    """What a device answers to a token instead of data."""

    ACK = "ack"
    NAK = "nak"
    STALL = "stall"
    SILENCE = "silence"


class Stage(enum.Enum):
    """Where endpoint 0 is in a control transfer (USB 2.0 section 8.5.3)."""

    IDLE = 0
    DATA_IN = 1
    STATUS_OUT = 2
    STATUS_IN = 3
    STALLED = 4


Decide = Callable[[int, int, int, int, int], bytes | None]
"""(bmRequestType, bRequest, wValue, wIndex, wLength) -> the answer, or None to stall."""


class ControlEndpoint:
    """Endpoint 0 over the first `ANSWER_BYTES` of ``ram``.

    Args:
        ram: the memory shared with the rest of the device.
        decide: asked once for each SETUP packet.
        finished: called when the status stage of a request without data is over.
    """

    def __init__(self, ram: bytearray, decide: Decide, finished: Callable[[], None]) -> None:
        self._ram = ram
        self._decide = decide
        self._finished = finished
        self._stored = 0
        self.clear()

    def clear(self) -> None:
        """Forget the transfer at hand, and wipe its answer."""
        self.wipe(0, self._stored)
        self._stored = self._left = self._sent = 0
        self._short = False
        self.stage = Stage.IDLE

    def wipe(self, at: int, size: int) -> None:
        """Fill a part of the memory with the poison."""
        self._ram[at : at + size] = bytes([POISON]) * size

    def setup(self, packet: bytes) -> None:
        """Take the 8 bytes of a SETUP packet: it begins a transfer whatever came before."""
        kind, request, value, index, length = struct.unpack("<BBHHH", packet)
        self.clear()
        answer = self._decide(kind, request, value, index, length)
        if answer is None or len(answer) > ANSWER_BYTES or (length and not kind & 0x80):
            self.stage = Stage.STALLED  # no request of ours has a data stage toward the device
        elif not length:
            self.stage = Stage.STATUS_IN
        else:
            self._stored = len(answer)
            self._ram[: len(answer)] = answer
            self._left = self.clamp_request(length, len(answer))
            self._short = self._left < length  # then an empty packet follows a full last one
            self.stage = Stage.DATA_IN

    def clamp_request(self, wanted: int, have: int) -> int:
        """Bound the answer by what is there: the first of two."""
        return min(wanted, have)

    def clamp_packet(self, size: int, have: int) -> int:
        """Bound one packet by what is there: the second."""
        return max(0, min(size, have))

    def token_in(self) -> bytes | Handshake:
        """Answer an IN token."""
        if self.stage is Stage.STATUS_IN:
            self.clear()
            self._finished()
            return b""
        if self.stage is not Stage.DATA_IN:
            return Handshake.NAK if self.stage is Stage.IDLE else Handshake.STALL
        size = self.clamp_packet(min(PACKET_BYTES, self._left), self._stored - self._sent)
        packet = bytes(self._ram[self._sent : self._sent + size])
        self._sent += size
        self._left -= size
        if size < PACKET_BYTES or (self._left == 0 and not self._short):
            self.stage = Stage.STATUS_OUT
        return packet

    def token_out(self, data: bytes) -> Handshake:
        """Take an OUT token: only the empty packet of a status stage is welcome; a host may send it early."""
        if self.stage is Stage.IDLE:
            return Handshake.NAK
        ended = not data and self.stage in {Stage.DATA_IN, Stage.STATUS_OUT}
        self.clear()
        if not ended:
            self.stage = Stage.STALLED
        return Handshake.ACK if ended else Handshake.STALL
