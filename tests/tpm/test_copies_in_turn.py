# SPDX-License-Identifier: Apache-2.0
"""Two copies of a container whose TPM has no room for a chain: whoever has not moved the counter has used nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from swtpm_rig import Swtpm
from test_one_index import Short
from tpm2_pytss import TPM2_CC, TSS2_RC, TSS2_Exception
from wire import Cut, Exchange, Wire

from fakes import FakeClock
from tallystick.backends.tpm.backend import TpmBackend
from tallystick.container.base import Container
from tallystick.container.seat import Seat
from tallystick.errors import TallystickError
from tallystick.license.mending import Resync
from tallystick.license.messages import read_request

UNITS = 10


@pytest.fixture
def short(tmp_path: Path, tpm: Swtpm) -> Short:
    return Short(tmp_path, tpm)


def opened(short: Short, folder: Path, wire: Wire | None = None) -> Container:
    """Open a copy of the container."""
    options = {} if wire is None else {"connect": wire.connect}
    backend = TpmBackend(FakeClock(), folder=lambda _: str(folder), **options)  # type: ignore[arg-type]
    return backend.open(short.uri, [short.acme.trust], background=False)


def used(seat: Seat) -> int:
    """Try to use a unit; how many were."""
    try:
        seat.consume(1)
    except TallystickError as reason:
        assert reason.code == "rolled_back", reason
        return 0
    return 1


@pytest.mark.parametrize("first", ["original", "copy"])
def test_copies_that_take_turns_use_each_unit_once(short: Short, tmp_path: Path, first: str) -> None:
    with opened(short, short.folder) as container:
        seat = container.checkout("cad")
        shutil.copytree(short.folder, tmp_path / "copy")
        with opened(short, tmp_path / "copy") as other:
            turns = [seat, other.checkout("cad")]
            if first == "copy":
                turns.reverse()
            total = sum(used(one) for _ in range(UNITS) for one in turns)
            assert total == UNITS, "the copy that opened last goes on, the other one does nothing"


def test_a_count_that_is_there_already_was_not_moved_by_this_state(short: Short) -> None:
    with opened(short, short.folder) as container:
        anchor = container._session.anchor  # type: ignore[attr-defined]
        position = anchor.position()
        with pytest.raises(TallystickError) as caught:
            anchor.advance(position, bytes(32))
        assert caught.value.code == "rolled_back"
        assert anchor.position() == position


@pytest.mark.parametrize("again", ["the same program", "the next one"])
@pytest.mark.parametrize("cut", [Cut.COMMAND, Cut.RESPONSE])
def test_an_increment_whose_answer_was_lost_locks_nobody_out(short: Short, tpm: Swtpm, cut: Cut, again: str) -> None:
    wire = Wire(tpm)
    container = opened(short, short.folder, wire)
    seat = container.checkout("cad")
    assert seat.consume(1) == 9
    wire.cut(cut, _increments(wire, lambda: seat.consume(1)))
    with pytest.raises(TallystickError) as caught:
        seat.consume(1)
    assert caught.value.code == "device_silent"
    assert wire.happened
    wire.leave()
    if again == "the next one":
        container.close()
        container = opened(short, short.folder, wire)
        seat = container.checkout("cad")
    assert seat.consume(1) == 6, "it was written before the counter moved, so it counts"
    container.close()


@pytest.mark.parametrize("number", [1, 2])
def test_an_opening_that_loses_an_answer_is_repeated(short: Short, tpm: Swtpm, number: int) -> None:
    """It finishes the commit before, and moves on by one: two increments."""
    wire = Wire(tpm)
    container = opened(short, short.folder, wire)
    seat = container.checkout("cad")
    wire.cut(Cut.COMMAND, _increments(wire, lambda: seat.consume(1)))
    with pytest.raises(TallystickError):
        seat.consume(1)
    container.close()
    wire.leave()
    lose_answer(wire, number)
    with pytest.raises(TallystickError) as caught:
        opened(short, short.folder, wire)
    assert caught.value.code == "device_silent"
    wire.leave()
    with opened(short, short.folder, wire) as container:
        assert container.checkout("cad").consume(1) == 7


def test_a_repair_that_loses_the_answer_has_gone_on(short: Short, tpm: Swtpm, tmp_path: Path) -> None:
    shutil.copytree(short.folder, tmp_path / "older")
    assert short.left() == 9
    for name in ("state.A", "state.B"):
        shutil.copy(tmp_path / "older" / name, short.folder / name)
    wire = Wire(tpm)
    with TpmBackend(FakeClock(), wire.connect, lambda _: str(short.folder)).view(short.uri) as view:
        request = read_request(view.repair_request())
        assert request.halt is not None
        told = Resync(request.halt.counter, request.halt.digest, request.halt.chain)
        update = short.acme.update(request.key.thumbprint, in_reply_to=request.request_id, resync=told)
        lose_answer(wire, 1)
        with pytest.raises(TallystickError) as caught:
            view.install(update)
        assert caught.value.code == "device_silent"
    assert short.left() == 9


def lose_answer(wire: Wire, number: int) -> None:
    """Let the n-th increment from here be executed, and nobody hear of it."""
    seen = 0

    def lose(exchange: Exchange) -> bytes:
        nonlocal seen
        seen += exchange.code == TPM2_CC.NV_Increment
        if exchange.code == TPM2_CC.NV_Increment and seen == number:
            raise TSS2_Exception(TSS2_RC.TCTI_RC_IO_ERROR)
        return exchange.response

    wire.on_response = lose


def _increments(wire: Wire, commit: Callable[[], object]) -> int:
    """Which command of a commit is the increment; makes one."""
    wire.listen()
    commit()
    return wire.codes().index(TPM2_CC.NV_Increment) + 1
