# SPDX-License-Identifier: Apache-2.0
"""Values as JSON text: one canonical form for the database and the audit log, one readable form for people's tools."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from tallystick.exchange import words


def to_json(value: Any) -> str:
    """Write canonically: sorted keys, no spaces.

    Args:
        value: as `plain` takes it.

    Returns:
        The text.
    """
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def plain(value: Any) -> Any:
    """Turn what the services return into what JSON has.

    Args:
        value: dataclasses, records, mappings, sequences, plain values.

    Returns:
        Objects, lists, texts, numbers; byte strings in hexadecimal; records without the fields that have their default.
    """
    to_plain = getattr(value, "to_plain", None)
    if to_plain is not None:
        return plain(to_plain())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {words.plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return words.plain(value)


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


def one_line(text: str) -> str:
    """Make a text from outside fit for a database and a terminal.

    Args:
        text: anything a stranger wrote.

    Returns:
        The same with ``?`` for every control character, NUL among them.
    """
    return "".join(symbol if symbol.isprintable() else "?" for symbol in text)
