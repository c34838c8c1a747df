# SPDX-License-Identifier: Apache-2.0
"""The gadget in configfs: what the kernel is told of the device, which port it is put on, and how all that goes away.

A program that crashed leaves its tree behind, on no port any more: the next one on that port takes it down first. Two
programs never share a port: it is locked as long as one uses it.

See the Linux kernel's Documentation/usb/gadget_configfs.rst.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from firmware_sim import usb_descriptors as descriptors
from firmware_sim.gadget_descriptors import MS_VENDOR_CODE_1
from firmware_sim.usb_descriptors import Identity
from tallystick.errors import TallystickError, error

GADGETS: Final = Path("/sys/kernel/config/usb_gadget")
PORTS: Final = Path("/sys/class/udc")
_LOAD_REMEDY: Final = (
    "As root: `modprobe libcomposite && mount -t configfs none /sys/kernel/config` (mounted already: no matter)."
)
_PORT_REMEDY: Final = (
    "On a Raspberry Pi Zero: `dtoverlay=dwc2,dr_mode=peripheral` in config.txt; to try it here: `modprobe dummy_hcd`."
)
_DETACH: Final = 2


def port(named: str | None) -> str:
    """Choose the device controller.

    Args:
        named: by the user; None for the only one.

    Raises:
        BackendUnavailableError, UsageError: there is none, not that one, or several to choose from.
    """
    there = sorted(path.name for path in PORTS.glob("*"))
    if named is not None and named not in there:
        raise error("usage", f"no USB device controller {named!r}; there are: {', '.join(there) or 'none'}")
    if not there:
        raise error("backend_unavailable", "this computer has no USB port that can be a device's", _PORT_REMEDY)
    if named is None and len(there) > 1:
        raise error("usage", f"several USB device controllers: {', '.join(there)}", "Name one: --udc NAME.")
    return named or there[0]


def require_configfs() -> None:
    """See that gadgets can be made, by this user.

    Raises:
        BackendUnavailableError, StorageError: they cannot.
    """
    if os.geteuid() != 0:
        raise error("no_permission", "a USB gadget is made by root", "Run it with sudo.")
    if not GADGETS.is_dir():
        raise error("backend_unavailable", f"the kernel offers no gadgets: there is no {GADGETS}", _LOAD_REMEDY)


class Gadget:
    """A device in configfs with one function of FunctionFS.

    Args:
        udc: name of the device controller.
        identity: who the device says it is.
        folder: where FunctionFS is mounted; made if it is not there.

    Raises:
        ContainerError: ``busy``: another program has the controller.
    """

    def __init__(self, udc: str, identity: Identity, folder: Path) -> None:
        self._udc, self._identity, self._folder = udc, identity, folder
        self._name = f"tallystick-{udc}"
        self._root = GADGETS / self._name
        self._function = self._root / "functions" / f"ffs.{self._name}"
        self._configuration = self._root / "configs" / "c.1"
        self._lock = os.open(PORTS / udc, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise error("busy", f"another dongle is on {udc}", "End it first, or name another port: --udc.") from None

    def make(self) -> None:
        """Describe the device, and mount FunctionFS; nothing is on the bus yet.

        Raises:
            BackendUnavailableError, StorageError: the kernel refuses.
        """
        self._clear()  # of a program that crashed
        with _explained():
            self._root.mkdir()
            _write(self._root, idVendor=f"0x{self._identity.vid:04x}", idProduct=f"0x{self._identity.pid:04x}")
            _write(self._root, bcdDevice=f"0x{self._identity.release:04x}", bcdUSB="0x0210")
            names = {"manufacturer": self._identity.manufacturer, "product": self._identity.product}
            self._describe(self._root, **names, serialnumber=self._identity.serial)
            about = descriptors.configuration(descriptors.CONFIGURATION, self._identity.packet_bytes)
            self._configuration.mkdir()
            _write(self._configuration, bmAttributes=f"0x{about[7]:02x}", MaxPower=str(2 * about[8]))
            self._function.mkdir()
            (self._configuration / self._function.name).symlink_to(self._function)
            _write(self._root / "os_desc", use="1", b_vendor_code=f"0x{MS_VENDOR_CODE_1:02x}", qw_sign="MSFT100")
            (self._root / "os_desc" / "c.1").symlink_to(self._configuration)
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _call("mount", self._name.encode(), os.fsencode(self._folder), b"functionfs", 0, None)

    def plug(self) -> None:
        """Put the device on the bus.

        Raises:
            BackendUnavailableError, ContainerError: the kernel refuses, or the controller is in use.
        """
        with _explained():
            _write(self._root, UDC=self._udc)

    def unplug(self) -> None:
        """Take the device off the bus; nothing happens if it is not there."""
        with suppress(OSError):  # the kernel has done so by itself, or never put it there
            _write(self._root, UDC="")

    def close(self) -> None:
        """Take everything down, and let others have the controller."""
        self.unplug()
        self._clear()
        os.close(self._lock)

    def _describe(self, where: Path, **texts: str) -> None:
        folder = where / "strings" / f"0x{descriptors.ENGLISH:x}"
        folder.mkdir()
        _write(folder, **texts)

    def _clear(self) -> None:
        self.unplug()
        for line in Path("/proc/self/mounts").read_bytes().splitlines():
            source, where, kind = line.split(b" ")[:3]
            if kind == b"functionfs" and source == self._name.encode():
                _call("umount2", where.replace(b"\\040", b" "), _DETACH)
        with suppress(OSError):
            self._folder.rmdir()
        steps: list[tuple[Callable[[Path], None], Path]] = [
            (Path.unlink, self._root / "os_desc" / "c.1"),
            (Path.unlink, self._configuration / self._function.name),
            (Path.rmdir, self._configuration),
            (Path.rmdir, self._function),
            (Path.rmdir, self._root / "strings" / f"0x{descriptors.ENGLISH:x}"),
            (Path.rmdir, self._root),
        ]
        for step, path in steps:
            with _explained(), suppress(FileNotFoundError):
                step(path)


def _write(folder: Path, **values: str) -> None:
    for name, value in values.items():
        (folder / name).write_text(f"{value}\n", encoding="utf-8")


def _call(named: str, *arguments: object) -> None:
    """Call the C library; Python has no mount of its own."""
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, named)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{named}: {os.strerror(number)}")


@contextmanager
def _explained() -> Iterator[None]:
    """Turn what the kernel says into an error with a remedy."""
    try:
        yield
    except OSError as why:
        raise _explanation(why) from why


def _explanation(why: OSError) -> TallystickError:
    what = f"{why.strerror}{f': {why.filename}' if why.filename else ''}"
    if why.errno == errno.EBUSY:
        return error("busy", f"another gadget has the port: {what}", "Take that down first.")
    if why.errno in {errno.ENODEV, errno.ENOENT}:
        remedy = "As root: `modprobe usb_f_fs`; the kernel needs CONFIG_USB_CONFIGFS_F_FS."
        return error("backend_unavailable", f"the kernel cannot do FunctionFS: {what}", remedy)
    return error("backend_unavailable", f"the kernel does not take the gadget: {what}", "See the end of `dmesg`.")
