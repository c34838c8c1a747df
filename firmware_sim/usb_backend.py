# SPDX-License-Identifier: Apache-2.0
"""Simulated dongles in the same process, for pyusb: the host's code runs over them unmodified.

Time is virtual: a transfer the device has nothing for asks it to let a millisecond pass, as often as the timeout
allows, and times out at once when that cannot change anything. ``waited`` counts those milliseconds.

    backend = InProcessBackend([UsbDevice(function)])
    usb.core.find(backend=backend)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final
from weakref import WeakKeyDictionary

from firmware_sim.usb_host import BulkIn, BulkOut, Control, Device, Status, Transfer, enumerate_device
from firmware_sim.usb_library import Attached, Backend

_FOR_EVER_MS: Final = 60_000
"""The virtual time after which a transfer without a timeout gives up all the same."""


class InProcessBackend(Backend):
    """Simulated dongles in this process, in virtual time.

    Args:
        devices: put in at once, in this order.
        elapse: told of every stretch of virtual time that passes while the host waits, in seconds.
    """

    def __init__(self, devices: Iterable[Device] = (), elapse: Callable[[float], None] | None = None) -> None:
        super().__init__()
        self.waited = 0
        self.refused: list[str] = []
        self._elapse = elapse
        self._devices: WeakKeyDictionary[Attached, Device] = WeakKeyDictionary()
        self._address = 0
        for device in devices:
            self.plug(device)

    def plug(self, device: Device, *, accessible: bool = True) -> Attached | None:
        """Put a device in and let the operating system configure it.

        Args:
            device: the device; one that is in is pulled out first.
            accessible: False: the operating system lets nobody open it.

        Returns:
            What the operating system knows of it; None when it would not take the device (`refused` says why).
        """
        with self._lock:
            if any(self._devices[attached] is device for attached in self.attached):
                self.unplug(device)
            self._address = self._address % 127 + 1
            device.plug()
            try:
                found = enumerate_device(device, self._address)
            except OSError as why:
                self.refused.append(str(why))
                return None
            attached = Attached(self._address, device.identity.speed, found, accessible)
            self._devices[attached] = device
            self.attached.append(attached)
            return attached

    def unplug(self, device: Device) -> None:
        """Pull a device out; whatever a host holds of it is gone, even after the device is put in again."""
        with self._lock:
            device.unplug()
            self._forget_gone()

    def _forget_gone(self) -> None:
        for attached in list(self.attached):
            if not self._devices[attached].connected:
                attached.gone = True
                self.attached.remove(attached)

    def enumerate_devices(self) -> Iterator[Attached]:
        """See pyusb's ``IBackend``."""
        with self._lock:
            self._forget_gone()
        return super().enumerate_devices()

    def _finish(self, attached: Attached, make: Callable[[Device], Transfer], timeout: int) -> Transfer:
        device = self._devices[attached]
        transfer = make(device)
        if attached.gone:
            transfer.status = Status.GONE
        left = timeout or _FOR_EVER_MS
        while not transfer.step():
            going_on = left > 0 and device.poll()
            passed = 1 if going_on else left
            left -= passed
            self.waited += passed
            if self._elapse is not None and passed:
                self._elapse(passed / 1000)
            if not going_on:
                transfer.status = Status.TIMEOUT
                break
        self._forget_gone()
        return transfer

    def run_bulk_in(self, attached: Attached, endpoint: int, size: int, timeout: int) -> tuple[Status, bytes]:
        """See `Backend`."""
        done = self._finish(attached, lambda device: BulkIn(device, endpoint, size), timeout)
        return Status(done.status or 0), bytes(done.received)

    def run_bulk_out(self, attached: Attached, endpoint: int, data: bytes, timeout: int) -> tuple[Status, int]:
        """See `Backend`."""
        done = self._finish(attached, lambda device: BulkOut(device, endpoint, data=data), timeout)
        return Status(done.status or 0), done.sent

    def run_control(
        self, attached: Attached, setup: bytes, size: int, data: bytes, timeout: int
    ) -> tuple[Status, bytes]:
        """See `Backend`."""
        done = self._finish(attached, lambda device: Control(device, setup, size, data), timeout)
        return Status(done.status or 0), bytes(done.received)

    def run_reset(self, attached: Attached) -> Status:
        """See `Backend`."""
        if attached.gone:
            return Status.GONE
        try:
            enumerate_device(self._devices[attached], attached.address)
        except OSError as why:
            return Status(why.errno or Status.SILENT)
        return Status.OK
