# SPDX-License-Identifier: Apache-2.0
"""Immutable records that cost nothing to define.

``dataclasses`` takes 20 ms to import and more than 1 ms for each class, ``typing.NamedTuple`` a quarter of one;
an application that asks "may this run?" at every start pays that each time. A `Record` subclass lists annotated
fields and defaults as a dataclass does (type checkers see one, by PEP 681), gets equality, hash and `replace`, and
takes microseconds to define. Defaults stay on the class, so an instance stores and sets only what differs.

    >>> class Point(Record):
    ...     x: int
    ...     y: int = 0
    >>> Point(1).replace(y=2)
    Point(x=1, y=2)
"""

from __future__ import annotations

from typing import Any, Final, Self, dataclass_transform

_SHOWN_BYTES: Final = 32  # as many as a thumbprint has
_new: Final = object.__new__
_set: Final = object.__setattr__  # ours refuses


@dataclass_transform(frozen_default=True, eq_default=True)
class RecordType(type):
    """Collects the annotated fields of a class; assigned values stay on the class as defaults."""

    fields: tuple[str, ...]
    defaults: dict[str, Any]
    _required: frozenset[str]
    _known: frozenset[str]
    _leading: int

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> RecordType:
        """Define a record class."""
        own = tuple([field for field in namespace.get("__annotations__", ()) if field[0] != "_"])
        fields: tuple[str, ...] = ()
        defaults: dict[str, Any] = {}
        for base in bases:
            fields += getattr(base, "fields", ())
            defaults |= getattr(base, "defaults", {})
        fields += own
        defaults |= {field: namespace[field] for field in own if field in namespace}
        cls = super().__new__(mcs, name, bases, namespace)
        cls.fields = fields
        cls.defaults = defaults
        cls._known = frozenset(fields)
        cls._required = cls._known - defaults.keys()
        cls._leading = max([index + 1 for index, field in enumerate(fields) if field in cls._required], default=0)
        return cls


class Record(metaclass=RecordType):
    """Base of immutable records: compares by type and value, hashes if its fields do."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Set the fields, by position or by name.

        Raises:
            TypeError: a field is missing, unknown or given twice.
        """
        cls = type(self)
        values = self.__dict__
        values.update(zip(cls.fields, args, strict=False))
        if not kwargs and cls._leading <= len(args) <= len(cls.fields):
            return
        given = len(values) + len(kwargs)
        values.update(kwargs)
        if len(values) != given or len(args) > len(cls.fields):
            raise TypeError(f"{cls.__name__}: a value given twice, or too many")
        if not (cls._required <= values.keys() <= cls._known):
            strange = sorted(cls._required - values.keys()) or sorted(values.keys() - cls._known)
            raise TypeError(f"{cls.__name__}: missing or unknown {strange}")

    @classmethod
    def of(cls, values: dict[str, Any]) -> Self:
        """Make a record of values that are known to be its fields, all required ones among them; nothing is checked.

        Args:
            values: by field name; taken over.

        Returns:
            The record.
        """
        new = _new(cls)
        _set(new, "__dict__", values)
        return new

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some fields changed.

        Raises:
            TypeError: a name is not a field.
        """
        cls = type(self)
        if not changes.keys() <= cls._known:
            raise TypeError(f"{cls.__name__}: unknown {sorted(changes.keys() - cls._known)}")
        new = cls.__new__(cls)
        new.__dict__.update(self.__dict__)
        new.__dict__.update(changes)
        return new

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def _values(self) -> tuple[Any, ...]:
        return tuple([getattr(self, field) for field in type(self).fields])

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self) -> int:
        return hash((type(self), self._values()))

    def __repr__(self) -> str:
        shown = ", ".join([f"{field}={_shown(getattr(self, field))}" for field in type(self).fields])
        return f"{type(self).__name__}({shown})"

    def __reduce__(self) -> tuple[type[Self], tuple[Any, ...]]:
        return (type(self), self._values())


def _shown(value: Any) -> str:
    """What a record's repr shows of a value: of long bytes only how many, for nobody reads them and some are secret."""
    if isinstance(value, bytes) and len(value) > _SHOWN_BYTES:
        return f"<{len(value)} bytes>"
    if isinstance(value, tuple):
        return f"({', '.join(map(_shown, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, dict):
        return f"{{{', '.join([f'{_shown(key)}: {_shown(item)}' for key, item in value.items()])}}}"
    return repr(value)
