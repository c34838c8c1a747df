# SPDX-License-Identifier: Apache-2.0
"""Traits of a Linux computer, read from files only: no programs, no devices, no privileges.

| trait | from | notes |
|---|---|---|
| machine-id | ``/etc/machine-id``, else ``/var/lib/dbus/machine-id`` | |
| product-uuid, board-serial | ``/sys/class/dmi/id``, else the device tree | for root only; placeholders dropped |
| nic | permanent addresses of on-board cards, ``/sys/class/net`` | no USB, Thunderbolt, virtual or assigned address |
| root-fs | UUID of the file system mounted at ``/`` | none for overlay, network and memory file systems |
| cpu | vendor, family, model of ``/proc/cpuinfo`` | no microcode, stepping or clock: updates change them |
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from tallystick.backends.traits.base import (
    BOARD_SERIAL,
    CPU,
    MACHINE_ID,
    NIC,
    PRODUCT_UUID,
    ROOT_FS,
    Profile,
    Reading,
    TraitSource,
    cleaned,
    cleaned_mac,
    join,
)
from tallystick.backends.traits.profile import detect_profile
from tallystick.backends.traits.tree import Tree

_CPU_FIELDS: Final = (
    "vendor_id", "cpu family", "model", "model name", "CPU implementer", "CPU architecture", "CPU part", "Hardware",
    "Model", "cpu", "machine", "uarch", "isa",
)  # fmt: skip
_ETHERNET: Final = "1"  # ARPHRD_ETHER; wireless cards count as Ethernet
_PERMANENT: Final = "0"  # NET_ADDR_PERM: not set by an administrator, not random, not stolen from another device
_USB: Final = re.compile(r"usb\d+")
_ROOT_ARGUMENT: Final = re.compile(r"(?:^|\s)root=UUID=([0-9A-Fa-f-]+)")
_FSTAB_ROOT: Final = re.compile(r"^\s*UUID=\"?([0-9A-Fa-f-]+)\"?\s+/\s", re.MULTILINE)
_UDEV_UUID: Final = re.compile(r"^E:ID_FS_UUID=(\S+)$", re.MULTILINE)
_NO_ENVIRONMENT: Final[Mapping[str, str]] = {}
_ESCAPE: Final = re.compile(r"\\([0-7]{3})")


class LinuxTraits(TraitSource):
    """Reads a Linux system.

    Args:
        root: the folder that stands for ``/``.
        environ: the process environment, for a caller that has it; files tell the same, a little less surely.
    """

    def __init__(self, root: str = "/", environ: Mapping[str, str] = _NO_ENVIRONMENT) -> None:
        self._tree = Tree(root)
        self._environ = environ

    def read(self) -> Reading:
        """Look at the computer once."""
        tree = self._tree
        found: dict[str, str | None] = {
            MACHINE_ID: _machine_id(tree),
            PRODUCT_UUID: _firmware(tree, "/sys/class/dmi/id/product_uuid"),
            BOARD_SERIAL: _board_serial(tree),
            NIC: _nic(tree),
            ROOT_FS: _root_fs(tree),
            CPU: _cpu(tree),
        }
        return {name: value for name, value in found.items() if value != ""}

    def profile(self) -> Profile:
        """Recognize virtual machines, WSL and OS containers."""
        return detect_profile(self._tree, self._environ)


# Each reader returns the value, None where it cannot be read, or "" where the computer has no such thing.


def _machine_id(tree: Tree) -> str | None:
    texts = [tree.text(name) for name in ("/etc/machine-id", "/var/lib/dbus/machine-id")]
    for text in texts:
        if text and (value := cleaned(text)):
            return value
    return None if None in texts else ""


def _firmware(tree: Tree, name: str) -> str | None:
    text = tree.text(name)
    return None if text is None else cleaned(text)


def _board_serial(tree: Tree) -> str | None:
    serial = _firmware(tree, "/sys/class/dmi/id/board_serial")
    return _firmware(tree, "/sys/firmware/devicetree/base/serial-number") if serial == "" else serial


def _nic(tree: Tree) -> str | None:
    names = tree.names("/sys/class/net")
    if names is None:
        return None
    found: dict[str, None] = {}  # an ordered set: several interfaces may share one card
    hidden = False
    for card in sorted(tree.link(f"/sys/class/net/{name}") for name in names):  # by place on the bus, not by name
        if not _is_on_board(tree, card):
            continue
        if tree.text(f"{card}/addr_assign_type") != _PERMANENT:
            hidden = True
        elif address := cleaned_mac(tree.text(f"{card}/address") or ""):
            found[address] = None
    return join(tuple(found), hidden) if found or hidden else ""


def _is_on_board(tree: Tree, card: str) -> bool:
    """Accept cards that came with the computer: bridges and tunnels have no device, docks are removable."""
    if not tree.exists(f"{card}/device") or tree.text(f"{card}/type") != _ETHERNET:
        return False
    path = tree.link(f"{card}/device")
    if any(_USB.fullmatch(part) for part in path.split("/")) or tree.exists(f"{path}/physfn"):  # SR-IOV: assigned
        return False
    while path.count("/") > 2:
        if tree.text(f"{path}/removable") == "removable":
            return False
        path = path.rpartition("/")[0]
    return True


def _root_fs(tree: Tree) -> str | None:
    mounts = tree.text("/proc/self/mountinfo")
    mount = _root_mount(mounts or "")
    if mount is None:
        return None
    device, source = mount
    if not source.startswith("/dev/"):
        return ""  # overlay, tmpfs, NFS, ZFS: no block device, no UUID
    block = {tree.link(name).rpartition("/")[2] for name in (f"/sys/dev/block/{device}", source)}
    for uuid in tree.names("/dev/disk/by-uuid") or ():
        if tree.link(f"/dev/disk/by-uuid/{uuid}").rpartition("/")[2] in block:
            return uuid.lower()
    for name, pattern in (
        (f"/run/udev/data/b{device}", _UDEV_UUID),
        ("/proc/cmdline", _ROOT_ARGUMENT),
        ("/etc/fstab", _FSTAB_ROOT),
    ):
        if match := pattern.search(tree.text(name) or ""):
            return match[1].lower()
    return None


def _root_mount(mounts: str) -> tuple[str, str] | None:
    """Find (device number, source) of what is mounted at ``/`` now: the last line wins (proc(5))."""
    found = None
    for line in mounts.splitlines():
        fields, _, rest = line.partition(" - ")
        columns, tail = fields.split(" "), rest.split(" ")
        if len(columns) > 5 and len(tail) > 1 and columns[4] == "/":
            found = columns[2], _ESCAPE.sub(lambda match: chr(int(match[1], 8)), tail[1])
    return found


def _cpu(tree: Tree) -> str | None:
    fields: dict[str, str] = {}
    for line in (tree.text("/proc/cpuinfo") or "").splitlines():
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip(), " ".join(value.split()))
    return ";".join(f"{name}={fields[name]}" for name in _CPU_FIELDS if fields.get(name)) or None
