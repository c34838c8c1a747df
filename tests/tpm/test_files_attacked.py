# SPDX-License-Identifier: Apache-2.0
"""Files of a container in a TPM that were restored, exchanged, removed or changed: refused by name, or nothing is lost.

Each row of the table is one thing somebody may do to the folder, and what the program says then; where it opens, the
account is the one that was acknowledged last. Behind it somebody plays against the real code, as in the models.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping

import pytest
from attacker import POWERS, SLOTS, Files, Folder, Walk, index_of, licensed
from conformance.world import refused
from fault_stage import UNITS, Stage, units_here
from swtpm_rig import Prepared, Swtpm, in_memory
from wire import Cut

from conftest import IN_CI
from tallystick.backends.tpm import record
from tallystick.backends.tpm.record import ChipRecord, Place
from tallystick.codec import cbor
from tallystick.codec.digest import sha256
from tallystick.container.base import Container
from tallystick.container.store_slot import parse
from tallystick.errors import LockedError, TallystickError

USED = 30
OPENS = ""


class Past:
    """What somebody kept of a container.

    Attributes:
        times: its files after each of its commits, oldest first.
        other: the files of another container in the same TPM.
        foreign: those of a container in another TPM.
    """

    def __init__(self, times: list[Files], other: Files, foreign: Files) -> None:
        self.times = times
        self.other = other
        self.foreign = foreign
        self.now = times[-1]

    @property
    def newest(self) -> str:
        """Name of the slot the account is in."""
        return max(SLOTS, key=lambda name: parse(name, self.now[name]).generation)

    @property
    def older(self) -> str:
        """The other one."""
        return SLOTS[self.newest == SLOTS[0]]

    @property
    def old(self) -> bytes:
        """A state of long ago."""
        return next(data for name, data in self.times[0].items() if name in SLOTS)

    @property
    def known(self) -> ChipRecord:
        """The record of the TPM."""
        return of(self.now["anchor"])


def history(stage: Stage) -> Past:
    """A container that was used three times, and two others."""
    folder = Folder(stage.files / "a")
    times = []
    container = stage.create()
    stage.activate(container)
    for _ in range(3):
        times.append(folder.read())
        container.checkout("cad").consume(USED // 3)
    times.append(folder.read())
    stage.leave()
    with stage.create("b") as other:
        stage.activate(other)
    tpm, stage.tpm = stage.tpm, Swtpm(stage.folder / "elsewhere")
    stage.wire.tpm = stage.tpm
    with stage.create("c") as foreign:
        stage.activate(foreign)
    stage.tpm.close()
    stage.tpm = stage.wire.tpm = tpm
    return Past(times, Folder(stage.files / "b").read(), Folder(stage.files / "c").read())


@pytest.fixture(scope="module")
def stage(factory: Prepared) -> Iterator[Stage]:
    """One for all tests."""
    with in_memory() as folder:
        made = Stage(folder, factory.state)
        yield made
        made.close()


@pytest.fixture
def past(stage: Stage) -> Past:
    """The scene, as it was."""
    stage.scene("attacked", history)
    past: Past = stage.context
    return past


def intact(stage: Stage) -> None:
    """Demand that the last files are a working container, with the account that was acknowledged."""
    container = stage.open()
    assert units_here(container) == UNITS - USED
    container.checkout("cad").consume(1)
    stage.leave()


def edited(past: Past, **changes: object) -> bytes:
    """The record of the TPM with other contents, and a checksum that fits."""
    data: bytes = cbor.decode(past.now["anchor"], 1 << 16)[0]
    rows = cbor.decode(data, 1 << 16)
    rows.update({int(label.removeprefix("row")): value for label, value in changes.items()})
    body = cbor.encode(rows)
    return cbor.encode([body, sha256(body)])


def repointed(past: Past, kind: str, place: Place | None) -> bytes:
    """The record with another index, and a checksum that fits."""
    return edited(past, **{"row8" if kind == "counter" else "row9": place and [place.number, place.name]})


def of(record_bytes: bytes) -> ChipRecord:
    """A record, read."""
    return record._record(record_bytes)


Deed = Callable[[Past], Mapping[str, bytes | None]]

DEEDS: dict[str, tuple[Deed, str]] = {
    # -- restored
    "both states of the commit before": (
        lambda past: {name: past.times[-2].get(name) for name in SLOTS},
        "rolled_back",
    ),
    "both states of long ago": (lambda past: {name: past.times[0].get(name) for name in SLOTS}, "rolled_back"),
    "all files of long ago": (lambda past: past.times[0], "rolled_back"),
    "the newest state replaced by one of long ago": (lambda past: {past.newest: past.old}, "rolled_back"),
    "the newest state removed": (lambda past: {past.newest: None}, "rolled_back"),
    "the newest state replaced by the other one": (lambda past: {past.newest: past.now[past.older]}, "tampered"),
    "the newest state twice": (lambda past: {past.older: past.now[past.newest]}, "tampered"),
    "the older state replaced by one of long ago": (lambda past: {past.older: past.old}, OPENS),
    "the older state removed": (lambda past: {past.older: None}, OPENS),
    "slots swapped": (
        lambda past: {past.older: past.now[past.newest], past.newest: past.now[past.older]},
        OPENS,
    ),
    # -- removed, planted
    "both states removed": (lambda past: dict.fromkeys(SLOTS), "container_not_found"),
    "the key removed": (lambda past: {"key": None}, "tampered"),
    "the record removed": (lambda past: {"anchor": None}, "container_not_found"),
    "a journal planted": (lambda past: {"journal.7": bytes(4096)}, OPENS),
    # -- of another container in the same TPM
    "the key of another container": (lambda past: {"key": past.other["key"]}, "anchor_redefined"),
    "the record of another container": (lambda past: {"anchor": past.other["anchor"]}, "anchor_redefined"),
    "the states of another container": (lambda past: {name: past.other.get(name) for name in SLOTS}, "rolled_back"),
    "the older state of another container": (lambda past: {past.older: past.other[past.older]}, OPENS),
    "record and key of another container": (
        lambda past: {name: past.other[name] for name in ("anchor", "key")},
        "tampered",
    ),
    "record and states of another container": (
        lambda past: {name: past.other.get(name) for name in ("anchor", *SLOTS)},
        "anchor_redefined",
    ),
    "key and states of another container": (
        lambda past: {name: past.other.get(name) for name in ("key", *SLOTS)},
        "anchor_redefined",
    ),
    # -- of a container in another TPM
    "the key of another TPM": (lambda past: {"key": past.foreign["key"]}, "tampered"),
    "the record of another TPM": (lambda past: {"anchor": past.foreign["anchor"]}, "chip_changed"),
    "the states of another TPM": (lambda past: {name: past.foreign.get(name) for name in SLOTS}, "rolled_back"),
    "everything of another TPM": (lambda past: past.foreign, "chip_changed"),
    # -- the record edited, with a checksum that fits
    "record: no chain, as if the TPM had no room": (
        lambda past: {"anchor": repointed(past, "chain", None)},
        "tampered",
    ),
    "record: indices without Names": (
        lambda past: {"anchor": repointed(past, "chain", Place(past.known.chain.number))},
        "anchor_lost",
    ),
    "record: the counter of another container": (
        lambda past: {"anchor": repointed(past, "counter", of(past.other["anchor"]).counter)},
        "tampered",
    ),
    "record: the chain of another container": (
        lambda past: {"anchor": repointed(past, "chain", of(past.other["anchor"]).chain)},
        "anchor_redefined",
    ),
    "record: the chain as counter": (
        lambda past: {"anchor": repointed(past, "counter", past.known.chain)},
        "foreign_increment",
    ),
    "record: the counter as chain": (
        lambda past: {"anchor": repointed(past, "chain", past.known.counter)},
        "anchor_redefined",
    ),
    "record: an index that is not there": (
        lambda past: {"anchor": repointed(past, "counter", Place(0x01800001, past.known.counter.name))},
        "anchor_lost",
    ),
    "record: another Name of the counter": (
        lambda past: {"anchor": repointed(past, "counter", Place(past.known.counter.number, bytes(34)))},
        "anchor_redefined",
    ),
    "record: another storage key": (
        lambda past: {"anchor": edited(past, row4=b"\x00\x0b" + bytes(32))},
        "chip_changed",
    ),
    "record: the storage key made anew": (lambda past: {"anchor": edited(past, row3=0)}, OPENS),
    "record: keys exchanged": (lambda past: {"anchor": exchanged(past)}, "tampered"),
    "record: another container's identity": (lambda past: {"anchor": posing(past)}, "tampered"),
    "record: a user secret it never had": (lambda past: {"anchor": edited(past, row11=True)}, "secret_needed"),
    "record: of a later version": (lambda past: {"anchor": edited(past, row1=3)}, "unsupported_version"),
}


def exchanged(past: Past) -> bytes:
    """A record in which the agreement key is the identity."""
    known = past.known
    identity, agreement = [[blob.public, blob.private] for blob in (known.identity, known.agreement)]
    return edited(past, row6=agreement, row7=identity)


def posing(past: Past) -> bytes:
    """A record with the identity of the other container."""
    identity = of(past.other["anchor"]).identity
    return edited(past, row6=[identity.public, identity.private])


@pytest.mark.parametrize("deed", DEEDS)
def test_what_somebody_does_to_files_is_refused_by_name_or_changes_nothing(stage: Stage, past: Past, deed: str) -> None:
    act, code = DEEDS[deed]
    folder = Folder(stage.files / "a")
    for name, data in act(past).items():
        folder.put(name, data)
    found = folder.read()
    if not code:
        intact(stage)
        return
    refused(code, stage.open)
    if code not in ("container_not_found", "unsupported_version"):
        with stage.backend.view(stage.uri()) as view:
            assert view.info().locked is not None
            assert view.info().locked[0] == code
    assert folder.read() == found, "evidence is kept, nothing is repaired silently"
    folder.write(past.now)
    intact(stage)


class TestBytes:
    """Damage, by accident or not: every byte counts."""

    @pytest.mark.parametrize("name", ["key", "anchor", "newest", "older"])
    def test_a_file_that_was_cut_off_or_changed_is_refused(self, stage: Stage, past: Past, name: str) -> None:
        name = getattr(past, name, name)
        folder, good = Folder(stage.files / "a"), past.now[name]
        source = random.Random(name if IN_CI else None)
        damaged = [good[:size] for size in (0, 1, len(good) // 2, len(good) - 1)]
        damaged += [good + b"\0", source.randbytes(len(good)), source.randbytes(5000)]
        for _ in range(12):
            at = source.randrange(len(good))
            damaged.append(good[:at] + bytes([good[at] ^ 1 << source.randrange(8)]) + good[at + 1 :])
        for data in damaged:
            folder.put(name, data)
            with pytest.raises(TallystickError) as caught:
                stage.open()
            assert caught.value.code in ("tampered", "unsupported_version", "too_large"), (data.hex(), caught.value)
        folder.put(name, good)
        intact(stage)

    def test_a_file_of_any_size_is_refused(self, stage: Stage, past: Past) -> None:
        folder = Folder(stage.files / "a")
        for name in ("key", "anchor"):
            folder.put(name, bytes(1 << 20))
            refused("too_large", stage.open)
            folder.put(name, past.now[name])
        intact(stage)


class TestChip:
    """The other half: the TPM was changed, the files are as they were."""

    def test_a_counter_moved_by_somebody_else_locks(self, stage: Stage, past: Past) -> None:
        index_of(stage.open(), "counter").increment()
        stage.leave()
        refused("foreign_increment", stage.open)

    def test_a_chain_moved_by_somebody_else_locks(self, stage: Stage, past: Past) -> None:
        index_of(stage.open(), "chain").extend(bytes(32))
        stage.leave()
        refused("tampered", stage.open)

    @pytest.mark.parametrize("kind", ["counter", "chain"])
    def test_an_index_removed_by_the_owner_locks(self, stage: Stage, past: Past, kind: str) -> None:
        remove(stage, getattr(past.known, kind).number)
        refused("anchor_lost", stage.open)

    @pytest.mark.parametrize("kind", ["counter", "chain"])
    @pytest.mark.parametrize("same", [False, True])
    def test_an_index_defined_anew_by_the_owner_locks(self, stage: Stage, past: Past, kind: str, same: bool) -> None:
        """With the same public area it has the same Name once it was written; its authorization is another one."""
        number = getattr(past.known, kind).number
        public = remove(stage, number)
        define(stage, public if same else public[:-2] + public[-2:], same=same)
        refused("anchor_redefined", stage.open)

    def test_a_cleared_tpm_is_told_from_another_one(self, stage: Stage, past: Past) -> None:
        stage.tpm.clear()
        refused("chip_cleared", stage.open)
