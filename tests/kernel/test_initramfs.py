# SPDX-License-Identifier: Apache-2.0
"""What a machine is given, without a machine: archive, order of its modules, kernel's name, folders, TPM."""

from __future__ import annotations

import lzma
import sys
from pathlib import Path

import fetch
import host_tpm
import pytest
import qemu
from initramfs import LOADED_LATER, MODULES, initramfs, order

SHOWN = """Package: linux-image-amd64
Version: 6.1.9-2
Depends: linux-image-6.1.0-9-amd64 (= 6.1.9-2)
Description-en: Linux for 64-bit PCs (meta-package)

Package: busybox-static
Version: 1:1.35.0-4

"""


def module(folder: Path, name: str, *depends: str, compressed: bool = False) -> None:
    data = b"\x7fELF...\0license=GPL\0depends=" + ",".join(depends).encode() + b"\0name=" + name.encode() + b"\0"
    path = folder / f"{name}.ko{'.xz' if compressed else ''}"
    path.write_bytes(lzma.compress(data) if compressed else data)


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    """A kernel's modules: all of `MODULES`, some of them built in, compressed, with a hyphen, depending on others."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "modules.builtin").write_text("kernel/drivers/usb/core/usbcore.ko\nkernel/drivers/virtio/virtio-pci.ko\n")
    for name in ("virtio_console", "virtio_net", "9p", "dummy_hcd", "libcomposite"):
        module(folder, name)
    module(folder, "virtio-rng", compressed=True)
    module(folder, "9pnet_virtio", "9pnet")
    module(folder, "9pnet", "netfs")
    module(folder, "netfs", compressed=True)
    module(folder, "vhci-hcd", "usbip-core", "usbcore")
    module(folder, "usbip-core")
    module(folder, "usb_f_fs", "libcomposite")
    module(folder, "tpm_crb", "tpm")
    module(folder, "tpm")
    return folder


def entries(archive: bytes) -> dict[str, tuple[int, bytes]]:
    """Read a cpio archive again: modes and contents by name."""
    found: dict[str, tuple[int, bytes]] = {}
    at = 0
    while True:
        assert archive[at : at + 6] == b"070701"
        fields = [int(archive[at + 6 + 8 * number : at + 14 + 8 * number], 16) for number in range(13)]
        mode, size, length = fields[1], fields[6], fields[11]
        name = archive[at + 110 : at + 109 + length].decode()
        begin = at + 110 + length + (-(110 + length) % 4)
        if name == "TRAILER!!!":
            return found
        found[name] = (mode, archive[begin : begin + size])
        at = begin + size + -size % 4


def test_modules_come_behind_what_they_need(modules: Path) -> None:
    found = [path.name.partition(".ko")[0] for path in order(modules, MODULES)]
    assert "usbcore" not in found
    assert found.index("netfs") < found.index("9pnet") < found.index("9pnet_virtio")
    assert found.index("usbip-core") < found.index("vhci-hcd")
    assert found.index("tpm") < found.index("tpm_crb")
    assert len(found) == len(set(found))


def test_a_module_that_is_not_there_is_named(modules: Path) -> None:
    (modules / "dummy_hcd.ko").unlink()
    with pytest.raises(KeyError, match="dummy_hcd"):
        order(modules, MODULES)


def test_the_archive_holds_what_the_script_uses(modules: Path, tmp_path: Path) -> None:
    (tmp_path / "busybox").write_bytes(b"static")
    made = initramfs(modules, tmp_path / "busybox", [Path("/usr"), Path("/srv/it")], Path("/srv/it"), "run me")
    found = entries(made)
    script = found["init"][1].decode()
    assert found["busybox"] == (0o100755, b"static")
    assert "for s in /usr /srv/it;" in script
    assert "\nrun me $port " in script
    (loading,) = (line for line in script.splitlines() if line.startswith("for m in"))
    assert "virtio_rng.ko" in loading
    assert all(f"{name}.ko" not in loading for name in LOADED_LATER)
    assert found["modules/order"][1].decode().split() == ["dummy_hcd", "libcomposite", "usb_f_fs"]
    assert b"depends=" in found["modules/virtio_rng.ko"][1], "unpacked: busybox cannot"
    assert "@" not in script


def test_users_are_in_the_groups_that_let_them_in(modules: Path, tmp_path: Path) -> None:
    (tmp_path / "busybox").write_bytes(b"static")
    found = entries(initramfs(modules, tmp_path / "busybox", [], Path("/"), "run me"))
    users = [line.split(":")[0] for line in found["etc/passwd"][1].decode().splitlines()]
    members = {line.split(":")[0]: line.split(":")[3] for line in found["etc/group"][1].decode().splitlines()}
    assert set(users) <= set(members), "each has a group of its own"
    assert {name: said for name, said in members.items() if said} == {"plugdev": "remote", "tss": "member"}


def test_the_kernel_keeps_off_the_whole_archive() -> None:
    (size, reserved) = (5 << 20) + 1, 6
    assert qemu._placed(size).split() == [f"initrdmem=0x10000000,{size}", f"memmap={reserved}M$0x10000000"]


def test_a_machine_has_a_tpm_only_if_it_is_given_one() -> None:
    assert [*qemu._tpm(None)] == []


def test_a_tpm_that_does_not_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "broken"
    program.write_text("#!/bin/sh\necho no room for a TPM here >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(host_tpm, "SWTPM", str(program))
    with pytest.raises(OSError, match="no room for a TPM here"):
        host_tpm.SoftwareTpm(tmp_path)


def test_the_newest_kernel_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "_run", lambda *_, **__: SHOWN)
    assert fetch._current() == (("linux-image-6.1.0-9-amd64", "6.1.9-2"), ("busybox-static", "1:1.35.0-4"))
    monkeypatch.setattr(fetch, "_run", lambda *_, **__: SHOWN.replace("linux-image-6", "other-6"))
    with pytest.raises(fetch.Unavailable, match="apt-get update"):
        fetch._current()


def test_only_what_is_needed_is_shared() -> None:
    folders = qemu.shared(Path("/usr/src/project"))
    assert folders[0] == Path("/usr")
    assert not any(one != other and one.is_relative_to(other) for one in folders for other in folders)
    assert any(Path(sys.prefix).resolve().is_relative_to(folder) for folder in folders)
    assert Path("/") not in folders


def test_a_folder_that_the_guest_could_not_use_is_named(tmp_path: Path) -> None:
    if qemu.obstacle([]):
        pytest.skip("no machine can be started here anyway")
    closed, odd = tmp_path / "closed", tmp_path / "with space"
    closed.mkdir(0o700)
    odd.mkdir(0o755)
    assert "its mode" in qemu.obstacle([closed])
    assert "spaces" in qemu.obstacle([odd])
