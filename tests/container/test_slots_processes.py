# SPDX-License-Identifier: Apache-2.0
"""Local seats among real processes: killed, forked, waiting, alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from rooms import Room
from seat_program import Program

from tallystick.container.sealed import SealedContainer
from tallystick.container.slots_record import RUNNING, WAITING
from tallystick.errors import TallystickError


@pytest.fixture
def started(room: Room) -> Iterator[ExitStack]:
    """Programs entered here are ended with the test."""
    with ExitStack() as stack:
        yield stack


def licensed(room: Room, **terms: int) -> SealedContainer:
    container = room.create()
    room.sell(container, **terms)
    return container


def programs(room: Room, started: ExitStack, count: int) -> list[Program]:
    return [started.enter_context(Program.start(room)) for _ in range(count)]


def until_waiting(container: SealedContainer, pids: list[int]) -> None:
    """Look until exactly these programs wait, in this order."""
    end = time.monotonic() + 60
    while [one.pid for one in container.holders() if one.state == WAITING] != pids:
        assert time.monotonic() < end, container.holders()


def running(container: SealedContainer) -> list[int]:
    return [one.pid for one in container.holders() if one.state == RUNNING]


class TestDeath:
    def test_a_killed_program_frees_its_seat_at_once(self, room: Room, started: ExitStack) -> None:
        container = licensed(room, seats=1, linger=3600)
        (program,) = programs(room, started, 1)
        assert program.ask("take user-limit") == "ok"
        with pytest.raises(TallystickError, match=f"pid {program.pid}") as caught:
            container.checkout("cad")
        assert caught.value.code == "seats_in_use"
        (holder,) = caught.value.details["holders"]  # type: ignore[misc]
        assert (holder["pid"], holder["program"]) == (program.pid, "seat_program.py")
        assert holder["user"]
        program.kill()
        assert container.holders() == ()
        assert container.checkout("cad").check()

    def test_a_program_that_ends_in_order_leaves_its_seat_lingering(self, room: Room, started: ExitStack) -> None:
        container = licensed(room, seats=1, linger=3600)
        (program,) = programs(room, started, 1)
        assert program.ask("take user-limit") == "ok"
        assert program.ask("close") == "ok"
        assert program.ask("take user-limit") == "ok"  # its own
        assert program.ask("close") == "ok"
        (other,) = programs(room, started, 1)
        assert other.ask("take user-limit").startswith("seats_in_use")
        assert program.ask("take user-limit") == "ok"
        assert program.ask("close now") == "ok"
        assert other.ask("take user-limit") == "ok"
        assert container.holders() != ()

    def test_a_killed_one_in_the_queue_holds_up_nobody(self, room: Room, started: ExitStack) -> None:
        container = licensed(room, seats=1)
        seat = container.checkout("cad")
        waiting = programs(room, started, 3)
        for number, program in enumerate(waiting, 1):
            program.tell("take user-limit 60")
            until_waiting(container, [one.pid for one in waiting[:number]])
        waiting[0].kill()
        waiting[1].kill()
        seat.close()
        assert waiting[2].hear() == "ok"
        assert running(container) == [waiting[2].pid]


class TestFork:
    def test_a_child_takes_a_seat_of_its_own(self, room: Room, started: ExitStack) -> None:
        container = licensed(room, seats=2)
        (program,) = programs(room, started, 1)
        assert program.ask("take user-limit") == "ok"
        assert program.ask("fork") == "child True"
        pids = running(container)
        assert len(pids) == 2
        assert program.pid in pids
        program.kill()
        assert running(container) == [pid for pid in pids if pid != program.pid]

    def test_a_child_is_refused_where_there_is_no_seat_for_it(self, room: Room, started: ExitStack) -> None:
        container = licensed(room, seats=1)
        (program,) = programs(room, started, 1)
        assert program.ask("take user-limit") == "ok"
        assert program.ask("fork") == "child False seats_in_use"
        assert program.ask("check") == "True"
        assert running(container) == [program.pid]

    def test_a_child_keeps_no_seat_of_its_parent_alive(self, room: Room, started: ExitStack) -> None:
        container = licensed(room, seats=1)
        (program,) = programs(room, started, 1)
        assert program.ask("take user-limit") == "ok"
        assert program.ask("fork") == "child False seats_in_use"
        program.kill()  # the child lives on
        assert container.holders() == ()
        assert container.checkout("cad").check()


class TestTogether:
    def test_the_station_is_shared_by_processes(self, room: Room, started: ExitStack) -> None:
        container = licensed(room, seats=1)
        one, two = programs(room, started, 2)
        assert one.ask("take station-share") == "ok"
        assert two.ask("take station-share") == "ok"
        assert one.ask("take user-limit").startswith("seats_in_use")
        assert container._seating.taken(container.licenses()[0].license_id) == 1
        one.kill()
        assert two.ask("take user-limit").startswith("seats_in_use")
        two.kill()
        assert container.checkout("cad").check()

    def test_one_process_alone(self, room: Room, started: ExitStack) -> None:
        licensed(room, seats=5)
        one, two = programs(room, started, 2)
        assert one.ask("take exclusive") == "ok"
        for mode in ("user-limit", "station-share", "exclusive", "no-limit"):
            assert two.ask(f"take {mode}").startswith("seats_in_use: cad is in exclusive use")
        one.kill()
        assert two.ask("take no-limit") == "ok"

    def test_first_come_first_served(self, room: Room, started: ExitStack) -> None:
        container = licensed(room, seats=1)
        seat = container.checkout("cad")
        waiting = programs(room, started, 10)
        for number, program in enumerate(waiting, 1):
            program.tell("take user-limit 120")
            until_waiting(container, [one.pid for one in waiting[:number]])
        seat.close()
        for number, program in enumerate(waiting, 1):
            assert program.hear() == "ok"
            assert running(container) == [program.pid]
            assert [one.pid for one in container.holders() if one.state == WAITING] == [
                one.pid for one in waiting[number:]
            ]
            assert program.ask("close") == "ok"
        assert container.holders() == ()
