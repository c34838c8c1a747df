# SPDX-License-Identifier: Apache-2.0
"""What `info` tells of a container's TPM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tallystick.backends.tpm.anchor import TpmAnchor
from tallystick.backends.tpm.library import TPM2_PT
from tallystick.container.anchor import Anchor, Capability
from tallystick.container.session import Session

_DAY: Final = 86_400
_YEAR: Final = 365 * _DAY
_FIRMWARE: Final = 0x10B  # TPM_PT_FIRMWARE_VERSION_1 (TPM 2.0 Library, part 2, 6.13); the library has no name for it


def details(anchor: Anchor, session: Session) -> Mapping[str, str]:
    """Describe the TPM, and how much writing the container costs it.

    Args:
        anchor: of the container.
        session: its state, read a moment ago.

    Returns:
        Facts by name.
    """
    if not isinstance(anchor, TpmAnchor):
        return {}
    state = session.peek()
    indices = anchor.indices
    age = session.clock.read().wall - state.created_at
    pace = "a pace can be told after a day"
    if age >= _DAY:
        pace = f"about {len(indices) * state.generation * _YEAR // age} a year at the pace so far"
    protocol, writes = "P4: a counter and a chain", "2 each commit"
    if len(indices) == 1:
        protocol, writes = "P2: a counter only, one program at a time", "1 each commit and each opening"
    if anchor.capabilities & Capability.METERED:
        writes += ", 1 for each metered unit"
    return {
        "tpm": f"{maker(anchor.chip.properties())} at {anchor.chip.tcti}",
        "rollback": protocol,
        "indices": ", ".join(f"{index.number:#x}" for index in indices),
        "nv_writes": f"{writes}; {pace}",
    }


def maker(properties: Mapping[int, int]) -> str:
    """Write who made a TPM, and its firmware.

    Args:
        properties: as `Chip.properties` returns them.
    """
    name = properties.get(TPM2_PT.MANUFACTURER, 0).to_bytes(4).rstrip(b"\0 ").decode("ascii", "replace")
    firmware = properties.get(_FIRMWARE, 0)
    return f"{name} (firmware {firmware >> 16}.{firmware & 0xFFFF})"
