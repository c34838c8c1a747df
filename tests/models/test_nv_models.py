# SPDX-License-Identifier: Apache-2.0
"""The commit protocol of containers in a TPM holds in every reachable world; the simpler ones do not.

The numbers of worlds are asserted, so that a rule that quietly stopped being searched is noticed. The full bounds:
`python tests/models/nv_file_model.py` and `nv_chain_model.py`, which search 2.8 million worlds.
"""

from __future__ import annotations

import nv_chain_model
import nv_file_model
import pytest
from nv_world import BRICK, ROLLBACK, Model, Result, search, show, small

MODELS = {model.name: (model, verdict) for model, verdict in (*nv_file_model.table(), *nv_chain_model.table())}


def found(name: str, model: Model | None = None) -> Result:
    """Search a model of the tables, or one with other bounds; what is found must be what the table says."""
    result = search(model or MODELS[name][0])
    assert result.verdict == MODELS[name][1], "\n  ".join((name, result.verdict, *result.trace))
    return result


@pytest.mark.parametrize(
    ("name", "states"),
    [("P1", 700), ("P2", 4_087), ("P4", 1_172), ("P4, files edited", 34_540), ("P4, two programs", 3_265)],
)
def test_it_holds_with_all_transactions_and_openings(name: str, states: int) -> None:
    assert found(name).states == states


@pytest.mark.parametrize(
    ("name", "bounds", "states"),
    [
        ("P2, files edited", (4, 1, 3), 9_074),
        ("P2, files edited, counted", (4, 1, 3), 25_468),
        ("P4, files edited, counted", (5, 2, 3), 20_846),
        ("P4, files edited, extended", (5, 2, 3), 10_682),
        ("P4, two programs, files edited", (4, 2, 2), 33_656),
    ],
)
def test_it_holds_with_fewer(name: str, bounds: tuple[int, int, int], states: int) -> None:
    assert found(name, small(MODELS[name][0], *bounds)).states == states


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("P0", BRICK),
        ("P0, files edited", ROLLBACK),
        ("P1, files edited", ROLLBACK),
        ("P2, two programs", ROLLBACK),
        ("P3", BRICK),
        ("P4, chain made anew", ROLLBACK),
    ],
)
def test_it_fails_and_a_counter_example_shows_how(name: str, verdict: str) -> None:
    result = found(name, small(MODELS[name][0]))
    assert result.trace[-1].endswith(verdict)


def test_p3_locks_out_before_it_has_served_anything() -> None:
    trace = found("P3").trace
    assert len(trace) == 9
    assert [line.partition(";")[0] for line in trace[5:]] == [
        "0 increments, 2",
        "0 is killed",
        "0 starts",
        "0 opens: BRICK",
    ]


def test_every_row_of_the_tables_is_searched_here_or_is_named_as_too_long() -> None:
    too_long = {"P2, two programs, files edited"}  # half a minute; the row without edits fails already
    rows = [mark.args[1] for test in (
        test_it_holds_with_all_transactions_and_openings, test_it_holds_with_fewer,
        test_it_fails_and_a_counter_example_shows_how,
    ) for mark in test.pytestmark]  # type: ignore[attr-defined]  # fmt: skip
    assert {row[0] for table in rows for row in table} | too_long == set(MODELS)


def test_the_tables_are_printed_and_the_exit_status_says_whether_they_hold(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row for row in nv_file_model.table() if row[0].name in ("P1", "P3")]
    assert show(rows, ["--small", "--trace"]) == 0
    printed = capsys.readouterr().out
    assert "holds in every state" in printed
    assert "0 opens: BRICK" in printed
    assert show([(rows[0][0], BRICK)], ["--small"]) == 1
