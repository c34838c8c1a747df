# SPDX-License-Identifier: Apache-2.0
"""Giving licenses up, with proof; and a container with very many of them."""

from __future__ import annotations

from conformance.world import World, facts, refused
from tallystick.container.base import Container
from tallystick.license.messages import read_request
from tallystick.license.model import Feature
from tallystick.license.receipts import DEACTIVATED, read_receipt


class TestReceipts:
    def test_a_license_is_given_up_with_its_final_account(self, world: World, container: Container) -> None:
        request = container.request(variables={"host": "ws7"})
        license_ = world.acme.license(request, units=10, features={"render": Feature(units=5)}, usage_period=1000)
        container.install(world.acme.answer(request, license_))
        seat = world.seat(container)
        seat.consume(3)
        seat.consume(2, "render")
        receipt = read_receipt(container.deactivate(license_.license_id), read_request(request).key)
        assert (receipt.purpose, receipt.about, receipt.vendor) == (DEACTIVATED, None, "acme")
        assert dict(receipt.variables) == {"host": "ws7"}
        (account,) = receipt.accounts
        assert (account.license_id, account.used) == (license_.license_id, {"": 3, "render": 2})
        assert account.first_use.keys() == {""}

    def test_the_same_receipt_for_ever(self, world: World, container: Container) -> None:
        license_ = world.activate(container)
        receipt = container.deactivate(license_.license_id)
        before = facts(container)
        assert container.deactivate(license_.license_id) == receipt
        container.close()
        container = world.open()
        assert container.deactivate(license_.license_id) == receipt
        assert container.receipts()[license_.license_id] == receipt
        assert facts(container) == before

    def test_what_was_given_up_is_not_licensed(self, world: World, container: Container) -> None:
        license_ = world.activate(container)
        world.activate(container, product="render")
        container.deactivate(license_.license_id)
        refused("not_licensed", container.checkout, "cad")
        assert container.checkout("render").check()
        assert [view.product for view in container.licenses()] == ["render"]

    def test_only_what_is_held_can_be_given_up(self, container: Container) -> None:
        refused("license_not_found", container.deactivate, bytes(16))

    def test_after_giving_up_a_new_activation_is_possible(self, world: World, container: Container) -> None:
        container.deactivate(world.activate(container).license_id)
        world.activate(container)
        assert world.seat(container).check()

    def test_receipts_are_listed_by_what_they_are_about(self, world: World, container: Container) -> None:
        request = container.request()
        license_ = world.acme.license(request)
        outcome = container.install(world.acme.answer(request, license_))
        receipt = container.deactivate(license_.license_id)
        assert container.receipts() == {outcome.message_id: outcome.receipt, license_.license_id: receipt}


class TestManyLicenses:
    def test_a_thousand_licenses(self, world: World, container: Container) -> None:
        """The most a container holds; one more is refused, and contact with the vendor stays possible."""
        request = container.request(quantity=1000)
        made = [world.acme.license(request, product=f"p{number}", units=5) for number in range(1000)]
        for start in range(0, 1000, 500):
            more = container.request() if start else request
            container.install(world.acme.answer(more, *made[start : start + 500]))
        assert container.info().licenses == 1000
        container.checkout("p999").consume(2)
        refused("full", container.request)
        asked = read_request(container.request(refresh=True))
        assert len(asked.accounts) == 1000
        fresh = world.acme.newer(made[7], units=50)
        container.install(world.acme.update(fresh.container, fresh, in_reply_to=asked.request_id))
        container.close()
        container = world.open()
        assert container.checkout("p7").consume(10) == 40
        container.deactivate(made[0].license_id)
        assert container.info().licenses == 999
        container.request()

    def test_one_license_too_many_is_refused_whole(self, world: World, container: Container) -> None:
        request, second = container.request(), container.request()
        container.install(world.acme.answer(request, *(world.acme.license(request) for _ in range(999))))
        two = (world.acme.license(second), world.acme.license(second))
        refused("full", container.install, world.acme.answer(second, *two))
        assert container.info().licenses == 999
        container.install(world.acme.answer(second, two[0]))
