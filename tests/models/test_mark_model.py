# SPDX-License-Identifier: Apache-2.0
"""Marks on a token: what is built holds in every reachable world, each of its rules is needed, and what it does not
promise is shown to be possible.

The numbers of worlds are asserted, so that a rule that quietly stopped being searched is noticed. The full bounds:
`python tests/models/mark_model.py`, two minutes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from mark_model import FORK, Machine, main, search, table
from meter_search import Result
from nv_world import BRICK, ROLLBACK

TABLE = {machine.name: (machine, verdict) for machine, verdict in table()}
FAILS = [name for name, (_, verdict) in TABLE.items() if verdict]


def found(name: str, machine: Machine | None = None) -> Result:
    """Search a machine of the table, or one with other bounds; what is found must be what the table says."""
    result = search(machine or TABLE[name][0])
    assert result.verdict == TABLE[name][1], "\n  ".join((name, result.verdict, *result.trace))
    return result


HOLDS = [
    ("marks", 1_101),
    ("marks, two programs", 2_296),
    ("marks, two programs, a module that looks once", 954),
    ("marks, two containers", 3_171),
    ("marks, copies by turns", 2_642),
    ("marks, copies at once", 2_917),
    ("marks, marks that are not kept", 377),
    ("ratchet", 7_318),
    ("ratchet, two programs", 15_295),
    ("ratchet, two programs, a module that looks once", 3_604),
    ("ratchet, two containers", 15_515),
    ("ratchet, copies by turns", 19_163),
    ("ratchet, marks that are not kept", 1_381),
    ("ratchet, imports, marks brought back", 17_199),
]
FEWER = [
    ("marks, files put back", {"opens": 2}, 7_553),
    ("marks, old ones left a while", {"opens": 2}, 8_816),
    ("marks, copies at once, copied over", {"opens": 2}, 7_668),
    ("marks, two programs, files put back", {"transactions": 1, "opens": 3}, 20_335),
    ("ratchet, files put back", {"opens": 2}, 28_293),
    ("ratchet, two programs, files put back", {"transactions": 1}, 16_129),
    ("ratchet, imports, marks signed anew", {"opens": 2}, 29_864),
    ("ratchet, imports, two programs, marks brought back", {"opens": 2}, 57_250),
]
TOO_LONG = {"ratchet, imports, a state forged"}  # half a minute; that the PIN opens the state key is no matter of marks


@pytest.mark.parametrize(("name", "states"), HOLDS)
def test_it_holds_with_all_transactions_and_openings(name: str, states: int) -> None:
    assert found(name).states == states


@pytest.mark.parametrize(("name", "bounds", "states"), FEWER)
def test_it_holds_with_fewer(name: str, bounds: dict[str, Any], states: int) -> None:
    assert found(name, replace(TABLE[name][0], **bounds)).states == states


@pytest.mark.parametrize("name", [name for name in FAILS if name not in TOO_LONG])
def test_it_fails_and_a_counter_example_shows_how(name: str) -> None:
    result = found(name)
    assert result.verdict in (BRICK, ROLLBACK, FORK)
    assert "bound" in name or len(result.trace) > 4


def test_every_row_of_the_table_is_searched_here_or_is_named_as_too_long() -> None:
    searched = {row[0] for row in (*HOLDS, *FEWER)} | {*FAILS}
    assert searched == set(TABLE)
    assert set(FAILS) >= TOO_LONG


def test_the_search_comes_by_what_it_is_about() -> None:
    happened = found("ratchet").happened | found("ratchet, marks that are not kept").happened
    happened |= found("marks, copies at once").happened | found("marks, copies by turns").happened
    assert {
        "0 is killed",
        "0 opens",
        "0 begins an import",
        "0 generate",
        "0 tear",
        "0 makes nothing",
        "0 takes its mark back",
        "0 destroys a key",
        "0 destroys a mark",
        "0 let out",
        "1 finds the token moved",
        "1 does not open",
    } <= happened


def test_reading_back_alone_lets_two_copies_out() -> None:
    """Both look, both mark: nothing but the other's mark tells of the other."""
    trace = found("marks: read back alone, copies at once").trace
    assert trace.index("0 let out") < trace.index("1 make") < trace.index("1 let out")


def test_the_table_is_printed_and_the_exit_status_says_whether_it_holds(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--trace", "marks: the old", "marks, two containers"]) == 0
    printed = capsys.readouterr().out
    assert "holds in every state" in printed
    assert "BRICK" in printed
    assert "        0 destroys a mark" in printed
