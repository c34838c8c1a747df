# SPDX-License-Identifier: Apache-2.0
"""Local seats of one container: handles of one process here, for each is counted as a program is; processes elsewhere.

A `Room`'s clock is moved by hand. Nothing waits: the waiting that is tested is done by a `Vfs` that moves the clock.
"""

from __future__ import annotations

import errno
import gc
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rooms import Meddling, Room
from test_store_windows import Locking

from fakes import START, FakeClock
from tallystick.container import store_windows
from tallystick.container.sealed import SealedContainer
from tallystick.container.seat import Seat
from tallystick.container.slots_record import LINGERING, RUNNING, WAITING, SeatHolder
from tallystick.container.store_os import Vfs
from tallystick.container.store_windows import WindowsVfs
from tallystick.errors import TallystickError

USER = "user-limit"
STATION = "station-share"
ALONE = "exclusive"
FREE = "no-limit"


def refusal(call: Callable[..., object], *args: Any, **values: Any) -> TallystickError:
    """What a call is refused with."""
    with pytest.raises(TallystickError) as caught:
        call(*args, **values)
    return caught.value


def code_of(call: Callable[..., object], *args: Any, **values: Any) -> str:
    """The code of a refusal."""
    return refusal(call, *args, **values).code


def stocked(room: Room, handles: int, **terms: Any) -> list[SealedContainer]:
    """Open a container with a license several times."""
    container = room.create()
    room.sell(container, **terms)
    return [container] + [room.open() for _ in range(handles - 1)]


def locked_files(room: Room) -> set[str]:
    """The slots' files there are, by the part behind the license."""
    folder = room.folder / "seats"
    return {path.name.partition(".")[2] for path in folder.iterdir()} - {""} if folder.exists() else set()


def open_files() -> int:
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


class TestUserLimit:
    def test_as_many_programs_as_seats(self, room: Room) -> None:
        one, two, three = stocked(room, 3, seats=2)
        first = one.checkout("cad")
        second = two.checkout("cad")
        refused = refusal(three.checkout, "cad")
        assert refused.code == "seats_in_use"
        assert first.check()
        assert second.check()
        first.close()
        third = three.checkout("cad")
        assert third.check()
        assert code_of(one.checkout, "cad") == "seats_in_use"

    def test_the_refusal_names_the_holders(self, room: Room) -> None:
        one, two = stocked(room, 2, seats=1)
        seat = one.checkout("cad")
        refused = refusal(two.checkout, "cad")
        assert f"pid {os.getpid()}" in refused.message
        assert "2027-01-01 00:00 UTC" in refused.message
        (holder,) = refused.details["holders"]  # type: ignore[misc]
        assert (holder["pid"], holder["mode"], holder["state"]) == (os.getpid(), USER, RUNNING)
        assert holder["since"] == START
        assert holder["program"]
        assert holder["license_id"] == seat.license_.license_id.hex()
        assert refused.details["seats"] == 1

    def test_one_handle_takes_one_seat_however_often(self, room: Room) -> None:
        one, two = stocked(room, 2, seats=1)
        seats = [one.checkout("cad") for _ in range(3)]
        assert len(one.holders()) == 1
        for seat in seats[:2]:
            seat.close()
            seat.close()
        assert code_of(two.checkout, "cad") == "seats_in_use"
        seats[2].close()
        assert two.checkout("cad").check()

    def test_a_forgotten_seat_is_given_back(self, room: Room) -> None:
        one, two = stocked(room, 2, seats=1)
        seat = one.checkout("cad")
        del seat
        gc.collect()
        assert two.checkout("cad").check()

    def test_a_seat_forgotten_while_seats_are_looked_at_is_given_back_afterwards(self, room: Room) -> None:
        """Garbage is collected at any moment, in any thread: also where the guard is held, by the same thread."""
        one, two = stocked(room, 2, seats=1)
        slots = one._seating._counter._slots
        seats = [one.checkout("cad")]
        with slots.guard:
            seats.clear()
            gc.collect()
            assert slots._claims
        assert two.checkout("cad").check()

    def test_without_a_number_everybody_runs_and_is_listed(self, room: Room) -> None:
        handles = stocked(room, 5)
        seats = [handle.checkout("cad") for handle in handles]
        assert all(seat.check() for seat in seats)
        assert len(handles[0].holders()) == 5
        assert locked_files(room) == {f"u{number}" for number in range(5)}

    def test_several_licenses_of_a_product_add_up(self, room: Room) -> None:
        container = room.create()
        room.sell(container, seats=1, licensee="short", expires=START + 100)
        room.sell(container, seats=1, licensee="long")
        seats = [handle.checkout("cad") for handle in (container, room.open())]
        assert [seat.license_.licensee for seat in seats] == ["long", "short"]
        refused = refusal(room.open().checkout, "cad")
        assert refused.details["seats"] == 2
        assert len(refused.details["holders"]) == 2  # type: ignore[arg-type]

    def test_no_seats_are_no_seats(self, room: Room) -> None:
        (container,) = stocked(room, 1, seats=0)
        refused = refusal(container.checkout, "cad")
        assert (refused.code, refused.details["seats"]) == ("seats_in_use", 0)

    def test_seats_bought_elsewhere_are_found(self, room: Room) -> None:
        """What this handle last knew of the account is not the last word."""
        one, two = stocked(room, 2, seats=1)
        license_ = one.checkout("cad").license_
        seat = one.checkout("cad")
        assert code_of(two.checkout, "cad") == "seats_in_use"
        one.install(room.acme.refresh(license_, seats=2))
        assert two.checkout("cad").check()
        assert seat.check()

    def test_fewer_seats_than_programs_turn_away_who_comes_next(self, room: Room) -> None:
        one, two, three = stocked(room, 3, seats=3)
        seats = [one.checkout("cad"), two.checkout("cad")]
        one.install(room.acme.refresh(seats[0].license_, seats=1))
        assert all(seat.check() for seat in seats)
        assert code_of(three.checkout, "cad") == "seats_in_use"
        assert one.checkout("cad").check()  # its own seat

    def test_a_failed_checkout_takes_no_seat(self, room: Room) -> None:
        one, two = stocked(room, 2, seats=1, units=1)
        assert code_of(one.checkout, "cad", reserve=5) == "units_exhausted"
        assert two.checkout("cad").check()

    def test_threads_at_once_share_one_seat(self, room: Room) -> None:
        one, two = stocked(room, 2, seats=1)
        failed: list[BaseException] = []
        barrier = threading.Barrier(4)

        def work() -> None:
            barrier.wait(30)
            try:
                for _ in range(25):
                    with one.checkout("cad") as seat:
                        assert seat.check()
            except BaseException as caught:
                failed.append(caught)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert failed == []
        assert one.holders() == ()
        assert two.checkout("cad").check()


class TestModes:
    def test_an_unknown_mode_is_the_programs_mistake(self, room: Room) -> None:
        (container,) = stocked(room, 1)
        assert code_of(container.checkout, "cad", mode="floating") == "usage"
        assert code_of(container.checkout, "cad", wait=-1) == "usage"
        assert code_of(container.checkout, "cad", wait=float("nan")) == "usage"

    def test_a_license_denies_modes(self, room: Room) -> None:
        (container,) = stocked(room, 1, denied_modes=(1, 4))
        refused = refusal(container.checkout, "cad")
        assert refused.code == "mode_denied"
        assert "station-share, exclusive" in refused.message
        assert code_of(container.checkout, "cad", mode=FREE) == "mode_denied"
        assert container.checkout("cad", mode=STATION).check()

    def test_another_license_may_permit_the_mode(self, room: Room) -> None:
        container = room.create()
        room.sell(container, denied_modes=(1,))
        room.sell(container, expires=START + 1000, licensee="second")
        assert container.checkout("cad").license_.licensee == "second"

    def test_the_station_is_one_seat(self, room: Room) -> None:
        handles = stocked(room, 5, seats=2)
        shared = [handle.checkout("cad", mode=STATION) for handle in handles[:3]]
        user = handles[3].checkout("cad")
        assert code_of(handles[4].checkout, "cad") == "seats_in_use"
        assert handles[4].checkout("cad", mode=STATION).check()
        for seat in shared[:2]:
            seat.close()
        assert code_of(handles[0].checkout, "cad") == "seats_in_use"
        user.close()
        assert handles[0].checkout("cad").check()

    def test_the_station_needs_a_seat_first(self, room: Room) -> None:
        one, two = stocked(room, 2, seats=1)
        seat = one.checkout("cad")
        assert code_of(two.checkout, "cad", mode=STATION) == "seats_in_use"
        seat.close()
        assert two.checkout("cad", mode=STATION).check()

    def test_no_limit_takes_no_seat(self, room: Room) -> None:
        one, two, three = stocked(room, 3, seats=1)
        seats = [one.checkout("cad", mode=FREE), two.checkout("cad", mode=FREE), three.checkout("cad")]
        assert all(seat.check() for seat in seats)
        assert one._seating.taken(seats[0].license_.license_id) == 1

    @pytest.mark.parametrize("other", [USER, STATION, FREE])
    @pytest.mark.parametrize("seats", [None, 5])
    def test_exclusive_is_alone(self, room: Room, other: str, seats: int | None) -> None:
        one, two = stocked(room, 2, **({} if seats is None else {"seats": seats}))
        alone = one.checkout("cad", mode=ALONE)
        refused = refusal(two.checkout, "cad", mode=other)
        assert refused.code == "seats_in_use"
        assert "exclusive use" in refused.message
        assert code_of(two.checkout, "cad", mode=ALONE) == "seats_in_use"
        alone.close()
        shared = two.checkout("cad", mode=other)
        refused = refusal(one.checkout, "cad", mode=ALONE)
        assert refused.code == "seats_in_use"
        assert f"pid {os.getpid()}" in refused.message
        shared.close()
        assert one.checkout("cad", mode=ALONE).check()

    def test_who_is_alone_may_use_any_mode(self, room: Room) -> None:
        one, two = stocked(room, 2, seats=1)
        alone = one.checkout("cad", mode=ALONE)
        more = one.checkout("cad")
        alone.close()
        assert more.check()
        assert code_of(two.checkout, "cad") == "seats_in_use"
        more.close()
        assert two.checkout("cad").check()


class TestLinger:
    def test_a_seat_stays_taken_after_an_orderly_end(self, room: Room) -> None:
        one, two = stocked(room, 2, seats=1, linger=60)
        one.checkout("cad").close()
        one._seating._counter._slots._vfs = Other()  # as if this were another process: one's own seat is given back
        refused = refusal(Renumbered(two).checkout, "cad")
        assert refused.code == "seats_in_use"
        (holder,) = two.holders()
        assert (holder.state, holder.until) == (LINGERING, START + 60)
        assert "keeps its seat until" in refused.message
        room.clock.advance(59)
        assert code_of(two.checkout, "cad") == "seats_in_use"
        room.clock.advance(1)
        assert two.holders() == ()
        assert two.checkout("cad").check()

    def test_who_left_it_may_take_it_again(self, room: Room) -> None:
        (container,) = stocked(room, 1, seats=1, linger=60)
        for _ in range(3):
            container.checkout("cad").close()
        assert len(container.holders()) == 1

    def test_a_restart_of_the_computer_ends_it(self, room: Room) -> None:
        one, two = stocked(room, 2, seats=1, linger=6000)
        one.checkout("cad").close()
        Renumbered(two)
        room.clock.reboot()
        room.clock.uptime = 1500
        assert two.checkout("cad").check()

    @pytest.mark.parametrize("at", ["checkout", "close"])
    def test_a_program_may_do_without(self, room: Room, at: str) -> None:
        one, two = stocked(room, 2, seats=1, linger=60)
        if at == "close":
            one.checkout("cad").close(linger=False)
        else:
            one.checkout("cad", linger=False).close()
        assert Renumbered(two).checkout("cad").check()

    @pytest.mark.parametrize("mode", [STATION, ALONE])
    def test_other_modes_linger_too(self, room: Room, mode: str) -> None:
        one, two = stocked(room, 2, seats=1, linger=60)
        one.checkout("cad", mode=mode).close()
        Renumbered(two)
        assert code_of(two.checkout, "cad") == "seats_in_use"
        assert one._seating.taken(one.licenses()[0].license_id) == 1
        if mode == STATION:
            assert two.checkout("cad", mode=STATION).check()
        room.clock.advance(60)
        assert two.checkout("cad", mode=ALONE).check()

    def test_a_program_without_a_seat_leaves_none(self, room: Room) -> None:
        one, two = stocked(room, 2, seats=1, linger=60)
        one.checkout("cad", mode=FREE).close()
        assert Renumbered(two).checkout("cad").check()

    def test_closing_the_container_is_orderly(self, room: Room) -> None:
        one, two = stocked(room, 2, seats=1, linger=60)
        seat = one.checkout("cad")
        one.close()
        assert code_of(Renumbered(two).checkout, "cad") == "seats_in_use"
        assert not seat.check()


class Other(Vfs):
    """Another process: all but its number is the same."""

    __slots__ = ()

    def pid(self) -> int:
        return 4_711


def Renumbered(container: SealedContainer) -> SealedContainer:  # noqa: N802 - reads as a thing where it is used
    """Let a handle's seats believe that it is in another process."""
    container._seating._counter._slots._vfs = Other()
    return container


class Waiting(Vfs):
    """Waiting moves a clock, and lets something happen at the third pause."""

    __slots__ = ("clock", "happens", "pauses")

    def __init__(self, clock: FakeClock, happens: Callable[[], object] = lambda: None) -> None:
        self.clock = clock
        self.happens = happens
        self.pauses = 0

    def sleep(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.pauses += 1
        if self.pauses == 3:
            self.happens()


class TestWaiting:
    def test_waiting_ends_with_a_seat(self, room: Room) -> None:
        (one,) = stocked(room, 1, seats=1)
        seat = one.checkout("cad")
        two = room.open(Waiting(room.clock, seat.close))
        assert two.checkout("cad", wait=30).check()
        assert room.clock.wall < START + 1
        assert not _tickets(room)

    def test_waiting_ends_in_time(self, room: Room) -> None:
        (one,) = stocked(room, 1, seats=1)
        seat = one.checkout("cad")
        two = room.open(Waiting(room.clock))
        refused = refusal(two.checkout, "cad", wait=5)
        assert refused.code == "seats_in_use"
        assert room.clock.wall == pytest.approx(START + 5, abs=0.001)
        assert not _tickets(room)
        assert seat.check()

    def test_who_waits_is_listed_and_comes_before_who_comes_later(self, room: Room) -> None:
        one, three = stocked(room, 2, seats=1)
        seat = one.checkout("cad")
        seen: list[Any] = []

        def meanwhile() -> None:
            seen.append(three.holders("cad"))
            seat.close()
            seen.append(refusal(three.checkout, "cad"))

        two = room.open(Waiting(room.clock, meanwhile))
        waited = two.checkout("cad", wait=30)
        assert waited.check()
        assert [holder.state for holder in seen[0]] == [RUNNING, WAITING]
        assert seen[1].code == "seats_in_use"
        assert "others wait" in seen[1].message

    def test_seats_nobody_waits_for_are_taken_at_once(self, room: Room) -> None:
        """Who waits gets a seat; what is left beyond is not kept from others for a moment."""
        handles = stocked(room, 4, seats=2)
        seats = [handle.checkout("cad") for handle in handles[:2]]
        got: list[Seat] = []

        def meanwhile() -> None:
            for seat in seats:
                seat.close()
            got.append(handles[3].checkout("cad"))

        waited = room.open(Waiting(room.clock, meanwhile)).checkout("cad", wait=30)
        assert waited.check()
        assert got[0].check()

    def test_waiting_to_be_alone_lets_nobody_pass(self, room: Room) -> None:
        one, three = stocked(room, 2, seats=5)
        seat = one.checkout("cad")
        codes: list[str] = []

        def meanwhile() -> None:
            codes.append(code_of(three.checkout, "cad"))
            codes.append(code_of(three.checkout, "cad", mode=FREE))
            seat.close()

        alone = room.open(Waiting(room.clock, meanwhile)).checkout("cad", mode=ALONE, wait=30)
        assert alone.check()
        assert codes == ["seats_in_use", "seats_in_use"]

    def test_tickets_of_the_dead_count_no_more(self, room: Room) -> None:
        one, two = stocked(room, 2, seats=1)
        license_id = one.checkout("cad").license_.license_id.hex()
        (room.folder / "seats" / f"{license_id}.t3u").write_bytes(b"")
        (room.folder / "seats" / f"{license_id}.t9x").write_bytes(b"left by a killed one")
        assert two.checkout("cad").check()
        assert not _tickets(room)

    def test_closing_the_container_ends_the_waiting(self, room: Room) -> None:
        (one,) = stocked(room, 1, seats=1)
        seat = one.checkout("cad")
        vfs = Waiting(room.clock)
        two = room.open(vfs)
        vfs.happens = two.close
        assert code_of(two.checkout, "cad", wait=30) == "closed"
        assert seat.check()


def _tickets(room: Room) -> set[str]:
    return {name for name in locked_files(room) if name[0] == "t"}


class TestFolder:
    def test_the_folder_is_made_when_the_first_seat_is_taken(self, room: Room) -> None:
        (container,) = stocked(room, 1)
        assert container.holders() == ()
        assert container._seating.taken(bytes(16)) == 0
        assert not (room.folder / "seats").exists()
        container.checkout("cad")
        assert (room.folder / "seats").stat().st_mode & 0o777 == 0o700

    def test_removing_it_at_rest_loses_nothing(self, room: Room) -> None:
        one, two = stocked(room, 2, seats=1)
        one.checkout("cad").close()
        shutil.rmtree(room.folder / "seats")
        seat = one.checkout("cad")
        assert seat.check()
        assert code_of(two.checkout, "cad") == "seats_in_use"

    @pytest.mark.parametrize("planted", ["link", "pipe", "folder", "hard link"])
    @pytest.mark.parametrize("name", ["u0", "x0", "t1u"])
    def test_planted_files_are_refused(self, room: Room, planted: str, name: str) -> None:
        one, two = stocked(room, 2, seats=1)
        one.checkout("cad").close()
        license_id = one.licenses()[0].license_id.hex()
        path = room.folder / "seats" / f"{license_id}.{name}"
        path.unlink(missing_ok=True)
        victim = room.folder.with_name("victim")
        victim.write_bytes(b"precious")
        if planted == "link":
            path.symlink_to(victim)
        elif planted == "pipe":
            os.mkfifo(path)
        elif planted == "folder":
            path.mkdir()
        else:
            path.hardlink_to(victim)
        refused = refusal(two.checkout, "cad")
        assert refused.code == "unsafe_path"
        assert "seats" in refused.message
        assert victim.read_bytes() == b"precious"

    @pytest.mark.parametrize("planted", ["link", "pipe", "file"])
    def test_a_planted_folder_is_refused(self, room: Room, planted: str) -> None:
        (container,) = stocked(room, 1)
        path = room.folder / "seats"
        if planted == "link":
            elsewhere = room.folder.with_name("elsewhere")
            elsewhere.mkdir(mode=0o700)
            path.symlink_to(elsewhere)
        elif planted == "pipe":
            os.mkfifo(path)
        else:
            path.write_bytes(b"")
        assert code_of(container.checkout, "cad") == "unsafe_path"

    def test_a_folder_others_may_write_is_refused(self, room: Room) -> None:
        one, two = stocked(room, 2, seats=1)
        one.checkout("cad").close()
        (room.folder / "seats").chmod(0o777)
        refused = refusal(two.checkout, "cad")
        assert refused.code == "unsafe_path"
        assert "seats" in refused.remedy

    @pytest.mark.parametrize("content", [b"", b"\xff" * 600, b"- tallystick seat 1\n" * 20, b"+" * 100])
    def test_what_is_written_there_is_not_believed(self, room: Room, content: bytes) -> None:
        one, two, three = stocked(room, 3, seats=1)
        seat = one.checkout("cad")
        path = room.folder / "seats" / f"{seat.license_.license_id.hex()}.u0"
        path.write_bytes(content)
        (holder,) = two.holders()
        assert isinstance(holder, SeatHolder)
        assert holder.pid == 0
        assert "pid unknown" in refusal(two.checkout, "cad").message
        seat.close()
        assert three.checkout("cad").check()

    def test_an_old_entry_nobody_holds_is_nothing(self, room: Room) -> None:
        one, two = stocked(room, 2, seats=1)
        one.checkout("cad").close()
        assert one.holders() == ()
        assert two.checkout("cad").check()

    def test_names_of_strangers_are_ignored(self, room: Room) -> None:
        one, two = stocked(room, 2, seats=1)
        seat = one.checkout("cad")
        license_id = seat.license_.license_id.hex()
        for name in ("", ".", "u", "ux", "u-1", "t", "tu", "t1", "u١", "z0", "u" + "9" * 40, "t" + "9" * 40 + "u"):
            (room.folder / "seats" / f"{license_id}.{name}").write_bytes(b"")
        assert code_of(two.checkout, "cad") == "seats_in_use"
        seat.close()
        assert two.checkout("cad").check()

    @pytest.mark.parametrize("code", [errno.EACCES, errno.ENOSPC, errno.EROFS])
    def test_where_slots_cannot_be_written_counted_licenses_say_so(self, room: Room, code: int) -> None:
        (container,) = stocked(room, 1, seats=1)
        container.close()
        container = room.open(Meddling(failing_in(room, code)))
        refused = refusal(container.checkout, "cad")
        assert refused.code == ("no_space" if code == errno.ENOSPC else "no_permission")
        assert "seats cannot be counted" in refused.message
        assert refused.remedy

    def test_where_slots_cannot_be_written_uncounted_licenses_run(self, room: Room) -> None:
        (container,) = stocked(room, 1)
        container.close()
        container = room.open(Meddling(failing_in(room, errno.ENOSPC)))
        with container.checkout("cad") as seat:
            assert seat.check()
        assert code_of(container.checkout, "cad", mode=ALONE) == "no_space"

    def test_no_descriptor_is_left_open(self, room: Room) -> None:
        one, two = stocked(room, 2, seats=1, linger=0)
        one.checkout("cad").close()
        two.holders()
        before = open_files()
        for _ in range(10):
            with one.checkout("cad"):
                code_of(two.checkout, "cad")
                code_of(two.checkout, "cad", mode=ALONE)
            two.checkout("cad", mode=STATION).close()
        assert open_files() == before
        one.checkout("cad")
        for handle in (one, two):
            handle.close()
        del handle
        assert open_files() < before


def failing_in(room: Room, code: int) -> Callable[[str, bool], None]:
    """Make opening files fail from the moment on at which there is a folder of seats."""

    def meddle(name: str, over: bool) -> None:
        if not over and name == "open" and (room.folder / "seats").exists():
            raise OSError(code, os.strerror(code))

    return meddle


class TestLending:
    """What lending relies on: seats in use, and checkouts under way while seats are given away."""

    def test_seats_taken_are_counted(self, room: Room) -> None:
        handles = stocked(room, 5, seats=5)
        license_id = handles[0].licenses()[0].license_id
        assert handles[0]._seating.taken(license_id) == 0
        seats = [
            handle.checkout("cad", mode=mode)
            for handle, mode in zip(handles, (USER, USER, STATION, STATION, FREE), strict=True)
        ]
        assert handles[0]._seating.taken(license_id) == 3
        for seat in seats:
            seat.close()
        assert handles[0]._seating.taken(license_id) == 0

    def test_seats_are_counted_inside_a_transaction(self, room: Room) -> None:
        one, two = stocked(room, 2, seats=2)
        license_id = two.checkout("cad").license_.license_id
        with one._session.transaction():
            assert one._seating.taken(license_id) in (0, 1)

    def test_a_checkout_under_way_finds_that_seats_were_given_away(self, room: Room) -> None:
        """The seat is taken between the count and the debit; it is given back, and the refusal is the right one."""
        one, two, three = stocked(room, 3, seats=2)
        seat = one.checkout("cad")
        counter = two._seating._counter
        original = counter._session.current
        calls = []

        def current() -> Any:
            if not calls:
                calls.append(1)
                three.install(room.acme.refresh(seat.license_, seats=1))
            return original()

        object.__setattr__(counter, "_session", Proxy(counter._session, current))
        assert code_of(two.checkout, "cad") == "seats_in_use"
        assert len(one.holders()) == 1


class Proxy:
    """A session with another `current`."""

    def __init__(self, session: Any, current: Callable[[], Any]) -> None:
        self._session = session
        self.current = current

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


class TestByPath:
    """Where files are found by path and there are only exclusive locks, as on Windows."""

    def test_seats_are_counted(self, room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(store_windows, "msvcrt", Locking())
        container = room.create(WindowsVfs())
        room.sell(container, seats=2)
        handles = [container] + [room.open(WindowsVfs()) for _ in range(3)]
        shared = [handle.checkout("cad", mode=STATION) for handle in handles[:2]]
        user = handles[2].checkout("cad")
        assert code_of(handles[3].checkout, "cad") == "seats_in_use"
        assert code_of(handles[3].checkout, "cad", mode=ALONE) == "seats_in_use"
        assert len(handles[3].holders()) == 3
        for seat in (*shared, user):
            seat.close()
        with handles[3].checkout("cad", mode=ALONE) as alone:
            assert alone.check()
        assert handles[0].holders() == ()

    def test_everybody_runs_without_a_number(self, room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(store_windows, "msvcrt", Locking())
        container = room.create(WindowsVfs())
        room.sell(container)
        seats = [handle.checkout("cad") for handle in [container] + [room.open(WindowsVfs()) for _ in range(3)]]
        assert all(seat.check() for seat in seats)
        for seat in seats:
            seat.close()
