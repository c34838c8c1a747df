# SPDX-License-Identifier: Apache-2.0
"""The store survives a power cut, a kill and an error at every operation, with the state before or after and no other.

A quick run; ``python tests/crash/full.py`` leaves nothing out.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest
from crashcases import CASES, KILLS, Case, KillCase
from explore import Acknowledge, Operation, Report, explore, explore_errors, explore_kills
from simfs import Limits, SimFs, SimVfs
from storecases import Account, append, check, checkpoint, operation, prepared

Book = Callable[[Report], Report]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_power_cut_leaves_before_or_after(case: Case, explored: Book) -> None:
    report = explored(explore(case.setup, case.operation, case.check, limits=case.quick, every=case.every))
    assert report.deepest == 2
    assert report.states > 20


@pytest.mark.parametrize("case", KILLS, ids=lambda case: case.name)
def test_what_a_killed_process_left_is_durable_before_the_next_relies_on_it(case: KillCase, explored: Book) -> None:
    limits = Limits(samples=24, tears=12)
    report = explored(explore_kills(case.setup, case.operation, case.then, case.check, limits=limits))
    assert report.states > 20


@pytest.mark.parametrize("second", [append("c"), checkpoint("c")], ids=["append", "checkpoint"])
@pytest.mark.parametrize("first", [append("b"), checkpoint("b")], ids=["append", "checkpoint"])
def test_a_process_that_was_open_all_along_makes_durable_what_a_killed_one_left(
    first: Callable[[Account], None], second: Callable[[Account], None], explored: Book
) -> None:
    survivors: list[Account] = []

    def killed(vfs: SimVfs, acknowledge: Acknowledge) -> None:
        survivors[:] = [Account(SimVfs(vfs.fs, seed="survivor"), lambda _: None)]
        operation(first)(vfs, acknowledge)

    def survive(vfs: SimVfs, acknowledge: Acknowledge) -> None:
        vfs.stat("lock", vfs.open_dir("/home/me/container"))
        survivors[0].acknowledge = acknowledge
        second(survivors[0])

    verify = check(["made", "a"], ["b", "c"], gaps=True)
    assert explored(explore_kills(prepared(append("a")), killed, survive, verify)).states > 4


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_error_of_any_operation_is_typed_and_changes_nothing_acknowledged(case: Case, explored: Book) -> None:
    assert explored(explore_errors(case.setup, case.operation, case.check, errors=case.errors)).states > 20


@pytest.mark.parametrize("name", ["checkpoint", "two-checkpoints", "create"])
def test_failed_sync_of_a_folder_may_lose_its_names_for_good(name: str, explored: Book) -> None:
    case = next(case for case in CASES if case.name == name)
    syncs = frozenset({"fsync_dir"})
    run = explore_errors(case.setup, case.operation, case.check, errors=(errno.EIO,), only=syncs, lose_names=True)
    assert explored(run).states > 4


_SYNCS = ("fsync", "fdatasync", "fsync_dir")


def _skipping(operation: Operation, number: int) -> Operation:
    """Return the operation in a store that forgets its so-manieth sync."""

    def run(vfs: SimVfs, acknowledge: Acknowledge) -> None:
        done = 0

        def forgetting(call: str) -> Callable[[int], None]:
            def sync(fd: int) -> None:
                nonlocal done
                done += 1
                if done != number:
                    getattr(SimVfs, call)(vfs, fd)

            return sync

        for call in _SYNCS:
            setattr(vfs, call, forgetting(call))
        operation(vfs, acknowledge)

    return run


def _syncs(case: Case) -> int:
    fs = SimFs()
    case.setup(SimVfs(fs, seed="setup"))
    vfs = SimVfs(fs, seed="run")
    case.operation(vfs, lambda _: None)
    return len([call for call in vfs.calls if call in _SYNCS])


_LIMITS = Limits(samples=64, tears=8)
_DURABLE = [
    (case, number)
    for case in CASES
    if case.name in {"append", "append-checkpoint-append", "create"}
    for number in range(1, _syncs(case) + 1)
    # The first makes durable what an earlier process may have left when it was killed: only a kill needs that.
    if number > 1
]


@pytest.mark.parametrize(("case", "number"), _DURABLE, ids=lambda value: getattr(value, "name", str(value)))
def test_exploration_notices_a_store_that_forgets_one_sync(case: Case, number: int) -> None:
    with pytest.raises(AssertionError, match="cut before change"):
        explore(case.setup, _skipping(case.operation, number), case.check, limits=_LIMITS, depth=1)


def test_exploration_of_kills_notices_a_folder_that_was_not_made_durable() -> None:
    case = next(case for case in KILLS if case.name == "create-append")
    with pytest.raises(AssertionError, match="killed before change"):
        explore_kills(case.setup, case.operation, _skipping(case.then, 1), case.check, limits=_LIMITS)


@pytest.mark.parametrize("name", ["append-append", "checkpoint-append"])
def test_exploration_notices_a_store_that_trusts_what_a_killed_process_left(name: str) -> None:
    case = next(case for case in KILLS if case.name == name)

    def trusting(vfs: SimVfs, acknowledge: Acknowledge) -> None:
        read = vfs.pread
        vfs.pread = lambda fd, size, offset: b"\0" if size == 1 else read(fd, size, offset)  # type: ignore[method-assign]
        case.then(vfs, acknowledge)

    with pytest.raises(AssertionError, match="killed before change"):
        explore_kills(case.setup, case.operation, trusting, case.check, limits=_LIMITS)


def test_exploration_notices_a_failed_sync_that_is_tried_again() -> None:
    def retrying(vfs: SimVfs, acknowledge: Acknowledge) -> None:
        sync = vfs.fdatasync

        def stubborn(fd: int) -> None:
            try:
                sync(fd)
            except OSError:
                sync(fd)

        vfs.fdatasync = stubborn  # type: ignore[method-assign]
        operation(append("b"))(vfs, acknowledge)

    with pytest.raises(AssertionError, match="lost"):
        explore_errors(
            prepared(append("a")), retrying, check(["made", "a"], ["b"]), only=frozenset({"fdatasync"})
        )  # fmt: skip


def test_exploration_is_deterministic() -> None:
    case = next(case for case in CASES if case.name == "checkpoint")
    reports = [explore(case.setup, case.operation, case.check, limits=case.quick) for _ in range(2)]
    assert reports[0] == reports[1]
