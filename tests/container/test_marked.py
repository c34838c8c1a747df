# SPDX-License-Identifier: Apache-2.0
"""Anchors that mark states, and anchors that go by what they saw last: what a session makes of their word."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest
from rooms import Room

from anchored import DeviceAnchor
from tallystick.container.anchor import Position
from tallystick.container.clear_header import read_mark
from tallystick.container.committed import link
from tallystick.container.session import Session
from tallystick.container.store import Store
from tallystick.errors import LockedError, TallystickError


class MarkingAnchor(DeviceAnchor):
    """A device that names a new mark whenever it is asked for a fresh one, and knows the last it advanced with."""

    def __init__(self, device: Any) -> None:
        super().__init__(device)
        self.asked: list[bool] = []
        self.current = b""
        self.stale: Position | None = None
        self.looked: list[bool] = []

    def _mark(self, *, fresh: bool) -> bytes:
        self.asked.append(fresh)
        return bytes([len(self.asked)]) * 32 if fresh or not self.current else self.current

    def _forget(self) -> None:
        self.looked.append(True)
        self.stale = None

    def _position(self) -> Position:
        return self.stale or super()._position().replace(mark=self.current)

    def _advance(self, expected: Position, state_digest: bytes) -> None:
        super()._advance(expected.replace(mark=b""), state_digest)
        self.current = expected.mark


@pytest.fixture
def marked(anchored_room: Room) -> tuple[Room, MarkingAnchor, Any]:
    """A container with ten units, its session's anchor a marking one."""
    container = anchored_room.create()
    anchored_room.sell(container, units=10)
    anchor = MarkingAnchor(anchored_room.device)
    container._session.anchor = anchor
    container.checkout("cad").consume(1)
    return anchored_room, anchor, container


def newest(room: Room) -> Any:
    """The newest snapshot on disk."""
    from tallystick.container.vfs import Directory

    with Directory.open(str(room.folder), read_only=True) as directory:
        return Store(directory, None, journal=False).slots()[0]


def test_a_state_carries_the_mark_it_was_given(marked: tuple[Room, MarkingAnchor, Any]) -> None:
    room, anchor, _ = marked
    assert anchor.asked == [False]
    assert read_mark(newest(room).header) == anchor.current == b"\x01" * 32


def test_imports_and_transfers_ask_for_a_fresh_mark_and_uses_do_not(marked: tuple[Room, MarkingAnchor, Any]) -> None:
    room, anchor, container = marked
    container.checkout("cad").consume(1)
    assert anchor.asked == [False, False]
    room.sell(container, product="more")
    assert anchor.asked[-1] is True
    (license_id,) = [view.license_id for view in container.licenses() if view.product == "more"]
    asked = len(anchor.asked)
    container.deactivate(license_id)
    assert anchor.asked[asked:].count(True) == 1
    assert read_mark(newest(room).header) == anchor.current


def test_a_state_of_another_mark_is_not_the_committed_one(marked: tuple[Room, MarkingAnchor, Any]) -> None:
    """Whoever brings back files and position together still lacks what vouched for them."""
    room, anchor, container = marked
    session: Session = container._session
    session.current()
    assert session._slot.generation == newest(room).generation
    session._follows = False
    anchor.current = b"\x77" * 32
    with pytest.raises(LockedError) as caught:
        session.current()
    assert caught.value.code in ("tampered", "rolled_back", "foreign_increment")


def test_an_anchor_that_may_be_behind_is_asked_afresh_before_it_is_believed(
    marked: tuple[Room, MarkingAnchor, Any],
) -> None:
    """What it saw last names the state before: believed, its units would be used twice."""
    room, anchor, container = marked
    session: Session = container._session
    before = anchor.position()
    container.checkout("cad").consume(1)
    session._follows = False
    anchor.stale = before
    assert container.licenses()[0].usage.used == {"": 2}
    assert anchor.looked
    slot = newest(room)
    assert (slot.generation, link(slot)) == (anchor.position().counter, anchor.position().chain)  # type: ignore[union-attr]


def test_an_anchor_that_agrees_with_the_disk_is_not_asked_twice(marked: tuple[Room, MarkingAnchor, Any]) -> None:
    _, anchor, container = marked
    container._session._follows = False
    container._session.current()
    assert not anchor.looked


def test_an_interrupted_move_is_finished_with_the_mark_of_the_state(marked: tuple[Room, MarkingAnchor, Any]) -> None:
    room, anchor, container = marked
    session: Session = container._session
    advance: Callable[..., None] = DeviceAnchor._advance

    def stop(*_: object) -> None:
        raise LockedError("tampered", "the device stopped")

    DeviceAnchor._advance = stop  # type: ignore[method-assign]
    try:
        with pytest.raises(TallystickError):
            room.sell(container, product="more")
    finally:
        DeviceAnchor._advance = advance  # type: ignore[method-assign]
    written = newest(room)
    (old,) = [name for name in ("state.A", "state.B") if name not in _names_of(room, written)]
    (room.folder / old).unlink()
    session._follows = False
    session.current()
    assert anchor.current == read_mark(written.header) != b""
    shutil.rmtree(room.folder)


def _names_of(room: Room, slot: Any) -> list[str]:
    """The file that holds a snapshot."""
    from tallystick.container.store_slot import read_slots
    from tallystick.container.vfs import Directory

    with Directory.open(str(room.folder), read_only=True) as directory:
        return [image.slot.name for image in read_slots(directory)[0] if image.slot.generation == slot.generation]
