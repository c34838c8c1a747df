# SPDX-License-Identifier: Apache-2.0
"""Computers to bind to: a Linux file tree that can be changed part by part, readings by hand, a folder in memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from tallystick.backends.traits.base import PHYSICAL, Profile, Reading, TraitSource
from tallystick.backends.traits.linux import LinuxTraits
from tallystick.errors import TallystickError, error

MACHINE_ID = "6b1f1e0c9a4d4f5c8d2e3b7a90c1d2e3"
PRODUCT_UUID = "4c4c4544-0042-3510-8057-b7c04f4e3232"
BOARD_SERIAL = "/7TB5WN2/CNWS2007BR00A1/"
MAC = "54:bf:64:9a:11:22"
ROOT_UUID = "1b3e5a77-02c4-4d52-9b60-6f0f3f2a9c11"
CPUINFO = """processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 158
model name\t: Intel(R) Core(TM) i7-9700  CPU @ 3.00GHz
stepping\t: 13
microcode\t: 0xf8
cpu MHz\t\t: 800.021
flags\t\t: fpu vme de pse {flags}

processor\t: 1
vendor_id\t: GenuineIntel
model name\t: Intel(R) Core(TM) i7-9700  CPU @ 3.00GHz
"""
ROOT_MOUNT = "25 1 259:2 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw,errors=remount-ro\n"
PROC_MOUNT = "22 25 0:21 / /proc rw,nosuid shared:5 - proc proc rw\n"

ALL: Reading = {
    "product-uuid": "uuid-1",
    "machine-id": "machine-1",
    "board-serial": "board-1",
    "nic": "aabbccddee01",
    "root-fs": "disk-1",
    "cpu": "cpu-1",
}
"""A reading as root sees it."""

UNPRIVILEGED: Reading = {name: value for name, value in ALL.items() if name not in ("product-uuid", "board-serial")}


class Computer:
    """A Linux system below a folder: `LinuxTraits` reads it as it reads ``/``.

    Args:
        root: an empty folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("/etc/machine-id", MACHINE_ID + "\n")
        self.write("/sys/class/dmi/id/product_uuid", PRODUCT_UUID + "\n")
        self.write("/sys/class/dmi/id/board_serial", BOARD_SERIAL + "\n")
        self.write("/sys/class/dmi/id/sys_vendor", "Dell Inc.\n")
        self.write("/sys/class/dmi/id/product_name", "OptiPlex 7070\n")
        self.write("/proc/cpuinfo", CPUINFO.format(flags="msr"))
        self.write("/proc/version", "Linux version 6.1.0-25-amd64 (debian-kernel@lists.debian.org)\n")
        self.write("/proc/self/mountinfo", PROC_MOUNT + ROOT_MOUNT)
        self.link("/dev/disk/by-uuid/" + ROOT_UUID, "../../nvme0n1p2")
        self.link("/sys/dev/block/259:2", "../../devices/pci0000:00/nvme/nvme0/nvme0n1/nvme0n1p2")
        self.nic("eno1", "pci0000:00/0000:00:1f.6", MAC)
        self.virtual_nic("lo", kind="772", mac="00:00:00:00:00:00")

    @property
    def source(self) -> LinuxTraits:
        """A reader of this computer."""
        return LinuxTraits(str(self.root))

    def read(self) -> Reading:
        """What its reader says."""
        return self.source.read()

    def path(self, name: str) -> Path:
        """Where a path of the computer is."""
        return self.root / name.lstrip("/")

    def write(self, name: str, text: str) -> None:
        """Put a file."""
        self.remove(name)
        self.path(name).parent.mkdir(parents=True, exist_ok=True)
        self.path(name).write_text(text)

    def link(self, name: str, target: str) -> None:
        """Put a symbolic link."""
        self.path(name).parent.mkdir(parents=True, exist_ok=True)
        self.path(name).symlink_to(target)

    def remove(self, name: str) -> None:
        """Take a file or an empty place away."""
        if os.path.lexists(self.path(name)):
            self.path(name).unlink()

    def forbid(self, name: str) -> None:
        """Make a path that exists and cannot be read, for root too: a link to itself."""
        path = self.path(name)
        if path.is_dir() and not path.is_symlink():
            path.rename(path.with_name(path.name + ".away"))
        self.remove(name)
        self.link(name, path.name)

    def nic(self, name: str, device: str, mac: str, *, assigned: str = "0", kind: str = "1") -> str:
        """Add a network card below ``/sys/devices``; returns its device's path."""
        home = f"/sys/devices/{device}"
        card = f"{home}/net/{name}"
        self.write(f"{card}/address", mac + "\n")
        self.write(f"{card}/addr_assign_type", assigned + "\n")
        self.write(f"{card}/type", kind + "\n")
        self.link(f"{card}/device", "../..")
        self.link(f"/sys/class/net/{name}", f"../../devices/{device}/net/{name}")
        return home

    def virtual_nic(self, name: str, *, kind: str = "1", mac: str = "02:42:ac:11:00:02", assigned: str = "0") -> None:
        """Add a bridge, a tunnel, a container's end: a card without a device."""
        card = f"/sys/devices/virtual/net/{name}"
        self.write(f"{card}/address", mac + "\n")
        self.write(f"{card}/addr_assign_type", assigned + "\n")
        self.write(f"{card}/type", kind + "\n")
        self.link(f"/sys/class/net/{name}", f"../../devices/virtual/net/{name}")


class Hand(TraitSource):
    """Readings made by hand.

    Args:
        reading: what every look shows, or a function called at each look.
        profile: what kind of computer this is.
    """

    def __init__(self, reading: Mapping[str, str | None] | Callable[[], Reading], profile: Profile = PHYSICAL) -> None:
        self.reading = reading
        self.kind = profile
        self.looks = 0

    def read(self) -> Reading:
        """Look once."""
        self.looks += 1
        return self.reading() if callable(self.reading) else dict(self.reading)

    def profile(self) -> Profile:
        """Say the kind."""
        return self.kind


class Randomness:
    """The part of a `Vfs` an anchor uses."""

    def random(self, size: int) -> bytes:
        """Return unpredictable bytes."""
        return os.urandom(size)


class Folder:
    """A container's folder in memory: what an anchor needs of `container.vfs.Directory`."""

    path = "/memory"

    def __init__(self, **files: bytes) -> None:
        self.files = dict(files)
        self.vfs = Randomness()
        self.writes = 0
        self.failure: TallystickError | None = None

    def names(self) -> list[str]:
        """Return the names."""
        return sorted(self.files)

    def read(self, name: str, limit: int) -> bytes | None:
        """Return a file's contents."""
        data = self.files.get(name)
        if data is not None and len(data) > limit:
            raise error("too_large", f"{name} is too large")
        return data

    def replace(self, name: str, data: bytes) -> None:
        """Replace a file, unless `failure` says otherwise."""
        if self.failure is not None:
            raise self.failure
        self.writes += 1
        self.files[name] = data
