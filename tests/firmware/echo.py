# SPDX-License-Identifier: Apache-2.0
"""The least a firmware can be: it sends back what it was sent.

A command is a 4-byte length and that many bytes, because a transfer OUT of full packets never ends for the device.
The answer is the same bytes without the length, in one transfer.
"""

from __future__ import annotations

IDENTIFICATION = b"\xa1\x01\x63one"


class Echo:
    """A `Function` that echoes; ``received`` and ``resets`` are there to be looked at."""

    def __init__(self, serial: str = "TS-ECHO0001") -> None:
        self.serial = serial
        self.received = bytearray()
        self.resets = 0
        self.waiting: list[bytes] = []

    def receive(self, data: bytes) -> None:
        self.received += data
        while len(self.received) >= 4:
            size = int.from_bytes(self.received[:4], "big")
            if len(self.received) < 4 + size:
                return
            self.waiting.append(bytes(self.received[4 : 4 + size]))
            del self.received[: 4 + size]

    def transmit(self) -> bytes:
        return self.waiting.pop(0) if self.waiting else b""

    def poll(self) -> bool:
        return False

    def identify(self) -> bytes:
        return IDENTIFICATION

    def reset(self) -> None:
        self.resets += 1
        self.received.clear()
        self.waiting.clear()


def framed(data: bytes) -> bytes:
    """A command that is echoed."""
    return len(data).to_bytes(4, "big") + data
