# SPDX-License-Identifier: Apache-2.0
"""``tally seats``: how many there are, who has them, and that the JSON stays as it is."""

from __future__ import annotations

import os
from typing import Any

import pytest
from desk import Desk

import tallystick
from tallystick.container.base import Container


@pytest.fixture
def licensed(desk: Desk) -> Desk:
    """A container with a license of two seats, and one without a number."""
    desk.activate("render", seats=2, linger=60, denied_modes=(4,))
    desk.activate("viewer")
    return desk


def opened(desk: Desk) -> Container:
    return tallystick.open(desk.uri("container"), trust=desk.acme.trust, background=False)


def of(shown: Any, product: str) -> Any:
    return next(row for row in shown["licenses"] if row["product"] == product)


def test_free_seats_are_shown(licensed: Desk) -> None:
    done = licensed.ok("seats")
    rows = [line.split() for line in done.out.splitlines()]
    assert rows[0] == ["PRODUCT", "VENDOR", "LICENSE", "SEATS", "AVAILABLE", "TAKEN"]
    assert rows[1][:2] + rows[1][3:] == ["render", "acme", "2", "2", "0"]
    assert rows[2][3:] == ["any", "number", "any", "number", "0"]
    assert len(rows) == 3
    assert "programs of this container's user" in done.err


def test_holders_are_named(licensed: Desk) -> None:
    with opened(licensed) as one, opened(licensed) as two, one.checkout("render"), two.checkout("viewer"):
        done = licensed.ok("seats")
    assert done.out.count("user-limit") == 2
    assert str(os.getpid()) in done.out
    assert done.out.count("running") == 2


def test_the_answer_in_json(licensed: Desk) -> None:
    with opened(licensed) as one, opened(licensed) as two:
        with one.checkout("render", mode="station-share"), two.checkout("render", mode="station-share"):
            shown = licensed.ok("seats", "--json").json()
        left = licensed.ok("seats", "--product", "render", "--json").json()
    render, viewer = of(shown, "render"), of(shown, "viewer")
    assert set(shown) == {"schema", "container", "licenses"}
    assert set(render) == {"id", "vendor", "product", "denied_modes", "linger", "seats", "holders"}
    assert render["seats"] == {"total": 2, "available": 2, "taken": 1}
    assert (render["denied_modes"], render["linger"]) == (["no-limit"], 60)
    assert [(one["mode"], one["pid"], one["state"]) for one in render["holders"]] == [
        ("station-share", os.getpid(), "running")
    ] * 2
    assert set(render["holders"][0]) == {"mode", "pid", "user", "program", "since", "state", "until"}
    assert viewer["seats"] == {"total": None, "available": None, "taken": 0}
    (kept,) = left["licenses"]
    assert kept["seats"]["taken"] == 1
    assert {one["state"] for one in kept["holders"]} == {"lingering"}
    assert all(one["until"] > one["since"] for one in kept["holders"])


def test_a_program_that_is_turned_away_is_told_where_to_look(licensed: Desk) -> None:
    with opened(licensed) as one, opened(licensed) as two, one.checkout("render"), two.checkout("render"):
        done = licensed.tally("check", "render")
    assert done.status == 7
    assert "all 2 seats of render are in use" in done.error
    assert "tally seats" in done.remedy


def test_what_is_not_held_has_no_seats(licensed: Desk) -> None:
    done = licensed.ok("seats", "--product", "nothing")
    assert done.out == ""
    assert "no license for nothing" in done.err


def test_a_check_leaves_no_seat_taken_behind(desk: Desk) -> None:
    """`tally check render && render`: the tool must not stand in the application's way."""
    desk.activate("render", seats=1, linger=3600)
    desk.ok("check", "render")
    assert of(desk.ok("seats", "--json").json(), "render")["seats"]["taken"] == 0
