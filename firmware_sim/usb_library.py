# SPDX-License-Identifier: Apache-2.0
"""The operating system and its USB library, as pyusb sees them: everything above a transfer.

`Backend` keeps attached devices, handles and claims, parses descriptors with the limits libusb has, and raises what
pyusb raises over libusb. How a transfer travels, a subclass says: `InProcessBackend` or `UsbIpBackend`.
"""

from __future__ import annotations

import array
import errno
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Final

import usb.backend
import usb.core

from firmware_sim.usb_configuration import DEVICE_FIELDS, parse, record
from firmware_sim.usb_host import Status, setup_packet

_ERRORS: Final = {  # status: (libusb's error code, errno of this system, libusb's words)
    Status.GONE: (-4, errno.ENODEV, "No such device (it may have been disconnected)"),
    Status.STALLED: (-9, errno.EPIPE, "Pipe error"),
    Status.SILENT: (-1, errno.EIO, "Input/Output Error"),
    Status.SHORT: (-1, errno.EIO, "Input/Output Error"),
    Status.UNLINKED: (-10, errno.EINTR, "System call interrupted"),
    Status.OVERFLOW: (-8, errno.EOVERFLOW, "Overflow"),
    Status.TIMEOUT: (-7, errno.ETIMEDOUT, "Operation timed out"),
}
_SPEEDS: Final = {"full": 2, "high": 3}


def failed(status: Status) -> usb.core.USBError:
    """What pyusb raises when libusb reports this status."""
    code, number, words = _ERRORS[status]
    kind = usb.core.USBTimeoutError if status is Status.TIMEOUT else usb.core.USBError
    return kind(words, code, number)


def _refused(code: int, number: int, words: str) -> usb.core.USBError:
    return usb.core.USBError(words, code, number)


class Attached:
    """A device as the operating system knows it: from plugging it in to pulling it out."""

    def __init__(self, address: int, speed: str, descriptors: tuple[bytes, bytes], accessible: bool = True) -> None:
        self.bus, self.address, self.port = 1, address, 1
        self.speed = _SPEEDS[speed]
        self.device_descriptor, self.configuration_descriptor = descriptors
        self.accessible = accessible
        self.gone = False
        self.claims: dict[int, Handle] = {}


class Handle:
    """An open device."""

    def __init__(self, attached: Attached) -> None:
        self.attached = attached


class Backend(usb.backend.IBackend):  # type: ignore[misc]
    """What does not depend on how a transfer travels; a subclass runs transfers and attaches devices."""

    def __init__(self) -> None:
        super().__init__()
        self.attached: list[Attached] = []
        self._lock = threading.RLock()

    def run_bulk_in(self, attached: Attached, endpoint: int, size: int, timeout: int) -> tuple[Status, bytes]:
        """Read; the bytes that came although it failed are returned too."""
        raise NotImplementedError

    def run_bulk_out(self, attached: Attached, endpoint: int, data: bytes, timeout: int) -> tuple[Status, int]:
        """Write; the number of bytes the device took is returned even if it failed."""
        raise NotImplementedError

    def run_control(
        self, attached: Attached, setup: bytes, size: int, data: bytes, timeout: int
    ) -> tuple[Status, bytes]:
        """Run a control transfer."""
        raise NotImplementedError

    def run_reset(self, attached: Attached) -> Status:
        """Reset the device's port and configure it again."""
        raise NotImplementedError

    # ------------------------------------------------------------------------------------------------- descriptors

    def enumerate_devices(self) -> Iterator[Attached]:
        """See pyusb's ``IBackend``."""
        return iter(list(self.attached))

    def get_parent(self, dev: Attached) -> None:
        """See pyusb's ``IBackend``; a simulated hub is not shown."""
        return

    def get_device_descriptor(self, dev: Attached) -> SimpleNamespace:
        """See pyusb's ``IBackend``."""
        found = record(DEVICE_FIELDS, dev.device_descriptor)
        found.bus, found.address, found.speed = dev.bus, dev.address, dev.speed
        found.port_number, found.port_numbers = dev.port, (dev.port,)
        return found

    def get_configuration_descriptor(self, dev: Attached, config: int) -> SimpleNamespace:
        """See pyusb's ``IBackend``."""
        if config:
            raise IndexError(f"no configuration {config}")
        try:
            return parse(dev.configuration_descriptor)
        except ValueError as why:
            raise failed(Status.SILENT) from why

    def get_interface_descriptor(self, dev: Attached, intf: int, alt: int, config: int) -> SimpleNamespace:
        """See pyusb's ``IBackend``."""
        found: SimpleNamespace = self.get_configuration_descriptor(dev, config).interfaces[intf][alt]
        return found

    def get_endpoint_descriptor(self, dev: Attached, ep: int, intf: int, alt: int, config: int) -> SimpleNamespace:
        """See pyusb's ``IBackend``."""
        found: SimpleNamespace = self.get_interface_descriptor(dev, intf, alt, config).endpoints[ep]
        return found

    # ------------------------------------------------------------------------------------------------------ handles

    def open_device(self, dev: Attached) -> Handle:
        """See pyusb's ``IBackend``."""
        if dev.gone:
            raise failed(Status.GONE)
        if not dev.accessible:
            raise _refused(-3, errno.EACCES, "Access denied (insufficient permissions)")
        return Handle(dev)

    def close_device(self, dev_handle: Handle) -> None:
        """See pyusb's ``IBackend``."""
        claims = dev_handle.attached.claims
        for number in [number for number, holder in claims.items() if holder is dev_handle]:
            del claims[number]

    def claim_interface(self, dev_handle: Handle, intf: int) -> None:
        """See pyusb's ``IBackend``."""
        attached = dev_handle.attached
        if attached.gone:
            raise failed(Status.GONE)
        known = {group[0].bInterfaceNumber for group in self.get_configuration_descriptor(attached, 0).interfaces}
        if intf not in known:
            raise _refused(-5, errno.ENOENT, "Entity not found")
        with self._lock:
            if attached.claims.setdefault(intf, dev_handle) is not dev_handle:
                raise _refused(-6, errno.EBUSY, "Resource busy")

    def release_interface(self, dev_handle: Handle, intf: int) -> None:
        """See pyusb's ``IBackend``."""
        if dev_handle.attached.claims.get(intf) is not dev_handle:
            raise _refused(-5, errno.ENOENT, "Entity not found")
        del dev_handle.attached.claims[intf]

    def is_kernel_driver_active(self, dev_handle: Handle, intf: int) -> bool:
        """See pyusb's ``IBackend``; no driver binds to a vendor interface."""
        return False

    def set_configuration(self, dev_handle: Handle, config_value: int) -> None:
        """See pyusb's ``IBackend``."""
        if dev_handle.attached.claims:
            raise _refused(-6, errno.EBUSY, "Resource busy")
        self._request(dev_handle, 0x00, 9, config_value, 0)

    def get_configuration(self, dev_handle: Handle) -> int:
        """See pyusb's ``IBackend``."""
        answer = self._request(dev_handle, 0x80, 8, 0, 0, 1)
        return answer[0] if answer else 0

    def set_interface_altsetting(self, dev_handle: Handle, intf: int, altsetting: int) -> None:
        """See pyusb's ``IBackend``."""
        self._request(dev_handle, 0x01, 11, altsetting, intf)

    def clear_halt(self, dev_handle: Handle, ep: int) -> None:
        """See pyusb's ``IBackend``."""
        self._request(dev_handle, 0x02, 1, 0, ep)

    def reset_device(self, dev_handle: Handle) -> None:
        """See pyusb's ``IBackend``."""
        with self._lock:
            status = self.run_reset(dev_handle.attached)
        if status:
            raise failed(status)

    # ---------------------------------------------------------------------------------------------------- transfers

    def _request(self, handle: Handle, kind: int, request: int, value: int, index: int, size: int = 0) -> bytes:
        setup = setup_packet(kind, request, value, index, size)
        with self._lock:
            status, answer = self.run_control(handle.attached, setup, size, b"", 5000)
        if status:
            raise failed(status)
        return answer

    def ctrl_transfer(
        self,
        dev_handle: Handle,
        bmRequestType: int,  # noqa: N803 - pyusb's names
        bRequest: int,  # noqa: N803
        wValue: int,  # noqa: N803
        wIndex: int,  # noqa: N803
        data: array.array[int],
        timeout: int,
    ) -> int:
        """See pyusb's ``IBackend``."""
        size = len(data) * data.itemsize
        incoming = bool(bmRequestType & 0x80)
        setup = setup_packet(bmRequestType, bRequest, wValue, wIndex, size)
        with self._lock:
            outgoing = b"" if incoming else data.tobytes()
            status, answer = self.run_control(dev_handle.attached, setup, size, outgoing, timeout)
        if status:
            raise failed(status)
        if not incoming:
            return size
        memoryview(data).cast("B")[: len(answer)] = answer
        return len(answer)

    def bulk_write(self, dev_handle: Handle, ep: int, intf: int, data: array.array[int], timeout: int) -> int:
        """See pyusb's ``IBackend``."""
        self._owns(dev_handle, intf)
        with self._lock:
            status, sent = self.run_bulk_out(dev_handle.attached, ep & 0x0F, data.tobytes(), timeout)
        if status and not (status is Status.TIMEOUT and sent):  # a timeout after some bytes is no error to libusb
            raise failed(status)
        return sent

    def bulk_read(self, dev_handle: Handle, ep: int, intf: int, buff: array.array[int], timeout: int) -> int:
        """See pyusb's ``IBackend``."""
        self._owns(dev_handle, intf)
        with self._lock:
            size = len(buff) * buff.itemsize
            status, received = self.run_bulk_in(dev_handle.attached, ep & 0x0F, size, timeout)
        memoryview(buff).cast("B")[: len(received)] = received
        if status and not (status is Status.TIMEOUT and received):
            raise failed(status)
        return len(received)

    def _owns(self, handle: Handle, interface: int) -> None:
        if handle.attached.gone:
            raise failed(Status.GONE)
        if handle.attached.claims.get(interface) is not handle:
            raise _refused(-6, errno.EBUSY, "Resource busy")
