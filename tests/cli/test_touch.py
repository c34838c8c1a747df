# SPDX-License-Identifier: Apache-2.0
"""A dongle that waits for its button, at the command line: somebody is told once, and what JSON says stays whole."""

from __future__ import annotations

import pytest
from desk import Desk

from firmware_sim.control import AUTO, Control
from tallystick.license.model import TOUCH_ALL

SAID = "Touch the dongle: press its button while the light blinks."


@pytest.fixture
def control(desk: Desk) -> Control:
    """Of a dongle with a license that asks for a touch."""
    desk.env["TALLY_CONTAINER"] = f"sim:{desk.path('dongle.img')}"
    desk.ok("create")
    desk.activate("render", units=10, usage_period=86_400, touch=TOUCH_ALL)
    return Control(desk.path("dongle.img"))


def test_who_uses_units_is_told_to_touch_the_dongle(desk: Desk, control: Control) -> None:
    control.press(2)
    done = desk.ok("use", "render", "3", "--json")
    assert done.json()["available"] == 7
    assert done.err.splitlines().count(SAID) == 2, "once for the usage period, once for the units"
    control.press()
    done = desk.ok("use", "render", "3")
    assert done.err.splitlines() == [SAID]
    assert "touch" not in control.read()


def test_a_check_that_begins_the_usage_period_says_so_too(desk: Desk, control: Control) -> None:
    control.order(touch=AUTO)
    assert SAID in desk.ok("check", "render").err
    assert SAID not in desk.ok("check", "render").err
    done = desk.ok("deactivate", "render", "--yes", "--output", desk.path("gone.tallyrct"))
    assert SAID in done.err


def test_the_license_and_the_file_say_what_needs_a_touch(desk: Desk, control: Control) -> None:
    assert "press its button" in desk.ok("show", "render").out
    assert desk.ok("list", "--json").json()["licenses"][0]["license"]["terms"]["touch"] == TOUCH_ALL
    update = next(name for name in desk.names() if name.endswith(".tallyupd"))
    assert "press its button" in desk.ok("inspect", desk.path(update)).out


def test_a_dry_run_asks_nobody(desk: Desk, control: Control) -> None:
    assert SAID not in desk.tally("deactivate", "render", "--dry-run").err
