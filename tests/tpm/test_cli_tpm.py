# SPDX-License-Identifier: Apache-2.0
"""The command line on a container in a TPM: made, looked at, explained, examined, destroyed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from desk import Desk
from swtpm_rig import NV_INDEX, PERSISTENT, Prepared, Swtpm, authorized, succeeded
from tpm2_pytss import ESAPI
from tpm2_pytss import types as t
from tpm2_pytss.constants import TPM2_ALG, TPM2_NT, TPMA_NV

from tallystick.backends.clearing import LEFT
from tallystick.backends.tpm import chip as chip_module
from tallystick.backends.tpm.backend import TpmBackend
from tallystick.backends.tpm.checkup import examine
from tallystick.backends.tpm.chip import Chip
from tallystick.backends.tpm.meter import MARKER
from tallystick.backends.tpm.record import ChipRecord
from tallystick.backends.tpm.storage import SRK_HANDLE
from tallystick.backends.tpm.transport import PERMISSION_REMEDY
from tallystick.codec.digest import sha256
from tallystick.container.store_posix import Vfs
from tallystick.container.vfs import Directory
from tallystick.errors import TallystickError

_HIERARCHY_CHANGE_AUTH = 0x129
_OWNER = 0x40000001
_PROTECTED = 0x01B00000


class Person:
    """A person with a container in a TPM.

    Args:
        folder: for everything.
        tpm: the TPM.
    """

    def __init__(self, folder: Path, tpm: Swtpm) -> None:
        self.desk = Desk(folder)
        self.tpm = tpm
        self.folder = folder / "container"
        self.uri = f"tpm:path={self.folder};tcti={tpm.tcti}"
        self.desk.env["TALLY_CONTAINER"] = self.uri

    def indices(self) -> tuple[int, ...]:
        """NV indices of owners."""
        return tuple(number for number in self.tpm.listed(NV_INDEX) if 0x01800000 <= number < 0x01C00000)

    def elsewhere(self, tpm: Swtpm) -> str:
        """The same container with another TPM."""
        return f"tpm:path={self.folder};tcti={tpm.tcti}"


@pytest.fixture
def newcomer(tmp_path: Path, tpm: Swtpm) -> Person:
    return Person(tmp_path, tpm)


@pytest.fixture
def person(tmp_path: Path, tpm: Swtpm) -> Person:
    made = Person(tmp_path, tpm)
    made.desk.ok("create")
    return made


# ------------------------------------------------------------------------------------------------- made and looked at


def test_a_container_is_made_and_used_as_any_other(person: Person) -> None:
    person.desk.activate("render", units=5)
    person.desk.ok("check", "render")
    assert "3" in person.desk.ok("use", "render", "2").out
    assert person.tpm.handles().objects == ()


def test_info_tells_the_protocol_the_indices_and_what_it_costs(person: Person) -> None:
    shown = person.desk.ok("info", "--json").json()
    assert shown["capabilities"][:2] == ["rollback-proof", "non-exportable"]
    assert shown["details"]["rollback"].startswith("P4")
    assert shown["details"]["indices"] == ", ".join(f"{number:#x}" for number in person.indices())
    assert "pace can be told after a day" in shown["details"]["nv_writes"]
    assert person.tpm.tcti in shown["details"]["tpm"]
    lines = person.desk.ok("info").out
    assert "nv writes" in lines
    assert "notice restored older files" in lines


def test_a_tolerance_means_nothing_there(newcomer: Person) -> None:
    refused = newcomer.desk.tally("create", "--tolerance", "loose")
    assert refused.status == 2
    assert "--tolerance means nothing to tpm: containers" in refused.error
    assert not newcomer.folder.exists()
    newcomer.desk.ok("create", newcomer.uri)


def test_explain_says_what_it_is_bound_to(person: Person) -> None:
    done = person.desk.ok("explain")
    assert "TPM 2.0 of this machine" in done.out
    assert "it opens here" in done.out
    shown = person.desk.ok("explain", "--json").json()
    assert (shown["would_open"], shown["code"], shown["traits"], shown["floor"]) == (True, "", [], None)
    assert shown["details"]["rollback"].startswith("P4")


def test_explain_says_why_a_locked_one_does_not_open(person: Person, make_tpm: Callable[..., Swtpm]) -> None:
    uri = person.elsewhere(make_tpm("other"))
    done = person.desk.ok("explain", "--container", uri)
    assert "it does not open here" in done.out
    assert "chip_changed" in done.out
    assert "tally request --repair" in done.err
    shown = person.desk.ok("explain", "--container", uri, "--json").json()
    assert (shown["would_open"], shown["code"]) == (False, "chip_changed")
    assert person.desk.ok("info", "--container", uri, "--json").json()["locked"]["code"] == "chip_changed"


# ------------------------------------------------------------------------------------------------------------- doctor


def test_the_doctor_examines_the_tpm_of_the_container(person: Person) -> None:
    shown = person.desk.ok("doctor", "--json").json()
    found = shown["tpm"]
    assert person.tpm.tcti in found["tpm"]
    assert (found["can hold containers"], found["notices restored files"]) == ("yes", "yes")
    assert (found["lockout"], found["owner password"]) == ("no", "none")
    assert found["proves itself to vendors"].startswith("no: it has no certificate")
    assert "anchor" in shown["folder"]["files"]
    assert shown["container"]["opens"] == "yes"
    assert "\nTPM\n" in person.desk.ok("doctor").out
    assert person.tpm.handles().objects == ()


def test_the_doctor_sees_a_certificate(newcomer: Person, make_tpm: Callable[..., Swtpm], factory: Prepared) -> None:
    sold = make_tpm("sold", template=factory.state)
    assert examine(sold.tcti)["proves itself to vendors"] == "yes"


def test_the_doctor_says_that_there_is_no_tpm(newcomer: Person) -> None:
    uri = f"tpm:tcti=device:{newcomer.folder}/tpmrm0"
    found = newcomer.desk.ok("doctor", "--container", uri, "--json").json()["tpm"]
    assert "backend_unavailable" in found["problem"]
    assert "firmware's setup" in found["remedy"]


def test_the_doctor_prints_the_line_for_the_group(newcomer: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    device = newcomer.desk.folder / "tpmrm0"
    device.touch()
    monkeypatch.setattr(chip_module.os, "access", lambda path, mode: False)
    found = newcomer.desk.ok("doctor", "--container", f"tpm:tcti=device:{device}", "--json").json()["tpm"]
    assert "no_permission" in found["problem"]
    assert found["remedy"] == PERMISSION_REMEDY
    assert "usermod -aG tss" in PERMISSION_REMEDY


def test_the_doctor_says_that_the_library_is_missing(newcomer: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tpm2_pytss", None)
    found = newcomer.desk.ok("doctor", "--json").json()["tpm"]
    assert "tallystick[tpm]" in found["remedy"]
    assert "apt install libtss2-dev" in found["remedy"]


def test_the_doctor_says_that_a_silent_tpm_is_silent(person: Person) -> None:
    person.tpm.kill()
    shown = person.desk.ok("doctor", "--json").json()
    assert "device_silent" in shown["tpm"]["problem"]
    assert shown["tpm"]["remedy"]


def test_a_tpm_in_lockout_goes_on_working_and_the_doctor_says_so(person: Person) -> None:
    assert examine(person.tpm.tcti)["lockout"] == "no"
    lock_out(person.tpm)
    found = examine(person.tpm.tcti)
    assert found["lockout"].startswith("yes")
    assert "go on working" in found["lockout"]
    person.desk.activate("render", units=5)
    person.desk.ok("use", "render", "2")


def lock_out(tpm: Swtpm) -> None:
    """Read what is under protection with wrong passwords, as often as it takes."""
    chip = Chip(tpm.tcti)

    def define(esys: ESAPI) -> None:
        attributes = TPMA_NV.AUTHREAD | TPMA_NV.AUTHWRITE
        public = t.TPMS_NV_PUBLIC(nvIndex=_PROTECTED, nameAlg=TPM2_ALG.SHA256, attributes=attributes, dataSize=8)
        esys.nv_define_space(b"right", t.TPM2B_NV_PUBLIC(nvPublic=public))
        handle = esys.tr_from_tpmpublic(_PROTECTED)
        esys.tr_set_auth(handle, b"right")
        esys.nv_write(handle, bytes(8))

    def guess(esys: ESAPI) -> None:
        handle = esys.tr_from_tpmpublic(_PROTECTED)
        esys.tr_set_auth(handle, b"wrong")
        esys.nv_read(handle, 8)

    chip.run(define)
    for _ in range(40):
        with pytest.raises(TallystickError):
            chip.run(guess)
    chip.close()


# ------------------------------------------------------------------------------------------------------------ destroy


def test_destroying_lists_everything_and_leaves_the_storage_key_alone(person: Person) -> None:
    made = person.indices()
    assert len(made) == 2
    dry = person.desk.ok("destroy", "--dry-run").out
    for number in made:
        assert f"NV index {number:#x} of the TPM" in dry
    assert "not removed: persistent key 0x81000001" in dry
    assert person.indices() == made
    person.desk.ok("list")
    assert person.desk.ok("destroy", "--yes").out == dry
    assert person.indices() == ()
    assert person.tpm.listed(PERSISTENT) == (SRK_HANDLE,)
    assert not person.tpm.handles()
    assert not person.folder.exists()
    person.desk.ok("create")


def test_what_others_have_in_the_tpm_stays(person: Person) -> None:
    second = f"tpm:path={person.desk.folder}/second;tcti={person.tpm.tcti}"
    person.desk.ok("create", second)
    person.desk.ok("destroy", person.uri, "--yes")
    assert len(person.indices()) == 2
    person.desk.ok("list", "--container", second)
    person.desk.ok("destroy", second, "--yes")
    assert person.indices() == ()


def test_meters_go_too_also_those_no_file_names(person: Person) -> None:
    with Directory.open(str(person.folder), read_only=True) as directory:
        thumbprint = ChipRecord.load(directory).public_key.thumbprint
    chip = Chip(person.tpm.tcti)
    for number, owner in ((0x01A00001, thumbprint), (0x01A00002, bytes(32))):
        kind = TPMA_NV.AUTHREAD | TPMA_NV.AUTHWRITE | TPM2_NT.COUNTER << TPMA_NV.TPM2_NT_SHIFT
        public = t.TPMS_NV_PUBLIC(
            nvIndex=number, nameAlg=TPM2_ALG.SHA256, attributes=kind, authPolicy=sha256(MARKER + owner), dataSize=8
        )
        chip.run(lambda esys, public=public: esys.nv_define_space(b"", t.TPM2B_NV_PUBLIC(nvPublic=public)))  # type: ignore[misc]
    chip.close()
    assert "NV index 0x1a00001 of the TPM (meter)" in person.desk.ok("destroy", "--yes").out
    assert person.indices() == (0x01A00002,)  # another container's


def test_one_that_holds_a_license_is_refused_unless_forced(person: Person) -> None:
    person.desk.activate("render")
    refused = person.desk.tally("destroy", "--yes")
    assert refused.status == 8
    assert "1 license" in refused.error
    person.desk.ok("check", "render")
    person.desk.ok("destroy", "--yes", "--force")
    assert person.indices() == ()


def test_in_a_cleared_tpm_there_is_nothing_left_to_remove(
    tmp_path: Path, make_tpm: Callable[..., Swtpm], factory: Prepared
) -> None:
    person = Person(tmp_path, make_tpm("sold", template=factory.state))
    person.desk.ok("create")
    person.tpm.clear()
    refused = person.desk.tally("destroy", "--yes")
    assert refused.status == 8
    assert "chip_cleared" in refused.error
    shown = person.desk.ok("destroy", "--yes", "--force", "--json").json()
    assert shown["left"] == []
    assert all("NV index" not in line for line in shown["removed"])
    assert not person.folder.exists()


def test_what_is_in_another_tpm_is_named(person: Person, make_tpm: Callable[..., Swtpm]) -> None:
    uri = person.elsewhere(make_tpm("other"))
    assert "chip_changed" in person.desk.tally("destroy", uri, "--yes").error
    shown = person.desk.ok("destroy", uri, "--yes", "--force", "--json").json()
    for number in person.indices():
        assert f"NV index {number:#x} of the TPM: this is another TPM" in shown["left"]
    assert len(person.indices()) == 2
    assert not person.folder.exists()


@pytest.mark.parametrize("way", ["device:/nonexistent/tpmrm0", "swtpm:path=/nonexistent/socket"])
def test_where_the_tpm_is_gone_the_files_go_and_what_stays_is_named(person: Person, way: str) -> None:
    uri = f"tpm:path={person.folder};tcti={way}"
    refused = person.desk.tally("destroy", uri, "--yes")
    assert refused.status == 6
    assert "`--force` removes the files, and what they hold; NV index " in refused.remedy
    done = person.desk.ok("destroy", uri, "--yes", "--force")
    for number in person.indices():
        assert f"{LEFT}NV index {number:#x} of the TPM" in done.out
    assert not person.folder.exists()


def test_a_tpm_that_is_not_running_is_not_taken_for_gone(person: Person) -> None:
    person.tpm.kill()
    refused = person.desk.tally("destroy", "--yes", "--force")
    assert refused.status == 6
    assert str(person.folder) in refused.remedy
    person.tpm.start()
    person.desk.ok("list")  # nothing was begun
    person.desk.ok("destroy", "--yes")


def test_a_damaged_record_is_made_good_for_by_the_states(person: Person) -> None:
    (person.folder / "anchor").write_bytes(b"damaged")
    assert person.desk.tally("destroy", "--yes").status in (3, 8)
    shown = person.desk.ok("destroy", "--yes", "--force", "--json").json()
    assert shown["left"] == []
    assert person.indices() == ()


def test_without_record_and_states_it_says_that_it_cannot_know(person: Person) -> None:
    (person.folder / "anchor").write_bytes(b"damaged")
    for name in ("state.A", "state.B"):
        (person.folder / name).write_bytes(b"damaged")
    shown = person.desk.ok("destroy", "--yes", "--force", "--json").json()
    assert "tpm2_getcap handles-nv-index" in shown["left"][0]
    assert len(person.indices()) == 2


def test_the_files_alone_are_not_destroyed_as_those_of_a_file_container(person: Person) -> None:
    refused = person.desk.tally("destroy", f"file:{person.folder}", "--yes", "--force")
    assert refused.status == 3
    person.desk.ok("list")


def test_a_tpm_with_an_owner_password_asks_for_it(person: Person) -> None:
    password = b"owner"
    body = len(password).to_bytes(2, "big") + password
    succeeded(person.tpm.ask(authorized(_HIERARCHY_CHANGE_AUTH, _OWNER, body)))
    assert examine(person.tpm.tcti)["owner password"].startswith("is set")
    person.desk.ok("list")
    refused = person.desk.tally("destroy", "--yes")
    assert "owner password" in refused.error
    assert "owner-auth-source" in refused.remedy
    source = person.desk.folder / "owner"
    source.write_bytes(password)
    person.desk.ok("destroy", f"{person.uri}?owner-auth-source=file:{source}", "--yes")
    assert person.indices() == ()


class Failing(Vfs):
    """An operating system that refuses to change anything from the n-th change on."""

    def __init__(self, left: int) -> None:
        self.left = left

    def _change(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise OSError(5, os.strerror(5))

    def unlink(self, name: str, dir_fd: int) -> None:
        self._change()
        super().unlink(name, dir_fd)

    def rename(self, source: str, target: str, dir_fd: int) -> None:
        self._change()
        super().rename(source, target, dir_fd)

    def rmdir(self, path: str) -> None:
        self._change()
        super().rmdir(path)


def test_what_interrupts_it_is_gone_on_with(person: Person) -> None:
    person.desk.activate("render")
    for left in range(20):
        try:
            TpmBackend(vfs=Failing(left)).destroy(person.uri, force=True)
        except TallystickError as refusal:
            assert refusal.code == "io_error"
        else:
            break
        if left == 0:
            person.desk.ok("check", "render")  # not even begun
            continue
        assert person.desk.tally("list").status == 4
        if list(person.folder.iterdir()):
            person.desk.ok("destroy", "--yes")  # it needs no force any more
            assert not person.folder.exists()
        assert person.indices() == ()
        person.desk.ok("create")
        person.desk.activate("render")
    assert left > 5
    assert person.indices() == ()
    assert not person.folder.exists()
