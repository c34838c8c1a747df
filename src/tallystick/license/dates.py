# SPDX-License-Identifier: Apache-2.0
"""Instants, spans, versions and numbers of things as people write them."""

from __future__ import annotations

import time
from typing import Final

from tallystick.errors import error

DAY_S: Final = 86_400


def version_numbers(version: str) -> tuple[int, ...]:
    """Read a dotted version.

    Args:
        version: for example ``4.2.1``; at most 8 numbers.

    Returns:
        Its numbers.

    Raises:
        FormatError: ``malformed`` for anything else.
    """
    parts = version.split(".")
    if len(parts) > 8 or not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        raise error("malformed", f"{version[:40]!r} is not a version of dotted numbers", "Use for example 4.2.1.")
    return tuple([int(part) for part in parts])


def show(instant: int) -> str:
    """Write an instant for people, in UTC.

    Args:
        instant: seconds since 1970.

    Returns:
        For example ``2026-11-21 18:00 UTC``; the number itself where the calendar ends.
    """
    try:
        return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(instant))
    except (OverflowError, ValueError, OSError):
        return f"{instant} s"


def span(seconds: int) -> str:
    """Write a span for people.

    Args:
        seconds: 0 or more.

    Returns:
        For example ``3 days``, ``90 minutes``.
    """
    for size, word in ((DAY_S, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= 2 * size or seconds == size:
            return number_of(seconds // size, word)
    return f"{seconds} s"


def number_of(count: int, noun: str) -> str:
    """Write a number of things: ``1 unit``, ``2 units``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def instant(text: str) -> int:
    """Read a date or date and time, UTC unless it says otherwise.

    Args:
        text: ISO 8601, for example ``2026-11-21`` or ``2026-11-21T18:00+01:00``.

    Returns:
        Seconds since 1970.

    Raises:
        UsageError: ``usage``.
    """
    from datetime import UTC, datetime

    try:
        when = datetime.fromisoformat(text)
    except ValueError as cause:
        raise error("usage", f"{text[:40]!r} is not a date", "Use for example 2026-11-21.") from cause
    return int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp())
