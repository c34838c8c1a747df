# SPDX-License-Identifier: Apache-2.0
"""Re-proof: a seat lives only as long as the container's key answers."""

from __future__ import annotations

import pytest

from conformance.world import World, refused
from tallystick.container.base import Container
from tallystick.errors import TallystickError

GONE = ("backend_failed", "closed", "device_removed", "device_silent")
# It signs with its own key; or is told before it was asked to sign; or is known by its key alone, and so is not there.
ANOTHER = ("bad_signature", "chip_changed", "device_removed")


class TestProof:
    def test_a_key_that_stops_answering_ends_seats_within_an_interval(self, world: World, container: Container) -> None:
        world.activate(container, features=["pdf"])
        other = world.open(reproof_s=30)
        seat = world.seat(other, "pdf")
        world.given("unplug")(world.place, other)
        world.clock.advance(29)
        assert seat.check("pdf")
        world.clock.advance(1)
        assert not seat.check("pdf")
        assert not seat.check()
        refusal = seat.refusal("pdf")
        assert refusal is not None
        assert refusal.code in GONE

    def test_another_key_that_answers_ends_seats_within_an_interval(self, world: World, container: Container) -> None:
        world.activate(container)
        other = world.open(reproof_s=30)
        seat = world.seat(other)
        world.given("impostor")(world.place, other)
        world.clock.advance(30)
        assert not seat.check()
        with pytest.raises(TallystickError) as caught:
            seat.require()
        assert caught.value.code in ANOTHER

    @pytest.mark.parametrize("how", ["unplug", "impostor"])
    def test_no_seat_is_taken_without_the_key(self, world: World, container: Container, how: str) -> None:
        world.activate(container, units=5)
        seat = world.seat(container)
        world.given(how)(world.place, container)
        world.clock.advance(61)
        with pytest.raises(Exception, match=r".") as caught:
            world.seat(container)
        assert getattr(caught.value, "code", "") in (*GONE, *ANOTHER)
        with pytest.raises(Exception, match=r".") as caught:
            seat.consume(1)
        assert getattr(caught.value, "code", "") in (*GONE, *ANOTHER)

    def test_renewal_keeps_seats_alive_without_the_callers_thread(self, world: World, container: Container) -> None:
        world.activate(container)
        other = world.open(reproof_s=30)
        seat = world.seat(other)
        step = world.given("step")
        for _ in range(5):
            world.clock.advance(15)
            step(other)
        world.given("unplug")(world.place, other)
        world.clock.advance(14)
        assert seat.check()

    def test_a_failed_renewal_ends_seats_at_once(self, world: World, container: Container) -> None:
        world.activate(container)
        seat = world.seat(container)
        world.given("unplug")(world.place, container)
        world.given("step")(container)
        assert not seat.check()

    def test_a_renewal_ends_what_another_process_ended(self, world: World, container: Container) -> None:
        license_ = world.activate(container)
        other = world.open()
        seat = world.seat(other)
        container.deactivate(license_.license_id)
        world.given("step")(other)
        assert not seat.check()
        refused("deactivated", seat.require)

    @pytest.mark.parametrize("reproof_s", [0, 0.5, 3601, float("nan")])
    def test_an_interval_that_proves_nothing_is_refused(
        self, world: World, container: Container, reproof_s: float
    ) -> None:
        refused("usage", world.open, reproof_s=reproof_s)
        assert world.open(reproof_s=3600).info().locked is None
