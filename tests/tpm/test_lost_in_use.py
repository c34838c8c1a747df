# SPDX-License-Identifier: Apache-2.0
"""An index that goes while a program runs: its next commit is written and cannot be confirmed, and repair leads on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from swtpm_rig import Prepared, Swtpm
from test_mending import Case, code_of

from tallystick.backends.tpm.nv import Index
from tallystick.container.mending import MendingView
from tallystick.errors import error
from tallystick.license.messages import Request

COUNTER, CHAIN = 0, 1


@pytest.fixture
def case(tmp_path: Path, make_tpm: Callable[..., Swtpm], factory: Prepared) -> Case:
    return Case(tmp_path, make_tpm(template=factory.state))


def lose(case: Case, which: int) -> None:
    """Remove an index under a program that then uses a unit."""
    with case.open() as container:
        seat = container.checkout("cad")
        container._session.anchor.indices[which].undefine()  # type: ignore[attr-defined]
        assert code_of(lambda: seat.consume(1)) == "anchor_lost"


def counter(case: Case) -> int:
    """Where the TPM's counter stands."""
    with case.view() as view:
        assert isinstance(view, MendingView)
        return int.from_bytes(view._shop.anchor.indices[COUNTER].read(proven=True))


def halted(request: Request) -> tuple[int, int]:
    """The generation of the files, and the counter, as a request tells them."""
    assert request.halt is not None
    return request.halt.generation, request.halt.counter


def test_a_chain_is_asked_about_and_the_state_goes_on(case: Case) -> None:
    lose(case, CHAIN)
    assert code_of(case.open) == "anchor_lost"
    request = case.ask()
    generation, stands = halted(request)
    assert generation == stands
    assert case.ask().request_id == request.request_id, "asking again moves nothing"
    assert code_of(case.open) == "tampered", "nobody agreed yet"
    assert "goes on" in case.take(case.resync(request))
    assert case.left() == 8, "the state that was written is the newest"
    with case.open() as container:
        assert container.checkout("cad").consume(1) == 7


def test_a_counter_made_anew_stands_where_the_commit_was_going(case: Case) -> None:
    """The chain says which state it was: this is a commit that was interrupted, and is finished."""
    lose(case, COUNTER)
    assert code_of(case.open) == "anchor_lost"
    generation, stands = halted(case.ask())
    assert generation == stands
    assert case.left() == 8


@pytest.mark.parametrize("executed", [False, True])
def test_an_interrupted_repair_is_begun_again(case: Case, executed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The chain is there by then, and only the counter has to follow; once."""
    lose(case, CHAIN)
    move = Index.increment

    def cut(index: Index) -> None:
        if executed:
            move(index)
        raise error("device_silent", "cut")

    with monkeypatch.context() as patch:
        patch.setattr(Index, "increment", cut)
        assert code_of(case.ask) == "device_silent"
    generation, stands = halted(case.ask())
    assert generation == stands
    case.take(case.resync(case.ask()))
    assert case.left() == 8


def test_a_tpm_two_states_older_than_its_files_is_not_brought_forward(case: Case, tmp_path: Path) -> None:
    """Nothing in it leads to them; and what a slot's header says must never wear out the chip."""
    case.set_back(tmp_path / "older", 2)
    assert code_of(case.open) == "tampered"
    before = counter(case)
    with case.view() as view:
        assert b"tallystick-repair" in view.repair_request()
    assert counter(case) == before
