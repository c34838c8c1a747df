# SPDX-License-Identifier: Apache-2.0
"""A TPM with room for one index only: protocol P2, reported as such."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from swtpm_rig import Swtpm
from tpm2_pytss import ESAPI, TSS2_Exception
from tpm2_pytss import types as t
from tpm2_pytss.constants import TPM2_ALG, TPM2_NT, TPMA_NV

from fakes import FakeClock
from issuer import Issuer
from tallystick.backends.tpm.backend import TpmBackend
from tallystick.backends.tpm.chip import Chip
from tallystick.backends.tpm.nv import CHAIN, COUNTER, Index
from tallystick.backends.tpm.storage import StorageKey
from tallystick.container.anchor import Capability
from tallystick.errors import TallystickError


def _stuff(esys: ESAPI, number: int, size: int, kind: int = TPM2_NT.ORDINARY) -> bool:
    attributes = TPMA_NV.AUTHREAD | TPMA_NV.AUTHWRITE | TPMA_NV.NO_DA | kind << TPMA_NV.TPM2_NT_SHIFT
    public = t.TPMS_NV_PUBLIC(nvIndex=number, nameAlg=TPM2_ALG.SHA256, attributes=attributes, dataSize=size)
    try:
        esys.nv_define_space(b"", t.TPM2B_NV_PUBLIC(nvPublic=public))
    except TSS2_Exception:
        return False
    return True


def fill(tpm: Swtpm, leave: int) -> None:
    """Fill a TPM's memory with somebody's data, but for room for so many indices of ours."""
    chip = Chip(tpm.tcti)
    storage, _ = StorageKey.provision(chip)
    ours = [Index(chip, storage, COUNTER, 0x01900000, b"x"), Index(chip, storage, CHAIN, 0x01900001, b"x")][:leave]
    for index in ours:
        index.define(bytes(32))
    number = 0x01A00000
    for size in (2048, 1024, 512, 256, 128, 64, 32, 16, 8, 4, 2, 1):
        while chip.run(lambda esys, size=size, number=number: _stuff(esys, number, size)):  # type: ignore[misc]
            number += 1
    while not leave and chip.run(lambda esys, number=number: _stuff(esys, number, 8, TPM2_NT.COUNTER)):  # type: ignore[misc]
        number += 1  # TPMs keep room for a few counters
    for index in ours:
        index.undefine()
    chip.close()


def code_of(call: Callable[[], object]) -> str:
    with pytest.raises(TallystickError) as caught:
        call()
    return caught.value.code


class Short:
    """A container in a TPM with room for one index."""

    def __init__(self, folder: Path, tpm: Swtpm) -> None:
        self.folder = folder / "c"
        self.backend = TpmBackend(FakeClock(), folder=lambda _: str(self.folder))
        self.uri = f"tpm:tcti={tpm.tcti}"
        self.acme = Issuer()
        fill(tpm, 1)
        with self.backend.create(self.uri, [self.acme.trust]) as container:
            container.install(self.acme.answer(container.request(self.acme.trust), units=10))

    def left(self) -> int:
        with self.backend.open(self.uri, [self.acme.trust], background=False) as container:
            return container.checkout("cad").consume(1)


@pytest.fixture
def short(tmp_path: Path, tpm: Swtpm) -> Short:
    return Short(tmp_path, tpm)


def test_no_room_at_all_is_said(tmp_path: Path, tpm: Swtpm) -> None:
    fill(tpm, 0)
    backend = TpmBackend(FakeClock(), folder=lambda _: str(tmp_path / "c"))
    assert code_of(lambda: backend.create(f"tpm:tcti={tpm.tcti}")) == "chip_full"
    assert code_of(lambda: backend.open(f"tpm:tcti={tpm.tcti}")) == "container_not_found"


def test_it_says_so_and_detects_restored_files(short: Short, tmp_path: Path) -> None:
    with short.backend.open(short.uri, background=False) as container:
        info = container.info()
        assert info.details["rollback"].startswith("P2")
        assert Capability.ROLLBACK_PROOF in info.capabilities
    assert short.left() == 9
    shutil.copytree(short.folder, tmp_path / "copy")
    assert short.left() == 8
    for name in ("state.A", "state.B"):
        shutil.copy(tmp_path / "copy" / name, short.folder / name)
    assert code_of(short.left) == "rolled_back"


def test_each_open_moves_the_counter_so_that_no_state_is_good_twice(short: Short, tmp_path: Path) -> None:
    """P1, without this, lets two states share a counter's value: commit one, swap the other."""
    shutil.copytree(short.folder, tmp_path / "copy")
    with short.backend.open(short.uri, background=False) as container:
        position = container._session.anchor.position()  # type: ignore[attr-defined]
        assert position.chain is None
    for name in ("state.A", "state.B"):
        shutil.copy(tmp_path / "copy" / name, short.folder / name)
    assert code_of(short.left) == "rolled_back"


def test_one_program_at_a_time_has_it(short: Short) -> None:
    with short.backend.open(short.uri, background=False) as container:
        folder = container._session.directory  # type: ignore[attr-defined]
        from tallystick.container.store_lock import ALONE, StoreLock

        second = StoreLock(folder, ALONE)
        assert code_of(lambda: second.acquire(0.0)) == "busy"
        second.close()
    assert short.left() == 9


@pytest.mark.parametrize("stage", ["before", "after"])
def test_an_interrupted_commit_is_finished_or_never_happened(short: Short, stage: str) -> None:
    container = short.backend.open(short.uri, [short.acme.trust], background=False)
    anchor = container._session.anchor  # type: ignore[attr-defined]
    move = anchor._counter.increment

    def cut() -> None:
        if stage == "after":
            move()
        raise OSError("power")

    anchor._counter.increment = cut
    seat = container.checkout("cad")
    assert code_of(lambda: seat.consume(4)) == "backend_failed"
    anchor.chip.close()
    container._session._alone.close()  # type: ignore[attr-defined]
    assert short.left() == 5, "written before the counter moved, so it is finished"


def test_two_copies_never_use_the_same_unit(short: Short, tmp_path: Path) -> None:
    """Without a chain both would stand at the same count: only who moves the counter has used the unit."""
    first = short.backend.open(short.uri, [short.acme.trust], background=False)
    seat = first.checkout("cad")
    shutil.copytree(short.folder, tmp_path / "copy")
    copy = TpmBackend(FakeClock(), folder=lambda _: str(tmp_path / "copy"))
    second = copy.open(short.uri, [short.acme.trust], background=False)
    assert second.checkout("cad").consume(1) == 9
    assert code_of(lambda: seat.consume(1)) == "rolled_back"
    second.close()
    first._session.anchor.chip.close()  # type: ignore[attr-defined]
