# SPDX-License-Identifier: Apache-2.0
"""What a locked container can still say: the clear header of its snapshots.

header = [format, container, created_at, [[license id, vendor, product], ...], [vendor, ...], ? mark]        CBOR

The mark is the anchor's (`Anchor.mark`), where it gives one: authenticated with the snapshot, it ties the state to what
the anchor vouched with when the state was written.
"""

from __future__ import annotations

from typing import Final

from tallystick.codec import cbor
from tallystick.container.state import State
from tallystick.errors import error

THUMBPRINT_BYTES: Final = 32
HEADER_FORMAT: Final = 1
_LIMIT: Final = 1 << 16
_MARK: Final = 5  # its place
MAX_NAMED: Final = 200  # licenses named in the clear header, which the store limits to 64 KiB


def clear_header(state: State, mark: bytes = b"") -> bytes:
    """Encode what a locked container can still say: who it is and what it holds.

    Args:
        state: the account.
        mark: of the anchor; empty without.

    Returns:
        CBOR as the module shows, at most `MAX_NAMED` licenses.
    """
    held = [[holding.license_id, holding.vendor, holding.product] for holding in state.holdings.values()][:MAX_NAMED]
    marked = [mark] if mark else []
    return cbor.encode([HEADER_FORMAT, state.container, state.created_at, held, list(state.vendors), *marked])


def read_clear_header(header: bytes) -> tuple[bytes, int, list[tuple[bytes, str, str]], tuple[str, ...]]:
    """Read what `clear_header` wrote; the bytes are not authenticated here.

    Args:
        header: from a slot.

    Returns:
        Container thumbprint, creation time, licenses as ``(id, vendor, product)``, vendors.

    Raises:
        FormatError: ``malformed`` or ``too_large``.
    """
    match cbor.decode(header, _LIMIT):
        case [int(known), bytes(container), int(created_at), list(held), list(vendors), *rest] if (
            known == HEADER_FORMAT
            and (not rest or (len(rest) == 1 and type(rest[0]) is bytes))
            and len(container) == THUMBPRINT_BYTES
            and type(created_at) is int
            and all(is_named(row) for row in held)
            and all(type(vendor) is str for vendor in vendors)
        ):
            return container, created_at, [(row[0], row[1], row[2]) for row in held], tuple(vendors)
        case _:
            raise error("malformed", "the container's header is damaged")


def read_mark(header: bytes) -> bytes:
    """Return the anchor's mark in a header `read_clear_header` accepts; empty without.

    Args:
        header: from a slot.

    Raises:
        FormatError: ``malformed`` or ``too_large``.
    """
    read_clear_header(header)
    row = cbor.decode(header, _LIMIT)
    return row[_MARK] if len(row) > _MARK else b""


def is_named(row: object) -> bool:
    """Tell whether a row names a license: ``[id, vendor, product]``."""
    match row:
        case [bytes(), str(), str()]:
            return True
        case _:
            return False
