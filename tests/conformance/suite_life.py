# SPDX-License-Identifier: Apache-2.0
"""A container's life: making, opening, closing, describing itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from conformance.world import World, facts, refused
from fakes import START
from tallystick.codec.ident import is_container_id
from tallystick.container.anchor import Capability
from tallystick.container.base import Container
from tallystick.license.messages import read_request
from tallystick.license.trust import Trust

METHODS: dict[str, Callable[[Container, Trust], object]] = {
    "info": lambda container, _: container.info(),
    "licenses": lambda container, _: container.licenses(),
    "requests": lambda container, _: container.requests(),
    "receipts": lambda container, _: container.receipts(),
    "history": lambda container, _: container.history(),
    "request": lambda container, trust: container.request(trust),
    "install": lambda container, _: container.install(b"\xd2"),
    "checkout": lambda container, _: container.checkout("cad"),
    "deactivate": lambda container, _: container.deactivate(bytes(16)),
    "cancel_request": lambda container, _: container.cancel_request(bytes(16)),
}


class TestLife:
    def test_a_new_container_says_what_it_is(self, world: World, container: Container) -> None:
        info = container.info()
        assert len(info.thumbprint) == 32
        assert is_container_id(info.container_id)
        assert (info.created_at, info.now, info.wall, info.clock_status) == (START, START, START, "ok")
        assert (info.licenses, info.open_requests, info.vendors, info.locked) == (0, 0, (), None)
        assert info.uri.startswith(f"{info.backend}:")
        assert container.licenses() == ()
        assert container.requests() == ()
        assert [event.kind for event in container.history()] == ["created"]

    def test_capabilities_are_reported_and_never_imitated(self, world: World, container: Container) -> None:
        assert container.info().capabilities == world.case.capabilities

    def test_two_containers_are_never_the_same(self, world: World, container: Container) -> None:
        first = container.info().thumbprint
        world.move("elsewhere")
        assert world.create().info().thumbprint != first

    def test_a_second_creation_is_refused_and_harms_nothing(self, world: World, container: Container) -> None:
        world.activate(container)
        before = facts(container)
        refused("already_exists", world.create)
        assert facts(container) == before
        assert facts(world.open()) == before

    def test_there_is_nothing_to_open_where_nothing_was_made(self, world: World) -> None:
        refused("container_not_found", world.open)

    def test_it_is_the_same_when_opened_again(self, world: World, container: Container) -> None:
        world.activate(container, units=5)
        container.request(code="ABC")
        before = facts(container)
        container.close()
        assert facts(world.open()) == before

    def test_what_one_handle_did_the_other_sees(self, world: World, container: Container) -> None:
        other = world.open()
        world.activate(container)
        assert facts(other) == facts(container)
        other.request(code="ABC")
        assert facts(other) == facts(container)

    def test_it_may_be_closed_twice(self, container: Container) -> None:
        container.close()
        container.close()

    def test_it_closes_itself(self, world: World) -> None:
        with world.create() as container:
            container.info()
        refused("closed", container.info)

    @pytest.mark.parametrize("method", METHODS)
    def test_after_close_it_refuses(self, world: World, container: Container, method: str) -> None:
        container.close()
        refused("closed", METHODS[method], container, world.acme.trust)

    def test_a_view_of_a_healthy_container_is_the_container(self, world: World, container: Container) -> None:
        license_ = world.activate(container)
        view = world.view()
        assert view.info().locked is None
        assert [held.license_id for held in view.licenses()] == [license_.license_id]

    def test_a_container_that_is_not_locked_has_no_repair_request(self, container: Container) -> None:
        refused("not_supported", container.repair_request)

    def test_a_container_that_cannot_open_content_says_so(self, world: World, container: Container) -> None:
        if Capability.UNLOCK in world.case.capabilities:
            pytest.skip("UNLOCK is present")
        assert read_request(container.request()).agreement_key is None
