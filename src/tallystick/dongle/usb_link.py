# SPDX-License-Identifier: Apache-2.0
"""Dongles on the USB bus, through pyusb: finding them, and a `link.Link` to one. The only file that imports ``usb``.

A dongle has one interface of the vendor class with one bulk endpoint in each direction; a device that offers anything
else besides is refused (rule R45). Nothing it says of itself but its printed serial number is used before its key has
answered, and that only to choose among several (rule R43).
"""

from __future__ import annotations

import errno
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from tallystick.dongle.usb_ids import IN, OUT, PRODUCT_ID, VENDOR_CLASS, VENDOR_ID
from tallystick.errors import TallystickError, error
from tallystick.record import Record

try:
    import usb.backend.libusb1
    import usb.core
    import usb.util
except ImportError as missing:
    raise error(
        "backend_unavailable",
        "dongles need the extra 'usb'",
        'Install it: pip install "tallystick[usb]"',
        extra="usb",
    ) from missing

NO_PERMISSION_REMEDY: Final = "Install the udev rule, see `tally doctor`."
_SERIAL: Final = re.compile(r"[A-Z0-9-]{1,40}")
_POLL_S: Final = 0.01
_RETURNED: Final = (errno.ENODEV, errno.ENOENT, errno.EPIPE, errno.EIO)
_WRITE_MS: Final = 2000
_INWARD: Final = 0x80
_BULK: Final = 2


class Found(Record):
    """A dongle on the bus.

    Attributes:
        serial: printed container id, as the device claims; empty where it could not be read.
        location: bus and address, for people.
        problem: why it cannot be used, as a code; empty where nothing is known to be wrong.
        device: pyusb's.
    """

    serial: str
    location: str
    problem: str
    device: Any


def find(vendor: int = VENDOR_ID, product: int = PRODUCT_ID, backend: Any = None) -> tuple[Found, ...]:
    """List the dongles on the bus.

    Args:
        vendor, product: USB ids.
        backend: pyusb's; the system's libusb if omitted.

    Returns:
        One row each.

    Raises:
        BackendUnavailableError: there is no libusb.
    """
    library = _library() if backend is None else backend
    try:
        devices = list(usb.core.find(find_all=True, idVendor=vendor, idProduct=product, backend=library))
    except usb.core.NoBackendError as cause:
        remedy = "Install it: `pip install libusb-package`; on Debian also `apt-get install libusb-1.0-0`."
        raise error("backend_unavailable", "libusb is not installed", remedy, extra="usb") from cause
    return tuple([_found(device) for device in devices])


def _library() -> Any:
    """Find libusb: the system's, which udev tells of new devices, else the one that a Python package brings."""
    library = usb.backend.libusb1.get_backend()
    if library is None:
        try:
            import libusb_package
        except ImportError:
            return None  # pyusb says what is missing
        library = libusb_package.get_libusb1_backend()
    return library


def _found(device: Any) -> Found:
    problem, serial = "", ""
    try:
        if not _is_ours(device):
            problem = "backend_failed"
        # asked for the languages itself, pyusb would not tell a device that may not be opened from one that is gone
        languages = usb.util.get_langids(device)
        text = usb.util.get_string(device, device.iSerialNumber, *languages[:1]) or ""
        serial = text if _SERIAL.fullmatch(text) else ""
    except usb.core.USBError as reason:
        problem = "no_permission" if reason.errno == errno.EACCES else "device_removed"
    except (ValueError, NotImplementedError, UnicodeError):  # strings without a language, or that are no strings
        problem = problem or "no_permission"
    finally:
        usb.util.dispose_resources(device)
    return Found(serial, f"bus {device.bus} device {device.address}", problem, device)


def _is_ours(device: Any) -> bool:
    """Whether it has exactly one configuration with the one interface a dongle has."""
    interfaces = [interface for configuration in device for interface in configuration]
    if len(interfaces) != 1 or interfaces[0].bInterfaceClass != VENDOR_CLASS:
        return False
    found = sorted((endpoint.bEndpointAddress & _INWARD, endpoint.bmAttributes & 3) for endpoint in interfaces[0])
    return found == [(0, _BULK), (_INWARD, _BULK)]  # of any number: a device's controller may not leave a choice


class UsbLink:
    """The pipe to one dongle, claimed while it is talked to, so that several programs share it.

    Args:
        choose: finds the device again after it was unplugged.
        monotonic: clock of the waiting for other programs.
        first: the device, as it was found.
        pause: waits a moment.
    """

    def __init__(
        self,
        choose: Callable[[], Found],
        monotonic: Callable[[], float],
        first: Found,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._choose = choose
        self._monotonic = monotonic
        self._pause = pause
        self._device: Any = first.device
        self._packet = 64
        self._out, self._in = OUT, IN
        self._looked = False  # what its descriptors say of the pipes holds until it is found again

    def claim(self, timeout_s: float) -> None:
        """Have the device for this program alone."""
        end = self._monotonic() + timeout_s
        with self._translated():
            known = self._device is not None
            while True:
                if self._device is None:
                    self._device = self._choose().device
                try:
                    usb.util.claim_interface(self._device, 0)
                    break
                except usb.core.USBError as reason:
                    if known and reason.errno in _RETURNED:
                        known = False  # it may have been plugged in again since
                        self._forget()
                        continue
                    if reason.errno != errno.EBUSY or self._monotonic() >= end:
                        raise
                self._pause(_POLL_S)
            if not self._looked:
                endpoints = self._device[0][(0, 0)]
                self._out, self._in = sorted([endpoint.bEndpointAddress for endpoint in endpoints])
                self._packet = min(1024, max(8, endpoints[0].wMaxPacketSize))
                self._looked = True

    def release(self) -> None:
        """Let other programs have it."""
        if self._device is not None:
            try:
                usb.util.release_interface(self._device, 0)
            except usb.core.USBError:
                self._forget()

    def write(self, data: bytes) -> None:
        """Send bytes; an empty packet ends a transfer that fills its last one, which libusb does not add."""
        with self._translated():
            self._device.write(self._out, data, _WRITE_MS)
            if len(data) % self._packet == 0:
                self._device.write(self._out, b"", _WRITE_MS)

    def read(self, timeout_s: float) -> bytes:
        """Return what has arrived; empty if nothing did in time."""
        end = self._monotonic() + timeout_s
        with self._translated():
            while (left := end - self._monotonic()) > 0:
                try:
                    data = bytes(self._device.read(self._in, 16_384, max(1, int(left * 1000))))
                except usb.core.USBTimeoutError:
                    return b""
                if data:  # an empty packet only ends a transfer
                    return data
        return b""

    def close(self) -> None:
        """Let go of the device."""
        self._forget()

    def _forget(self) -> None:
        device, self._device, self._looked = self._device, None, False
        if device is not None:
            usb.util.dispose_resources(device)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn what pyusb raises into our errors; after a stall the pipe is cleared, after a removal forgotten."""
        try:
            yield
        except TallystickError:  # a usage error is a ValueError, too
            raise
        except usb.core.USBError as reason:
            raise self._error(reason) from reason
        except (AttributeError, ValueError, NotImplementedError, IndexError) as reason:
            self._forget()
            raise error("backend_failed", "the device is not a dongle any more") from reason

    def _error(self, reason: Any) -> TallystickError:
        if isinstance(reason, usb.core.USBTimeoutError):
            return error("device_silent", "the dongle takes nothing more")
        if reason.errno == errno.EBUSY:
            return error("busy", "another program uses the dongle all the time")
        if reason.errno == errno.EACCES:
            self._forget()
            return error("no_permission", "no permission for the dongle", NO_PERMISSION_REMEDY)
        if reason.errno in (errno.EPIPE, errno.EOVERFLOW):
            if not _cleared(self._device, self._out, self._in):
                self._forget()  # it lost its configuration: found again, it gets a new one
            return error("backend_failed", "the dongle broke a transfer off")
        self._forget()
        return error("device_removed", "the dongle was unplugged")


def _cleared(device: Any, *endpoints: int) -> bool:
    try:
        for endpoint in endpoints:
            device.clear_halt(endpoint)
    except usb.core.USBError:
        return False
    return True
