# SPDX-License-Identifier: Apache-2.0
"""The factory line: what it certifies, what it refuses, and that an interruption loses nothing (R46)."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fakes import START, FakeClock
from firmware_sim.__main__ import main
from firmware_sim.control import Control
from firmware_sim.dongle import DirectLink, SimulatedDongle
from firmware_sim.factory import Line
from firmware_sim.flash import Flash
from firmware_sim.image import ImageFlash
from firmware_sim.platform import SimulatedBoard
from tallystick.cli import main as tally
from tallystick.codec.ident import container_id
from tallystick.codec.signing import SoftwareKey
from tallystick.container.anchor import Capability
from tallystick.dongle.client import DongleClient
from tallystick.dongle.opening import open_dongle
from tallystick.errors import TallystickError
from tallystick.license.device import DeviceCertificate, accept_certificate
from tallystick.license.pins import ACCOUNT_STAYS, KEY_STAYS, Factory

IDENTITY = b"this computer"
CHIP = bytes(range(16))


@pytest.fixture
def line(tmp_path: Path) -> Line:
    return Line.found(tmp_path / "factory", "works", now=lambda: START, identity=IDENTITY)


def board(*, locked: bool = True) -> SimulatedBoard:
    return SimulatedBoard(Flash(64), CHIP, locked=locked)


def dongle(made: SimulatedBoard | None = None) -> SimulatedDongle:
    return SimulatedDongle(made or board(), FakeClock().read())


def client_of(device: SimulatedDongle) -> DongleClient:
    return DongleClient(DirectLink(device), FakeClock().monotonic, os.urandom)


def refused(line: Line, device: SimulatedDongle) -> str:
    with pytest.raises(TallystickError) as caught:
        line.certify(client_of(device))
    assert line.devices() == (), "and nothing is on record"
    return caught.value.code


def test_a_new_device_is_certified(line: Line) -> None:
    device = dongle()
    done = line.certify(client_of(device), model="stick 1")
    assert done.container == device.serial
    assert not done.again
    certificate = done.certificate
    assert (certificate.factory, certificate.level, certificate.chip_id) == ("works", ACCOUNT_STAYS, CHIP)
    kept = device.firmware.account.device.certificate
    key = device.firmware.account.anchor.public_key
    assert accept_certificate(kept, Factory.from_text(line.factory.to_text()), key) == certificate
    assert line.devices() == (certificate,)
    fresh = client_of(device)
    fresh.call("status")
    assert fresh.certificate == kept, "the handshake shows it"


def test_it_stays_through_power_loss_and_makes_the_promises_true(line: Line) -> None:
    device = dongle()
    before = open_dongle("usb:", DirectLink(device), (), FakeClock())
    assert Capability.METERED not in before.info().capabilities
    before.close()
    line.certify(client_of(device))
    device.unplug()
    device.plug()
    after = open_dongle("usb:", DirectLink(device), (), FakeClock())
    assert Capability.METERED in after.info().capabilities
    assert after.info().details["certified"] == "by works, for level L3"
    after.close()


def test_an_open_debug_port_gets_none(line: Line) -> None:
    device = dongle(board(locked=False))
    assert refused(line, device) == "debug_port_open"
    assert device.firmware.account.device.certificate == b""


def test_a_device_that_was_used_gets_none(line: Line) -> None:
    device = dongle()
    with open_dongle("usb:", DirectLink(device), (), FakeClock()) as container:
        container.note("drift", "somebody was here")
    assert refused(line, device) == "already_exists"


def test_a_device_of_another_factory_keeps_its_certificate(line: Line, tmp_path: Path) -> None:
    device = dongle()
    Line.found(tmp_path / "other", "other", now=lambda: START, identity=IDENTITY).certify(client_of(device))
    assert refused(line, device) == "already_exists"
    shown = client_of(device)
    shown.call("status")
    assert b"other" in shown.certificate


def test_a_device_takes_no_certificate_of_another_key_nor_a_second_one(line: Line) -> None:
    device, key = dongle(), SoftwareKey.generate().public_key
    foreign = DeviceCertificate("works", START, bytes(16), key, CHIP, KEY_STAYS).sign(SoftwareKey.generate())
    for message, code in ((foreign, "wrong_container"), (b"\xd2\x84", "malformed"), (b"x" * 4096, "malformed")):
        with pytest.raises(TallystickError) as caught:
            client_of(device).call("certify", message)
        assert caught.value.code == code
    line.certify(client_of(device))
    again = DeviceCertificate("own", START, bytes(16), device.firmware.account.anchor.public_key, CHIP, ACCOUNT_STAYS)
    with pytest.raises(TallystickError) as caught:
        client_of(device).call("certify", again.sign(SoftwareKey.generate()))
    assert caught.value.code == "already_exists"


@pytest.mark.parametrize("operation", range(1, 12))
def test_power_lost_on_the_line_is_finished_by_repeating(line: Line, operation: int) -> None:
    device = dongle()
    device.power_cut(operation)
    try:
        first = line.certify(client_of(device)).certificate
    except TallystickError as reason:
        assert reason.code == "device_removed"
        device.plug()
        first = line.devices()[0]
        assert device.firmware.account.device.certificate in (b"", _kept(line))
    device.plug()
    done = line.certify(client_of(device))
    assert done.again
    assert done.certificate == first
    assert len(line.devices()) == 1


def _kept(line: Line) -> bytes:
    (record,) = (line.home / "devices").iterdir()
    return record.read_bytes()


def test_the_puk_is_set_and_told_once(line: Line) -> None:
    device = dongle()
    done = line.certify(client_of(device), puk=True)
    assert len(done.puk) == 8
    client = client_of(device)
    client.call("change_pin", "", "1234")
    client.call("unblock_pin", done.puk, "4321")
    assert done.puk.encode() not in b"".join(one.read_bytes() for one in line.home.rglob("*") if one.is_file())


def test_a_factory_is_found_once_and_opens_only_where_it_was_made(line: Line) -> None:
    with pytest.raises(TallystickError) as caught:
        Line.found(line.home, "works", now=lambda: START, identity=IDENTITY)
    assert caught.value.code == "already_exists"
    assert Line.open(line.home, now=lambda: START, identity=IDENTITY).factory == line.factory
    with pytest.raises(TallystickError) as caught:
        Line.open(line.home, now=lambda: START, identity=b"another computer")
    assert caught.value.code == "binding_lost"
    with pytest.raises(TallystickError) as caught:
        Line.open(line.home.parent / "nothing", now=lambda: START)
    assert caught.value.code == "container_not_found"


# ---------------------------------------------------------------------------------------------- the command line


class Floor:
    """A factory floor on which commands are typed."""

    def __init__(self, folder: Path) -> None:
        self.identity = folder / "identity"
        self.identity.write_bytes(IDENTITY)
        self.options = ("--home", str(folder / "factory"), "--identity-file", str(self.identity))

    def factory(self, *words: str) -> Result:
        """Type ``factory WORDS``."""
        return CliRunner().invoke(main, ["factory", *words, *self.options])


@pytest.fixture
def floor(tmp_path: Path) -> Floor:
    return Floor(tmp_path)


def test_the_line_as_it_is_typed(floor: Floor, tmp_path: Path) -> None:
    made = floor.factory("init", "works", "--json")
    assert made.exit_code == 0, made.output
    text = json.loads(made.output)["text"]
    assert floor.factory("show").output.strip() == text
    assert floor.factory("init", "works").exit_code == 1
    uri = f"sim:{tmp_path / 'demo.img'}"
    assert tally(["create", uri]) == 0
    done = floor.factory("certify", uri, "--model", "demo", "--puk", "--json")
    assert done.exit_code == 0, done.output
    row = json.loads(done.output)
    assert (row["factory"], row["level"], row["model"], row["again"]) == ("works", 3, "demo", False)
    assert len(row["puk"]) == 8
    assert row["chip"] != "00" * 16
    listed = json.loads(floor.factory("list", "--json").output)["devices"]
    assert [one["container"] for one in listed] == [row["container"]]
    assert row["container"] in floor.factory("list").output
    again = floor.factory("certify", uri)
    assert "already" in again.output
    (record,) = (tmp_path / "factory" / "devices").iterdir()
    assert container_id(Factory.from_text(text).key.thumbprint) not in record.name
    assert tally(["inspect", str(record)]) == 0


def test_the_line_refuses_with_a_remedy(floor: Floor, tmp_path: Path) -> None:
    assert "factory init" in floor.factory("show").output
    floor.factory("init", "works")
    assert "is no dongle" in floor.factory("certify", "file:nothing").output
    image = tmp_path / "open.img"
    ImageFlash.create(str(image), 64)
    Control(str(image)).order(debug=True)
    done = floor.factory("certify", f"sim:{image}")
    assert done.exit_code == 1
    assert "debug port" in done.output
    assert json.loads(floor.factory("list", "--json").output)["devices"] == []
