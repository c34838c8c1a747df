# SPDX-License-Identifier: Apache-2.0
"""`Seat`, `Block` and the choice of seats, where the conformance suite does not reach: threads, forks, races,
decorators."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from rooms import Room

from fakes import START
from tallystick.container.block import Block
from tallystick.container.sealed import SealedContainer
from tallystick.container.seat import Seat, requires
from tallystick.errors import TallystickError, error
from tallystick.license.model import License
from tallystick.license.policy import Facts, Verdict


class Host:
    """A container reduced to what a seat asks of it.

    Attributes:
        now: the monotonic clock.
        proven: until when the key is proven.
        verdict: what is decided.
    """

    def __init__(self) -> None:
        self.now = 1_000.0
        self.proven = 1_060.0
        self.verdict = Verdict("ok", "licensed")
        self.decisions = 0
        self.released: list[int] = []
        self.before: Callable[[], None] = lambda: None

    def monotonic(self) -> float:
        return self.now

    def proven_until(self) -> float:
        return self.proven

    def decide(self, license_id: bytes, facts: Facts) -> tuple[Verdict, int]:
        self.decisions += 1
        self.before()
        return self.verdict, START

    def consume(self, license_id: bytes, feature: str, units: int, key: bytes) -> int:
        return -units

    def release(self, license_id: bytes, reservation_id: bytes, rest: int) -> None:
        self.released.append(rest)

    def content_key(self, license_: License, key_id: str) -> bytes:
        raise error("not_supported", "no content")

    def leave(self, seat: Seat) -> None:
        pass


LICENSE = License("acme", "cad", START, bytes(16), bytes(32), bytes(16))


@pytest.fixture
def host() -> Host:
    return Host()


def seat_of(host: Host, block: Block | None = None) -> Seat:
    return Seat(host, LICENSE, Facts(START), block)


class TestDeadlines:
    def test_a_check_decides_once_and_then_looks_at_its_clock(self, host: Host) -> None:
        seat = seat_of(host)
        assert [seat.check() for _ in range(100)] == [True] * 100
        assert host.decisions == 1
        host.now = host.proven
        host.proven += 60
        assert seat.check()
        assert host.decisions == 2

    def test_the_deadline_is_the_earliest_end(self, host: Host) -> None:
        host.verdict = Verdict("ok", "licensed", valid_until=START + 5)
        seat = seat_of(host)
        assert seat.check()
        assert seat.valid_until == START + 5
        host.now += 5
        host.verdict = Verdict("expired", "over", "renew")
        assert not seat.check()
        refusal = seat.refusal()
        assert refusal is not None
        assert (refusal.code, refusal.remedy) == ("expired", "renew")

    def test_an_expired_seat_decides_anew(self, host: Host) -> None:
        seat = seat_of(host)
        seat.check()
        seat.expire(error("backend_failed", "gone"))
        assert seat.refusal() is not None
        assert seat.check()
        assert seat.refusal() is None
        assert host.decisions == 2

    def test_renewal_covers_what_was_asked(self, host: Host) -> None:
        seat = seat_of(host)
        seat.check()
        seat.check("pdf")
        host.proven += 100
        seat.renew()
        host.now += 120
        decided = host.decisions
        assert seat.check()
        assert seat.check("pdf")
        assert host.decisions == decided

    def test_a_seat_closed_while_a_thread_renews_it_stays_closed(self, host: Host) -> None:
        """The decision was under way when the seat was closed: it must not come back to life."""
        seat = seat_of(host)
        seat.check()
        host.before = seat.close
        seat.renew()
        assert not seat.check()
        refusal = seat.refusal()
        assert refusal is not None
        assert refusal.code == "closed"

    def test_a_seat_shows_whose_it_is_and_nothing_else(self, host: Host) -> None:
        assert repr(seat_of(host)) == "Seat(acme/cad)"


class Meeting(int):
    """A number that waits, when it is compared, for another thread to compare one too."""

    barrier: threading.Barrier

    def __gt__(self, other: int) -> bool:
        result = int(self) > other
        try:
            self.barrier.wait(0.3)
        except threading.BrokenBarrierError:
            pass
        return result


class TestBlocks:
    def test_two_threads_never_take_the_same_unit(self) -> None:
        block, taken = Block(bytes(16), "", 1), list[int | None]()
        Meeting.barrier = threading.Barrier(2)
        threads = [threading.Thread(target=lambda: taken.append(block.take(Meeting(1)))) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert sorted(taken, key=repr) == [0, None]

    def test_a_block_serves_what_it_holds(self) -> None:
        block = Block(bytes(16), "", 5)
        assert [block.take(2), block.take(4), block.take(0), block.take(-1), block.take(3)] == [3, None, None, None, 0]
        assert block.drain() == 0

    def test_what_is_drained_is_not_served(self) -> None:
        block = Block(bytes(16), "", 5)
        assert block.drain() == 5
        assert block.take(1) is None
        assert block.drain() == 0

    def test_a_forked_child_serves_and_returns_nothing(self, room: Room) -> None:
        """A copy of the block in a worker process would mint its units again."""
        container = room.create()
        room.sell(container, units=100)
        seat = container.checkout("cad", reserve=50)
        assert seat.consume(1) == 49
        code = _in_a_child(lambda: _child(seat))
        assert code == 0, f"the child ended with {code}"
        assert seat.consume(1) == 48
        seat.close()
        assert container.licenses()[0].usage.used == {"": 2 + 10}

    def test_closing_twice_returns_once(self, host: Host) -> None:
        seat = seat_of(host, Block(bytes(16), "", 5))
        assert seat.consume(2) == 3
        seat.close()
        seat.close()
        assert host.released == [3]

    def test_a_key_goes_past_the_block(self, host: Host) -> None:
        seat = seat_of(host, Block(bytes(16), "", 5))
        assert seat.consume(2, idempotency_key="job") == -2
        assert seat.consume(9) == -9
        assert seat.consume(2, "pdf") == 3


def _child(seat: Seat) -> int:
    """What the child does; units are debited one by one."""
    left = seat.consume(10)
    seat.close()
    return 0 if left == 40 else 1  # 100 - 50 reserved - 10


def _in_a_child(work: Callable[[], int]) -> int:
    gc.collect()
    pid = os.fork()
    if not pid:
        code = 99
        try:
            code = work()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class TestDecorator:
    def test_arguments_and_names_pass_through(self, host: Host) -> None:
        @requires(seat_of(host), "pdf")
        def export(name: str, *, scale: int = 1) -> str:
            """Export."""
            return name * scale

        assert export("ab", scale=2) == "abab"
        assert (export.__name__, export.__doc__) == ("export", "Export.")

    def test_a_refusal_takes_the_place_of_the_call(self, host: Host) -> None:
        host.verdict = Verdict("expired", "over")
        called = []
        guarded = requires(seat_of(host))(lambda: called.append(1))
        with pytest.raises(TallystickError, match="over"):
            guarded()
        assert called == []

    def test_coroutines_are_guarded_when_they_run(self, host: Host) -> None:
        seat = seat_of(host)

        @requires(seat)
        async def render() -> int:
            return 42

        @requires(lambda: seat, units=3)
        async def count() -> int:
            return 43

        assert asyncio.run(render()) == 42
        assert asyncio.run(count()) == 43
        host.verdict = Verdict("expired", "over")
        seat.expire(error("expired", "over"))
        with pytest.raises(TallystickError, match="over"):
            asyncio.run(render())

    def test_units_are_consumed_before_the_call(self, host: Host) -> None:
        order: list[Any] = []
        host.consume = lambda *args: order.append(args[2]) or 0  # type: ignore[method-assign,func-returns-value] # a stub
        requires(seat_of(host), units=2)(lambda: order.append("called"))()
        assert order == [2, "called"]

    def test_a_callable_without_code_is_guarded(self, host: Host) -> None:
        class Tool:
            def __call__(self) -> int:
                return 7

            __name__ = "tool"

        assert requires(seat_of(host))(Tool())() == 7


class TestSeating:
    def test_a_failed_checkout_leaves_no_units_reserved(self, room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
        container = room.create()
        room.sell(container, units=10)

        def refuse(seat: Seat, feature: str = "") -> None:
            raise error("expired", "just now")

        monkeypatch.setattr(Seat, "require", refuse)
        with pytest.raises(TallystickError, match="just now"):
            container.checkout("cad", reserve=5)
        assert container.licenses()[0].usage.used == {"": 0}

    def test_a_block_that_cannot_be_given_back_says_so_at_close(self, room: Room) -> None:
        container = room.create()
        room.sell(container, units=10)
        seat = container.checkout("cad", reserve=5)
        other = room.open()
        container._session.lock_timeout_s = 0.0
        with other._session.store.lock(1), pytest.raises(TallystickError, match="held"):
            seat.close()

    def test_closing_the_container_gives_up_what_cannot_be_given_back(self, room: Room) -> None:
        container = room.create()
        room.sell(container, units=10)
        seat = container.checkout("cad", reserve=5)
        other = room.open()
        container._session.lock_timeout_s = 0.0
        with other._session.store.lock(1):
            container.close()
        assert not seat.check()
        assert other.licenses()[0].usage.used == {"": 5}

    def test_seats_are_held_weakly(self, room: Room) -> None:
        container = room.create()
        room.sell(container)
        seat = container.checkout("cad")
        gone = weakref.ref(seat)
        assert container._seating._renewer.seats == (seat,)
        del seat
        gc.collect()
        assert gone() is None
        assert container._seating._renewer.seats == ()

    def test_a_release_date_may_be_a_number(self, room: Room) -> None:
        container = room.create()
        room.sell(container, maintenance_to=START)
        assert container.checkout("cad", release_date=START - 1).check()

    def test_a_usage_period_that_cannot_begin_durably_does_not_begin(self, room: Room) -> None:
        container = room.create()
        room.sell(container, usage_period=100)
        other = room.open()
        other._session.lock_timeout_s = 0.0
        with container._session.store.lock(1), pytest.raises(TallystickError) as caught:
            other.checkout("cad")
        assert caught.value.code == "busy"
        assert container.licenses()[0].usage.first_use == {}

    def test_background_threads_end_with_their_container(self, room: Room) -> None:
        container: SealedContainer = room.create()
        room.sell(container)
        container.close()
        others = set(threading.enumerate())  # a test before may have left a container to the garbage collector
        container = room.open(background=True)
        container.checkout("cad")
        (thread,) = [one for one in threading.enumerate() if one.name == "tallystick" and one not in others]
        container.close()
        thread.join(60)
        assert not thread.is_alive()
