# SPDX-License-Identifier: Apache-2.0
"""What a token says of itself, in the words of `backends.pkcs11.port`."""

from __future__ import annotations

from typing import Any

from tallystick.backends.pkcs11.library import TokenFlag
from tallystick.backends.pkcs11.port import Value


def facts_of(library: Any, slot: Any) -> Value:
    """Ask a module for what it says of a token.

    Args:
        library: python-pkcs11's.
        slot: python-pkcs11's, of the token.

    Returns:
        The facts by name; of a token that is not initialized, no more than its slot and the module.

    Raises:
        PKCS11Error: of the module.
    """
    token = slot.get_token()
    major, minor = library.library_version
    known = {
        "slot": int(slot.slot_id),
        "flags": int(token.flags),
        "library_manufacturer": library.manufacturer_id.strip(),
        "library_description": library.library_description.strip(),
        "library_version": f"{major}.{minor}",
    }
    if not token.flags & TokenFlag.TOKEN_INITIALIZED:
        return known
    return known | {
        "label": token.label.strip(),
        "serial": token.serial.decode("utf-8", "replace").strip(),
        "manufacturer": token.manufacturer_id.strip(),
        "model": token.model.strip(),
        "mechanisms": sorted(int(one) for one in slot.get_mechanisms()),
        "slot_flags": int(slot.flags),
        "slot_description": slot.slot_description.strip(),
        "slot_manufacturer": slot.manufacturer_id.strip(),
    }
