# SPDX-License-Identifier: Apache-2.0
"""The whole story with a real file container: sold, activated, used, refreshed, deactivated, sold again."""

from __future__ import annotations

from shop import Shop, more

from tallystick.authority.audit import verify
from tallystick.authority.contents import seal
from tallystick.authority.entitlements import entitlement
from tallystick.authority.issuing import issue
from tallystick.authority.receiving import receive
from tallystick.authority.refreshing import refresh
from tallystick.license.model import Feature


def test_a_license_is_sold_activated_used_refreshed_given_up_and_sold_again(shop: Shop) -> None:
    manual = seal(shop.office, "cad", "manual", b"how to draw")
    sold = shop.entitle(customer="Example Ltd.", reference="PO-7")
    with shop.machine("one") as container:
        result, outcome = shop.activate(container, sold.code.reveal(), product="cad")
        assert (result.kind, result.charged, result.repeated) == ("update", 1, False)
        assert [change.change for change in outcome.changes] == ["installed"]
        installed = receive(shop.office, outcome.receipt)
        assert (installed.kind, installed.licenses[0].effect) == ("installed", "installed")

        with container.checkout("cad", features=["pdf", "render"]) as seat:
            assert seat.consume(30, "render") == 70
            assert seat.unlock(manual.data) == b"how to draw"
            assert not seat.check("sim")
        shop.clock.advance(60)
        change = more(features={"sim": Feature()}, add_units={"render": 50})
        refreshed = refresh(shop.office, sold.entitlement.id, change)
        outcome = container.install(refreshed.updates[0].message)
        assert [change.change for change in outcome.changes] == ["refreshed"]
        receive(shop.office, outcome.receipt)
        with container.checkout("cad", features=["sim"]) as seat:
            assert seat.consume(1, "render") == 119

        receipt = container.deactivate(bytes.fromhex(installed.licenses[0].license_id))
        freed = receive(shop.office, receipt)
        assert (freed.licenses[0].effect, freed.licenses[0].used) == ("freed", {"render": 31})
    assert entitlement(shop.office, sold.entitlement.id).taken == 0

    with shop.machine("two") as container:
        shop.activate(container, sold.code.reveal())
        with container.checkout("cad", features=["sim"]) as seat:
            assert seat.consume(1, "render") == 150 - 31 - 1
    assert issue(shop.office, shop.machine("three").request(code=sold.code.reveal())).sent.code == "quantity_exhausted"
    assert shop.office.read(lambda work: verify(work.db)).count > 10
