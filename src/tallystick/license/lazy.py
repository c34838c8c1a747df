# SPDX-License-Identifier: Apache-2.0
"""Maps whose items are checked when somebody asks for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tallystick.errors import error
from tallystick.license.schema import Check


class LazyMap(Mapping[str, Any]):
    """A map whose items are checked when they are first asked for: a license may have many features, a program asks for
    few.

    Args:
        raw: the decoded map.
        check: of the items.
    """

    __slots__ = ("_check", "_checked", "_raw")

    def __init__(self, raw: dict[str, Any], check: Check) -> None:
        self._raw = raw
        self._check = check
        self._checked: dict[str, Any] = {}

    def __getitem__(self, key: str) -> Any:
        found = self._checked.get(key)
        if found is None:
            found = self._checked[key] = self._check(self._raw[key])
        return found

    def get(self, key: str, default: Any = None) -> Any:
        """Return an item, or the default; without the detour over exceptions that `Mapping.get` takes."""
        found = self._checked.get(key)
        if found is not None:
            return found
        return self[key] if key in self._raw else default

    def __iter__(self) -> Iterator[str]:
        return iter(self._raw)

    def __len__(self) -> int:
        return len(self._raw)

    def __repr__(self) -> str:
        return repr(dict(self))

    def to_map(self) -> dict[str, Any]:
        """Return the decoded map."""
        return self._raw


def lazy_mapping(check: Check, maximum: int) -> Check:
    """Check for a map of at most `maximum` named entries, checked one by one when asked for (`LazyMap`)."""

    def check_map(value: Any) -> Any:
        if type(value) is not dict or len(value) > maximum:
            raise error("malformed", f"a map of at most {maximum} entries is needed")
        return LazyMap(value, check)

    return check_map
