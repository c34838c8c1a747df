# SPDX-License-Identifier: Apache-2.0
"""Spans of time as people type them."""

from __future__ import annotations

import re
from typing import Final

from tallystick.errors import error

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_SPAN: Final = re.compile(r"(\d{1,9})([smhdw])")


def duration(text: str) -> int:
    """Read a span.

    Args:
        text: for example ``3d``, ``12h``, ``90m``, ``2w``.

    Returns:
        Seconds, more than 0.

    Raises:
        UsageError: ``usage``.
    """
    found = _SPAN.fullmatch(text.strip().lower())
    seconds = int(found[1]) * _UNITS[found[2]] if found else 0
    if not seconds:
        raise error("usage", f"{text[:40]!r} is not a span of time", "Use for example 3d, 12h or 90m.")
    return seconds
