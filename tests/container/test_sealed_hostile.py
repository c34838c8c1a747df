# SPDX-License-Identifier: Apache-2.0
"""Somebody else's hands in the folder: planted links and pipes at every path, and a flipped bit in every byte.

``TALLYSTICK_EVERY_BIT=1`` flips every bit instead of one in each third byte.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rooms import Room

from tallystick.container.sealed import SealedContainer
from tallystick.errors import LockedError, StorageError, TallystickError

PATHS = ("lock", "anchor", "key", "state.A", "state.B", "journal")
EVERY_BIT = os.environ.get("TALLYSTICK_EVERY_BIT") == "1"


def plant_link(path: Path, target: Path) -> None:
    path.symlink_to(target)


def plant_dangling_link(path: Path, target: Path) -> None:
    path.symlink_to(target.with_name("missing"))


def plant_hard_link(path: Path, target: Path) -> None:
    path.hardlink_to(target)


def plant_pipe(path: Path, target: Path) -> None:
    os.mkfifo(path)


def plant_folder(path: Path, target: Path) -> None:
    path.mkdir()


def plant_loop(path: Path, target: Path) -> None:
    path.symlink_to(path.name)


PLANTS: tuple[Callable[[Path, Path], None], ...] = (
    plant_link, plant_dangling_link, plant_hard_link, plant_pipe, plant_folder, plant_loop,
)  # fmt: skip


@pytest.fixture
def target(quick_path: Path) -> Path:
    """A file that must not be touched."""
    path = quick_path / "precious"
    path.write_bytes(b"precious " * 100)
    return path


def stocked(room: Room) -> SealedContainer:
    """A container with something in every kind of file."""
    container = room.create()
    room.sell(container, units=100)
    container.checkout("cad").consume(3)
    return container


def where(room: Room, name: str) -> Path:
    """The path of a file, the journal's whatever its generation."""
    if name != "journal":
        return room.folder / name
    return next(path for path in room.folder.iterdir() if path.name.startswith("journal."))


def locked(call: Callable[[], Any]) -> TallystickError:
    """A refusal that is typed, names the condition, and is none of ours to be ashamed of."""
    with pytest.raises(TallystickError) as caught:
        call()
    assert caught.value.remedy
    return caught.value


class TestPlanted:
    @pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
    @pytest.mark.parametrize("name", PATHS)
    def test_before_opening(self, room: Room, target: Path, name: str, plant: Callable[[Path, Path], None]) -> None:
        stocked(room).close()
        path = where(room, name)
        path.unlink()
        plant(path, target)
        refusal = locked(room.open)
        assert isinstance(refusal, StorageError | LockedError), refusal
        assert refusal.code == "unsafe_path", refusal
        assert target.read_bytes() == b"precious " * 100
        assert not target.with_name("missing").exists()

    @pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
    @pytest.mark.parametrize("name", ["lock", "anchor", "key", "state.A", "state.B", "journal.0"])
    def test_before_creating(self, room: Room, target: Path, name: str, plant: Callable[[Path, Path], None]) -> None:
        room.folder.mkdir(mode=0o700)
        plant(room.folder / name, target)
        refusal = locked(room.create)
        assert refusal.code in ("unsafe_path", "already_exists"), refusal
        assert target.read_bytes() == b"precious " * 100
        assert not target.with_name("missing").exists()

    @pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
    def test_while_it_is_open(self, room: Room, target: Path, plant: Callable[[Path, Path], None]) -> None:
        """The slot that comes next, and the journal that comes next."""
        container = stocked(room)
        slots = {path.name for path in room.folder.iterdir() if path.name.startswith("state.")}
        following = int(where(room, "journal").suffix[1:]) + 1
        for path in (room.folder / f"journal.{following}", *(room.folder / name for name in slots)):
            saved = path.read_bytes() if path.is_file() else None
            path.unlink(missing_ok=True)
            plant(path, target)
            try:
                container.request()
                room.sell(container, "more")
            except TallystickError as refusal:
                assert isinstance(refusal, StorageError | LockedError), refusal
            assert target.read_bytes() == b"precious " * 100
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            else:
                path.unlink(missing_ok=True)
            if saved is not None:
                path.write_bytes(saved)

    def test_a_folder_that_is_a_link_or_somebody_elses(self, room: Room, quick_path: Path) -> None:
        stocked(room).close()
        real = room.folder.rename(quick_path / "real")
        room.folder.symlink_to(real)
        assert locked(room.open).code == "unsafe_path"
        room.folder.unlink()
        real.rename(room.folder)
        room.folder.chmod(0o770)
        assert locked(room.open).code == "unsafe_path"
        room.folder.chmod(0o700)
        assert room.open().info().licenses == 1

    def test_leftovers_that_are_links_stay_and_harm_nothing(self, room: Room, target: Path) -> None:
        stocked(room).close()
        (room.folder / ".state.A.tmp-00").symlink_to(target)
        os.mkfifo(room.folder / ".key.tmp-01")
        (room.folder / ".key.tmp-02").write_bytes(b"left by a writer that was killed")
        assert room.open().info().licenses == 1
        assert target.read_bytes() == b"precious " * 100
        assert not (room.folder / ".key.tmp-02").exists()


def facts(container: SealedContainer) -> Any:
    return [(view.license_id, view.usage.used) for view in container.licenses()], [e.kind for e in container.history()]


class TestFlippedBits:
    @pytest.mark.parametrize("name", PATHS)
    def test_a_flipped_bit_locks_or_changes_nothing(self, room: Room, name: str) -> None:
        """The last journal record may pass for a torn write: then the state before it stands, as after a power cut."""
        container = stocked(room)
        before = facts(container)
        container.checkout("cad").consume(1)
        allowed = [before, facts(container)]
        container.close()
        saved = room.folder.with_name("saved")
        shutil.copytree(room.folder, saved)
        path = where(room, name)
        data = path.read_bytes()
        used = len(data.rstrip(b"\0")) + 40 if name == "journal" else len(data)
        seen = set()
        for at in range(0, used, 1 if EVERY_BIT else 3):
            for bit in range(8) if EVERY_BIT else [at // 3 % 8]:
                flipped = bytearray(data)
                flipped[at] ^= 1 << bit
                path.write_bytes(flipped)
                seen.add(self._judge(room, allowed))
                if seen & {"identical", "before"}:
                    shutil.copytree(saved, room.folder, dirs_exist_ok=True)
        assert seen <= {"tampered", "identical", "before"}, seen
        assert "before" not in seen or name == "journal"
        assert "tampered" in seen or name == "lock"

    @staticmethod
    def _judge(room: Room, allowed: list[Any]) -> str:
        try:
            container = room.open()
        except LockedError as refusal:
            view = room.backend().view(room.uri)
            assert view.info().locked is not None
            view.repair_request()
            return refusal.code
        found = facts(container)
        room.close()
        room.opened.clear()
        assert found in allowed
        return "identical" if found == allowed[1] else "before"

    @pytest.mark.parametrize("name", PATHS)
    def test_a_file_cut_short_or_grown_locks_or_changes_nothing(self, room: Room, name: str) -> None:
        stocked(room).close()
        path = where(room, name)
        data = path.read_bytes()
        for changed in (b"", data[:1], data[: len(data) // 2], data[:-1], data + b"\0", data * 2):
            path.write_bytes(changed)
            try:
                found = facts(room.open())
            except LockedError as refusal:
                assert refusal.code in ("tampered", "rolled_back"), refusal
            else:
                assert name == "lock" or changed == data, f"{name} of {len(changed)} bytes: {found}"
            room.close()
            room.opened.clear()

    @pytest.mark.parametrize("name", PATHS)
    def test_a_missing_file_is_missed(self, room: Room, name: str) -> None:
        stocked(room).close()
        where(room, name).unlink()
        try:
            container = room.open()
        except TallystickError as refusal:
            assert refusal.code in ("tampered", "rolled_back", "container_not_found"), refusal
            assert name != "lock"
        else:
            assert name == "lock" or len(container.licenses()) == 1
