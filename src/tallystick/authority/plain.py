# SPDX-License-Identifier: Apache-2.0
"""Values as JSON text: one canonical form for the database and the audit log, one readable form for people's tools."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from tallystick.record import Record


def to_json(value: Any) -> str:
    """Write canonically: sorted keys, no spaces, bytes in hexadecimal.

    Args:
        value: plain values, records, dataclasses, byte strings.

    Returns:
        The text.
    """
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def plain(value: Any) -> Any:
    """Turn records, dataclasses and byte strings into what JSON has.

    Args:
        value: anything the services return.

    Returns:
        Dictionaries, lists, texts, numbers; byte strings in hexadecimal.
    """
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Record):
        return {name: plain(getattr(value, name)) for name in type(value).fields}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def counts(text: str) -> dict[str, int]:
    """Read a ``json`` column of counters or instants by name.

    Args:
        text: what `to_json` wrote.
    """
    return {str(name): int(number) for name, number in json.loads(text).items()}


def texts(text: str) -> dict[str, str]:
    """Read a ``json`` column of texts by name.

    Args:
        text: what `to_json` wrote.
    """
    return {str(name): str(value) for name, value in json.loads(text).items()}


def facts(text: str) -> dict[str, Any]:
    """Read a ``json`` column of anything by name.

    Args:
        text: what `to_json` wrote.
    """
    read: dict[str, Any] = json.loads(text)
    return read
