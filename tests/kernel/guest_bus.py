# SPDX-License-Identifier: Apache-2.0
"""In the guest: plugging devices in and pulling them out, and what the kernel and udev make of them."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import select
import socket
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

SERVER = ("10.0.2.100", 3240)
_PORTS = Path("/sys/devices/platform/vhci_hcd.0")
_DEVICES = Path("/sys/bus/usb/devices")
_FREE = "004"
_UEVENTS, _OF_THE_KERNEL, _OF_UDEV = 15, 1, 2  # a netlink protocol and its groups
_LOOK_AGAIN_S = 0.05


def attach(busid: str) -> int:
    """What ``usbip attach`` does: ask the server for a device and give the socket to the kernel.

    Returns:
        The port of the virtual hub.
    """
    with socket.create_connection(SERVER, 60) as link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link.sendall(struct.pack(">HHI32s", 0x0111, 0x8003, 0, busid.encode()))
        version, code, status = struct.unpack(">HHI", _exactly(link, 8))
        assert (version, code, status) == (0x0111, 0x0003, 0), f"import of {busid}: status {status}"
        about = _exactly(link, 312)
        bus, device, speed = struct.unpack_from(">III", about, 288)
        link.settimeout(None)
        port = _free_port()
        (_PORTS / "attach").write_text(f"{port} {link.fileno()} {bus << 16 | device} {speed}")
    return port


def detach(port: int) -> None:
    """Pull the device out of a port."""
    (_PORTS / "detach").write_text(str(port))


def _free_port() -> int:
    for line in (_PORTS / "status").read_text().splitlines()[1:]:
        hub, port, state, *_ = line.split()
        if hub == "hs" and state == _FREE:
            return int(port)
    raise AssertionError("no port of the virtual hub is free")


def _exactly(link: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = link.recv(size - len(data))
        assert piece, "the server closed the connection"
        data += piece
    return data


def eventually(look: Callable[[], T | None], seconds: float = 60) -> T:
    """Look until there is something to see: whenever the kernel or udev has news, and now and then.

    Raises:
        AssertionError: there is not, after so long.
    """
    end = time.monotonic() + seconds
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _UEVENTS) as news:
        news.bind((0, _OF_THE_KERNEL | _OF_UDEV))
        while time.monotonic() < end:
            if found := look():
                return found
            if select.select([news], [], [], _LOOK_AGAIN_S)[0]:
                with contextlib.suppress(OSError):  # there was more news than the kernel keeps
                    news.recv(65536)
    raise AssertionError(f"waited {seconds} s for {getattr(look, '__name__', look)} in vain")


def devices(vendor: str = "1209") -> dict[str, Path]:
    """The devices of a vendor by serial number: their folders in sysfs."""
    found = {}
    for folder in _DEVICES.glob("*"):
        try:
            if (folder / "idVendor").read_text().strip() == vendor:
                found[(folder / "serial").read_text().strip()] = folder
        except OSError:  # an interface, or gone
            continue
    return found


def plugged(serial: str) -> Path:
    """Wait for a device, and for udev to be done with it."""
    folder = eventually(lambda: devices().get(serial))
    settle()
    return folder


def pulled(serial: str) -> None:
    """Wait until a device is gone."""
    eventually(lambda: serial not in devices())
    settle()


def settle() -> None:
    """Wait until udev is done with what it has heard of."""
    subprocess.run(["udevadm", "settle", "--timeout=120"], check=True)


def node(folder: Path) -> Path:
    """A device's file in ``/dev``."""
    for line in (folder / "uevent").read_text().splitlines():
        if line.startswith("DEVNAME="):
            return Path("/dev") / line.removeprefix("DEVNAME=")
    raise AssertionError(f"{folder} has no file in /dev")


def location(serial: str) -> str:
    """Bus and address of a device, as Tallystick writes them."""
    folder = devices()[serial]
    return "bus {} device {}".format(*[(folder / name).read_text().strip() for name in ("busnum", "devnum")])


def access_list(path: Path) -> dict[int, int]:
    """Users an access list names and what they may: 6 is to read and write."""
    try:
        raw = os.getxattr(path, "system.posix_acl_access")
    except OSError as why:
        if why.errno == errno.ENODATA:
            return {}
        raise
    named = 2
    entries = [struct.unpack_from("<HHI", raw, at) for at in range(4, len(raw), 8)]
    return {who: may for tag, may, who in entries if tag == named}


def kernel_complaints() -> list[str]:
    """Lines of the kernel's log that no test may cause."""
    log = subprocess.run(["/busybox", "dmesg"], capture_output=True, text=True, check=True).stdout
    bad = re.compile(r"\b(BUG|WARNING|Oops|Call Trace|general protection)\b")
    return [line for line in log.splitlines() if bad.search(line)]
