# SPDX-License-Identifier: Apache-2.0
"""`Session`: the recovery table of anchored containers, interruptions at any moment, what is known while disks fail."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from rooms import CALLS, Meddling, Room

from anchored import DeviceAnchor
from tallystick.codec import cbor
from tallystick.container import commands as c
from tallystick.container.anchor import Position
from tallystick.container.clear_header import MAX_NAMED, clear_header, read_clear_header
from tallystick.container.sealed import SealedContainer
from tallystick.container.session import GENESIS, MAX_REPLAYED
from tallystick.container.state import Holding, State
from tallystick.container.store import Store
from tallystick.container.vfs import Directory
from tallystick.errors import TallystickError, error


def code_of(call: Callable[..., object], *args: Any, **values: Any) -> str:
    """The code of the refusal."""
    with pytest.raises(TallystickError) as caught:
        call(*args, **values)
    return caught.value.code


def used(container: SealedContainer) -> int:
    return container.licenses()[0].usage.used.get("", 0)


class HaltingAnchor(DeviceAnchor):
    """An anchor whose device stops between moves: before the increment, before the extension, or after it."""

    def __init__(self, device: Any, halt: str) -> None:
        super().__init__(device)
        self.halt = halt

    def _advance(self, expected: Position, state_digest: bytes) -> None:
        if self.halt in ("extend", "after"):
            self.device.increment()
        if self.halt == "after":
            self.device.extend(state_digest)
        raise error("backend_failed", "the device stopped")


def halted(room: Room, halt: str) -> SealedContainer:
    """A container with one unit consumed, and a second one interrupted at a move of the device."""
    container = room.create()
    room.sell(container, units=10)
    container.checkout("cad").consume(1)
    container._session.anchor = HaltingAnchor(room.device, halt)
    assert code_of(container.checkout("cad").consume, 1) == "backend_failed"
    return container


class TestRecoveryTable:
    """Each row of docs/format.md, section 10: "commit and recovery, with a position"."""

    def test_a_committed_slot_is_the_state(self, anchored_room: Room) -> None:
        container = anchored_room.create()
        anchored_room.sell(container, units=10)
        before = anchored_room.device.position()
        container = anchored_room.open()
        assert used(container) == 0
        assert anchored_room.device.position() == before

    def test_cut_before_the_increment_the_old_state_stands(self, anchored_room: Room) -> None:
        halted(anchored_room, "increment")
        before = anchored_room.device.position()
        container = anchored_room.open()
        assert used(container) == 1
        assert anchored_room.device.position() == before
        assert container.checkout("cad").consume(5) == 4

    def test_cut_before_the_increment_with_the_old_slot_gone_the_new_one_is_finished(self, anchored_room: Room) -> None:
        container = halted(anchored_room, "increment")
        (current,) = [name for name in ("state.A", "state.B") if name != _newest(anchored_room)]
        (anchored_room.folder / current).unlink()
        container.close()
        container = anchored_room.open()
        assert used(container) == 2
        assert _slot(anchored_room).generation == anchored_room.device.position().counter

    def test_cut_before_the_extension_the_new_state_is_finished(self, anchored_room: Room) -> None:
        halted(anchored_room, "extend")
        container = anchored_room.open()
        assert used(container) == 2
        position, slot = anchored_room.device.position(), _slot(anchored_room)
        assert position == Position(slot.generation, sha256(slot.prev + slot.digest).digest())
        assert container.checkout("cad").consume(5) == 3

    def test_cut_after_the_extension_the_new_state_stands(self, anchored_room: Room) -> None:
        halted(anchored_room, "after")
        assert used(anchored_room.open()) == 2

    def test_the_interrupted_handle_itself_goes_on_with_what_is_on_disk(self, anchored_room: Room) -> None:
        container = halted(anchored_room, "extend")
        container._session.anchor = DeviceAnchor(anchored_room.device)
        assert container.checkout("cad").consume(1) == 7

    def test_a_counter_that_moved_alone_is_told_from_a_roll_back(self, anchored_room: Room) -> None:
        """It may be the work of somebody who made the chain anew, so it does not open either."""
        container = anchored_room.create()
        container.close()
        anchored_room.device.increment()
        assert code_of(anchored_room.open) == "foreign_increment"

    def test_a_chain_that_moved_alone_is_tampering(self, anchored_room: Room) -> None:
        anchored_room.create().close()
        anchored_room.device.extend(bytes(32))
        assert code_of(anchored_room.open) == "tampered"

    def test_a_state_ahead_of_the_device_is_tampering(self, anchored_room: Room, quick_path: Path) -> None:
        container = anchored_room.create()
        container.request()
        container.close()
        device = quick_path / "device"
        for name in ("increment.1", next(path.name for path in device.iterdir() if path.name.startswith("extend.1"))):
            (device / name).unlink()
        first = next(path for path in device.iterdir() if path.name.startswith("extend.0"))
        first.rename(device / f"extend.0.{'11' * 32}")  # as a device that was replaced by one that knows another story
        assert code_of(anchored_room.open) == "tampered"

    def test_a_swapped_pending_state_is_never_taken_for_the_committed_one(self, anchored_room: Room) -> None:
        """Two states follow the same one; committing the second, the first must not open."""
        container = halted(anchored_room, "increment")
        pending = _newest(anchored_room)
        kept = (anchored_room.folder / pending).read_bytes()
        container._session.anchor = DeviceAnchor(anchored_room.device)
        container.checkout("cad").consume(5)
        container.close()
        for name in ("state.A", "state.B"):
            (anchored_room.folder / name).write_bytes(kept) if name == pending else (
                anchored_room.folder / name
            ).unlink()
        assert code_of(anchored_room.open) in ("rolled_back", "tampered")

    def test_a_container_made_on_a_used_device_begins_there(self, anchored_room: Room) -> None:
        for number in range(5):
            anchored_room.device.increment()
            anchored_room.device.extend(bytes([number] * 32))
        anchored_room.create().close()
        assert _slot(anchored_room).generation == 6
        assert anchored_room.open().info().licenses == 0


def _slots(room: Room) -> Any:
    with Directory.open(str(room.folder), read_only=True) as directory:
        return Store(directory, None, journal=False).slots()


def _slot(room: Room) -> Any:
    return _slots(room)[0]


def _newest(room: Room) -> str:
    name: str = _slot(room).name
    return name


class TestCopies:
    def test_a_copy_cannot_be_worked_with_beside_the_original(self, anchored_room: Room) -> None:
        """The original's handle holds the newest state in memory; the device must refuse it all the same."""
        original = anchored_room.create()
        anchored_room.sell(original, units=10)
        seat = original.checkout("cad")
        shutil.copytree(anchored_room.folder, anchored_room.folder.with_name("d"))
        anchored_room.folder = anchored_room.folder.with_name("d")
        copy = anchored_room.open()
        assert copy.checkout("cad").consume(4) == 6
        before = anchored_room.device.position()
        assert code_of(seat.consume, 1) in ("rolled_back", "tampered")
        assert anchored_room.device.position() == before
        assert copy.checkout("cad").consume(1) == 5

    def test_another_containers_state_is_tampering(self, room: Room, quick_path: Path) -> None:
        container = room.create()
        other = Room(quick_path / "other")
        (quick_path / "other").mkdir(mode=0o700)
        stranger = other.create()
        key = stranger._session.store._key
        assert key is not None
        sealed = container._session.anchor.seal(key)
        container.close()
        stranger.close()
        for path in other.folder.iterdir():
            if path.name.startswith(("state", "journal")):
                shutil.copy(path, room.folder / path.name)
        (room.folder / "key").write_bytes(sealed)
        assert code_of(room.open) == "tampered"


class TestInterruptions:
    """Ctrl-C between any two steps: nothing is minted, nothing is forgotten, the container still opens."""

    @pytest.mark.parametrize("anchored", [False, True], ids=["file", "anchored"])
    @pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
    def test_an_interrupted_use_counts_as_before_or_after(self, quick_path: Path, anchored: bool, after: bool) -> None:
        room = Room(quick_path, anchored=anchored)
        container = room.create()
        room.sell(container, units=1)
        container.close()
        saved = quick_path / "saved"
        shutil.copytree(room.folder, saved)
        if anchored:
            shutil.copytree(quick_path / "device", quick_path / "device.saved")
        at, ended = 0, False
        while not ended:
            at += 1
            ended = self._interrupt(room, at, after)
            room.close()
            room.opened.clear()
            shutil.rmtree(room.folder)
            shutil.copytree(saved, room.folder)
            room.folder.chmod(0o700)
            if anchored:
                shutil.rmtree(quick_path / "device")
                shutil.copytree(quick_path / "device.saved", quick_path / "device")
        assert at > 5

    def _interrupt(self, room: Room, at: int, after: bool) -> bool:
        """Interrupt the at-th call of a use; True if there were not that many."""
        count = armed = 0

        def meddle(name: str, over: bool) -> None:
            nonlocal count
            if armed and over is after:
                count += 1
                if count == at:
                    raise KeyboardInterrupt

        container = room.open(Meddling(meddle))
        seat = container.checkout("cad")
        seat.check()
        armed = 1
        served = 0
        try:
            seat.consume(1)
            served += 1
        except KeyboardInterrupt:
            pass
        armed = 0
        ended = count < at
        try:
            seat.consume(1)
            served += 1
        except TallystickError as refusal:
            assert refusal.code in ("units_exhausted", "io_error", "usage"), refusal
        assert served <= 1, "one unit was served twice"
        container.close()
        reopened = room.open()
        assert served <= used(reopened) <= 1
        return ended

    def test_an_interrupted_look_misses_nothing_another_process_did(
        self, room: Room, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        container = room.create()
        room.sell(container, units=2)
        room.open().checkout("cad").consume(2)

        def interrupted(*_: object) -> State:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr("tallystick.container.session.replay", interrupted)
            with pytest.raises(KeyboardInterrupt):
                container.licenses()
        assert used(container) == 2
        assert code_of(container.checkout("cad").consume) == "units_exhausted"


class TestTrouble:
    def test_unreachable_is_not_invalid(self, room: Room) -> None:
        """A disk that fails takes no right away; only what must be durable is refused."""
        broken = False

        def meddle(name: str, over: bool) -> None:
            if broken and not over and name in ("pread", "pwrite", "stat", "open", "flock"):
                raise OSError(errno.EIO, "broken")

        container = room.create()
        room.sell(container, units=5)
        container.close()
        container = room.open(Meddling(meddle), reproof_s=10)
        seat = container.checkout("cad")
        broken = True
        for _ in range(3):
            room.clock.advance(3600)
            assert seat.check()
        assert code_of(seat.consume) == "io_error"
        assert seat.check()
        broken = False
        room.clock.advance(60)
        assert seat.check()
        assert room.open().checkout("cad").consume(1) == 4

    def test_a_full_disk_refuses_and_recovers(self, room: Room) -> None:
        full = False

        def meddle(name: str, over: bool) -> None:
            if full and not over and name == "pwrite":
                raise OSError(errno.ENOSPC, "full")

        container = room.create(Meddling(meddle))
        license_ = room.sell(container, units=5)
        seat = container.checkout("cad")
        full = True
        assert code_of(seat.consume) == "no_space"
        assert code_of(container.install, room.acme.refresh(license_)) == "no_space"
        assert seat.check()
        full = False
        assert seat.consume() == 4

    def test_a_busy_container_is_waited_for_and_then_refused(self, room: Room) -> None:
        container = room.create()
        room.sell(container, units=5)
        seat = container.checkout("cad")
        other = room.open()
        other._session.lock_timeout_s = 0.0
        waiting = other.checkout("cad")
        with container._session.store.lock(1):
            assert code_of(waiting.consume) == "busy"
            assert code_of(other.licenses) == "busy"
            room.clock.advance(61)
            assert waiting.check()
        assert seat.consume() == 4
        assert waiting.consume() == 3

    def test_a_block_that_raises_changes_nothing(self, room: Room) -> None:
        container = room.create()
        generation = container.info().generation
        with pytest.raises(ZeroDivisionError), container._session.transaction() as tx:
            raise ZeroDivisionError(tx.apply(c.Note("note", "never seen")))
        assert container.info().generation == generation
        assert room.open().info().generation == generation

    def test_files_that_vanish_are_missed(self, room: Room) -> None:
        container = room.create()
        for path in room.folder.iterdir():
            path.unlink()
        container._session._follows = False  # as after an interruption: everything is read anew
        assert code_of(container.info) == "container_not_found"
        assert code_of(room.open) == "container_not_found"

    def test_states_that_vanish_beside_a_used_journal_were_rolled_back(self, room: Room) -> None:
        container = room.create()
        container.note("note", "in the journal")
        container.close()
        for name in ("state.A", "state.B"):
            (room.folder / name).unlink(missing_ok=True)
        assert code_of(room.open) == "container_not_found"
        assert code_of(room.create) == "rolled_back"
        assert (room.folder / "anchor").exists()

    def test_a_long_journal_becomes_a_snapshot(self, room: Room) -> None:
        """Whoever opens the container applies the journal again: it must not take a second."""
        container = room.create()
        room.sell(container, units=5_000)
        seat, other = container.checkout("cad"), room.open().checkout("cad")
        before = _slot(room).generation
        for _ in range(MAX_REPLAYED // 2 + 10):
            seat.consume(1)
            other.consume(1)
        assert _slot(room).generation == before + 1
        reopened = room.open()
        assert used(reopened) == MAX_REPLAYED + 20
        assert reopened._session._replayed <= 22

    def test_a_container_is_begun_once(self, room: Room) -> None:
        session = room.create()._session
        with session.store.lock(1):
            assert code_of(session.begin) == "already_exists"

    def test_nothing_is_known_before_the_first_load_and_after_close(self, room: Room) -> None:
        session = room.create()._session
        assert session.peek().generation == 0
        session.close()
        assert code_of(session.peek) == "closed"


class TestClearHeader:
    def test_it_names_what_is_held(self) -> None:
        held = {bytes([n]) * 16: Holding(bytes([n]) * 16, "acme", f"p{n}", 0, b"", 0, 0) for n in range(3)}
        header = clear_header(State(bytes(32), 7, holdings=held))
        assert read_clear_header(header) == (bytes(32), 7, [(key, "acme", h.product) for key, h in held.items()], ())

    def test_it_stays_small(self) -> None:
        held = {n.to_bytes(16): Holding(n.to_bytes(16), "v" * 64, "p" * 64, 0, b"", 0, 0) for n in range(1000)}
        vendors = {f"{n:064}": None for n in range(64)}
        header = clear_header(State(bytes(32), 7, holdings=held, vendors=vendors))  # type: ignore[arg-type] # names only
        assert len(header) < 65536
        assert len(read_clear_header(header)[2]) == MAX_NAMED

    @pytest.mark.parametrize(
        "value",
        [
            None, [], [1], [2, bytes(32), 0, [], []], [1, bytes(31), 0, [], []], [1, "x" * 32, 0, [], []],
            [1, bytes(32), True, [], []], [1, bytes(32), "0", [], []], [1, bytes(32), 0, {}, []],
            [1, bytes(32), 0, [[b"", "a"]], []], [1, bytes(32), 0, [[b"", "a", 3]], []], [1, bytes(32), 0, [7], []],
            [1, bytes(32), 0, [], [7]], [1, bytes(32), 0, [], [], []],
        ],
    )  # fmt: skip
    def test_a_forged_one_is_malformed(self, value: object) -> None:
        assert code_of(read_clear_header, cbor.encode(value)) == "malformed"

    def test_hostile_bytes_are_refused(self) -> None:
        assert code_of(read_clear_header, b"\xff") == "malformed"
        assert code_of(read_clear_header, bytes(70_000)) == "too_large"
        assert len(GENESIS) == 32
        assert set(CALLS) >= {"pwrite", "rename"}
