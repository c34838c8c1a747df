# SPDX-License-Identifier: Apache-2.0
"""The dongle behind FunctionFS: the kernel does the bus, this gives it the firmware's bytes.

Endpoint 0 is read by the event loop; each bulk endpoint has a thread, because the kernel's calls block until the host
comes. OUT is read packet by packet: a host that sends whole packets and no empty one behind them is understood.
Which requests of endpoint 0 are answered, `UsbDevice` decides as it does on its simulated bus. A halt is the kernel's.
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from firmware_sim import gadget_descriptors
from firmware_sim.usb_device import UsbDevice

_ENABLE, _DISABLE, _SETUP = 2, 3, 4
_EVENT: Final = struct.Struct("<BBHHHB3x")
_DESCRIPTOR_OF: Final = 0x80096782  # _IOR('g', 130, struct usb_endpoint_descriptor)
_POLL_S: Final = 0.02
_RETRY_S: Final = 0.005
_PIECE: Final = 16_384  # a multiple of every packet size; the kernel copies each write into one piece of memory
_OVER: Final = (errno.ESHUTDOWN, errno.EAGAIN, errno.EINTR, errno.ENODEV, errno.ECONNRESET)
_STALL: Final = (errno.EL2HLT, errno.EIDRM, errno.ESHUTDOWN, errno.EAGAIN)


class FunctionFs:
    """A dongle on a mounted FunctionFS.

    Args:
        device: the dongle.
        folder: where FunctionFS is mounted.
        died: called, from any thread, when the firmware has no power any more, or `failure` says what went wrong.

    Attributes:
        control: endpoint 0; `on_events` is called when there is something to read.
        failure: what ended it before its time.

    Raises:
        OSError: the kernel does not take the descriptors.
    """

    def __init__(self, device: UsbDevice, folder: Path, died: Callable[[], object]) -> None:
        self._device, self._died = device, died
        self._function = device.function
        self._turn = threading.Condition()
        self._enabled = threading.Event()
        self._over = False
        self.failure: BaseException | None = None
        self._packet = device.packet_bytes
        self.control = os.open(folder / "ep0", os.O_RDWR | os.O_CLOEXEC)
        self._bulk: list[int] = []
        try:
            self._describe()
            for name in ("ep1", "ep2"):
                self._bulk.append(os.open(folder / name, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
        except BaseException:
            self.close()
            raise
        works = (self._hear, self._speak)
        self._threads = [threading.Thread(target=self._guarded, args=(work,), daemon=True) for work in works]
        for thread in self._threads:
            thread.start()

    def _describe(self) -> None:
        for version in gadget_descriptors.VERSIONS:
            try:
                os.write(self.control, gadget_descriptors.interface(version))
                break
            except OSError as why:
                if why.errno != errno.EINVAL or version == gadget_descriptors.VERSIONS[-1]:
                    raise
        os.write(self.control, gadget_descriptors.strings())

    def stop(self) -> None:
        """End the threads; the device is off the bus."""
        self._over = True
        self._enabled.set()
        with self._turn:
            self._turn.notify_all()
        for thread in self._threads:
            thread.join(2)

    def close(self) -> None:
        """Close the files."""
        for file in (*self._bulk, self.control):
            os.close(file)

    # ------------------------------------------------------------------------------------------------- endpoint 0

    def on_events(self) -> None:
        """Take what the kernel tells on endpoint 0."""
        self._guarded(self._take_events)

    def _guarded(self, work: Callable[[], None]) -> None:
        """Whatever goes wrong takes the device off the bus: a dongle that hangs helps nobody."""
        try:
            work()
        except BaseException as why:
            self.failure = why
            self._over = True
            self._died()

    def _take_events(self) -> None:
        data = os.read(self.control, 8 * _EVENT.size)
        for at in range(0, len(data), _EVENT.size):
            kind, request, value, index, length, event = _EVENT.unpack_from(data, at)
            if event == _SETUP:
                self._answer(kind, request, value, index, length)
            elif event == _ENABLE:
                self._packet = self._packet_bytes()
                self._reset()
                self._enabled.set()
            elif event == _DISABLE:
                self._enabled.clear()
                self._reset()

    def _answer(self, kind: int, request: int, value: int, index: int, length: int) -> None:
        with self._turn:
            answer = self._device.control(kind, request, value, index, length)
        try:
            if (answer is not None) == bool(kind & 0x80):  # data toward the host; or a stall, which is the wrong way
                os.write(self.control, b"" if answer is None else answer[:length])
            else:
                os.read(self.control, 0)
        except OSError as why:
            if why.errno not in _STALL:
                raise

    def _packet_bytes(self) -> int:
        """Of the speed the bus has."""
        about = array.array("B", bytes(9))
        try:
            fcntl.ioctl(self._bulk[0], _DESCRIPTOR_OF, about)
        except OSError:  # disabled again meanwhile
            return self._packet
        size: int = struct.unpack_from("<H", about, 4)[0]
        return size

    def _reset(self) -> None:
        with self._turn:
            self._function.reset()

    # -------------------------------------------------------------------------------------------------------- bulk

    def _hear(self) -> None:
        """Give the firmware what the host sends."""
        while not self._over:
            self._enabled.wait()
            try:
                data = os.read(self._bulk[0], self._packet)
            except OSError as why:
                self._pause(why)
                continue
            with self._turn:
                if data:
                    self._function.receive(data)
                self._turn.notify_all()
            self._look()

    def _speak(self) -> None:
        """Give the host what the firmware says, one transfer at a time."""
        while not self._over:
            with self._turn:
                data = self._function.transmit()
                if not data:
                    self._turn.wait(_POLL_S if self._function.poll() else None)
            self._look()
            try:
                self._send(data)
            except OSError as why:  # the bus was reset, or the host is gone: nobody waits for the rest
                self._pause(why)

    def _send(self, data: bytes) -> None:
        for at in range(0, len(data), _PIECE):
            os.write(self._bulk[1], data[at : at + _PIECE])
        if data and len(data) % self._packet == 0:
            os.write(self._bulk[1], b"")

    def _pause(self, why: OSError) -> None:
        if why.errno not in _OVER:
            raise why
        if not self._over:
            time.sleep(_RETRY_S)

    def _look(self) -> None:
        if not self._over and not self._device.connected:
            self._over = True
            self._died()
