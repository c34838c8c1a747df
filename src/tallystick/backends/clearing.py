# SPDX-License-Identifier: Apache-2.0
"""Destroying a container that is kept in a folder: what goes, in which order, and how it is gone on with.

The first thing is a mark, the file ``destroyed``. From then on the container does not open and none is made in its
place, so that whatever interrupts the rest, destroying it again finishes it without asking for its licenses once more.
What is in a device goes next, then the files: ``anchor``, which knows what is in the device, behind all others, and at
last ``lock``, the mark and the folder. What is not Tallystick's stays, and so does the folder then.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from tallystick.backends.folder import ANCHOR_FILE, DESTROYED, KEY_FILE, STATES
from tallystick.container.base import Container
from tallystick.container.slots_folder import FOLDER as SEATS
from tallystick.container.store_folder import remove_folder
from tallystick.container.store_lock import LOCK, StoreLock
from tallystick.container.vfs import Directory
from tallystick.errors import error
from tallystick.license.dates import number_of

Step: TypeAlias = tuple[str, Callable[[], object]]
"""What is removed, for people, and what removes it."""

LEFT: Final = "not removed: "
"""How a line begins that names what stays."""

_FILE: Final = re.compile(r"journal\.[0-9]+|meters|repair|alone")
_SEAT: Final = re.compile(r"lock|[0-9a-f]+\.[0-9a-z.]+")
_TIMEOUT_S: Final = 10.0
_ROUNDS: Final = 3


def require_empty(container: Container) -> None:
    """Refuse to destroy a container that holds licenses or is locked, and close it.

    Args:
        container: open, or the view of a locked one.

    Raises:
        ContainerError: ``held``.
    """
    with container:
        count = len(container.licenses())
        locked = container.info().locked
    held = number_of(count, "license")
    if locked is not None:
        message = f"the container is locked ({locked[0]}), and holds {held} as far as can be read"
        remedy = "Have it repaired first (`tally request --repair`), or pass `--force`: what it holds is lost then."
        raise error("held", message, remedy, locked=locked[0])
    if count:
        remedy = "Deactivate or transfer first (`tally deactivate`, `tally rehost`), or pass `--force`."
        raise error("held", f"the container holds {held}", remedy, licenses=count)


def is_begun(directory: Directory) -> bool:
    """Tell whether the container was being destroyed before."""
    return DESTROYED in directory.names()


def require_something(directory: Directory) -> None:
    """Refuse a folder in which nothing of a container is.

    Args:
        directory: the folder.

    Raises:
        NotFoundError: ``container_not_found``.
    """
    if not {ANCHOR_FILE, DESTROYED, *STATES} & set(directory.names()):
        raise error("container_not_found", f"no container in {directory.path}", path=directory.path)


def clear(directory: Directory, device: Sequence[Step] = (), *, dry_run: bool = False) -> tuple[str, ...]:
    """Remove a container, or say what would be removed.

    Args:
        directory: its folder; may be opened to be read only for a dry run.
        device: what is in a device, in the order in which it is removed.
        dry_run: remove nothing.

    Returns:
        What was, or would be, removed, for people; what stays begins with `LEFT`.

    Raises:
        ContainerError: ``busy``.
        TallystickError: of a step, or of the files; removing it again goes on.
    """
    lines = [line for line, _ in device]
    strange = sorted({*directory.names()} - {*_own(directory), DESTROYED, LOCK})
    if dry_run:
        lines += [_shown(directory, name) for name in _own(directory)]
        gone = not strange
    else:
        lock = StoreLock(directory)
        lock.acquire(_TIMEOUT_S)
        try:
            if not is_begun(directory):
                directory.replace(DESTROYED, b"")
            for _, act in device:
                act()
            for name in _own(directory):
                lines.append(_shown(directory, name) if _remove(directory, name) else LEFT + _shown(directory, name))
        finally:
            lock.close()
        gone = _folder_gone(directory)
    lines += [f"{LEFT}{directory.where(name)}: it is not of the container" for name in strange]
    return (*lines, f"{'' if gone else LEFT}folder {directory.path}")


def _own(directory: Directory) -> list[str]:
    """Name what is the container's, in the order in which it is removed; not the lock and the mark."""
    there = directory.names()
    others = [name for name in there if _FILE.fullmatch(name)]
    return [name for name in (*STATES, *others, KEY_FILE, SEATS, ANCHOR_FILE) if name in there]


def _shown(directory: Directory, name: str) -> str:
    return f"{'folder' if name == SEATS else 'file'} {directory.where(name)}"


def _remove(directory: Directory, name: str) -> bool:
    if name != SEATS:
        directory.remove(name)
        return True
    with Directory.open(directory.where(name), directory.vfs) as seats:
        for one in seats.names():
            if _SEAT.fullmatch(one):
                seats.remove(one)
        return remove_folder(directory.vfs, seats.path)


def _folder_gone(directory: Directory) -> bool:
    """Remove the lock, the mark and the folder; another process that waited for the lock may have made it anew."""
    for _ in range(_ROUNDS):
        directory.remove(LOCK)
        directory.remove(DESTROYED)
        if remove_folder(directory.vfs, directory.path):
            return True
        if {*directory.names()} - {LOCK}:
            return False
    return False
