# SPDX-License-Identifier: Apache-2.0
"""Dates, spans and versions as people write and read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.errors import FormatError, UsageError
from tallystick.license import dates


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("4", (4,)),
        ("4.2", (4, 2)),
        ("4.02", (4, 2)),
        ("0.0.0", (0, 0, 0)),
        ("1.2.3.4.5.6.7.8", (1, 2, 3, 4, 5, 6, 7, 8)),
    ],
)
def test_versions(text: str, numbers: tuple[int, ...]) -> None:
    assert dates.version_numbers(text) == numbers


@given(st.text(max_size=20))
def test_any_text_is_a_version_or_refused(text: str) -> None:
    try:
        numbers = dates.version_numbers(text)
    except FormatError as refusal:
        assert refusal.code == "malformed"
        assert len(refusal.message) < 200
        return
    assert 1 <= len(numbers) <= 8


@pytest.mark.parametrize(
    ("instant", "shown"),
    [(0, "1970-01-01 00:00 UTC"), (1_798_761_599, "2026-12-31 23:59 UTC"), (1 << 60, f"{1 << 60} s")],
)
def test_instants_are_shown_in_utc(instant: int, shown: str) -> None:
    assert dates.show(instant) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        *((0, "0 s"), (1, "1 s"), (59, "59 s"), (60, "1 minute"), (61, "61 s"), (119, "119 s"), (120, "2 minutes")),
        *((3600, "1 hour"), (5400, "90 minutes"), (7200, "2 hours"), (86_400, "1 day"), (172_800, "2 days")),
        (30 * 86_400 + 5, "30 days"),
    ],
)
def test_spans(seconds: int, shown: str) -> None:
    assert dates.span(seconds) == shown


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("1970-01-01", 0),
        ("2027-01-01", 1_798_761_600),
        ("2027-01-01T00:00", 1_798_761_600),
        ("2027-01-01T00:00Z", 1_798_761_600),
        ("2027-01-01T01:00+01:00", 1_798_761_600),
        ("2026-12-31T19:00:00-05:00", 1_798_761_600),
        ("2027-01-01 00:00:00.9", 1_798_761_600),
    ],
)
def test_dates_are_utc_unless_they_say_otherwise(text: str, instant: int) -> None:
    assert dates.instant(text) == instant


@pytest.mark.parametrize("text", ["", "tomorrow", "2027-13-01", "01/02/2027", "2027-02-30", "1e9"])
def test_other_text_is_no_date(text: str) -> None:
    with pytest.raises(UsageError):
        dates.instant(text)


@given(st.text(max_size=30))
def test_any_text_is_a_date_or_refused(text: str) -> None:
    try:
        assert type(dates.instant(text)) is int
    except UsageError as refusal:
        assert refusal.code == "usage"
