# SPDX-License-Identifier: Apache-2.0
"""Claims to values and back, by tables: every field has one label, one exact type and bounds (rules R61, R62).

A *check* takes a decoded value and returns it (arrays as tuples) or raises ``FormatError``. Booleans are not integers.
Labels a table does not know are refused as ``unsupported_version``: a term that is not understood might restrict.
Labels of 1000 and above are for additions that never restrict, and are ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from tallystick.codec.keys import PublicKey
from tallystick.errors import error
from tallystick.record import Record

Check = Callable[[Any], Any]

MAX_TIME: Final = 1 << 40
MAX_UNITS: Final = (1 << 53) - 1
IGNORABLE: Final = 1000
_NAME_SYMBOLS: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-")
_NAME_MAX: Final = 64
_THUMBPRINT_BYTES: Final = 32
_CNF: Final = 8


class Field(Record):
    """One row of a table.

    Attributes:
        name: attribute of the record.
        label: in the encoded map.
        check: exact type and bounds.
        required: refused if absent.
        encode: turns the attribute's value into what is encoded, where it is not the value itself.
    """

    name: str
    label: int
    check: Check
    required: bool = False
    encode: Callable[[Any], Any] | None = None


class Bound:
    """The check most fields have: one exact type, and bounds of the value or of its length.

    `Table.read` looks into it instead of calling it, because a license is read each time an application starts.
    """

    __slots__ = ("high", "low", "type", "wanted")

    def __init__(self, kind: type, low: int, high: int, wanted: str) -> None:
        self.type: Any = kind
        self.low = low
        self.high = high
        self.wanted = wanted

    def __call__(self, value: Any) -> Any:
        """Return the value, or raise ``malformed``."""
        if type(value) is not self.type or not self.low <= (value if self.type is int else len(value)) <= self.high:
            raise error("malformed", f"{self.wanted} is needed")
        return value


def uint(maximum: int) -> Check:
    """Check for an unsigned integer of at most `maximum`."""
    return Bound(int, 0, maximum, f"an integer from 0 to {maximum}")


def one_of(*values: int) -> Check:
    """Check for one of a few numbers."""

    def check(value: Any) -> Any:
        if type(value) is not int or value not in values:
            raise error("malformed", f"one of {', '.join(map(str, values))} is needed")
        return value

    return check


def octets(minimum: int, maximum: int) -> Check:
    """Check for a byte string of `minimum` to `maximum` bytes."""
    return Bound(bytes, minimum, maximum, f"{minimum} to {maximum} bytes")


def text(maximum: int) -> Check:
    """Check for a text of at most `maximum` characters."""
    return Bound(str, 0, maximum, f"a text of at most {maximum} characters")


def flag(value: Any) -> Any:
    """Check for a boolean."""
    if type(value) is not bool:
        raise error("malformed", "true or false is needed")
    return value


def name(value: Any) -> Any:
    """Check for an identifier that looks the same everywhere: 1 to 64 ASCII letters, digits and ``. _ + -``."""
    if type(value) is not str or not 0 < len(value) <= _NAME_MAX or not _NAME_SYMBOLS.issuperset(value):
        raise error("malformed", "a name of 1 to 64 letters, digits or . _ + - is needed")
    return value


def array(check: Check, maximum: int) -> Check:
    """Check for an array of at most `maximum` items."""

    def check_array(value: Any) -> Any:
        if type(value) is not list or len(value) > maximum:
            raise error("malformed", f"an array of at most {maximum} items is needed")
        return tuple([check(item) for item in value])

    return check_array


def mapping(check_key: Check, check: Check, maximum: int) -> Check:
    """Check for a map of at most `maximum` entries."""

    def check_map(value: Any) -> Any:
        if type(value) is not dict or len(value) > maximum:
            raise error("malformed", f"a map of at most {maximum} entries is needed")
        return {check_key(key): check(item) for key, item in value.items()}

    return check_map


def nested(build: Callable[[Mapping[int, Any]], Any]) -> Check:
    """Check for a map that is a record of its own."""

    def check(value: Any) -> Any:
        if type(value) is not dict:
            raise error("malformed", "a map is needed")
        return build(value)

    return check


def _thumbprint(value: Any) -> Any:
    thumbprint = value.get(5) if type(value) is dict and len(value) == 1 else None
    if type(thumbprint) is not bytes or len(thumbprint) != _THUMBPRINT_BYTES:
        raise error("malformed", "cnf must hold a key thumbprint")
    return thumbprint


def _cnf_key(value: Any) -> Any:
    match value:
        case {1: dict(key), **more} if not more:
            return PublicKey.from_cose(key)
        case _:
            raise error("malformed", "cnf must hold a COSE key")


def cnf_thumbprint(name: str, required: bool = True) -> Field:
    """Row for ``cnf = {5: thumbprint}`` (RFC 8747, RFC 9679), read as 32 bytes."""
    return Field(name, _CNF, _thumbprint, required, lambda thumbprint: {5: thumbprint})


def cnf_key(name: str) -> Field:
    """Row for ``cnf = {1: COSE_Key}`` (RFC 8747), read as a `PublicKey`."""
    return Field(name, _CNF, _cnf_key, True, lambda key: {1: key.to_map()})


_UNBOUND: Final = Bound(object, 1, 0, "nothing")  # nothing decoded is of this type: the field's own check decides


class Table:
    """The rows of one kind of map.

    Args:
        what: named in errors.
        fields: the rows.
    """

    __slots__ = ("_rows", "fields", "required", "what")

    def __init__(self, what: str, *fields: Field) -> None:
        self.what = what
        self.fields = fields
        self.required = frozenset([field.label for field in fields if field.required])
        self._rows: dict[Any, tuple[str, Any, int, int, Check]] = {
            field.label: (field.name, bound.type, bound.low, bound.high, field.check)
            for field in fields
            for bound in (field.check if isinstance(field.check, Bound) else _UNBOUND,)
        }

    def read(self, claims: Mapping[int, Any]) -> dict[str, Any]:
        """Read a map.

        Args:
            claims: the decoded map.

        Returns:
            Values by field name, absent ones left out.

        Raises:
            FormatError: ``malformed`` for a missing field or a wrong type, ``unsupported_version`` for an unknown
            label.
        """
        values: dict[str, Any] = {}
        rows = self._rows
        for label, value in claims.items():
            row = rows.get(label)
            if row is None:
                if type(label) is not int or label < IGNORABLE:
                    message = f"{self.what} with a field this version does not know: {str(label)[:40]}"
                    raise error("unsupported_version", message)
                continue
            name, kind, low, high, check = row
            if type(value) is kind and low <= (value if kind is int else len(value)) <= high:
                values[name] = value
            else:
                values[name] = check(value)
        if not self.required <= claims.keys():
            missing = next(field.name for field in self.fields if field.label in self.required - claims.keys())
            raise error("malformed", f"{self.what} without {missing.replace('_', ' ')}")
        return values

    def write(self, record: Record) -> dict[int, Any]:
        """Write a record as the map that `read` reads.

        Args:
            record: has the fields; values equal to their default are left out unless required.

        Returns:
            The map.
        """
        defaults = type(record).defaults
        out: dict[int, Any] = {}
        for field in self.fields:
            value = getattr(record, field.name)
            if value is None or (not field.required and field.name in defaults and value == defaults[field.name]):
                continue
            out[field.label] = plain(value) if field.encode is None else field.encode(value)
        return out


def plain(value: Any) -> Any:
    """Turn records inside a value into maps, tuples into lists."""
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    to_map = getattr(value, "to_map", None)
    return value if to_map is None else to_map()
