# SPDX-License-Identifier: Apache-2.0
"""Hexadecimal with comments, as ``docs/format.md`` shows messages: one item a line, names from the tables of labels."""

from __future__ import annotations

from typing import Any

from tallystick.codec import cbor
from tallystick.codec.cose import byte_string
from tallystick.license.schema import Table

WIDTH = 16
COLUMN = 58
KEY = {1: "kty", 3: "alg", -1: "crv", -2: "x", -3: "y"}
HEADER = {1: "alg", 4: "kid", 16: "typ"}
Hint = Any
"""What names the parts: ``{label: name or (name, hint)}`` for maps, ``[name or (name, hint), ...]`` for arrays with the
last for all further items, ``Inside(hint)`` for a byte string that holds CBOR, None for nothing."""


class Inside:
    """A byte string with CBOR in it."""

    def __init__(self, hint: Hint = None) -> None:
        self.hint = hint


def names(table: Table, **inner: Hint) -> dict[int, Hint]:
    """Take the names of a map's members from its table."""
    return {field.label: (field.name.replace("_", " "), inner.get(field.name)) for field in table.fields}


class _Writer:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, depth: int, data: bytes, comment: str = "") -> None:
        shown = "  " * depth + data.hex(" ")
        self.lines.append(f"{shown:<{COLUMN}}# {comment}".rstrip() if comment else shown)

    def block(self, depth: int, data: bytes, comment: str = "") -> None:
        for at in range(0, len(data), WIDTH):
            self.line(depth, data[at : at + WIDTH], comment if not at else "")

    def item(self, value: Any, hint: Hint, depth: int, label: str, before: bytes = b"") -> None:
        """Write one item; `before` is the map key in front of it."""
        data = cbor.encode(value)
        named = f"{label}: " if label else ""
        if type(value) is bytes:
            start, _ = byte_string(data, 0)
            inside = isinstance(hint, Inside) and value
            what = f"{named}bytes({len(value)})" + (", CBOR inside" if inside else "")
            self.line(depth, before + data[:start], what)
            if inside:
                self.item(cbor.decode(value), hint.hint, depth + 1, "")
            else:
                self.block(depth + 1, value)
        elif type(value) is dict:
            self.line(depth, before + data[:1], f"{named}map({len(value)})")
            for key in cbor.decode(data):
                name, inner = _named(hint.get(key, hint.get("*")) if isinstance(hint, dict) else None)
                shown = f"{key!r} {name}" if name else f"{key!r}"
                self.item(value[key], inner, depth + 1, shown.replace("'", '"'), cbor.encode(key))
        elif type(value) is list:
            self.line(depth, before + data[: 1 if len(value) < 24 else 2], f"{named}array({len(value)})")
            for number, one in enumerate(value):
                name, inner = _named(hint[min(number, len(hint) - 1)] if hint else None)
                self.item(one, inner, depth + 1, name)
        else:
            shown = {True: "true", False: "false", None: "null"}.get(value) if type(value) is not int else None
            text = f'"{value}"' if type(value) is str else shown or str(value)
            self.block(depth, before + data, named + text)


def _named(hint: Hint) -> tuple[str, Hint]:
    if isinstance(hint, tuple):
        return hint[0], hint[1]
    return (hint, None) if isinstance(hint, str) else ("", hint)


def annotate(data: bytes, hint: Hint = None) -> str:
    """Write one CBOR item."""
    writer = _Writer()
    writer.item(cbor.decode(data), hint, 0, "")
    return "\n".join(writer.lines)


def annotate_message(data: bytes, claims: Hint) -> str:
    """Write a signed message."""
    writer = _Writer()
    protected, unprotected, payload, signature = cbor.decode(data[1:])
    writer.line(0, data[:1], "tag 18: COSE_Sign1")
    writer.line(1, data[1:2], "array(4)")
    writer.item(protected, Inside(HEADER), 2, "protected")
    writer.item(unprotected, None, 2, "unprotected")
    writer.item(payload, Inside(claims), 2, "payload")
    writer.item(signature, None, 2, "signature")
    return "\n".join(writer.lines)


def annotate_parts(*parts: tuple[bytes, str]) -> str:
    """Write bytes that are no CBOR, part by part."""
    writer = _Writer()
    for data, comment in parts:
        writer.block(0, data, comment)
    return "\n".join(writer.lines)


def bytes_of(text: str) -> bytes:
    """Read such a block."""
    return bytes.fromhex("".join(line.partition("#")[0] for line in text.splitlines()))
