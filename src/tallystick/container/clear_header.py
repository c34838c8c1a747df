# SPDX-License-Identifier: Apache-2.0
"""What a locked container can still say: the clear header of its snapshots.

header = [format, container, created_at, [[license id, vendor, product], ...], [vendor, ...]]        CBOR
"""

from __future__ import annotations

from typing import Final

from tallystick.codec import cbor
from tallystick.container.state import State
from tallystick.errors import error

THUMBPRINT_BYTES: Final = 32
HEADER_FORMAT: Final = 1
MAX_NAMED: Final = 200  # licenses named in the clear header, which the store limits to 64 KiB


def clear_header(state: State) -> bytes:
    """Encode what a locked container can still say: who it is and what it holds.

    Args:
        state: the account.

    Returns:
        CBOR ``[format, container, created_at, [[license id, vendor, product], ...], [vendor, ...]]``, at most
        `MAX_NAMED` licenses.
    """
    held = [[holding.license_id, holding.vendor, holding.product] for holding in state.holdings.values()][:MAX_NAMED]
    return cbor.encode([HEADER_FORMAT, state.container, state.created_at, held, list(state.vendors)])


def read_clear_header(header: bytes) -> tuple[bytes, int, list[tuple[bytes, str, str]], tuple[str, ...]]:
    """Read what `clear_header` wrote; the bytes are not authenticated here.

    Args:
        header: from a slot.

    Returns:
        Container thumbprint, creation time, licenses as ``(id, vendor, product)``, vendors.

    Raises:
        FormatError: ``malformed`` or ``too_large``.
    """
    match cbor.decode(header, 1 << 16):
        case [int(known), bytes(container), int(created_at), list(held), list(vendors)] if (
            known == HEADER_FORMAT
            and len(container) == THUMBPRINT_BYTES
            and type(created_at) is int
            and all(is_named(row) for row in held)
            and all(type(vendor) is str for vendor in vendors)
        ):
            return container, created_at, [(row[0], row[1], row[2]) for row in held], tuple(vendors)
        case _:
            raise error("malformed", "the container's header is damaged")


def is_named(row: object) -> bool:
    """Tell whether a row names a license: ``[id, vendor, product]``."""
    match row:
        case [bytes(), str(), str()]:
            return True
        case _:
            return False
