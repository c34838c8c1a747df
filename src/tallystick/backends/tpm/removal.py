# SPDX-License-Identifier: Apache-2.0
"""Taking out of a TPM what a container put there, and nothing else.

Indices are found by their markers, which hold the container's identity (`backends.tpm.nv`): also those an interruption
made unknown to its files, and never those of somebody else who has such a number by now. A storage key that was made
persistent stays: nothing in a TPM tells who else uses it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Final

from tallystick.backends.clearing import LEFT, Step
from tallystick.backends.folder import ANCHOR_FILE
from tallystick.backends.tpm.chip import Chip
from tallystick.backends.tpm.endorsement import was_cleared
from tallystick.backends.tpm.nv import CHAIN, COUNTER, MARKERS, OWNER_INDICES, Index, public_area
from tallystick.backends.tpm.record import ChipRecord
from tallystick.backends.tpm.storage import StorageKey
from tallystick.codec.digest import sha256
from tallystick.container.clear_header import read_clear_header
from tallystick.container.store import Store
from tallystick.container.vfs import Directory
from tallystick.errors import FormatError, LockedError, TallystickError, error

_NAMES: Final = {COUNTER: "counter", CHAIN: "chain"}
_SOCKET: Final = "swtpm:path="


def clear_unfinished(directory: Directory, chip: Chip) -> None:
    """Remove the indices of a creation that was interrupted.

    Args:
        directory: the container's folder, locked.
        chip: the TPM.

    Raises:
        LockedError: ``rolled_back``: it was finished, and its states were taken away.
        BackendError, StorageError.
    """
    known = ChipRecord.unfinished(directory)
    if known is None:
        return
    for _, remove in _indices(chip, StorageKey(chip, known.srk, known.srk_name), known.public_key.thumbprint):
        remove()


def plan(directory: Directory, chip: Chip, *, force: bool) -> tuple[Step, ...]:
    """Find what a container has in a TPM, and how it is removed; what is gone already is passed over.

    Args:
        directory: its folder.
        chip: the TPM.
        force: go on where the TPM is gone, or the folder does not tell what is in it.

    Returns:
        The steps, in their order; those that do nothing say what stays.

    Raises:
        LockedError: ``tampered``: the record is damaged.
        FormatError: ``unsupported_version``.
        BackendUnavailableError: the TPM is gone; both are passed over when forced.
        BackendError: ``device_silent``: not even forced.
        StorageError.
    """
    if ANCHOR_FILE not in directory.names():
        return ()  # it goes behind everything that it knows of
    try:
        known = ChipRecord.load(directory)
    except LockedError as reason:
        if not force:
            raise
        return _of_damaged(directory, chip, reason)
    try:
        return tuple(_known(directory, chip, known))
    except TallystickError as reason:
        if reason.code == "device_silent" and not _has_vanished(chip):
            remedy = f"Start it and repeat this. If it is gone for good, remove the folder {directory.path} yourself."
            raise error("device_silent", reason.message, remedy) from reason
        if not force or reason.code not in ("device_silent", "backend_unavailable"):
            raise
        return tuple(_stays(_recorded(known), reason.message))


def _known(directory: Directory, chip: Chip, known: ChipRecord) -> Iterator[Step]:
    storage = StorageKey(chip, known.srk, known.srk_name)
    try:
        number = chip.run(lambda esys: esys.tr_get_tpm_handle(storage.at(esys)), again=True)
    except TallystickError as reason:
        if reason.code != "chip_changed":
            raise
        if not was_cleared(chip, known.chip):  # else everything went with that
            yield from _stays(_recorded(known), "this is another TPM")
        return
    yield from _indices(chip, storage, known.public_key.thumbprint)
    if known.srk_made and known.srk == number:  # else somebody has put another key there
        line = f"`tpm2_evictcontrol -C o -c {known.srk:#x}`"
        yield from _stays([_key(known.srk)], f"others may use it; if none does, {line} removes it")


def _of_damaged(directory: Directory, chip: Chip, reason: TallystickError) -> tuple[Step, ...]:
    """Find the indices of a container whose record is damaged, by the identity its states tell."""
    identity = _named(directory)
    if identity:
        try:
            return tuple(_indices(chip, StorageKey(chip, 0, b""), identity))
        except TallystickError as unreachable:
            if unreachable.code != "backend_unavailable":
                raise
    lost = "what the container has in a TPM; `tpm2_getcap handles-nv-index` lists what there is"
    return tuple(_stays([lost], reason.message))


def _named(directory: Directory) -> bytes:
    try:
        slots = Store(directory, None, journal=False).slots(skip_damaged=True)
        return read_clear_header(slots[0].header)[0] if slots else b""
    except (FormatError, LockedError):
        return b""


def _recorded(known: ChipRecord) -> list[str]:
    """Name what the record knows of, whether it is there or not."""
    places = [place for place in (known.counter, known.chain) if place is not None and place.name]
    made = [_key(known.srk)] if known.srk_made else []
    return [*(f"NV index {place.number:#x} of the TPM" for place in places), *made]


def _key(number: int) -> str:
    return f"persistent key {number:#x} of the TPM"


def _stays(what: Iterable[str], why: str) -> Iterator[Step]:
    for one in what:
        yield f"{LEFT}{one}: {why}", _nothing


def _nothing() -> None:
    """Is all that can be done."""


def _indices(chip: Chip, storage: StorageKey, thumbprint: bytes) -> Iterator[Step]:
    """Find what has one of the container's markers."""
    from tallystick.backends.tpm.meter import MARKER as METER  # seldom needed

    kinds = {sha256(word + thumbprint): (_NAMES[kind], kind) for kind, word in MARKERS.items()}
    kinds[sha256(METER + thumbprint)] = "meter", COUNTER
    for number in chip.handles(OWNER_INDICES):
        area = public_area(chip, number)
        name, kind = kinds.get(b"" if area is None else bytes(area.authPolicy), ("", COUNTER))
        if name:
            index = Index(chip, storage, kind, number, b"")
            yield f"NV index {number:#x} of the TPM ({name})", index.undefine


def _has_vanished(chip: Chip) -> bool:
    """Tell a TPM in software that was removed from one that is not running."""
    path = chip.tcti.removeprefix(_SOCKET) if chip.tcti.startswith(_SOCKET) else ""
    return bool(path) and not os.path.exists(path)
