# SPDX-License-Identifier: Apache-2.0
"""Time at a container: never locked out by a stupid clock, never younger than before. (`tests/test_clock.py` has the
rules.)"""

from __future__ import annotations

from conformance.world import World, refused
from fakes import START
from issuer import DAY
from tallystick.container.base import Container

YEAR = 365 * DAY


class TestClock:
    def test_a_clock_set_back_stops_time_and_expires_nothing_early(self, world: World, container: Container) -> None:
        world.activate(container, expires=START + 10 * DAY)
        world.clock.advance(5 * DAY)
        seat = world.seat(container)
        world.clock.set_wall(START - 20 * DAY)
        info = container.info()
        assert (info.clock_status, info.now, info.wall) == ("set_back", START + 5 * DAY, START - 20 * DAY)
        assert seat.check()

    def test_what_has_expired_stays_expired(self, world: World, container: Container) -> None:
        world.activate(container, expires=START + 5 * DAY)
        world.clock.advance(5 * DAY)
        refused("expired", world.seat, container)
        world.clock.set_wall(START)
        refused("expired", world.seat, container)
        container.close()
        world.clock.reboot(wall=START)
        refused("expired", world.seat, world.open())

    def test_one_boot_in_the_far_future_expires_nothing(self, world: World, container: Container) -> None:
        world.activate(container, expires=START + YEAR)
        world.clock.set_wall(START + 20 * YEAR)
        assert container.info().clock_status == "quarantined"
        assert world.seat(container).check()
        world.clock.set_wall(START + DAY)
        assert container.info().clock_status == "ok"
        assert world.seat(container).check()

    def test_a_computer_that_was_off_for_long_is_believed_at_its_second_start(
        self, world: World, container: Container
    ) -> None:
        world.activate(container, expires=START + 60 * DAY)
        world.clock.reboot(off_s=100 * DAY)
        assert world.seat(container).check()
        world.clock.advance(3600)
        world.clock.reboot(off_s=3600)
        refused("expired", world.seat, container)

    def test_a_computer_without_a_clock_keeps_running(self, world: World, container: Container) -> None:
        world.activate(container, expires=START + YEAR)
        container.close()
        world.clock.reboot(wall=0)
        container = world.open()
        assert container.info().clock_status == "unset"
        assert world.seat(container).check()

    def test_a_container_may_be_made_before_its_clock_is_set(self, world: World) -> None:
        world.clock.set_wall(0)
        container = world.create()
        assert container.info().clock_status == "unset"
        world.activate(container, expires=START + YEAR)
        assert world.seat(container).check()

    def test_signed_time_counts_at_once(self, world: World, container: Container) -> None:
        license_ = world.activate(container, expires=START + 10 * DAY)
        world.acme.now += 20 * DAY
        container.install(world.acme.update(license_.container, time=world.acme.time()))
        refused("expired", world.seat, container)
        assert container.info().now == START + 20 * DAY

    def test_the_vendor_can_turn_time_back_once(self, world: World, container: Container) -> None:
        """A support case: the clock ran far ahead, was believed, and licenses expired. Nobody can replay it later."""
        license_ = world.activate(container, expires=START + 30 * DAY)
        for _ in range(6):
            world.clock.advance(6 * DAY)
            refused_or_seated = world.open()
            refused_or_seated.request()
        refused("expired", world.seat, container)
        world.clock.set_wall(START + DAY)
        world.acme.now = START + DAY
        reset = world.acme.update(license_.container, clock_reset=True)
        container.install(reset)
        assert container.info().now == START + DAY
        assert world.seat(container).check()
        world.acme.now = START + 30 * DAY
        container.install(world.acme.update(license_.container))
        later = world.acme.update(license_.container, clock_reset=True, issued_at=START + DAY)
        container.install(reset)
        container.install(later)
        refused("expired", world.seat, container)

    def test_a_moved_clock_is_remembered_without_any_other_change(self, world: World, container: Container) -> None:
        world.activate(container)
        world.clock.advance(3 * DAY)
        world.seat(container)
        container.close()
        world.clock.reboot(wall=START)
        assert world.open().info().now == START + 3 * DAY
