# SPDX-License-Identifier: Apache-2.0
"""Commands and answers that are lost, and a TPM that loses power, in the middle of every operation.

Here each operation is disturbed a few times, at commands drawn anew for each (the same in CI), and a commit at each of
its commands. Everything: ``python tests/tpm/fault_campaign.py``; what it demands is said there.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from fault_operations import OPERATIONS, Consume
from fault_stage import Operation, Stage, commands_of, disturb
from swtpm_rig import Prepared, in_memory
from tpm2_pytss import TPM2_CC
from wire import Cut

from conftest import IN_CI
from tallystick.errors import TallystickError

DRAWN = 2


@pytest.fixture(scope="module")
def stage(factory: Prepared) -> Iterator[Stage]:
    """One for all operations: a scene is everything there is."""
    with in_memory() as folder:
        made = Stage(folder, factory.state)
        yield made
        made.close()


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_an_operation_is_done_or_not_whatever_is_lost(stage: Stage, operation: Operation) -> None:
    source = random.Random(operation.name if IN_CI else None)
    last = commands_of(stage, operation)
    for _ in range(DRAWN):
        cut, number, same = source.choice(list(Cut)), source.randint(1, last), source.random() < 0.5
        try:
            disturb(stage, operation, cut, number, same=same)
        except Exception as reason:
            raise AssertionError(f"{operation.name}: {cut} at command {number}, same container: {same}") from reason


@pytest.mark.parametrize("cut", [Cut.RESPONSE, Cut.KILL_BEFORE])
def test_a_commit_is_done_or_not_at_each_of_its_commands(stage: Stage, cut: Cut) -> None:
    operation = Consume()
    for number in range(1, commands_of(stage, operation) + 1):
        disturb(stage, operation, cut, number, same=bool(number % 2))


def test_a_commit_is_one_increment_and_one_extension_and_none_is_sent_twice(stage: Stage) -> None:
    operation = Consume()
    stage.scene(operation.name, operation.prepare)
    begun = operation.begin(stage)
    stage.wire.listen()
    operation.act(stage, begun)
    assert stage.wire.codes().count(TPM2_CC.NV_Increment) == 1
    assert stage.wire.codes().count(TPM2_CC.NV_Extend) == 1
    for code in (TPM2_CC.NV_Increment, TPM2_CC.NV_Extend):
        number = _place(stage, operation, code)
        for cut in (Cut.COMMAND, Cut.RESPONSE):
            stage.scene(operation.name, operation.prepare)
            begun = operation.begin(stage)
            stage.wire.cut(cut, number)
            with pytest.raises(TallystickError) as caught:
                operation.act(stage, begun)
            assert caught.value.code == "device_silent"
            assert stage.wire.codes().count(code) == 1


def test_what_lost_commands_leave_in_the_tpm_never_fills_it(stage: Stage) -> None:
    """Without a resource manager nobody clears up after a connection that broke; there is room for three keys."""
    operation = Consume()
    stage.scene(operation.name, operation.prepare)
    container, seat = operation.begin(stage)
    for number in range(12):
        stage.wire.cut(Cut.RESPONSE, 1 + number % 8)
        try:
            seat.consume(1, idempotency_key=str(number))
        except TallystickError as reason:
            assert reason.code == "device_silent", reason
        stage.wire.leave()
        seat.consume(1, idempotency_key=str(number))
    assert container.licenses()[0].usage.used[""] == 12


def _place(stage: Stage, operation: Operation, code: int) -> int:
    """Which command of an undisturbed operation has that code."""
    stage.scene(operation.name, operation.prepare)
    begun = operation.begin(stage)
    stage.wire.listen()
    operation.act(stage, begun)
    return stage.wire.codes().index(code) + 1


def test_a_scene_is_everything_there_is(stage: Stage) -> None:
    """Or a disturbance would be judged by what an earlier one left."""
    operation = Consume()
    stage.scene(operation.name, operation.prepare)
    before = {path: path.read_bytes() for path in stage.files.rglob("state.*")}
    operation.act(stage, operation.begin(stage))
    assert {path: path.read_bytes() for path in stage.files.rglob("state.*")} != before
    stage.scene(operation.name, operation.prepare)
    assert {path: path.read_bytes() for path in stage.files.rglob("state.*")} == before
