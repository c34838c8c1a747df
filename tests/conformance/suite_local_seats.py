# SPDX-License-Identifier: Apache-2.0
"""How many programs of one computer use a license at once: every handle of a container counts as a program does."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

import pytest

from conformance.cases import BackendCase, Place
from conformance.world import World, refused
from fakes import START
from tallystick.container.base import Container
from tallystick.errors import TallystickError
from tallystick.license.model import EXCLUSIVE, USER_LIMIT
from tallystick.license.trust import Trust

Answer = tuple[str, list[tuple[int, str]]]


class TestLocalSeats:
    def test_as_many_handles_as_seats(self, world: World, container: Container) -> None:
        world.activate(container, seats=2)
        handles = [container, world.open(), world.open()]
        seats = [world.seat(handle) for handle in handles[:2]]
        refusal = refused("seats_in_use", world.seat, handles[2])
        assert str(os.getpid()) in refusal.message
        assert len(refusal.details["holders"]) == 2  # type: ignore[arg-type]
        seats[0].close()
        with world.seat(handles[2]) as seat:
            assert seat.check()
            assert seats[1].check()

    def test_a_handle_takes_one_seat(self, world: World, container: Container) -> None:
        world.activate(container, seats=1)
        other = world.open()
        first, second = world.seat(container), world.seat(container)
        first.close()
        refused("seats_in_use", world.seat, other)
        second.close()
        assert world.seat(other).check()

    def test_closing_the_container_frees_its_seats(self, world: World, container: Container) -> None:
        world.activate(container, seats=1)
        other = world.open()
        seat = world.seat(container)
        container.close()
        assert world.seat(other).check()
        assert not seat.check()

    def test_without_a_number_all_may_run(self, world: World, container: Container) -> None:
        world.activate(container)
        handles = [container] + [world.open() for _ in range(4)]
        seats = [world.seat(handle) for handle in handles]
        assert all(seat.check() for seat in seats)
        assert len(container.holders()) == 5

    def test_holders_are_listed(self, world: World, container: Container) -> None:
        license_ = world.activate(container, seats=3)
        world.activate(container, product="cam")
        assert container.holders() == ()
        cad, cam = world.seat(container), world.seat(container, product="cam", mode="station-share")
        (holder,) = world.open().holders("cad")
        assert (holder.license_id, holder.vendor, holder.product) == (license_.license_id, "acme", "cad")
        assert (holder.pid, holder.mode, holder.state, holder.since) == (os.getpid(), "user-limit", "running", START)
        assert {one.product for one in container.holders()} == {"cad", "cam"}
        assert container.holders("other") == ()
        cad.close()
        cam.close()
        assert container.holders() == ()

    def test_the_station_shares_one_seat(self, world: World, container: Container) -> None:
        world.activate(container, seats=1)
        handles = [container, world.open(), world.open()]
        shared = [world.seat(handle, mode="station-share") for handle in handles[:2]]
        refused("seats_in_use", world.seat, handles[2])
        for seat in shared:
            seat.close()
        assert world.seat(handles[2]).check()

    @pytest.mark.parametrize("other", ["user-limit", "station-share", "exclusive", "no-limit"])
    def test_exclusive_is_alone(self, world: World, container: Container, other: str) -> None:
        world.activate(container, seats=4)
        second = world.open()
        with world.seat(container, mode="exclusive"):
            refused("seats_in_use", world.seat, second, mode=other)
        with world.seat(second, mode=other):
            refused("seats_in_use", world.seat, container, mode="exclusive")
        assert world.seat(container, mode="exclusive").check()

    def test_no_limit_takes_no_seat(self, world: World, container: Container) -> None:
        world.activate(container, seats=1)
        free = [world.seat(handle, mode="no-limit") for handle in (container, world.open())]
        assert world.seat(world.open()).check()
        assert all(seat.check() for seat in free)

    def test_denied_modes_are_refused(self, world: World, container: Container) -> None:
        world.activate(container, denied_modes=(USER_LIMIT, EXCLUSIVE))
        refusal = refused("mode_denied", world.seat, container)
        assert "station-share" in refusal.message
        refused("mode_denied", world.seat, container, mode="exclusive")
        assert world.seat(container, mode="station-share").check()
        refused("usage", world.seat, container, mode="any")

    def test_seats_of_several_licenses_add_up(self, world: World, container: Container) -> None:
        for _ in range(2):
            world.activate(container, seats=1)
        seats = [world.seat(handle) for handle in (container, world.open())]
        assert seats[0].license_.license_id != seats[1].license_.license_id
        refused("seats_in_use", world.seat, world.open())

    def test_a_refresh_changes_their_number(self, world: World, container: Container) -> None:
        license_ = world.activate(container, seats=1)
        other = world.open()
        seat = world.seat(container)
        refused("seats_in_use", world.seat, other)
        container.install(world.acme.refresh(license_, seats=2))
        second = world.seat(other)
        assert second.check()
        assert seat.check()
        container.install(world.acme.refresh(world.acme.newer(license_), seats=1))
        refused("seats_in_use", world.seat, world.open())
        assert second.check()

    def test_a_refused_checkout_takes_no_seat(self, world: World, container: Container) -> None:
        world.activate(container, seats=1, units=1)
        refused("units_exhausted", world.seat, container, reserve=2)
        assert world.seat(world.open()).check()


class Waiter:
    """A thread that waits for a seat."""

    def __init__(self, container: Container, **asked: Any) -> None:
        self.container = container
        self.asked = asked
        self.outcome: object = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.outcome = self.container.checkout("cad", **self.asked)
        except TallystickError as refusal:
            self.outcome = refusal.code

    def done(self) -> object:
        """What came of it."""
        self.thread.join(60)
        assert not self.thread.is_alive()
        return self.outcome


def waiting(container: Container, count: int) -> None:
    """Look until that many wait."""
    end = time.monotonic() + 60
    while sum(one.state == "waiting" for one in container.holders()) != count:
        assert time.monotonic() < end, container.holders()


class TestWaitingForSeats:
    def test_a_seat_that_becomes_free_is_taken(self, world: World, container: Container) -> None:
        world.activate(container, seats=1)
        seat = world.seat(container)
        waiter = Waiter(world.open(), wait=30)
        waiting(container, 1)
        seat.close()
        assert waiter.done().check()  # type: ignore[attr-defined]

    def test_waiting_ends_in_time(self, world: World, container: Container) -> None:
        world.activate(container, seats=1)
        seat = world.seat(container)
        waiter = Waiter(world.open(), wait=30)
        waiting(container, 1)
        world.clock.advance(31)
        assert waiter.done() == "seats_in_use"
        assert seat.check()
        waiting(container, 0)

    def test_who_came_first_is_served_first(self, world: World, container: Container) -> None:
        world.activate(container, seats=1)
        seat = world.seat(container)
        waiters = []
        for number in range(1, 4):
            waiters.append(Waiter(world.open(), wait=30))
            waiting(container, number)
        refused("seats_in_use", world.seat, world.open())
        for number, waiter in enumerate(waiters, 1):
            seat.close()
            seat = waiter.done()  # type: ignore[assignment] # a seat, or the test fails here
            assert seat.check()
            waiting(container, 3 - number)
        assert len(container.holders()) == 1


def hold(case: BackendCase, place: Place, trust: str, mode: str, pipe: Connection) -> None:
    """Body of another process: take a seat, say what came of it, close it when told."""
    container = case.open(place, (Trust.from_text(trust),), 60.0)
    try:
        seat = container.checkout("cad", mode=mode)
        code = "ok"
    except TallystickError as refusal:
        code = refusal.code
    pipe.send((code, [(one.pid, one.state) for one in container.holders()]))
    pipe.recv()
    if code == "ok":
        seat.close()
    pipe.send(("closed", []))
    container.close()


class Process:
    """Another process that holds a seat, or was refused one."""

    def __init__(self, world: World, mode: str = "user-limit") -> None:
        world.need_shared()
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        trust = world.acme.trust.to_text()
        self.process = context.Process(target=hold, args=(world.case, world.place, trust, mode, theirs))
        self.process.start()
        theirs.close()
        assert self.pipe.poll(60)
        answer: Answer = self.pipe.recv()
        self.code, self.holders = answer

    @property
    def pid(self) -> int:
        """Its number."""
        assert self.process.pid is not None
        return self.process.pid

    def close(self) -> None:
        """Let it close its seat and end."""
        self.pipe.send("close")
        assert self.pipe.poll(60)
        assert self.pipe.recv()[0] == "closed"
        self.end()

    def kill(self) -> None:
        """Kill it."""
        self.process.kill()
        self.end()

    def end(self) -> None:
        """Wait for its end."""
        self.process.join(60)
        self.process.close()
        self.pipe.close()


class TestProcessesWithSeats:
    @pytest.fixture
    def processes(self) -> Iterator[list[Process]]:
        made: list[Process] = []
        yield made
        for one in made:
            one.kill()

    def test_a_killed_process_frees_its_seat_at_once(self, world: World, container: Container) -> None:
        world.activate(container, seats=1, linger=3600)
        process = Process(world)
        assert process.code == "ok"
        refusal = refused("seats_in_use", world.seat, container)
        assert str(process.pid) in refusal.message
        process.kill()
        assert container.holders() == ()
        assert world.seat(container).check()

    def test_the_next_process_is_told_who_has_the_seat(
        self, world: World, container: Container, processes: list[Process]
    ) -> None:
        world.activate(container, seats=1)
        seat = world.seat(container)
        processes.append(Process(world))
        assert processes[0].code == "seats_in_use"
        assert processes[0].holders == [(os.getpid(), "running")]
        assert seat.check()

    def test_a_seat_lingers_until_its_time_is_over(
        self, world: World, container: Container, processes: list[Process]
    ) -> None:
        world.activate(container, seats=1, linger=60)
        world.seat(container).close()
        world.clock.advance(59)
        processes.append(Process(world))
        assert processes[0].code == "seats_in_use"
        assert processes[0].holders == [(os.getpid(), "lingering")]
        world.clock.advance(1)
        processes.append(Process(world))
        assert processes[1].code == "ok"

    def test_another_boot_ends_lingering(self, world: World, container: Container) -> None:
        world.activate(container, seats=1, linger=3600)
        process = Process(world)
        process.close()
        refused("seats_in_use", world.seat, container)
        world.clock.reboot(10)
        world.clock.advance(1200)
        assert world.seat(container).check()

    def test_modes_hold_among_processes(self, world: World, container: Container, processes: list[Process]) -> None:
        world.activate(container, seats=1)
        with world.seat(container, mode="exclusive"):
            processes.append(Process(world, "no-limit"))
        with world.seat(container, mode="station-share"):
            processes.append(Process(world, "station-share"))
        assert [one.code for one in processes] == ["seats_in_use", "ok"]
        refused("seats_in_use", world.seat, container)
