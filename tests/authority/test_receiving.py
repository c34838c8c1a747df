# SPDX-License-Identifier: Apache-2.0
"""Receipts free slots, exactly once, and carry the account along; reports prove nothing."""

from __future__ import annotations

import pytest
from shop import DAY, Machine, Shop

from made import Device, id16
from tallystick.authority.audit import rows
from tallystick.authority.correspondence import cases, containers
from tallystick.authority.entitlements import entitlement
from tallystick.authority.issuing import issue
from tallystick.authority.lookups import license_, licenses
from tallystick.authority.receiving import receive
from tallystick.authority.refreshing import release
from tallystick.backends.file import FileBackend
from tallystick.backends.traits.base import Reading
from tallystick.errors import TallystickError
from tallystick.license.messages import Account
from tallystick.license.model import Feature, Terms
from tallystick.license.receipts import DEACTIVATED, INSTALLED


def given_up(shop: Shop, device: Device, code: str) -> tuple[bytes, bytes]:
    """A license issued to a device, and the device's receipt of giving it up."""
    request = device.request(code=code, product="", quantity=1, accounts=())
    issue(shop.office, request.sign(device.identity))
    key = bytes.fromhex(licenses(shop.office)[0].license_id)
    account = Account(key, 0, {"": 7, "render": 3}, {"": shop.now()})
    receipt = device.receipt(accounts=(account,), about=None, purpose=DEACTIVATED)
    return key, receipt.sign(device.identity)


def test_a_receipt_frees_its_slot_exactly_once(shop: Shop) -> None:
    sold = shop.entitle(quantity=2)
    key, receipt = given_up(shop, Device(), sold.code.reveal())
    first = receive(shop.office, receipt)
    again = receive(shop.office, receipt)
    assert (first.licenses[0].effect, first.repeated) == ("freed", False)
    assert again.repeated
    assert again.licenses == first.licenses
    assert entitlement(shop.office, sold.entitlement.id).taken == 0
    assert license_(shop.office, key.hex()).freed_by == "receipt"


def test_another_receipt_about_the_same_license_frees_nothing_more(shop: Shop) -> None:
    sold, device = shop.entitle(quantity=2), Device()
    key, receipt = given_up(shop, device, sold.code.reveal())
    receive(shop.office, receipt)
    second = device.receipt(message_id=id16(99), accounts=(Account(key, 0, {"": 9}),), about=None)
    result = receive(shop.office, second.sign(device.identity))
    assert result.licenses[0].effect == "freed before"
    assert result.licenses[0].used == {"": 9, "render": 3}
    assert entitlement(shop.office, sold.entitlement.id).taken == 0


def test_consumption_and_device_variables_are_booked(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    key, receipt = given_up(shop, Device(), shop.entitle().code.reveal())
    assert receive(shop.office, receipt).variables == {"host": "workstation-7"}
    on_record = license_(shop.office, key.hex())
    assert (on_record.used, on_record.first_use, on_record.status) == (
        {"": 7, "render": 3},
        {"": shop.now()},
        "revoked",
    )
    assert containers(shop.office)[0].variables == {"host": "workstation-7"}
    last = shop.office.read(lambda work: rows(work.db, limit=2))
    assert [row.action for row in last] == ["license.free", "receipt.deactivated"]
    assert '"host":"workstation-7"' in last[1].payload


def test_what_a_slot_has_used_is_gone_for_the_next_container(sqlite_shop: Shop) -> None:
    """Units move with the slot: giving a license up and activating it elsewhere does not fill it up again."""
    shop = sqlite_shop
    shop.sell("metered", Terms(units=10, overage=2), {"sim": Feature(units=5)})
    code = shop.entitle("metered").code.reveal()
    left = []
    for name, spend, sim in (("one", 4, 5), ("two", 7, 0), ("three", 1, 0)):
        with shop.machine(name) as container:
            shop.activate(container, code)
            with container.checkout("cad") as seat:
                left.append(seat.consume(spend))
                for _ in range(sim):
                    seat.consume(1, "sim")
            terms = container.licenses()[0].license_
            assert terms is not None
            receive(shop.office, container.deactivate(terms.license_id))
    assert left == [8, 1, 0]
    assert terms is not None
    assert terms.features["sim"].units == 0


def test_a_usage_period_goes_on_in_the_next_container(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    shop.sell("trial", Terms(usage_period=30 * DAY), {"sim": Feature(usage_period=10 * DAY)})
    code = shop.entitle("trial").code.reveal()
    with shop.machine("one") as container:
        shop.activate(container, code)
        container.checkout("cad", features=["sim"]).close()
        shop.clock.advance(20 * DAY)
        receive(shop.office, container.deactivate(container.licenses()[0].license_id))
    with shop.machine("two") as container:
        shop.activate(container, code)
        with container.checkout("cad") as seat:
            assert seat.valid_until == shop.now() + 10 * DAY
            assert not seat.check("sim")
        shop.clock.advance(11 * DAY)
        with pytest.raises(TallystickError) as refusal:
            container.checkout("cad")
    assert refusal.value.code == "expired"


def test_slots_given_back_go_first_then_new_ones(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    code = shop.entitle(quantity=2).code.reveal()
    _, receipt = given_up(shop, Device(), code)
    receive(shop.office, receipt)
    units = []
    for _ in range(2):
        device = Device()
        issue(shop.office, device.request(code=code, product="", quantity=1, accounts=()).sign(device.identity))
    for one in licenses(shop.office):
        if one.freed_at is None:
            units.append(one.offer.terms.units)
    assert sorted(map(int, filter(None, units))) == [993, 1000]


def test_an_installation_is_confirmed_by_its_receipt(shop: Shop) -> None:
    with shop.machine("one") as container:
        _, outcome = shop.activate(container, shop.entitle().code.reveal())
        assert licenses(shop.office)[0].installed_at is None
        shop.clock.advance(5)
        result = receive(shop.office, outcome.receipt)
        assert (result.kind, result.repeated) == ("installed", False)
        assert receive(shop.office, outcome.receipt).repeated
    assert licenses(shop.office)[0].installed_at == shop.now()


# ----------------------------------------------------------------------------------------------------------- refusals


def refusal(shop: Shop, message: bytes) -> TallystickError:
    """Why something is not received."""
    with pytest.raises(TallystickError) as caught:
        receive(shop.office, message)
    return caught.value


def test_the_receipt_of_a_stranger_is_unknown(shop: Shop) -> None:
    device = Device()
    assert refusal(shop, device.receipt().sign(device.identity)).code == "receipt_unknown"


def test_a_receipt_for_a_license_of_another_container_is_unknown(shop: Shop) -> None:
    sold, owner, other = shop.entitle(quantity=2), Device(), Device()
    key, _ = given_up(shop, owner, sold.code.reveal())
    request = other.request(code=sold.code.reveal(), product="", quantity=1, accounts=())
    issue(shop.office, request.sign(other.identity))
    stolen = other.receipt(accounts=(Account(key, 0),), about=None)
    assert refusal(shop, stolen.sign(other.identity)).code == "receipt_unknown"
    assert entitlement(shop.office, sold.entitlement.id).taken == 2


def test_a_receipt_signed_by_another_key_is_forged(shop: Shop) -> None:
    sold, owner, thief = shop.entitle(), Device(), Device()
    key, _ = given_up(shop, owner, sold.code.reveal())
    forged = owner.receipt(accounts=(Account(key, 0),), about=None).sign(thief.identity)
    assert refusal(shop, forged).code == "unknown_issuer"
    changed = bytearray(owner.receipt(accounts=(Account(key, 0),), about=None).sign(owner.identity))
    changed[-1] ^= 1
    assert refusal(shop, bytes(changed)).code == "bad_signature"
    assert entitlement(shop.office, sold.entitlement.id).taken == 1


def test_a_receipt_that_gives_nothing_up_or_confirms_nothing_of_ours_is_unknown(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    device = Device()
    given_up(shop, device, shop.entitle().code.reveal())
    empty = device.receipt(accounts=(), about=None)
    assert refusal(shop, empty.sign(device.identity)).code == "receipt_unknown"
    for about in (id16(77), None):
        strange = device.receipt(purpose=INSTALLED, about=about, accounts=())
        assert refusal(shop, strange.sign(device.identity)).code == "receipt_unknown"


def test_a_receipt_for_another_vendor_is_sent_away(sqlite_shop: Shop) -> None:
    device = Device()
    assert refusal(sqlite_shop, device.receipt("rival").sign(device.identity)).code == "wrong_vendor"


def test_other_files_are_named(sqlite_shop: Shop) -> None:
    device = Device()
    refused = refusal(sqlite_shop, device.request().sign(device.identity))
    assert refused.code == "wrong_kind"
    assert "this is a request; a receipt is needed" in refused.message
    assert refusal(sqlite_shop, b"PK\x03\x04 something").code == "malformed"


# ----------------------------------------------------------------------------------------- repair, release, coming back


class Elsewhere(Machine):
    """Another machine."""

    def read(self) -> Reading:
        """Look once."""
        return {name: value + "2" for name, value in super().read().items() if value}


def test_a_locked_container_is_a_case_and_a_person_releases_its_license(shop: Shop) -> None:
    sold = shop.entitle()
    with shop.machine("one") as container:
        shop.activate(container, sold.code.reveal())
        with container.checkout("cad") as seat:
            seat.consume(10, "render")
        container.install(issue(shop.office, container.request(refresh=True)).message)  # tells the counters
    with FileBackend(shop.clock, sources=[Elsewhere()]).view(f"file:{shop.folder / 'one'}") as locked:
        report = locked.repair_request()
    result = receive(shop.office, report)
    assert (result.kind, result.repeated, result.warnings) == ("repair", False, ())
    assert "proven" in result.text
    assert receive(shop.office, report).repeated
    case = cases(shop.office)[0]
    assert (case.case, case.reason) == (result.case, "binding_lost")
    assert entitlement(shop.office, sold.entitlement.id).taken == 1  # nothing was freed by a report

    with pytest.raises(TallystickError, match="needs a reason"):
        release(shop.office, case.licenses[0], " ")
    released = release(shop.office, case.licenses[0][:8], f"case {case.case}: mainboard replaced")
    assert entitlement(shop.office, sold.entitlement.id).taken == 0
    with shop.machine("two") as container:
        shop.activate(container, sold.code.reveal())
        with container.checkout("cad") as seat:
            assert seat.consume(1, "render") == 89
    with shop.reopen("one") as back:  # it was not lost after all
        back.install(released.updates[0].message)
        with pytest.raises(TallystickError) as refused:
            back.checkout("cad")
    assert (refused.value.code, "mainboard" in refused.value.message) == ("revoked", True)
    with pytest.raises(TallystickError) as refused:
        release(shop.office, case.licenses[0], "again")
    assert refused.value.code == "record_not_found"


def test_the_late_receipt_of_a_released_license_books_what_it_used_meanwhile(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    sold, device = shop.entitle(), Device()
    key, receipt = given_up(shop, device, sold.code.reveal())
    release(shop.office, key.hex(), "lost")
    assert receive(shop.office, receipt).licenses[0].effect == "freed before"
    assert receive(shop.office, receipt).repeated
    other = Device()
    request = other.request(code=sold.code.reveal(), product="", quantity=1, accounts=())
    issue(shop.office, request.sign(other.identity))
    new = next(one for one in licenses(shop.office) if one.freed_at is None)
    assert (new.offer.terms.units, new.offer.features["render"].units) == (993, 97)


def test_a_report_about_an_unknown_container_is_kept_with_a_warning(sqlite_shop: Shop) -> None:
    from tallystick.codec import cbor
    from tallystick.container.view import REPAIR_TYPE

    report = {
        "type": REPAIR_TYPE,
        "signed": False,
        "container": bytes(32),
        "reason": "tampered\x00\n",
        "message": "",
        "created_at": 1,
        "licenses": [],
        "findings": {},
    }
    result = receive(sqlite_shop.office, cbor.encode(report))
    assert result.case.startswith("R-")
    assert len(result.warnings) == 1
    assert cases(sqlite_shop.office)[0].reason == "tampered??"


def test_a_receipt_older_than_what_is_known_is_no_sign_of_a_copy(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    with shop.machine("one") as container:
        _, outcome = shop.activate(container, shop.entitle().code.reveal())
        shop.clock.advance(60)
        issue(shop.office, container.request(refresh=True))
        assert receive(shop.office, outcome.receipt).warnings == ()
