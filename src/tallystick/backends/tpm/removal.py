# SPDX-License-Identifier: Apache-2.0
"""Taking out of a TPM what a container put there, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

from tallystick.backends.tpm import record
from tallystick.backends.tpm.chip import Chip
from tallystick.backends.tpm.nv import CHAIN, COUNTER, Index, belongs
from tallystick.backends.tpm.record import ChipRecord
from tallystick.backends.tpm.storage import StorageKey
from tallystick.backends.tpm.templates import key_of
from tallystick.container.base import Container
from tallystick.container.vfs import Directory
from tallystick.errors import TallystickError, error

_FILES = ("state.A", "state.B", "key", "meters", "repair", "anchor")  # the record goes last: what is left can be found


def require_empty(container: Container) -> None:
    """Refuse to destroy a container that holds licenses, and close it.

    Args:
        container: open, or the view of a locked one.

    Raises:
        ContainerError: ``held``.
    """
    with container:
        held = len(container.licenses())
        locked = container.info().locked
    if held or locked:
        what = f"it is locked ({locked[0]}), and holds {held} licenses as far as can be read" if locked else ""
        remedy = "Deactivate or transfer them first (`tally deactivate`, `tally rehost`), or pass `--force`."
        raise error("held", what or f"it holds {held} licenses", remedy, licenses=held)


def clear_unfinished(directory: Directory, chip: Chip) -> None:
    """Remove the indices of a creation that was interrupted.

    Args:
        directory: the container's folder, locked.
        chip: the TPM.

    Raises:
        BackendError, StorageError.
    """
    if record.NAME not in directory.names() or any(name.startswith("state.") for name in directory.names()):
        return
    try:
        known = record.load(directory)
    except TallystickError:  # damaged: whatever it knew, nobody can tell
        return
    for _ in _indices(chip, known):
        continue


def remove(directory: Directory, chip: Chip) -> tuple[str, ...]:
    """Remove everything of a container; what is gone already is passed over.

    Args:
        directory: its folder.
        chip: the TPM.

    Returns:
        What was removed, for people.

    Raises:
        NotFoundError, LockedError, BackendError, StorageError.
    """
    known = record.load(directory)
    removed = list(_indices(chip, known))
    if known.srk_made and known.srk in chip.handles(known.srk):
        if StorageKey(chip, known.srk, known.srk_name).evict():
            removed.append(f"persistent key {known.srk:#x}; other containers make it anew when they need it")
    for name in _FILES:
        if name in directory.names():
            directory.remove(name)
            removed.append(f"file {directory.where(name)}")
    return tuple(removed)


def _indices(chip: Chip, known: ChipRecord) -> Iterator[str]:
    thumbprint = key_of(known.identity.public).thumbprint
    storage = StorageKey(chip, known.srk, known.srk_name)
    for kind, place in ((COUNTER, known.counter), (CHAIN, known.chain)):
        if place is not None and belongs(chip, place.number, thumbprint):
            Index(chip, storage, kind, place.number, b"").undefine()
            yield f"NV index {place.number:#x}"
