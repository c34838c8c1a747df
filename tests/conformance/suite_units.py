# SPDX-License-Identifier: Apache-2.0
"""Counting: exactly n or nothing, once, for good."""

from __future__ import annotations

from typing import Any

import pytest

from conformance.world import World, facts, left, refused
from fakes import START
from issuer import DAY
from tallystick.container.base import Container
from tallystick.license.model import Feature


class TestUnits:
    def test_exactly_n_or_nothing(self, world: World, container: Container) -> None:
        license_ = world.activate(container, units=10)
        seat = world.seat(container)
        assert seat.consume(3) == 7
        assert seat.consume() == 6
        refusal = refused("units_exhausted", seat.consume, 7)
        assert refusal.details["available"] == 6
        assert left(container, license_) == 6
        assert seat.consume(6) == 0
        refused("units_exhausted", seat.consume)
        assert seat.check()  # the right to run does not end with the units

    def test_what_is_used_is_used_whatever_happens_next(self, world: World, container: Container) -> None:
        license_ = world.activate(container, units=10)
        world.seat(container).consume(3)
        world.seat(world.open()).consume(3)  # the first handle is still open, as a killed process's files would be
        container.close()
        assert left(world.open(), license_) == 4

    def test_a_feature_counts_for_itself_where_it_has_units(self, world: World, container: Container) -> None:
        license_ = world.activate(container, units=10, features={"render": Feature(units=3), "pdf": Feature()})
        seat = world.seat(container)
        assert seat.consume(2, "render") == 1
        assert seat.consume(4, "pdf") == 6
        assert (left(container, license_), left(container, license_, "render")) == (6, 1)
        refused("units_exhausted", seat.consume, 2, "render")

    def test_overage_is_permitted_up_to_its_cap_and_told(self, world: World, container: Container) -> None:
        world.activate(container, units=5, overage=2)
        seat = world.seat(container)
        assert seat.consume(5) == 2
        assert seat.consume(1) == 1
        assert container.licenses()[0].usage.used == {"": 6}
        refused("units_exhausted", seat.consume, 2)

    def test_newer_terms_add_units_to_what_is_left(self, world: World, container: Container) -> None:
        license_ = world.activate(container, units=5)
        seat = world.seat(container)
        seat.consume(5)
        container.install(world.acme.refresh(license_, units=8))
        assert seat.consume(2) == 1
        container.install(world.acme.refresh(world.acme.newer(license_), units=3))
        refused("units_exhausted", seat.consume)
        assert left(container, license_) == -4  # fewer were granted than were used; nothing is lost, nothing is left

    @pytest.mark.parametrize("units", [0, -1, True, 1.0, "1", None, 1 << 60], ids=repr)
    def test_only_whole_numbers_are_counted(self, world: World, container: Container, units: Any) -> None:
        world.activate(container, units=10)
        before = facts(container)
        refused("usage", world.seat(container).consume, units)
        refused("usage", world.seat(container, reserve=5).consume, units)
        assert facts(container)["licenses"][0][-1].used == {"": 5}
        assert before["licenses"][0][-1].used == {}

    def test_what_counts_nothing_consumes_nothing(self, world: World, container: Container) -> None:
        world.activate(container)
        refused("not_counted", world.seat(container).consume)

    def test_an_ended_license_consumes_nothing(self, world: World, container: Container) -> None:
        world.activate(container, units=5, expires=START + DAY)
        seat = world.seat(container)
        world.clock.advance(DAY)
        refused("expired", seat.consume)

    def test_a_retry_is_counted_once(self, world: World, container: Container) -> None:
        license_ = world.activate(container, units=10)
        seat = world.seat(container)
        assert seat.consume(3, idempotency_key="job-7") == 7
        seat.consume(1)
        assert seat.consume(3, idempotency_key="job-7") == 7
        refused("idempotency_conflict", seat.consume, 2, idempotency_key="job-7")
        container.close()
        container = world.open()
        assert world.seat(container).consume(3, idempotency_key=b"job-7") == 7
        assert left(container, license_) == 6
        refused("usage", world.seat(container).consume, 1, idempotency_key="x" * 65)

    def test_a_refused_use_leaves_its_key_free(self, world: World, container: Container) -> None:
        license_ = world.activate(container, units=1)
        seat = world.seat(container)
        refused("units_exhausted", seat.consume, 2, idempotency_key="job")
        container.install(world.acme.refresh(license_, units=5))
        assert seat.consume(2, idempotency_key="job") == 3


class TestReservations:
    def test_a_block_is_debited_at_once_and_its_rest_given_back(self, world: World, container: Container) -> None:
        license_ = world.activate(container, units=100)
        with world.seat(container, reserve=50) as seat:
            assert left(container, license_) == 50
            generation = container.info().generation
            assert [seat.consume(1) for _ in range(3)] == [49, 48, 47]
            assert container.info().generation == generation  # served from memory
        assert left(container, license_) == 97

    def test_beyond_the_block_units_are_counted_one_by_one(self, world: World, container: Container) -> None:
        license_ = world.activate(container, units=10)
        with world.seat(container, reserve=2) as seat:
            seat.consume(1)
            seat.consume(5)
            assert left(container, license_) == 3
            refused("units_exhausted", seat.consume, 4)
            assert seat.consume(1) == 0
        assert left(container, license_) == 3

    def test_a_block_nobody_gives_back_is_forfeited(self, world: World, container: Container) -> None:
        license_ = world.activate(container, units=10)
        world.seat(container, reserve=4).consume(1)
        assert left(world.open(), license_) == 6  # as after a crash

    def test_closing_the_container_gives_blocks_back(self, world: World, container: Container) -> None:
        license_ = world.activate(container, units=10)
        seat = world.seat(container, reserve=4)
        seat.consume(1)
        container.close()
        seat.close()
        assert left(world.open(), license_) == 9

    def test_a_block_serves_every_feature_of_its_counter(self, world: World, container: Container) -> None:
        """The whole stock is in the block: a feature without units of its own must not be told that none is left."""
        license_ = world.activate(container, units=4, features={"pdf": Feature(), "render": Feature(units=9)})
        with world.seat(container, "pdf", reserve=4) as seat:
            assert seat.consume(1, "pdf") == 3
            assert seat.consume(1, "render") == 8
        assert (left(container, license_), left(container, license_, "render")) == (3, 8)

    def test_a_block_of_a_counted_feature(self, world: World, container: Container) -> None:
        license_ = world.activate(container, units=4, features={"render": Feature(units=9)})
        with world.seat(container, "render", reserve=5) as seat:
            assert seat.consume(1, "render") == 4
            assert seat.consume(1) == 3
        assert (left(container, license_), left(container, license_, "render")) == (3, 8)

    def test_too_large_a_block_is_refused_and_takes_nothing(self, world: World, container: Container) -> None:
        license_ = world.activate(container, units=4)
        assert refused("units_exhausted", world.seat, container, reserve=5).details["available"] == 4
        refused("usage", world.seat, container, reserve=-1)
        assert left(container, license_) == 4

    def test_an_ended_license_serves_no_block(self, world: World, container: Container) -> None:
        world.activate(container, units=4, expires=START + DAY)
        seat = world.seat(container, reserve=2)
        world.clock.advance(DAY)
        refused("expired", seat.consume)

    def test_a_block_of_a_license_given_up_is_closed_quietly(self, world: World, container: Container) -> None:
        license_ = world.activate(container, units=4)
        with world.seat(container, reserve=2):
            container.deactivate(license_.license_id)
        assert container.licenses() == ()

    def test_a_keyed_use_is_durable_even_with_a_block(self, world: World, container: Container) -> None:
        license_ = world.activate(container, units=10)
        with world.seat(container, reserve=5) as seat:
            seat.consume(1, idempotency_key="job")
            assert left(container, license_) == 4
