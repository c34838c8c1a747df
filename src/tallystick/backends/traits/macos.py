# SPDX-License-Identifier: Apache-2.0
"""Traits of a Mac, from what the system's own tools print.

| trait | from |
|---|---|
| product-uuid, board-serial | ``ioreg``: IOPlatformUUID, IOPlatformSerialNumber |
| nic | ``networksetup``: the built-in Ethernet and Wi-Fi ports, by their hardware address |
| root-fs | ``diskutil``: UUID of the data volume, which identifies the installation (the system volume is sealed) |
| cpu | ``sysctl``: processor and model |

A Mac has no machine-id. Parsers are pure; tools run through the `Runner` given.
"""

from __future__ import annotations

import re
from typing import Final

from tallystick.backends.traits.base import (
    BOARD_SERIAL,
    CPU,
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
from tallystick.backends.traits.commands import Runner, run
from tallystick.backends.traits.profile import hypervisor_named, vm_profile

IOREG: Final = ("/usr/sbin/ioreg", "-rd1", "-c", "IOPlatformExpertDevice")
PORTS: Final = ("/usr/sbin/networksetup", "-listallhardwareports")
DISKUTIL: Final = ("/usr/sbin/diskutil", "info", "/System/Volumes/Data")
SYSCTL: Final = ("/usr/sbin/sysctl", "machdep.cpu.brand_string", "hw.model", "kern.hv_vmm_present")

_PROPERTY: Final = re.compile(r'^\s*"(\w+)" = "([^"]*)"\s*$', re.MULTILINE)
_PORT: Final = re.compile(r"Hardware Port: (.+)\nDevice: (\w+)\nEthernet Address: (\S+)")
# Adapters show under their maker's name, docks as "USB ... LAN" or "Thunderbolt ...": only the ports Apple builds in.
_BUILT_IN: Final = re.compile(r"Wi-Fi|AirPort|(?:Built-in )?Ethernet(?: [12])?")
_VOLUME: Final = re.compile(r"^\s*Volume UUID:\s*([0-9A-Fa-f-]{36})\s*$", re.MULTILINE)


class MacosTraits(TraitSource):
    """Reads a Mac.

    Args:
        runner: runs a tool and returns what it prints.
    """

    def __init__(self, runner: Runner = run) -> None:
        self._run = runner

    def read(self) -> Reading:
        """Look at the computer once."""
        found: dict[str, str | None] = {
            **parse_platform(self._run(IOREG)),
            NIC: parse_ports(self._run(PORTS)),
            ROOT_FS: parse_volume(self._run(DISKUTIL)),
            CPU: parse_cpu(self._run(SYSCTL)),
        }
        return {name: value for name, value in found.items() if value != ""}

    def profile(self) -> Profile:
        """Recognize virtual machines."""
        facts = _facts(self._run(SYSCTL))
        product = hypervisor_named(facts.get("hw.model", ""))
        return vm_profile(product or ("unknown hypervisor" if facts.get("kern.hv_vmm_present") == "1" else ""))


def parse_platform(output: str | None) -> Reading:
    """Read what ``ioreg`` prints of the platform expert.

    Args:
        output: of `IOREG`.

    Returns:
        product-uuid and board-serial; None for both where the tool said nothing.
    """
    properties = dict(_PROPERTY.findall(output or ""))
    names = {PRODUCT_UUID: "IOPlatformUUID", BOARD_SERIAL: "IOPlatformSerialNumber"}
    return {trait: cleaned(properties[key]) if key in properties else None for trait, key in names.items()}


def parse_ports(output: str | None) -> str | None:
    """Read what ``networksetup`` prints of the hardware ports.

    Args:
        output: of `PORTS`.

    Returns:
        The addresses of built-in ports, Ethernet before Wi-Fi; empty where there is none, None where unreadable.
    """
    if not output:
        return None
    ports = [(name, cleaned_mac(address)) for name, _, address in _PORT.findall(output) if _BUILT_IN.fullmatch(name)]
    if not ports:
        return ""
    addresses = [address for _, address in sorted(ports) if address]
    return join(addresses, hidden=len(addresses) < len(ports))


def parse_volume(output: str | None) -> str | None:
    """Read what ``diskutil`` prints of a volume.

    Args:
        output: of `DISKUTIL`.

    Returns:
        The volume's UUID, None where the tool did not say.
    """
    match = _VOLUME.search(output or "")
    return match[1].lower() if match else None


def parse_cpu(output: str | None) -> str | None:
    """Read what ``sysctl`` prints of processor and model.

    Args:
        output: of `SYSCTL`.

    Returns:
        Both, None where the tool said neither.
    """
    facts = _facts(output)
    return ";".join(facts[name] for name in ("machdep.cpu.brand_string", "hw.model") if facts.get(name)) or None


def _facts(output: str | None) -> dict[str, str]:
    lines = (line.partition(":") for line in (output or "").splitlines())
    return {name.strip(): value.strip() for name, colon, value in lines if colon}
