# SPDX-License-Identifier: Apache-2.0
"""The gadget as far as it goes without a kernel: what FunctionFS is told, and what is refused before that.

The rest is in ``checks_gadget.py``, in the guest.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from click.testing import CliRunner

from firmware_sim import gadget_descriptors, gadget_tree
from firmware_sim.__main__ import main
from firmware_sim.usb_descriptors import CONFIGURATION, INTERFACE_GUID, Identity, configuration
from tallystick.errors import TallystickError


@pytest.fixture
def ports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(gadget_tree, "PORTS", tmp_path)
    return tmp_path


@pytest.mark.parametrize("version", gadget_descriptors.VERSIONS)
def test_functionfs_is_told_the_same_interface_at_both_speeds(version: int) -> None:
    data = gadget_descriptors.interface(version)
    magic, length, flags, full, high, microsoft = struct.unpack_from("<6I", data)
    assert (magic, length, flags) == (3, len(data), 1 | 2 | 8 | 64 | 128)
    assert (full, high, microsoft) == (3, 3, 2), "an interface and two endpoints, at each speed"
    assert data[24:47] == configuration(CONFIGURATION, 64)[9:]
    assert data[47:70] == configuration(CONFIGURATION, 512)[9:]
    at, kinds = 70, []
    while at < len(data):
        _, size, said, kind = struct.unpack_from("<BIHH", data, at)
        assert said == version
        kinds.append((kind, data[at : at + size]))
        at += size
    assert at == len(data)
    (compatible, one), (properties, other) = kinds
    assert (compatible, properties) == (4, 5)
    assert b"WINUSB\0\0" in one
    assert INTERFACE_GUID.encode() in other


def test_strings_are_the_devices_business() -> None:
    assert struct.unpack("<4I", gadget_descriptors.strings()) == (2, 16, 0, 0)


def test_the_only_port_is_chosen(ports: Path) -> None:
    (ports / "20980000.usb").mkdir()
    assert gadget_tree.port(None) == gadget_tree.port("20980000.usb") == "20980000.usb"


@pytest.mark.parametrize(
    ("there", "named", "code", "remedy"),
    [
        ((), None, "backend_unavailable", "dtoverlay=dwc2"),
        (("one", "two"), None, "usage", "--udc NAME"),
        (("one",), "two", "usage", ""),
    ],
)
def test_without_a_port_it_says_what_to_do(
    ports: Path, there: tuple[str, ...], named: str | None, code: str, remedy: str
) -> None:
    for name in there:
        (ports / name).mkdir()
    with pytest.raises(TallystickError) as refusal:
        gadget_tree.port(named)
    assert refusal.value.code == code
    assert remedy in refusal.value.remedy


def test_a_port_has_one_gadget_at_a_time(ports: Path) -> None:
    (ports / "one").mkdir()
    held = gadget_tree.Gadget("one", Identity("TS-1"), ports / "mounted")
    with pytest.raises(TallystickError, match="another dongle is on one"):
        gadget_tree.Gadget("one", Identity("TS-2"), ports / "mounted")
    os.close(held._lock)


def test_the_command_needs_root_and_a_kernel_with_gadgets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = str(tmp_path / "one.img")
    for user, said in ((1000, "made by root"), (0, "modprobe libcomposite")):
        monkeypatch.setattr(os, "geteuid", lambda user=user: user)
        monkeypatch.setattr(gadget_tree, "GADGETS", tmp_path / "nowhere")
        done = CliRunner().invoke(main, ["gadget", image])
        assert (done.exit_code, said in done.output) == (1, True), done.output
    assert not Path(image).exists()
    assert CliRunner().invoke(main, ["gadget", image, "--vid", "xyz"]).exit_code == 2
