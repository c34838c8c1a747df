# SPDX-License-Identifier: Apache-2.0
"""Levels from device certificates: proven by a factory on the books, for the key that asks, and never more than both
say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from shop import Shop

from fakes import START
from firmware_sim.dongle import DirectLink, SimulatedDongle
from firmware_sim.factory import Line
from firmware_sim.flash import Flash
from firmware_sim.platform import SimulatedBoard
from tallystick.authority import factories, keysets
from tallystick.authority.correspondence import containers
from tallystick.authority.issuing import issue
from tallystick.codec import cose
from tallystick.codec.signing import SoftwareKey
from tallystick.container.base import Container
from tallystick.dongle.client import DongleClient
from tallystick.dongle.opening import open_dongle
from tallystick.errors import TallystickError
from tallystick.license.device import DeviceCertificate
from tallystick.license.grant_policy import MAY_ALL, SEATS, GrantPolicy
from tallystick.license.messages import read_request
from tallystick.license.model import Terms
from tallystick.license.pins import ACCOUNT_STAYS, KEY_STAYS, Factory

Stick = Callable[..., tuple[SimulatedDongle, Container]]


@pytest.fixture
def line(tmp_path: Path) -> Line:
    return Line.found(tmp_path / "factory", "works", now=lambda: START, identity=b"floor")


@pytest.fixture
def stick(shop: Shop) -> Stick:
    """Make a dongle, certified by a line or not, and open it."""

    def make(line: Line | None = None, level: int = ACCOUNT_STAYS) -> tuple[SimulatedDongle, Container]:
        device = SimulatedDongle(SimulatedBoard(Flash(64)), shop.clock.read())
        if line is not None:
            line.certify(DongleClient(DirectLink(device), shop.clock.monotonic, bytes), level=level)
        return device, open_dongle("usb:", DirectLink(device), [shop.trust], shop.clock, background=False)

    return make


def level_of(shop: Shop, container: Container) -> int:
    (known,) = [one for one in containers(shop.office) if one.container == container.info().container_id]
    return known.level


def test_a_certified_dongle_gets_what_needs_level_three(shop: Shop, line: Line, stick: Stick) -> None:
    shop.sell("best", Terms(min_level=3))
    code = shop.entitle("best", quantity=3).code.reveal()
    _, container = stick(line)
    refused, _ = shop.activate(container, code)
    assert "level L3" in _refusal(refused.message)
    assert "factory works" in refused.warnings[0]
    assert "vendor factory add" in refused.warnings[0]
    factories.add(shop.office, line.factory.to_text())
    result, outcome = shop.activate(container, code)
    assert [change.change for change in outcome.changes] == ["installed"]
    assert result.warnings == ()
    assert level_of(shop, container) == 3
    with container.checkout("cad") as seat:
        assert seat.check()


def _refusal(message: bytes) -> str:
    return str(cose.peek(message)[1][-65602])


@pytest.mark.parametrize(
    ("certified", "believed", "proven"),
    [
        (ACCOUNT_STAYS, ACCOUNT_STAYS, 3),
        (ACCOUNT_STAYS, KEY_STAYS, 2),
        (KEY_STAYS, ACCOUNT_STAYS, 2),
        (KEY_STAYS, KEY_STAYS, 2),
    ],
)
def test_the_lower_of_both_counts(sqlite_shop: Shop, line: Line, certified: int, believed: int, proven: int) -> None:
    factories.add(sqlite_shop.office, line.factory.to_text(), level=believed)
    device = SimulatedDongle(SimulatedBoard(Flash(64)), sqlite_shop.clock.read())
    line.certify(DongleClient(DirectLink(device), sqlite_shop.clock.monotonic, bytes), level=certified)
    with open_dongle("usb:", DirectLink(device), [sqlite_shop.trust], sqlite_shop.clock, background=False) as container:
        issue(sqlite_shop.office, container.request(code=sqlite_shop.entitle().code.reveal()))
        assert level_of(sqlite_shop, container) == proven


def test_without_a_certificate_it_is_level_zero(shop: Shop, line: Line, stick: Stick) -> None:
    factories.add(shop.office, line.factory.to_text())
    _, container = stick()
    result, _ = shop.activate(container, shop.entitle().code.reveal())
    assert level_of(shop, container) == 0
    assert result.warnings == ()


def test_a_certificate_of_another_device_or_another_key_proves_nothing(shop: Shop, line: Line, stick: Stick) -> None:
    """Somebody's own key, and a good certificate beside it; then one that the right name signed with a wrong key."""
    factories.add(shop.office, line.factory.to_text())
    device, container = stick(line)
    good = device.firmware.account.device.certificate
    thief, own = SoftwareKey.generate(), SoftwareKey.generate()
    code = shop.entitle().code.reveal()
    request = read_request(container.request(code=code))
    forged = DeviceCertificate("works", START, bytes(16), thief.public_key, bytes(16), ACCOUNT_STAYS).sign(own)
    for certificate, says in ((good, "another device"), (forged, "not signed by the key of works"), (b"\xd2", "")):
        copied = request.replace(
            key=thief.public_key,
            evidence={"dongle": certificate, "unknown": b"x"},
            request_id=bytes([len(says)]) * 16,
            previous=None,
        )
        result = issue(shop.office, copied.sign(thief))
        assert len(result.warnings) == 1
        assert "proves nothing" in result.warnings[0]
        assert says in result.warnings[0]
    known = {one.thumbprint: one.level for one in containers(shop.office)}
    assert known[thief.public_key.thumbprint.hex()] == 0


def test_a_factory_removed_is_believed_no_more(shop: Shop, line: Line, stick: Stick) -> None:
    factories.add(shop.office, line.factory.to_text())
    _, container = stick(line)
    shop.activate(container, shop.entitle().code.reveal())
    assert level_of(shop, container) == 3
    assert factories.remove(shop.office, "works").level == 3
    result, _ = shop.activate(container, "", refresh=True)
    assert "factory works" in result.warnings[0]
    assert level_of(shop, container) == 0
    with pytest.raises(TallystickError, match="there is no factory works"):
        factories.remove(shop.office, "works")


def test_the_books_of_factories(shop: Shop, line: Line) -> None:
    known = factories.add(shop.office, line.factory.to_text())
    assert (known.name, known.level, known.text) == ("works", 3, line.factory.to_text())
    assert factories.add(shop.office, line.factory.to_text(), level=KEY_STAYS).level == 2
    assert [one.level for one in factories.factories(shop.office)] == [2]
    other = Factory("works", SoftwareKey.generate().public_key)
    with pytest.raises(TallystickError) as caught:
        factories.add(shop.office, other.to_text())
    assert caught.value.code == "record_exists"
    for wrong in ("", "tallytrust:works:AA", "tallyfactory:works", "tallyfactory:works:AA", "tallyfactory:a b:AA"):
        with pytest.raises(TallystickError) as caught:
            factories.add(shop.office, wrong)
        assert caught.value.code == "usage"
    for level in (0, 1, 4):
        with pytest.raises(TallystickError) as caught:
            factories.add(shop.office, line.factory.to_text(), level=level)
        assert caught.value.code == "usage"


def test_containers_judge_each_other_by_the_key_set(shop: Shop, line: Line, stick: Stick) -> None:
    """What needs a level is lent to a dongle that proves it to the lender, offline, and to nobody else."""
    factories.add(shop.office, line.factory.to_text())
    free = GrantPolicy(MAY_ALL)
    shop.sell("lendable", Terms(min_level=2, seats=5, lend=free, transfer=free))
    code = shop.entitle("lendable", quantity=1).code.reveal()
    (_, giver), (_, receiver), (_, plain) = stick(line), stick(line), stick()
    shop.activate(giver, code)
    ends = giver.info().now + 86_400

    def lend(borrower: Container, transfer: bool = False) -> None:
        asked = borrower.lending.ask(
            shop.trust, product="cad", amounts={SEATS: 1}, transfer=transfer, duration=None if transfer else 86_400
        )
        grant = giver.lending.give(asked, ends=None if transfer else ends, transfer=transfer)
        borrower.install(grant)

    for borrower in (receiver, plain):
        with pytest.raises(TallystickError) as caught:
            lend(borrower)
        assert caught.value.code == "receiver_level", "the lender has not heard of the factory"
    assert keysets.publish(shop.office).keyset_seq == 2
    shop.activate(giver, "", refresh=True)
    lend(receiver)
    lend(receiver, transfer=True)
    for transfer in (False, True):
        with pytest.raises(TallystickError) as caught:
            lend(plain, transfer)
        assert caught.value.code == "receiver_level"
    with receiver.checkout("cad") as seat:
        assert seat.check()
    invitation = plain.lending.ask(shop.trust, transfer=True, count=9)
    with pytest.raises(TallystickError) as caught:
        giver.lending.move(invitation)
    assert caught.value.code == "receiver_level"
    receiver.install(giver.lending.move(receiver.lending.ask(shop.trust, transfer=True, count=9)))
    assert sum(view.license_.terms.seats or 0 for view in receiver.licenses() if view.license_) == 5
