# SPDX-License-Identifier: Apache-2.0
"""In the guest: a dongle seen through libusb and nothing else, for questions about the bus itself."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import usb.core
import usb.util

from tallystick.dongle import frames
from tallystick.dongle.usb_link import UsbLink

QUIET_MS, PATIENT_MS = 60, 30_000


class Raw:
    """One dongle, opened and claimed; use it as a context manager.

    Args:
        serial: its serial number.
    """

    def __init__(self, serial: str) -> None:
        for device in usb.core.find(find_all=True, idVendor=0x1209):
            if usb.util.get_string(device, device.iSerialNumber) == serial:
                break
            usb.util.dispose_resources(device)
        else:
            raise AssertionError(f"libusb does not find {serial}")
        self.device: Any = device
        self.interface: Any = device[0][(0, 0)]
        self.out, self.back = sorted(one.bEndpointAddress for one in self.interface)
        self.packet: int = self.interface[0].wMaxPacketSize

    def __enter__(self) -> Raw:
        usb.util.claim_interface(self.device, 0)
        return self

    def __exit__(self, *_: object) -> None:
        usb.util.dispose_resources(self.device)

    def send(self, data: bytes) -> None:
        """Send bytes in one transfer."""
        assert self.device.write(self.out, data, PATIENT_MS) == len(data)

    def receive(self, size: int = 16_384, timeout: int = PATIENT_MS) -> bytes:
        """Receive one transfer."""
        return bytes(self.device.read(self.back, size, timeout))

    def echo(self, times: int = 1) -> None:
        """Send so many calls for an echo in one transfer; the last is answered."""
        calls = [frames.encode(frames.SYNC, 0, bytes([number & 0xFF] * frames.SYNC_BYTES)) for number in range(times)]
        self.send(b"".join(calls))
        while (answer := self.receive()) != calls[-1]:
            assert answer in calls, "a device may answer earlier ones before it has read the last"

    def drain(self) -> bytes:
        """Receive until nothing comes any more."""
        data = b""
        while True:
            try:
                data += self.receive(timeout=QUIET_MS)
            except usb.core.USBTimeoutError:
                return data

    def fails(self, act: Callable[[], Any]) -> int:
        """The number of the error that something ends in.

        Raises:
            AssertionError: it does not.
        """
        try:
            found = act()
        except usb.core.USBError as why:
            return int(why.errno)
        raise AssertionError(f"no error but {found!r}")


def milliseconds(act: Callable[[], Any], times: int) -> float:
    """The median of so many."""
    took = []
    for _ in range(times):
        begun = time.perf_counter()
        act()
        took.append(time.perf_counter() - begun)
    return round(statistics.median(took) * 1000, 3)


class Counted:
    """While it is entered, how many bytes links write and read."""

    def __enter__(self) -> Counted:
        self.out = self.back = 0
        self._plain = UsbLink.write, UsbLink.read

        def write(link: UsbLink, data: bytes) -> None:
            self.out += len(data)
            self._plain[0](link, data)

        def read(link: UsbLink, timeout_s: float) -> bytes:
            data = self._plain[1](link, timeout_s)
            self.back += len(data)
            return data

        self._put(write, read)
        return self

    def __exit__(self, *_: object) -> None:
        self._put(*self._plain)

    def _put(self, write: Callable[..., None], read: Callable[..., bytes]) -> None:
        link: Any = UsbLink
        link.write, link.read = write, read
