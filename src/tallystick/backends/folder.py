# SPDX-License-Identifier: Apache-2.0
"""What every container kept in a folder has in common, whatever its keys are in.

lock  state.A  state.B  journal.<generation>     see `container.store`
anchor                                           what the backend remembers of the keys
key                                              the state key, sealed by the anchor
destroyed                                        while the container is being destroyed: see `backends.clearing`
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tallystick.container.base import Container, ContainerInfo
from tallystick.container.clear_header import read_clear_header
from tallystick.container.store import Store
from tallystick.container.vfs import Directory
from tallystick.errors import FormatError, LockedError, TallystickError, error

ANCHOR_FILE: Final = "anchor"
KEY_FILE: Final = "key"
DESTROYED: Final = "destroyed"
KEY_BYTES: Final = 32
_MORE: Final = ("meters", "repair")  # what only containers in a TPM have
_MAX_SEALED: Final = 4096
_KEY_REMEDY: Final = (
    "Put the files `key` and `anchor` of this container back from a backup, never `state.A` and `state.B`; without one "
    "`tally request --repair` tells the vendor."
)
STATES: Final = ("state.A", "state.B")

Held = list[tuple[bytes, str, str]]
"""Licenses named in the clear: (id, vendor, product)."""

Clear = tuple[bytes, int, Held, tuple[str, ...]]
"""What is in the clear: thumbprint, creation time, licenses as (id, vendor, product), vendors."""


def require_vacant(directory: Directory, store: Store) -> None:
    """Refuse a folder that holds a container; clear what an interrupted creation left.

    Args:
        directory: the folder.
        store: over it, locked.

    Raises:
        ContainerError: ``already_exists``.
        LockedError: ``rolled_back`` where the states of a container were taken away.
        StorageError: ``unsafe_path``, ``no_permission``, ``io_error``.
    """
    names = directory.names()
    if DESTROYED in names:
        remedy = "Finish that first: `tally destroy` it again."
        raise error("already_exists", f"the container in {directory.path} was not quite destroyed", remedy)
    if any(state in names for state in STATES):
        raise error("already_exists", f"there is a container in {directory.path}", path=directory.path)
    store.slots()  # refuses where a journal in use tells of a container whose states were taken away
    for name in (ANCHOR_FILE, KEY_FILE, *_MORE):
        if name in names:
            directory.require_replaceable(name)
            directory.remove(name)  # these keys never served a license


def require_container(directory: Directory) -> None:
    """Refuse a folder that holds none.

    Args:
        directory: the folder.

    Raises:
        NotFoundError: ``container_not_found``.
        LockedError: ``tampered``: its states are there, and what knows their keys is not.
    """
    names = directory.names()
    if DESTROYED in names:
        remedy = "Finish that: `tally destroy` it again."
        raise error("container_not_found", f"the container in {directory.path} is being destroyed", remedy)
    has_states = any(state in names for state in STATES)
    if has_states and ANCHOR_FILE not in names:
        message = f"the file {directory.where(ANCHOR_FILE)}, which knows the container's keys, is missing"
        remedy = "Put it back from a backup, or give the container up: `tally destroy --force`."
        raise error("tampered", message, remedy, path=directory.path)
    if not has_states:
        interrupted = "its creation was interrupted" if ANCHOR_FILE in names else "the folder holds none"
        raise error("container_not_found", f"no container in {directory.path}: {interrupted}", path=directory.path)


def state_key(directory: Directory, unseal: Callable[[bytes], bytes]) -> bytes:
    """Return the state key.

    Args:
        directory: the container's folder.
        unseal: the anchor's.

    Raises:
        LockedError: ``tampered`` where its file is missing or damaged; others as of the anchor.
        StorageError: it cannot be read.
    """
    try:
        sealed = directory.read(KEY_FILE, _MAX_SEALED)
        if sealed is None:
            raise error("tampered", "the container's state key file is missing")
        return unseal(sealed)
    except (FormatError, LockedError) as reason:
        if reason.code not in ("tampered", "too_large"):
            raise
        raise error("tampered", reason.message, _KEY_REMEDY, path=directory.path) from reason


def locked_view(
    directory: Directory,
    uri: str,
    reason: TallystickError,
    *,
    now: int,
    otherwise: Callable[[Directory], Clear],
    make: Callable[[ContainerInfo, Held], Container],
) -> Container:
    """Show what is left of a container that does not open.

    Args:
        directory: its folder, opened to be read only.
        uri: how it was asked for.
        reason: why it does not open.
        now: seconds since 1970.
        otherwise: tells what is in the clear where no snapshot does.
        make: makes the view of what is known, and of the licenses named in the clear.

    Returns:
        What `make` made.

    Raises:
        LockedError: ``tampered`` where not even the clear header can be read.
        StorageError: it cannot be read.
    """
    thumbprint, created, held, vendors = _clear(directory) or otherwise(directory)
    info = ContainerInfo(
        uri=uri,
        backend=uri.partition(":")[0],
        thumbprint=thumbprint,
        created_at=created,
        licenses=len(held),
        vendors=vendors,
        now=now,
        wall=now,
        location=directory.path,
        locked=(reason.code, reason.message),
    )
    return make(info, held)


def _clear(directory: Directory) -> Clear | None:
    """Read what is in the clear of the newest readable snapshot."""
    try:
        slots = Store(directory, None, journal=False).slots(skip_damaged=True)
    except LockedError:
        return None
    for slot in slots:
        try:
            return read_clear_header(slot.header)
        except FormatError:  # nobody vouches for these bytes
            continue
    return None
