# SPDX-License-Identifier: Apache-2.0
"""The meter holds in every reachable state, each of its properties is needed, and what was not built fails as told."""

from __future__ import annotations

from dataclasses import replace

import pytest
from meter_model import BROKEN, main, run, worlds
from meter_pin_model import SOUND, pin_meters
from meter_search import search

WORLDS = worlds()
HOLDS = [name for name, (_, holds, _) in WORLDS.items() if holds]


@pytest.mark.parametrize("name", HOLDS)
def test_nobody_uses_more_than_was_sold_and_every_crash_can_be_recovered_from(name: str) -> None:
    result = run(name)
    assert not result.verdict, "\n  ".join((result.verdict, *result.trace))
    assert result.states > 90


def test_the_search_comes_by_what_it_is_about() -> None:
    assert {
        "one more unit is sold",
        "C is incremented, or redefined",
        "a kept session is loaded again",
        "a challenge is given",
        "C is incremented in a session",
        "C is read",
        "a session is attested",
        "a unit is accepted",
    } <= run("an attested counter").happened


@pytest.mark.parametrize("name", BROKEN)
def test_without_this_property_it_fails(name: str) -> None:
    result = run(name)
    assert "units accepted of" in result.verdict
    assert result.trace, "a counter-example shows how"


def test_an_index_defined_before_it_is_recorded_is_left_behind() -> None:
    assert run("an index defined before it is recorded").verdict == "an index that no record knows"


@pytest.mark.parametrize("name", [name for name in pin_meters() if name not in SOUND])
def test_this_protocol_of_a_pin_index_gives_units_away(name: str) -> None:
    result = run(f"PIN: {name}")
    assert "units used of" in result.verdict


@pytest.mark.parametrize(
    "name", ["... with sessions that are kept", "... with sessions that are kept, and the ratchet anywhere above"]
)
def test_a_kept_session_is_what_breaks_the_ratchets(name: str) -> None:
    machine = pin_meters()[name]
    assert any("kept session" in step for step in search(machine).trace)
    assert not search(replace(machine, kept=0)).verdict


def test_an_exact_ratchet_is_stuck_after_one_step_too_many() -> None:
    names = "a first write, then limits, between them a ratchet", "... with the ratchet anywhere above"
    exact, above = (replace(pin_meters()[name], honest=True) for name in names)
    assert search(exact, exact.finished).verdict.startswith("stuck")
    assert not search(above, above.finished).verdict


def test_a_first_write_bound_to_a_session_is_lost_when_the_machine_restarts() -> None:
    machine = replace(pin_meters()["a first write bound to a session, then limits"], honest=True)
    result = search(machine, machine.finished)
    assert result.verdict.startswith("stuck")
    assert result.trace[-1] == "the machine is restarted"


def test_the_program_prints_each_world_and_fails_if_one_ends_otherwise(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["units used", "PIN: a ratchet that steps"]) == 0
    printed = capsys.readouterr().out
    assert "units used, with crashes" in printed
    assert "3 units used of 2" in printed
    assert "        the vendor signs write 0" in printed
