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
from fault_stage import UNITS, Stage, units_here
from swtpm_rig import Prepared, Swtpm, in_memory
from tpm2_pytss import ESAPI, ESYS_TR, TPM2_CC, TPM2B_NV_PUBLIC, TPMA_NV
from wire import Cut

from conformance.world import refused
from conftest import IN_CI
from tallystick.backends.tpm.record import ChipRecord, Place
from tallystick.codec import cbor
from tallystick.codec.digest import sha256
from tallystick.container.store_slot import parse
from tallystick.errors import TallystickError
from tallystick.license.messages import REPAIR, read_request

USED = 30
OPENS = ""
LOCKED = (
    "tampered", "unsupported_version", "chip_changed", "chip_cleared", "anchor_lost", "anchor_redefined",
    "foreign_increment", "secret_needed",
)  # fmt: skip


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
    return ChipRecord.from_bytes(record_bytes)


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
    "both states removed": (lambda past: dict.fromkeys(SLOTS), "rolled_back"),
    "the key removed": (lambda past: {"key": None}, "tampered"),
    "the record removed": (lambda past: {"anchor": None}, "tampered"),
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
        "chip_cleared",  # which is what it looks like: this TPM, and not its storage key
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


def test_no_container_is_made_where_the_states_of_one_were_taken_away(stage: Stage, past: Past) -> None:
    """Its indices are what a copy of the states still needs."""
    folder, indices = Folder(stage.files / "a"), stage.own_indices()
    folder.write({name: data for name, data in past.now.items() if name not in SLOTS})
    refused("rolled_back", stage.create)
    assert stage.own_indices() == indices
    folder.write(past.now)
    intact(stage)


def damaged(good: bytes, name: str) -> list[bytes]:
    """A file cut off, with something behind it, something else, and with one bit changed."""
    source = random.Random(name if IN_CI else None)
    made = [good[:size] for size in (0, 1, len(good) // 2, len(good) - 1)]
    made += [good + b"\0", source.randbytes(len(good)), source.randbytes(1 << 22)]
    for _ in range(12):
        at = source.randrange(len(good))
        made.append(good[:at] + bytes([good[at] ^ 1 << source.randrange(8)]) + good[at + 1 :])
    return made


class TestBytes:
    """Damage, by accident or not: every byte counts."""

    @pytest.mark.parametrize("name", ["key", "anchor", "newest"])
    def test_a_file_that_was_cut_off_or_changed_is_refused(self, stage: Stage, past: Past, name: str) -> None:
        name = getattr(past, name, name)
        folder, good = Folder(stage.files / "a"), past.now[name]
        for data in damaged(good, name):
            folder.put(name, data)
            with pytest.raises(TallystickError) as caught:
                stage.open()
            assert caught.value.code in ("tampered", "unsupported_version"), (data.hex(), caught.value)
        folder.put(name, good)
        intact(stage)

    def test_a_state_that_is_not_needed_locks_nobody_out(self, stage: Stage, past: Past) -> None:
        folder = Folder(stage.files / "a")
        for data in damaged(past.now[past.older], "older"):
            folder.put(past.older, data)
            assert units_here(stage.open()) == UNITS - USED
            stage.leave()
        intact(stage)

    def test_a_damaged_state_hides_no_other_reason(self, stage: Stage, past: Past) -> None:
        Folder(stage.files / "a").put(past.older, b"")
        container = stage.open()
        container._session.anchor.indices[0].undefine()  # type: ignore[attr-defined]
        stage.leave()
        refused("anchor_lost", stage.open)

    def test_a_state_that_is_needed_and_damaged_goes_on_from_the_other_by_the_vendors_leave(
        self, stage: Stage, past: Past
    ) -> None:
        Folder(stage.files / "a").put(past.newest, b"")
        refused("tampered", stage.open)
        with stage.backend.view(stage.uri()) as view:
            assert read_request(view.repair_request()).action == REPAIR

    def test_every_byte_of_the_record_is_held_against_the_tpm(self, stage: Stage, past: Past) -> None:
        """With a checksum that fits; what only says how old the container is, or what it promises, does no harm."""
        folder = Folder(stage.files / "a")
        body = cbor.decode(past.now["anchor"], 1 << 16)[0]
        source = random.Random("record" if IN_CI else None)
        for at in sorted(source.sample(range(len(body)), 40)):
            changed = body[:at] + bytes([body[at] ^ 1 << source.randrange(8)]) + body[at + 1 :]
            folder.put("anchor", cbor.encode([changed, sha256(changed)]))
            try:
                assert units_here(stage.open()) == UNITS - USED
            except TallystickError as reason:
                assert reason.code in LOCKED, (at, reason)
            stage.leave()

    @pytest.mark.parametrize("row", ["row6", "row7"])
    def test_a_changed_key_is_refused_when_it_is_used(self, stage: Stage, past: Past, row: str) -> None:
        known = past.known
        blob = known.identity if row == "row6" else known.agreement
        private = blob.private[:-1] + bytes([blob.private[-1] ^ 1])
        Folder(stage.files / "a").put("anchor", edited(past, **{row: [blob.public, private]}))
        container = stage.open()
        if row == "row6":
            refused("tampered", container.checkout, "cad")
        else:
            anchor = container._session.anchor  # type: ignore[attr-defined]
            refused("tampered", anchor.agree, anchor.public_key.p256_point())

    def test_a_file_of_any_size_is_refused(self, stage: Stage, past: Past) -> None:
        folder = Folder(stage.files / "a")
        for name in ("key", "anchor"):
            folder.put(name, bytes(1 << 20))
            refused("tampered", stage.open)
            folder.put(name, past.now[name])
        intact(stage)

    @pytest.mark.parametrize("data", [None, b"", b"x"])
    def test_a_damaged_key_is_put_back_and_not_repaired(self, stage: Stage, past: Past, data: bytes | None) -> None:
        folder = Folder(stage.files / "a")
        folder.put("key", data)
        with pytest.raises(TallystickError) as caught:
            stage.open()
        assert caught.value.remedy.startswith("Put the files `key` and `anchor` of this container back")
        folder.put("key", past.now["key"])
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
        with ESAPI(stage.tpm.tcti) as esys:
            remove(esys, getattr(past.known, kind).number)
        refused("anchor_lost", stage.open)

    @pytest.mark.parametrize("auth", [b"", b"another secret"])
    @pytest.mark.parametrize("kind", ["counter", "chain"])
    def test_an_index_defined_anew_by_the_owner_locks(self, stage: Stage, past: Past, kind: str, auth: bytes) -> None:
        """With the same public area, and so with the same Name, once it was written."""
        number = getattr(past.known, kind).number
        with ESAPI(stage.tpm.tcti) as esys:
            index = define(esys, remove(esys, number), auth)
            if auth:
                write(esys, index, kind)
                assert bytes(esys.tr_get_name(index)) == getattr(past.known, kind).name
        refused("foreign_increment" if auth and kind == "counter" else "anchor_redefined", stage.open)

    def test_a_cleared_tpm_is_told_from_another_one(self, stage: Stage, past: Past) -> None:
        stage.tpm.clear()
        refused("chip_cleared", stage.open)

    def test_files_carried_to_another_tpm_open_there_never_and_here_again(self, stage: Stage, past: Past) -> None:
        tpm = stage.tpm
        with in_memory() as folder, Swtpm(folder) as another:
            stage.tpm = another
            refused("chip_changed", stage.open)
            stage.leave()
        stage.tpm = tpm
        intact(stage)


class TestCopies:
    """The whole folder, copied on the same computer."""

    def test_a_copy_opens_until_one_of_them_goes_on(self, stage: Stage, past: Past) -> None:
        folder, copy = Folder(stage.files / "a"), Folder(stage.files / "copy")
        copy.path.mkdir(mode=0o700)
        copy.write(past.now)
        first, second = stage.open(), stage.open("copy")
        assert second.checkout("cad").consume(1) == UNITS - USED - 1
        refused("tampered", first.checkout("cad").consume, 1)
        stage.leave()
        refused("tampered", stage.open)
        folder.write(copy.read())
        assert units_here(stage.open()) == UNITS - USED - 1


@pytest.mark.parametrize("powers", POWERS)
def test_whoever_arranges_files_takes_back_nothing(stage: Stage, powers: str) -> None:
    """What opens has every unit that was acknowledged; `attacker.py` plays longer games by hand."""
    source = random.Random(powers if IN_CI else None)
    stage.scene("walk", licensed)
    Walk(stage, source, POWERS[powers]).run(16)


def test_somebody_whom_the_files_obey_is_stopped_by_the_chain_alone(stage: Stage, past: Past) -> None:
    """Two states for one value of the counter, and the one that was acknowledged is put away: a counter would agree."""
    folder, before = Folder(stage.files / "a"), past.now
    container = stage.open()
    stage.wire.listen()
    container.note("test", "to see where it counts")  # type: ignore[attr-defined]
    counts = stage.wire.codes().index(TPM2_CC.NV_Increment) + 1
    stage.scene("attacked", history)
    container = stage.open()
    stage.wire.cut(Cut.KILL_BEFORE, counts)
    refused("device_silent", container.note, "test", "a state the TPM never hears of")  # type: ignore[attr-defined]
    stage.leave()
    stage.wire.leave()
    stage.tpm.start()
    (unheard,) = [name for name, data in folder.read().items() if before.get(name) != data]
    fork = folder.read()[unheard]
    folder.write(before)
    stage.open().checkout("cad").consume(1)
    stage.leave()
    generation = parse(unheard, fork).generation
    assert generation == max(parse(name, folder.read()[name]).generation for name in SLOTS)
    folder.put(unheard, fork)
    refused("tampered", stage.open)


def remove(esys: ESAPI, number: int) -> TPM2B_NV_PUBLIC:
    """Undefine an index as the owner, which needs no secret of the container's; returns what it was."""
    index = esys.tr_from_tpmpublic(number)
    public, _ = esys.nv_read_public(index)
    esys.nv_undefine_space(index)
    return public


def define(esys: ESAPI, public: TPM2B_NV_PUBLIC, auth: bytes) -> ESYS_TR:
    """Define it anew, with another authorization."""
    public.nvPublic.attributes &= ~TPMA_NV.WRITTEN
    index = esys.nv_define_space(auth, public)
    esys.tr_set_auth(index, auth)
    return index


def write(esys: ESAPI, index: ESYS_TR, kind: str) -> None:
    """Write it once."""
    if kind == "counter":
        esys.nv_increment(index)
    else:
        esys.nv_extend(index, bytes(32))
