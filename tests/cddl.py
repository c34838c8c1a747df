# SPDX-License-Identifier: Apache-2.0
"""A reader of CDDL (RFC 8610), as much of it as ``docs/format.md`` uses: ``Schema(text).require("license", value)``.

Why not a library: pycddl 0.6.4 accepts members where ``{}`` allows none and cannot look into ``.cbor`` of an array's
item; zcbor 0.9.1 needs cbor2 5. Both were tried on the schema of the page.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tallystick.codec import cbor
from tallystick.errors import FormatError

_TOKEN = re.compile(
    r"""(?P<blank>\s+|;[^\n]*)|(?P<bytes>h'[0-9a-fA-F\s]*')|(?P<text>"(?:[^"\\]|\\.)*")|(?P<tag>\#6\.\d+)
    |(?P<control>\.(?!\.)[a-z]+)|(?P<occur>\d*\*\d*|\+|\?)|(?P<range>\.\.)|(?P<number>-?\d+)
    |(?P<name>[A-Za-z@_$][A-Za-z0-9@_$]*(?:[-.][A-Za-z0-9@_$]+)*)|(?P<sign>=>|[=/,:()\[\]{}])""",
    re.VERBOSE,
)
_PRELUDE: dict[str, Any] = {
    "any": lambda _: True,
    "bool": lambda value: type(value) is bool,
    "null": lambda value: value is None,
    "int": lambda value: type(value) is int,
    "uint": lambda value: type(value) is int and value >= 0,
    "bstr": lambda value: type(value) is bytes,
    "tstr": lambda value: type(value) is str,
    "true": lambda value: value is True,
    "false": lambda value: value is False,
}


class MismatchError(AssertionError):
    """A value is not what the schema says."""


@dataclass
class Node:
    """A type: ``kind`` says which, ``parts`` holds what it is made of."""

    kind: str
    parts: list[Any] = field(default_factory=list)


@dataclass
class Entry:
    """A member of a map or an array."""

    least: int
    most: float
    key: Node | None
    value: Node


@dataclass
class Tagged:
    """A tagged item; the strict codec has no tags, so callers wrap what follows the tag."""

    tag: int
    value: Any


class _Parser:
    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[str, str]] = []
        at = 0
        while at < len(text):
            found = _TOKEN.match(text, at)
            assert found, f"not CDDL: {text[at : at + 40]!r}"
            at = found.end()
            if found.lastgroup != "blank":
                self.tokens.append((str(found.lastgroup), found[0]))
        self.at = 0

    def peek(self, ahead: int = 0) -> str:
        return self.tokens[self.at + ahead][1] if self.at + ahead < len(self.tokens) else ""

    def kind(self) -> str:
        return self.tokens[self.at][0] if self.at < len(self.tokens) else ""

    def take(self, expected: str = "") -> str:
        token = self.peek()
        assert token, "the text ends too early"
        assert expected in ("", token), f"{expected!r} expected, not {self.tokens[self.at : self.at + 8]}"
        self.at += 1
        return token

    def rules(self) -> Iterator[tuple[str, Node]]:
        while self.at < len(self.tokens):
            name = self.take()
            self.take("=")
            yield name, self.type()

    def type(self) -> Node:
        choices = [self.restricted()]
        while self.peek() == "/":
            self.take()
            choices.append(self.restricted())
        return choices[0] if len(choices) == 1 else Node("choice", choices)

    def restricted(self) -> Node:
        node = self.single()
        if self.kind() == "range":
            self.take()
            return Node("range", [node, self.single()])
        if self.kind() == "control":
            return Node(self.take(), [node, self.single()])
        return node

    def single(self) -> Node:
        kind, token = self.kind(), self.take()
        if kind == "tag":
            self.take("(")
            node = Node("tag", [int(token[3:]), self.type()])
            self.take(")")
            return node
        if token in ("{", "[", "("):
            close = {"{": "}", "[": "]", "(": ")"}[token]
            entries = []
            while self.peek() != close:
                entries.append(self.entry())
                if self.peek() == ",":
                    self.take()
            self.take(close)
            return Node({"{": "map", "[": "array", "(": "group"}[token], entries)
        if kind == "name":
            return Node("name", [token])
        literal: Any
        if kind == "number":
            literal = int(token)
        elif kind == "bytes":
            literal = bytes.fromhex(token[2:-1])
        else:
            assert kind == "text", f"a type expected, not {token!r}"
            literal = json.loads(token)
        return Node("literal", [literal])

    def entry(self) -> Entry:
        least, most = 1, 1.0
        if self.kind() == "occur":
            token = self.take()
            low, star, high = token.partition("*")
            if star:
                least, most = int(low or 0), float(high or "inf")
            else:
                least, most = (1, float("inf")) if token == "+" else (0, 1.0)
        if self.kind() == "name" and self.peek(1) == ":":
            self.at += 2  # a name of an array's item, or of a group's: it only tells people
        value = self.type()
        if self.peek() == "=>":
            self.take()
            return Entry(least, most, value, self.type())
        return Entry(least, most, None, value)


class Schema:
    """A specification.

    Args:
        text: CDDL.
    """

    def __init__(self, text: str) -> None:
        self.rules: dict[str, Node] = {}
        for name, node in _Parser(text).rules():
            assert name not in self.rules, f"{name} is defined twice"
            self.rules[name] = node

    def require(self, rule: str, value: Any) -> None:
        """Raise `MismatchError` unless a decoded value is what a rule says."""
        self._match(self.rules[rule], value, rule)

    def undefined(self) -> set[str]:
        """Names that are used and defined nowhere."""
        used: set[str] = set()

        def walk(node: Node) -> None:
            for part in node.parts:
                if isinstance(part, Entry):
                    walk(part.value)
                    if part.key is not None:
                        walk(part.key)
                elif isinstance(part, Node):
                    walk(part)
                elif node.kind == "name":
                    used.add(part)

        for node in self.rules.values():
            walk(node)
        return used - self.rules.keys() - _PRELUDE.keys()

    def _match(self, node: Node, value: Any, where: str) -> None:
        check = getattr(self, f"_{node.kind.lstrip('.')}")
        check(node.parts, value, where)

    def _fits(self, node: Node, value: Any, where: str) -> bool:
        try:
            self._match(node, value, where)
        except MismatchError:
            return False
        return True

    @staticmethod
    def _fail(where: str, what: str, value: Any) -> None:
        raise MismatchError(f"{where}: {what} expected, found {value!r:.200}")

    def _name(self, parts: list[Any], value: Any, where: str) -> None:
        if parts[0] in self.rules:
            self._match(self.rules[parts[0]], value, f"{where}/{parts[0]}")
        elif not _PRELUDE[parts[0]](value):
            self._fail(where, parts[0], value)

    def _literal(self, parts: list[Any], value: Any, where: str) -> None:
        if type(value) is not type(parts[0]) or value != parts[0]:
            self._fail(where, repr(parts[0]), value)

    def _choice(self, parts: list[Any], value: Any, where: str) -> None:
        if not any(self._fits(part, value, where) for part in parts):
            self._fail(where, f"one of {len(parts)} choices", value)

    def _range(self, parts: list[Any], value: Any, where: str) -> None:
        low, high = (part.parts[0] for part in parts)
        if type(value) is not int or not low <= value <= high:
            self._fail(where, f"{low}..{high}", value)

    def _group(self, parts: list[Any], value: Any, where: str) -> None:
        assert len(parts) == 1, "a group of several members is no type"
        self._match(parts[0].value, value, where)

    def _size(self, parts: list[Any], value: Any, where: str) -> None:
        self._match(parts[0], value, where)
        self._match(parts[1], len(value.encode() if isinstance(value, str) else value), f"{where} .size")

    def _regexp(self, parts: list[Any], value: Any, where: str) -> None:
        self._match(parts[0], value, where)
        if not re.fullmatch(parts[1].parts[0], value):
            self._fail(where, parts[1].parts[0], value)

    def _cbor(self, parts: list[Any], value: Any, where: str) -> None:
        self._match(parts[0], value, where)
        try:
            tagged = value[:1] == b"\xd2"
            inner = cbor.decode(value[1:] if tagged else value)
        except FormatError as cause:
            raise MismatchError(f"{where}: not CBOR: {value!r:.200}") from cause
        self._match(parts[1], Tagged(18, inner) if tagged else inner, f"{where} .cbor")

    def _tag(self, parts: list[Any], value: Any, where: str) -> None:
        if not isinstance(value, Tagged) or value.tag != parts[0]:
            self._fail(where, f"tag {parts[0]}", value)
        self._match(parts[1], value.value, where)

    def _array(self, parts: list[Any], value: Any, where: str) -> None:
        if type(value) is not list or not self._items(self._inline(parts), value, where):
            self._fail(where, "the items of the array", value)

    def _items(self, entries: list[Entry], items: list[Any], where: str) -> bool:
        if not entries:
            return not items
        first, rest = entries[0], entries[1:]
        count = 0
        while count < min(first.most, len(items)) and self._fits(first.value, items[count], where):
            count += 1
        return any(self._items(rest, items[took:], where) for took in range(count, first.least - 1, -1))

    def _map(self, parts: list[Any], value: Any, where: str) -> None:
        if type(value) is not dict:
            self._fail(where, "a map", value)
        entries = self._inline(parts)
        counts = [0] * len(entries)
        for key, item in value.items():
            for number, entry in enumerate(entries):
                assert entry.key is not None, f"{where}: a member without a key"
                if counts[number] < entry.most and self._fits(entry.key, key, where):
                    self._match(entry.value, item, f"{where}.{key}")
                    counts[number] += 1
                    break
            else:
                self._fail(where, "no such member", key)
        for entry, count in zip(entries, counts, strict=True):
            if count < entry.least:
                self._fail(where, f"member {entry.key}", value)

    def _inline(self, parts: list[Any]) -> list[Entry]:
        """Put the members of named groups in their place."""
        entries: list[Entry] = []
        for entry in parts:
            named = self.rules.get(entry.value.parts[0]) if entry.key is None and entry.value.kind == "name" else None
            entries += self._inline(named.parts) if named is not None and named.kind == "group" else [entry]
        return entries
