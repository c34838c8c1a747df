# SPDX-License-Identifier: Apache-2.0
"""One container, many threads and processes: nothing lost, nothing doubled."""

from __future__ import annotations

import contextlib
import multiprocessing
import threading
import traceback
from collections.abc import Callable
from multiprocessing.context import SpawnProcess
from queue import Empty
from typing import Any

from conformance import processes
from conformance.world import World, left
from tallystick.container.base import Container
from tallystick.errors import TallystickError


def together(count: int, work: Callable[[int], None], patience_s: float = 120.0) -> list[str]:
    """Run a function in threads, all at once; returns what they raised."""
    raised: list[str] = []
    barrier = threading.Barrier(count)

    def run(number: int) -> None:
        barrier.wait(30)
        try:
            work(number)
        except BaseException:
            raised.append(traceback.format_exc())

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(patience_s)
    assert not any(thread.is_alive() for thread in threads), "threads do not end"
    return raised


def _reported(queue: Any, children: list[SpawnProcess], patience_s: float) -> dict[str, int]:
    """The next report of a process; fails as soon as one has died instead."""
    for _ in range(round(patience_s)):
        with contextlib.suppress(Empty):
            report: dict[str, int] | str = queue.get(timeout=1)
            assert not isinstance(report, str), report
            return report
        assert not [child.exitcode for child in children if child.exitcode], "a process died"
    raise AssertionError("a process says nothing")


class TestThreads:
    def test_threads_on_one_seat_count_exactly(self, world: World, container: Container) -> None:
        license_ = world.activate(container, units=100)
        seat = world.seat(container)

        def work(_: int) -> None:
            for _ in range(20):
                seat.consume(1)

        assert together(4, work, world.case.patience_s) == []
        assert left(container, license_) == 20

    def test_threads_on_handles_of_their_own_count_exactly(self, world: World, container: Container) -> None:
        license_ = world.activate(container, units=40)
        handles = [world.open() for _ in range(4)]
        served: list[int] = []

        def work(number: int) -> None:
            seat = world.seat(handles[number])
            for _ in range(15):
                try:
                    seat.consume(1)
                    served.append(number)
                except TallystickError as refusal:
                    assert refusal.code == "units_exhausted", refusal

        assert together(4, work, world.case.patience_s) == []
        assert len(served) == 40
        assert left(container, license_) == 0

    def test_threads_never_share_a_unit_of_a_block(self, world: World, container: Container) -> None:
        world.activate(container, units=1000)
        seat = world.seat(container, reserve=1000)
        rests: list[int] = []
        assert together(8, lambda _: rests.extend(seat.consume(1) for _ in range(100))) == []
        assert sorted(rests) == list(range(200, 1000))

    def test_checks_go_on_while_others_close_and_install(self, world: World, container: Container) -> None:
        license_ = world.activate(container)
        refreshes = []
        for _ in range(10):
            license_ = world.acme.newer(license_)
            refreshes.append(world.acme.update(license_.container, license_))

        def work(number: int) -> None:
            for round_ in range(10):
                if number:
                    with world.seat(container) as seat:
                        assert seat.check()
                else:
                    container.install(refreshes[round_])

        assert together(3, work, world.case.patience_s) == []


class TestProcesses:
    def started(
        self, world: World, *work: tuple[Callable[..., processes.Report], tuple[object, ...]]
    ) -> list[dict[str, int]]:
        """Run functions of `processes`, each in a process of its own; returns what they report."""
        world.need_shared()
        context = multiprocessing.get_context("spawn")
        queue = context.Queue()
        gate = context.Barrier(len(work))
        trust = world.acme.trust.to_text()
        children: list[SpawnProcess] = [
            context.Process(target=processes.run, args=(function, world.case, world.place, trust, gate, queue, *rest))
            for function, rest in work
        ]
        for child in children:
            child.start()
        reports = [_reported(queue, children, world.case.patience_s) for _ in children]
        for child in children:
            child.join(60)
            assert child.exitcode == 0
        queue.close()
        queue.join_thread()
        return reports

    def test_two_processes_lose_and_double_nothing(self, world: World, container: Container) -> None:
        license_ = world.activate(container, units=70)
        work = (processes.consume, (40, ""))
        reports = self.started(world, work, work)
        assert sum(report["served"] for report in reports) == 70
        assert all(report["served"] > 0 for report in reports)
        assert left(container, license_) == 0

    def test_two_processes_with_the_same_keys_count_each_once(self, world: World, container: Container) -> None:
        license_ = world.activate(container, units=100)
        work = (processes.consume, (25, "job"))
        reports = self.started(world, work, work)
        assert [report["served"] for report in reports] == [25, 25]
        assert left(container, license_) == 75

    def test_a_process_that_dies_takes_only_its_block_along(self, world: World, container: Container) -> None:
        license_ = world.activate(container, units=100)
        self.started(world, (processes.reserve_and_die, (30, 5)))
        assert left(container, license_) == 70
        assert world.seat(container).consume(1) == 69

    def test_readers_and_writers_see_whole_states(self, world: World, container: Container) -> None:
        world.activate(container, units=1000)
        reports = self.started(world, (processes.consume, (40, "")), (processes.read, (40,)))
        assert reports[0]["served"] + reports[1]["served"] == 40
        assert all(report["torn"] == 0 for report in reports)
