# SPDX-License-Identifier: Apache-2.0
"""Asking a vendor: any number of requests, each answered once, none a trap."""

from __future__ import annotations

from typing import Any

import pytest

from conformance.world import World, facts, refused
from fakes import START
from issuer import Issuer
from tallystick.container.base import Container
from tallystick.container.state import ANSWERED, CANCELLED, OPEN, REFUSED
from tallystick.license.messages import ACTIVATE, REFRESH, read_request


class TestRequests:
    def test_a_request_proves_the_containers_key_and_tells_everything(self, world: World, container: Container) -> None:
        license_ = world.activate(container, units=10)
        world.seat(container).consume(3)
        message = container.request(code="K3XTP", product="cad", quantity=2, variables={"host": "ws7"})
        request = read_request(message)
        assert (request.vendor, request.action, request.created_at) == ("acme", ACTIVATE, START)
        assert (request.code, request.product, request.quantity) == ("K3XTP", "cad", 2)
        assert request.key.thumbprint == container.info().thumbprint
        assert request.backend == (world.case.kind or container.info().backend)
        assert request.keyset_seq == 1
        assert dict(request.variables) == {"host": "ws7"}
        (account,) = request.accounts
        assert (account.license_id, account.used) == (license_.license_id, {"": 3})

    def test_a_refresh_asks_without_a_code(self, world: World, container: Container) -> None:
        world.activate(container)
        assert read_request(container.request(refresh=True)).action == REFRESH

    def test_without_any_vendor_one_must_be_named(self, world: World, container: Container) -> None:
        container.close()
        container = world.open_untrusting()
        refused("vendor_needed", container.request)
        container.request(world.acme.trust)
        assert container.info().vendors == ("acme",)
        assert read_request(container.request()).vendor == "acme"  # the only one known by now

    def test_of_several_vendors_one_must_be_named(self, world: World, container: Container) -> None:
        brick = Issuer("brick")
        both = world.open(world.acme.trust, brick.trust)
        refused("vendor_needed", both.request)
        assert read_request(both.request(brick.trust)).vendor == "brick"

    def test_a_vendors_root_never_changes(self, world: World, container: Container) -> None:
        container.request()
        before = facts(container)
        refused("wrong_vendor", container.request, Issuer("acme").trust)
        assert facts(container) == before

    def test_each_of_many_requests_is_answered_once_in_any_order(self, world: World, container: Container) -> None:
        requests = [container.request(product=f"p{number}") for number in range(5)]
        answers = {request: world.acme.answer(request) for request in requests}
        for request in (requests[3], requests[0], requests[4], requests[2], requests[1]):
            assert container.install(answers[request]).changes[0].change == "installed"
        assert [pending.status for pending in container.requests()] == [ANSWERED] * 5
        assert container.info().open_requests == 0
        refused("request_not_found", container.install, world.acme.answer(requests[0]))

    def test_a_second_answer_to_a_request_is_refused_and_takes_nothing(
        self, world: World, container: Container
    ) -> None:
        request = container.request()
        container.install(world.acme.answer(request, product="cad"))
        before = facts(container)
        refused("request_not_found", container.install, world.acme.answer(request, product="other"))
        assert facts(container) == before

    def test_a_request_is_kept_as_it_was_emitted(self, world: World, container: Container) -> None:
        message = container.request(code="ABC")
        container.close()
        (pending,) = world.open().requests()
        assert (pending.message, pending.status, pending.request_id) == (
            message,
            OPEN,
            read_request(message).request_id,
        )

    def test_a_cancelled_request_is_not_answered_any_more(self, world: World, container: Container) -> None:
        request = container.request()
        request_id = read_request(request).request_id
        container.cancel_request(request_id)
        container.cancel_request(request_id)
        assert container.requests()[0].status == CANCELLED
        refused("request_not_found", container.install, world.acme.answer(request))
        assert container.licenses() == ()

    def test_only_open_requests_can_be_cancelled(self, world: World, container: Container) -> None:
        refused("request_not_found", container.cancel_request, bytes(16))
        world.activate(container)
        refused("request_not_found", container.cancel_request, container.requests()[0].request_id)

    def test_too_many_open_requests_are_refused_with_a_way_out(self, world: World, container: Container) -> None:
        for number in range(64):
            container.request(code=str(number))
        refusal = refused("full", container.request)
        assert "cancel" in refusal.remedy
        container.cancel_request(container.requests()[0].request_id)
        container.request()


class TestRefusals:
    def test_a_refusal_closes_its_request_and_says_why(self, world: World, container: Container) -> None:
        request = container.request()
        outcome = container.install(world.acme.refuse(request, "quantity_exhausted", "All 5 are in use."))
        assert outcome.refusal is not None
        assert (outcome.refusal.code, outcome.refusal.message) == ("quantity_exhausted", "All 5 are in use.")
        (pending,) = container.requests()
        assert (pending.status, pending.reason) == (REFUSED, "All 5 are in use.")

    def test_a_refusal_may_be_the_first_word_of_a_vendor(self, world: World, container: Container) -> None:
        """No update has brought a key set yet: the refusal brings it along."""
        world.acme.rotate()
        assert container.install(world.acme.refuse(container.request())).refusal is not None

    def test_the_same_refusal_again_changes_nothing(self, world: World, container: Container) -> None:
        refusal = world.acme.refuse(container.request())
        container.install(refusal)
        before = facts(container)
        assert container.install(refusal).refusal is not None
        assert facts(container) == before

    def test_a_refusal_never_takes_back_an_answer(self, world: World, container: Container) -> None:
        request = container.request()
        container.install(world.acme.answer(request))
        refused("request_not_found", container.install, world.acme.refuse(request))
        assert container.info().licenses == 1

    def test_another_vendors_refusal_is_refused(self, world: World, container: Container) -> None:
        brick = Issuer("brick")
        request = container.request()
        container.request(brick.trust)
        refused("request_not_found", container.install, brick.refuse(request))
        brick.name = "acme"
        refused("unknown_issuer", container.install, brick.refuse(request))
        assert container.requests()[0].status == OPEN


class TestVariables:
    def test_device_variables_are_kept_sent_again_and_removed(self, world: World, container: Container) -> None:
        container.request(variables={"host": "ws7", "rack": "4"})
        assert dict(read_request(container.request(variables={"rack": ""})).variables) == {"host": "ws7"}
        container.close()
        assert dict(read_request(world.open().request(variables={"host": "ws8"})).variables) == {"host": "ws8"}

    @pytest.mark.parametrize(
        "arguments",
        [
            {"code": "x" * 65},
            {"product": "bad name"},
            {"quantity": 0},
            {"quantity": 1001},
            {"code": "\ud800"},
            {"variables": {"bad name": "x"}},
            {"variables": {"a": "x" * 257}},
            {"variables": {"a": "\ud800"}},
            {"variables": {"": "x"}},
        ],
        ids=repr,
    )
    def test_what_no_vendor_could_read_is_not_asked(
        self, world: World, container: Container, arguments: dict[str, Any]
    ) -> None:
        """Kept, a bad variable would spoil every later request."""
        before = facts(container)
        refused("usage", container.request, **arguments)
        assert facts(container) == before

    def test_too_many_variables_are_refused(self, container: Container) -> None:
        refused("full", container.request, variables={f"v{number}": "x" for number in range(33)})
