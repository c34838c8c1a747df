# SPDX-License-Identifier: Apache-2.0
"""``tally pin``, on a simulated dongle: set, typed, wrong, blocked, unblocked."""

from __future__ import annotations

import pytest
from desk import Desk

from tallystick.cli import asking


@pytest.fixture
def uri(desk: Desk) -> str:
    made = f"sim:{desk.path('dongle.img')}"
    desk.ok("create", "--container", made)
    return made


def tries(desk: Desk, uri: str) -> int | None:
    found = desk.ok("pin", "show", "--container", uri, "--json").json()
    assert found["set"] is (found["tries"] is not None)
    left: int | None = found["tries"]
    return left


def test_a_pin_from_the_first_to_the_last(desk: Desk, uri: str) -> None:
    at = ("--container", uri)
    assert "no PIN" in desk.ok("pin", "show", *at).out
    assert tries(desk, uri) is None
    desk.ok("pin", "change", *at, input="1234\n1234\n")
    assert tries(desk, uri) == 5
    assert "pin-source" in desk.tally("list", *at).remedy
    source = desk.folder / "pin"
    source.write_text("1234\n")
    desk.ok("list", "--container", f"{uri}?pin-source=file:{source}")
    desk.ok("pin", "puk", *at, input="1234\n\n87654321\n87654321\n")
    for left in (4, 3, 2, 1):
        assert desk.tally("pin", "change", *at, input="0000\n9999\n9999\n").error == "the PIN is wrong"
        assert tries(desk, uri) == left
    assert desk.tally("pin", "change", *at, input="0000\n9999\n9999\n").status == 8
    assert "blocked" in desk.ok("pin", "show", *at).out
    assert desk.tally("list", "--container", f"{uri}?pin-source=file:{source}").error == "the PIN was wrong 5 times"
    assert desk.tally("pin", "unblock", *at, input="11111111\n4321\n4321\n").error == "the PUK is wrong"
    desk.ok("pin", "unblock", *at, input="87654321\n4321\n4321\n")
    assert tries(desk, uri) == 5
    assert desk.ok("pin", "change", *at, "--json", input="4321\n\n\n").json()["set"] is False
    desk.ok("list", *at)


def test_a_pin_that_is_asked_for_is_typed(desk: Desk, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.ok("pin", "change", "--container", uri, input="1234\n1234\n")
    monkeypatch.setattr(asking, "is_terminal", lambda: True)
    assert desk.ok("history", "--container", uri, input="1234\n").out
    assert desk.tally("history", "--container", uri, input="0000\n").error == "the PIN is wrong"


def test_the_puk_is_not_set_without_the_pin(desk: Desk, uri: str) -> None:
    """Else whoever finds the dongle sets a PUK, and by it a PIN."""
    desk.ok("pin", "change", "--container", uri, input="1234\n1234\n")
    assert desk.tally("pin", "puk", "--container", uri, input="0000\n\n5555\n5555\n").status == 8
    assert desk.tally("pin", "unblock", "--container", uri, input="5555\n4321\n4321\n").status == 8


def test_what_has_no_pin_says_so(desk: Desk) -> None:
    assert "is no dongle" in desk.tally("pin", "show").error


def test_the_light_blinks_without_a_pin(desk: Desk, uri: str) -> None:
    found = desk.ok("info", "--container", uri, "--json").json()
    desk.ok("pin", "change", "--container", uri, input="1234\n1234\n")
    assert desk.ok("blink", "--container", uri, "--json").json()["id"] == found["id"]
    assert found["id"] in desk.ok("blink", "--container", uri).err
    assert "is no dongle" in desk.tally("blink").error


def test_lines_that_differ_or_do_not_come_change_nothing(desk: Desk, uri: str) -> None:
    for given in ("1234\n4321\n", "1234\n", ""):
        assert desk.tally("pin", "change", "--container", uri, input=given).status == 2
    assert desk.ok("pin", "show", "--container", uri, "--json").json()["set"] is False
    done = desk.ok("pin", "change", "--container", uri, input="1234\n1234\n")
    assert done.err == "The PIN is set.\n", "and no word of a terminal that is not there"
