# SPDX-License-Identifier: Apache-2.0
"""The lending protocol holds in every reachable state, and each of its rules is needed (see `lending_model.py`)."""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest
from lending_broken import broken, limits
from lending_model import main
from lending_scenarios import good
from lending_search import Result, search

WORLDS = good(small=True)
BROKEN, LIMITS = broken(), limits()

# What a search must have come by, or it proved nothing: the phrase, and a world it belongs to.
HAPPENS = (
    ("a loan of units", "A, whose clock reads , uses a unit of part "),
    ("a loan of units", "B, whose clock reads , uses a unit of part "),
    ("a loan of units", "B gives back one of part "),
    ("a loan of units", "B cancels its request "),
    ("a loan of units", "A books the receipt for grant : (,) back, (,) used"),
    ("a loan of units", "A books the receipt for grant : (,) back, (,) used, final"),
    ("a loan of units", "A hears that grant  was declined"),
    ("loans of seats, lent again to another", "A, whose clock reads , ends loan "),
    ("loans of seats, lent again to another", "C imports grant : (,)"),
    ("seats lent on", "B imports extension  of grant : until "),
    ("seats lent on", "C imports extension  of grant : until "),
    ("seats lent on", "B, whose clock reads , ends loan "),
    ("seats lent on, and lent beside", "B gives back what is left of part "),
    ("units and seats in one loan, lent on", "B, whose clock reads , ends loan "),
    ("units lent on", "C, whose clock reads , uses a unit of part "),
    ("units lent on", "B books the receipt for grant : (,) back, (,) used, final"),
    ("units transferred on and back", "A imports grant : (,)"),
    ("a loan of seats, extended and recalled", "A recalls grant "),
    ("a standing invitation for two, answered three times", "B refuses grant "),
    ("one request, two givers", "C hears that grant  was declined"),
)


def told(result: Result) -> str:
    """The counter-example, for a failure's message."""
    return "\n  ".join((result.verdict, *result.trace))


@functools.cache
def found(name: str) -> Result:
    """A small world searched, with every message emitted apart from its commit."""
    return search(replace(WORLDS[name], eager=False))


@pytest.mark.parametrize("name", WORLDS)
def test_nothing_is_lost_or_doubled_and_everything_can_be_settled(name: str) -> None:
    assert not found(name).verdict, told(found(name))
    assert found(name).states > 1_000


@pytest.mark.parametrize(("name", "phrase"), HAPPENS)
def test_the_search_comes_by_what_it_is_about(name: str, phrase: str) -> None:
    assert phrase in found(name).happened


@pytest.mark.parametrize("name", WORLDS)
def test_to_emit_with_the_commit_leaves_out_no_situation(name: str) -> None:
    assert search(replace(WORLDS[name], eager=True)).situations == found(name).situations


@pytest.mark.parametrize("name", ["transfers of units", "loans of seats, lent again to another", "seats lent on"])
def test_it_holds_with_all_amounts_parts_and_cancellations_too(name: str) -> None:
    result = search(good()[name])
    assert not result.verdict, told(result)


@pytest.mark.parametrize("name", ["a loan of units", "units lent on"])
def test_lent_units_do_not_depend_on_any_clock(name: str) -> None:
    result = search(replace(WORLDS[name], eager=True, skew=4))
    assert not result.verdict, told(result)


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("a transfer comes back on a timer", "doubled"),
        ("lent units come back on a timer", "doubled"),
        ("no nonce of the receiver", "both an acceptance and a refusal"),
        ("a grant is emitted before its commit", "doubled"),
        ("a return is emitted before its commit", "doubled"),
        ("a refusal is forgotten", "doubled"),
        ("nothing is said about a refusal", "stuck"),
        ("receipts are not cumulative", "doubled"),
        ("what came back at the end comes back again", "doubled"),
        ("an extension counts from the old end", "doubled"),
        ("a loan is extended after its end", "doubled"),
        ("an extension reopens a closed part", "doubled"),
        ("an extension restores the amounts", "doubled"),
        ("a recall re-credits", "doubled"),
        ("what is lent on is given back", "doubled"),
        ("a loan outlives the one it is taken from", "doubled"),
        ("the giver waits for no tolerance", "doubled"),
        ("the receiver stops without tolerance", "doubled"),
        ("two givers use one xid", "counted twice"),
        ("a receipt is not held against its grant", "doubled"),
    ],
)
def test_without_this_rule_it_fails(name: str, verdict: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name]) == 0
    printed = capsys.readouterr().out
    shown = [line for line in printed.splitlines() if line.startswith(name)]
    assert len(shown) == 1
    assert verdict in shown[0]
    assert search(BROKEN[name]).trace, "a counter-example shows how"


def test_every_broken_rule_is_tested() -> None:
    parameters = test_without_this_rule_it_fails.pytestmark[0].args[1]  # type: ignore[attr-defined]
    assert {name for name, _ in parameters} == set(BROKEN)


@pytest.mark.parametrize("name", LIMITS)
def test_this_is_beyond_what_a_protocol_can_promise(name: str) -> None:
    result = search(LIMITS[name])
    assert result.verdict.startswith("doubled"), told(result)
