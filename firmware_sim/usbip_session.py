# SPDX-License-Identifier: Apache-2.0
"""One imported device: URBs in, results out, in the order a host controller would have them.

Each endpoint has a queue; a transfer the device answers NAK to waits at its head until the device has something, the
host takes it back (UNLINK) or the device goes away. A URB that was taken back gets no other answer.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from typing import Final

from firmware_sim.usb_host import BulkIn, BulkOut, Control, Device, Status, Transfer

SUBMIT, UNLINK, SUBMITTED, UNLINKED = 1, 2, 3, 4
HEADER: Final = struct.Struct(">IIIII28s")
"""command, sequence number, device id, direction, endpoint, and 28 bytes by command."""
SHORT_NOT_OK: Final = 0x0001
ZERO_PACKET: Final = 0x0040
MOST_BYTES: Final = 1 << 21
"""The largest transfer: more than the largest message; the kernel lets one program have 16 MiB in flight."""
MOST_WAITING: Final = 256
MOST_HELD: Final = 1 << 23
"""Bytes toward the device that may wait in all."""
_TICK_MS: Final = 2


class Dropped(Exception):  # noqa: N818 - not an error of ours: the client broke the protocol, or the device is gone
    """The connection ends."""


class _Urb:
    def __init__(self, sequence: int, transfer: Transfer) -> None:
        self.sequence, self.transfer = sequence, transfer


class Session:
    """Serves one import until the socket closes, the client breaks the protocol, or the device is unplugged."""

    def __init__(
        self, device: Device, device_id: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.device, self.device_id = device, device_id
        self._reader, self._writer = reader, writer
        self._queues: dict[tuple[int, bool], deque[_Urb]] = {}
        self._waiting = 0
        self._wake = asyncio.Event()
        self.failures: list[str] = []

    def end(self) -> None:
        """Close the connection: the device was pulled out."""
        self._writer.close()

    async def run(self) -> None:
        """Serve.

        Raises:
            Dropped: the client broke the protocol, or the device is gone.
            ConnectionError: the socket broke.
            asyncio.IncompleteReadError: the client closed it.
        """
        ticking = asyncio.ensure_future(self._tick())
        try:
            while True:
                await self._next()
                self._advance()
                await self._writer.drain()
                if not self.device.connected:
                    raise Dropped
                if self._waiting:
                    self._wake.set()
        finally:
            ticking.cancel()
            await asyncio.gather(ticking, return_exceptions=True)

    async def _tick(self) -> None:
        """While something waits, let time pass for the firmware."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(_TICK_MS / 1000)
            try:
                for _ in range(_TICK_MS):
                    self.device.poll()
                self._advance()
            except Exception as why:  # a firmware that crashes takes its device off the bus
                self.failures.append(repr(why))
                self.end()
                return
            if not self.device.connected:
                self.end()
            if not self._waiting:
                self._wake.clear()

    async def _next(self) -> None:
        command, sequence, device_id, direction, endpoint, rest = HEADER.unpack(await self._reader.readexactly(48))
        if not self.device.connected:
            raise Dropped
        if command == UNLINK:
            self._unlink(sequence, int.from_bytes(rest[:4], "big"))
            return
        flags, size, _, packets, _, setup = struct.unpack(">IIIII8s", rest)
        isochronous = packets not in {0, 0xFFFFFFFF}
        if command != SUBMIT or device_id != self.device_id or direction > 1 or endpoint > 15 or isochronous:
            raise Dropped
        held = sum(len(urb.transfer.data) for queue in self._queues.values() for urb in queue)
        if size > MOST_BYTES or self._waiting >= MOST_WAITING or (not direction and held + size > MOST_HELD):
            raise Dropped
        data = b"" if direction else await self._reader.readexactly(size)
        transfer: Transfer
        if endpoint == 0:
            if size and bool(setup[0] & 0x80) != bool(direction):
                raise Dropped  # which of the two to believe decides whether data follows
            transfer = Control(self.device, setup, size, data)
        elif direction:
            transfer = BulkIn(self.device, endpoint, size)
            transfer.strict = bool(flags & SHORT_NOT_OK)
        else:
            transfer = BulkOut(self.device, endpoint, data=data, end=bool(flags & ZERO_PACKET))
        self._queues.setdefault((endpoint, transfer.incoming and endpoint != 0), deque()).append(
            _Urb(sequence, transfer)
        )
        self._waiting += 1

    def _unlink(self, sequence: int, victim: int) -> None:
        found = False
        for queue in self._queues.values():
            for urb in list(queue):
                if urb.sequence == victim:
                    queue.remove(urb)
                    self._waiting -= 1
                    found = True
        status = -Status.UNLINKED if found else 0  # 0: the answer to the URB is on its way already
        self._writer.write(struct.pack(">IIIIIi24x", UNLINKED, sequence, 0, 0, 0, status))

    def _advance(self) -> None:
        """Step every queue as far as it goes."""
        for queue in list(self._queues.values()):
            while queue and queue[0].transfer.step():
                urb = queue.popleft()
                self._waiting -= 1
                self._answer(urb)

    def _answer(self, urb: _Urb) -> None:
        transfer = urb.transfer
        data = bytes(transfer.received) if transfer.incoming else b""
        actual = len(data) if transfer.incoming else transfer.sent
        status = -int(transfer.status or 0)
        head = struct.pack(">IIIIIiiiii8x", SUBMITTED, urb.sequence, 0, 0, 0, status, actual, 0, 0, 0)
        self._writer.write(head + data)
