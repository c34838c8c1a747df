# SPDX-License-Identifier: Apache-2.0
"""Small files that tell damage from anything else: ``[body, SHA-256(body)]``. The checksum proves nothing more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tallystick.codec import cbor
from tallystick.codec.digest import sha256
from tallystick.errors import error


def framed(body: Any) -> bytes:
    """Encode what a file of this package holds: ``[body, SHA-256(body)]``; the checksum tells damage, no more."""
    encoded = cbor.encode(body)
    return cbor.encode([encoded, sha256(encoded)])


def unframed(data: bytes, limit: int) -> Any:
    """Undo `framed`.

    Args:
        data: the file.
        limit: of its size, in bytes.

    Raises:
        FormatError: ``malformed`` or ``too_large``.
    """
    match cbor.decode(data, limit):
        case [bytes(body), bytes(checksum)] if sha256(body) == checksum:
            return cbor.decode(body, limit)
        case _:
            raise error("malformed", "the checksum does not match")


def versioned(
    rows: Any, version: int, types: Mapping[int, type], what: str, *, maybe: frozenset[int] = frozenset()
) -> dict[int, Any]:
    """Check that a body is a map of exactly these rows, the first of which is its version.

    Args:
        rows: the body.
        version: the only one known.
        types: of the rows, by number.
        what: it is, for messages.
        maybe: rows of a type that is checked elsewhere.

    Raises:
        FormatError: ``unsupported_version`` or ``malformed``.
    """
    found = rows.get(1) if type(rows) is dict else None
    if type(found) is int and found != version:
        raise error("unsupported_version", f"{what} has version {found}")
    if (
        type(rows) is not dict
        or rows.keys() != types.keys() | maybe
        or any(type(rows[k]) is not types[k] for k in types)
    ):
        raise error("malformed", f"{what} is incomplete")
    return rows
