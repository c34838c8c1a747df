# SPDX-License-Identifier: Apache-2.0
"""Traits of a Windows computer, from the registry and from CIM (the service once called WMI).

| trait | from |
|---|---|
| machine-id | ``reg query``: MachineGuid, independent of the CIM service |
| product-uuid | Win32_ComputerSystemProduct.UUID |
| board-serial | Win32_BaseBoard.SerialNumber |
| nic | Get-NetAdapter -Physical: permanent addresses of adapters on PCI |
| root-fs | Win32_LogicalDisk.VolumeSerialNumber of the system drive |
| cpu | Win32_Processor.Name |

One PowerShell process answers all CIM questions. Where the service is stopped, its traits are unreadable, not changed.
Parsers are pure; tools run through the `Runner` given.
"""

from __future__ import annotations

import re
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
from tallystick.backends.traits.commands import Runner, run
from tallystick.backends.traits.profile import hypervisor_named, vm_profile

_SYSTEM: Final = r"C:\Windows\System32"  # a path an environment variable cannot move
_SCRIPT: Final = "; ".join(
    f"{query} | Format-List {fields} | Out-String -Width 512"
    for query, fields in (
        ("Get-CimInstance Win32_ComputerSystemProduct", "UUID"),
        ("Get-CimInstance Win32_BaseBoard", "SerialNumber"),
        ("Get-CimInstance Win32_Processor", "Name"),
        ("Get-CimInstance Win32_LogicalDisk -Filter \"DeviceID='$env:SystemDrive'\"", "VolumeSerialNumber"),
        ("Get-CimInstance Win32_ComputerSystem", "Manufacturer,Model"),
        ("Get-NetAdapter -Physical", "PnPDeviceID,PermanentAddress"),
    )
)
_KEY: Final = r"HKLM\SOFTWARE\Microsoft\Cryptography"
REGISTRY: Final = (_SYSTEM + r"\reg.exe", "query", _KEY, "/v", "MachineGuid", "/reg:64")
CIM: Final = (_SYSTEM + r"\WindowsPowerShell\v1.0\powershell.exe", "-NoProfile", "-NonInteractive", "-Command", _SCRIPT)

_GUID: Final = re.compile(r"^\s*MachineGuid\s+REG_SZ\s+([0-9A-Fa-f-]{36})\s*$", re.MULTILINE)
_FIELD: Final = re.compile(r"^(\w+)[ \t]*:[ \t]?(.*?)[ \t]*\r?$", re.MULTILINE)


class WindowsTraits(TraitSource):
    """Reads a Windows computer.

    Args:
        runner: runs a tool and returns what it prints.
    """

    def __init__(self, runner: Runner = run) -> None:
        self._run = runner

    def read(self) -> Reading:
        """Look at the computer once."""
        found = {MACHINE_ID: parse_guid(self._run(REGISTRY)), **parse_cim(self._run(CIM))}
        return {name: value for name, value in found.items() if value != ""}

    def profile(self) -> Profile:
        """Recognize virtual machines by maker and model: the flag of the processor is set on bare metal, too."""
        fields = dict(_FIELD.findall(self._run(CIM) or ""))
        return vm_profile(hypervisor_named(fields.get("Manufacturer", ""), fields.get("Model", "")))


def parse_guid(output: str | None) -> str | None:
    """Read what ``reg query`` prints.

    Args:
        output: of `REGISTRY`.

    Returns:
        The GUID, None where the tool did not say.
    """
    match = _GUID.search(output or "")
    return cleaned(match[1]) if match else None


def parse_cim(output: str | None) -> Reading:
    """Read what PowerShell prints of the CIM classes.

    Args:
        output: of `CIM`; answers of failed questions are missing from it.

    Returns:
        Trait name -> value, empty where the computer has none, None where the question was not answered.
    """
    pairs = _FIELD.findall(output or "")
    fields = dict(reversed(pairs))  # the first of several processors
    labels = {PRODUCT_UUID: "UUID", BOARD_SERIAL: "SerialNumber", CPU: "Name", ROOT_FS: "VolumeSerialNumber"}
    reading: Reading = {trait: cleaned(fields[label]) if label in fields else None for trait, label in labels.items()}
    reading[NIC] = _adapters(pairs)
    return reading


def _adapters(pairs: list[tuple[str, str]]) -> str | None:
    """Collect the addresses of adapters on PCI, in the order of their device ids."""
    if not any(label == "PnPDeviceID" for label, _ in pairs):
        return None
    cards, device = [], ""
    for label, value in pairs:
        if label == "PnPDeviceID":
            device = value.upper()
        elif label == "PermanentAddress" and device.startswith("PCI\\"):
            cards.append((device, cleaned_mac(value)))
    found = [address for _, address in sorted(cards) if address]
    return join(found, hidden=len(found) < len(cards)) if cards else ""
