# SPDX-License-Identifier: Apache-2.0
"""Which state on disk is the committed one, where an anchor remembers: P4's recovery table (`docs/format.md`).

A snapshot is written durably before the anchor moves. So the anchor's position names a state that is on disk, or one
behind the newest, whose writer was interrupted before it was released.
"""

from __future__ import annotations

from tallystick.codec.digest import sha256
from tallystick.container.anchor import Anchor, Position
from tallystick.container.clear_header import read_mark
from tallystick.container.store import Slot
from tallystick.errors import TallystickError, error


def link(slot: Slot) -> bytes:
    """Return the chain's value after a state."""
    return sha256(slot.prev + slot.digest)


def committed(anchor: Anchor, slots: tuple[Slot, ...], damage: TallystickError | None = None) -> Slot:
    """Find the committed snapshot, and finish a move of the anchor that was interrupted.

    Args:
        anchor: of the container.
        slots: what is on disk, newest first; one at least.
        damage: of a slot that was left out; told where it was the one that is needed.

    Returns:
        The snapshot.

    Raises:
        LockedError: ``rolled_back``, ``foreign_increment`` or ``tampered``.
        BackendError: the anchor cannot tell, or cannot move.
    """
    position = anchor.position()
    if position is None:
        return slots[0]
    if position.chain is not None and not _is_at(slots[0], position):  # what it saw last, and another process moved it?
        position = anchor.position(afresh=True) or position
    if slots[0].generation > position.counter + 1:  # no state is written before the anchor moved to the one before
        message = f"the anchor was set back: it stands at {position.counter}, the files at {slots[0].generation}"
        raise error("tampered", message, "Ask the vendor for a repair (`tally request --repair`).")
    for slot in slots:
        if _is_at(slot, position):
            return slot
    # Written, and the anchor was on its way: counter moved but not the chain, or neither. With a counter only, the
    # newer one goes first, as it does in the model that proves it.
    for ahead in (0, 1) if position.chain is not None else (1, 0):
        for slot in slots:
            follows = position.chain in (None, slot.prev)
            if follows and slot.generation - position.counter == ahead:
                if ahead or position.chain is not None:
                    anchor.advance(Position(slot.generation, position.chain, read_mark(slot.header)), slot.digest)
                return slot
    raise damage or _not_there(slots, position)


def _is_at(slot: Slot, position: Position) -> bool:
    if (slot.generation, link(slot)) != (position.counter, position.chain):
        return False
    return not position.mark or read_mark(slot.header) == position.mark


def _not_there(slots: tuple[Slot, ...], position: Position) -> TallystickError:
    """Tell why no state on disk is the anchor's: it is older, or somebody used the anchor without the files."""
    if any(link(slot) == position.chain and slot.generation < position.counter for slot in slots):
        return error("foreign_increment", f"the anchor was moved to {position.counter} without a new state")
    if all(slot.generation < position.counter for slot in slots):
        return error(
            "rolled_back",
            f"older files were put back: they stand at {slots[0].generation}, the anchor at {position.counter}",
        )
    return error("tampered", "no state on disk belongs to the anchor's position")
