# SPDX-License-Identifier: Apache-2.0
"""The storage key at its persistent handle: no room for it, another one in its place, and others who use it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from swtpm_rig import NV_INDEX, PERSISTENT, Prepared, Swtpm
from test_mending import Case, code_of
from tpm2_pytss import ESAPI, ESYS_TR, TPM2_RC, TSS2_RC, TSS2_Exception
from tpm2_pytss import types as t

from fakes import FakeClock
from issuer import Issuer
from tallystick.backends.tpm.backend import TpmBackend
from tallystick.backends.tpm.chip import Chip
from tallystick.backends.tpm.record import ChipRecord
from tallystick.backends.tpm.signer import TpmSigner
from tallystick.backends.tpm.storage import SRK_HANDLE
from tallystick.backends.tpm.templates import STORAGE, ecc_template
from tallystick.container.vfs import Directory
from tallystick.errors import TallystickError

OWNERS = NV_INDEX | 0x00800000  # NV indices of owners, not of makers
ATTEMPTS = 8


@pytest.fixture
def case(tmp_path: Path, make_tpm: Callable[..., Swtpm], factory: Prepared) -> Case:
    return Case(tmp_path, make_tpm(template=factory.state))


def indices(tpm: Swtpm) -> list[int]:
    """The NV indices of owners."""
    return [number for number in tpm.listed(OWNERS) if number < 0x01C00000]


def persist(chip: Chip, number: int, x: bytes = b"") -> bool:
    """Make a storage key persistent: ours, or another one by its `x`; whether there was room."""

    def keep(esys: ESAPI) -> None:
        made, *_ = esys.create_primary(t.TPM2B_SENSITIVE_CREATE(), ecc_template(STORAGE, x=x), ESYS_TR.OWNER)
        with chip.loaded(esys, made) as handle:
            esys.evict_control(ESYS_TR.OWNER, handle, number)

    try:
        chip.run(keep)
    except TallystickError as reason:
        assert reason.details["rc"] == TPM2_RC.NV_SPACE, reason
        return False
    return True


def replace_srk(tpm: Swtpm, password: bytes = b"") -> None:
    """Put another storage key where ours was, and a password upon the owner."""
    chip = Chip(tpm.tcti)
    chip.run(lambda esys: esys.evict_control(ESYS_TR.OWNER, esys.tr_from_tpmpublic(SRK_HANDLE), SRK_HANDLE))
    assert persist(chip, SRK_HANDLE, b"another one")
    if password:
        chip.run(lambda esys: esys.hierarchy_change_auth(ESYS_TR.OWNER, password))
    chip.close()


# ------------------------------------------------------------------------------------------------------ no room for it


def test_a_tpm_without_room_for_a_persistent_key_holds_containers(tmp_path: Path, tpm: Swtpm) -> None:
    """The key is made anew each time then."""
    chip = Chip(tpm.tcti)
    number = 0x81000010
    while persist(chip, number):
        number += 1
    chip.close()
    taken = tpm.listed(PERSISTENT)
    backend = TpmBackend(FakeClock(), folder=lambda _: str(tmp_path / "c"))
    uri, acme = f"tpm:tcti={tpm.tcti}", Issuer()
    with backend.create(uri, [acme.trust]) as container:
        container.install(acme.answer(container.request(acme.trust), units=10))
    with backend.open(uri, [acme.trust], background=False) as container:
        assert container.checkout("cad").consume(1) == 9
    assert not any("persistent" in line for line in backend.destroy(uri, force=True)), "it made none"
    assert tpm.listed(PERSISTENT) == taken
    assert indices(tpm) == []
    assert not tpm.handles()


# --------------------------------------------------------------------------------------------- another one in its place


def test_another_key_in_its_place_is_no_other_tpm(case: Case) -> None:
    """The same seed gives the same key: it is made anew."""
    signer, _ = TpmSigner.create(case.tpm.tcti)
    replace_srk(case.tpm)
    assert case.left() == 9
    with case.open() as container:
        assert container.checkout("cad").consume(1) == 8
    assert signer.public_key.verify_raw(b"x", signer.sign(b"x"))
    assert not case.tpm.handles(), "what was made anew is flushed"


def test_destroying_it_then_removes_the_indices_and_not_that_key(case: Case) -> None:
    replace_srk(case.tpm)
    kept = case.tpm.listed(PERSISTENT)
    assert len(indices(case.tpm)) == 2
    lines = case.backend.destroy(case.uri, force=True)
    assert not any("persistent" in line for line in lines)
    assert indices(case.tpm) == []
    assert case.tpm.listed(PERSISTENT) == kept


def test_a_cleared_tpm_with_a_key_there_is_a_cleared_one(case: Case) -> None:
    case.tpm.clear()
    chip = Chip(case.tpm.tcti)
    assert persist(chip, SRK_HANDLE)
    chip.close()
    assert code_of(case.open) == "chip_cleared"
    assert not case.tpm.handles()


def test_without_the_owner_password_it_cannot_be_made_anew_and_that_is_said(case: Case, tmp_path: Path) -> None:
    replace_srk(case.tpm, b"owner")
    with pytest.raises(TallystickError) as caught:
        case.open()
    assert "owner password" in caught.value.message
    assert "owner-auth-source" in caught.value.remedy
    (tmp_path / "owner").write_bytes(b"owner")
    case.uri += f"?owner-auth-source=file:{tmp_path}/owner"
    assert case.left() == 9


# ---------------------------------------------------------------------------------------------------- others who use it


def test_it_outlives_the_container_that_made_it(case: Case) -> None:
    """Another program sealed something under it, and has nothing else in the TPM to tell."""
    with Directory.open(str(case.folder / "c"), read_only=True) as directory:
        assert ChipRecord.load(directory).srk_made
    chip = Chip(case.tpm.tcti)

    def use(esys: ESAPI) -> bool:
        return bool(esys.create(esys.tr_from_tpmpublic(SRK_HANDLE), t.TPM2B_SENSITIVE_CREATE()))

    assert chip.run(use)
    dry = case.backend.destroy(case.uri, force=True, dry_run=True)
    (line,) = (line for line in dry if "persistent key 0x81000001" in line)
    assert line.startswith("not removed: ")
    assert "tpm2_evictcontrol -C o -c 0x81000001" in line
    assert case.backend.destroy(case.uri, force=True) == dry
    assert indices(case.tpm) == []
    assert chip.run(use)
    chip.close()


# ------------------------------------------------------------------------------------------------------- the connection


@pytest.mark.parametrize("refused", range(ATTEMPTS))
def test_a_connection_that_breaks_at_the_last_attempt_is_a_silent_device(tpm: Swtpm, refused: int) -> None:
    """Each attempt before was refused for what is not loaded."""
    chip, calls = Chip(tpm.tcti), 0

    def call(_: ESAPI) -> str:
        nonlocal calls
        calls += 1
        if calls <= refused:
            raise TSS2_Exception(TPM2_RC.REFERENCE_H0)
        if calls == refused + 1:
            raise TSS2_Exception(TSS2_RC.TCTI_RC_IO_ERROR)
        return "done"

    if refused < ATTEMPTS - 1:
        assert chip.run(call, again=True) == "done"
    else:
        assert code_of(lambda: chip.run(call, again=True)) == "device_silent"
    chip.close()
