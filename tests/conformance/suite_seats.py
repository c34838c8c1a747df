# SPDX-License-Identifier: Apache-2.0
"""May this run? Seats, terms, the choice among licenses, and content."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from conformance.world import World, refused
from fakes import START
from issuer import CONTENT_KEY, DAY, Issuer
from tallystick.codec.envelope import seal_content
from tallystick.container.anchor import Capability
from tallystick.container.base import Container
from tallystick.container.seat import requires
from tallystick.license.model import Feature


class TestSeats:
    def test_a_seat_says_yes_to_what_is_licensed_only(self, world: World, container: Container) -> None:
        world.activate(container, features=["pdf"], protected_data={"tier": b"gold"})
        seat = world.seat(container, "pdf")
        assert seat.check()
        assert seat.check("pdf")
        assert not seat.check("render")
        assert seat.refusal("pdf") is None
        refusal = seat.refusal("render")
        assert refusal is not None
        assert refusal.code == "feature_not_licensed"
        refused("feature_not_licensed", seat.require, "render")
        seat.require("pdf")
        assert seat.license_.protected_data == {"tier": b"gold"}

    def test_what_is_not_held_is_not_licensed(self, world: World, container: Container) -> None:
        refused("not_licensed", container.checkout, "cad")
        world.activate(container)
        refused("not_licensed", container.checkout, "render")
        refused("feature_not_licensed", container.checkout, "cad", features=["pdf"])

    def test_nothing_is_checked_out_for_nobody(self, world: World, container: Container) -> None:
        world.activate(container)
        untrusting = world.open_untrusting()
        refused("usage", untrusting.checkout, "cad")
        assert len(untrusting.licenses()) == 1

    def test_of_several_vendors_one_must_be_named(self, world: World, container: Container) -> None:
        brick = Issuer("brick")
        both = world.open(world.acme.trust, brick.trust)
        world.activate(both)
        world.activate(both, brick, product="cad", licensee="brick's")
        refused("vendor_needed", both.checkout, "cad")
        assert both.checkout("cad", vendor="brick").license_.licensee == "brick's"
        assert both.checkout("cad", vendor="acme").license_.licensee == ""
        refused("unknown_issuer", both.checkout, "cad", vendor="stone")
        assert [view.vendor for view in both.licenses("brick")] == ["brick"]

    def test_the_applications_pin_counts_not_what_the_container_recorded(
        self, world: World, container: Container
    ) -> None:
        world.activate(container)
        impostor = world.open(Issuer("acme").trust)
        refused("unknown_issuer", impostor.checkout, "cad")

    def test_a_closed_seat_is_closed(self, world: World, container: Container) -> None:
        world.activate(container, units=5)
        with world.seat(container) as seat:
            assert seat.check()
        seat.close()
        assert not seat.check()
        refused("closed", seat.require)
        refused("closed", seat.consume)
        refused("closed", seat.unlock, b"")
        refused("closed", seat.verdict)

    def test_seats_end_with_their_container(self, world: World, container: Container) -> None:
        world.activate(container, units=5)
        seat = world.seat(container)
        container.close()
        assert not seat.check()
        refused("closed", seat.consume)

    def test_a_right_ends_at_once_where_it_is_given_up(self, world: World, container: Container) -> None:
        license_ = world.activate(container, features=["pdf"])
        seat = world.seat(container, "pdf")
        container.deactivate(license_.license_id)
        assert not seat.check("pdf")
        refused("deactivated", seat.require)

    def test_a_right_ends_within_an_interval_where_another_process_ended_it(
        self, world: World, container: Container
    ) -> None:
        license_ = world.activate(container)
        other = world.open(reproof_s=30)
        seat = world.seat(other)
        container.deactivate(license_.license_id)
        world.clock.advance(31)
        assert not seat.check()

    def test_a_decorated_function_runs_while_licensed(self, world: World, container: Container) -> None:
        license_ = world.activate(container, units=2, features=["pdf"])
        seat = world.seat(container)

        @requires(seat, "pdf")
        def export(name: str) -> str:
            return name.upper()

        @requires(lambda: seat, units=1)
        async def render() -> int:
            return 42

        assert export("a") == "A"
        assert [asyncio.run(render()), asyncio.run(render())] == [42, 42]
        with pytest.raises(Exception, match=r"2 left|0 left|units"):
            asyncio.run(render())
        container.deactivate(license_.license_id)
        refused("deactivated", export, "a")


TERMS: dict[str, tuple[dict[str, Any], dict[str, Any], str | None]] = {
    # name: (terms, checkout arguments, code or None where it is permitted)
    "not yet": ({"not_before": START + 1}, {}, "not_yet_valid"),
    "from now": ({"not_before": START}, {}, None),
    "over": ({"expires": START}, {}, "expired"),
    "not over": ({"expires": START + 1}, {}, None),
    "release inside": ({"maintenance_from": START - DAY, "maintenance_to": START}, {"release_date": START - 1}, None),
    "release before": ({"maintenance_from": START - DAY}, {"release_date": START - DAY - 1}, "maintenance_over"),
    "release after": ({"maintenance_to": START}, {"release_date": START}, "maintenance_over"),
    "release by date": ({"maintenance_to": START}, {"release_date": "2027-01-01"}, "maintenance_over"),
    "release unknown": ({"maintenance_to": 0}, {}, None),
    "version inside": ({"max_version": "4"}, {"version": "4.9.1"}, None),
    "version beyond": ({"max_version": "4.2"}, {"version": "4.3"}, "version_not_licensed"),
    "version unknown": ({"max_version": "1"}, {}, None),
    "check-in fresh": ({"check_in": DAY}, {}, None),
    "exhausted is no refusal": ({"units": 0}, {}, None),
}


class TestTerms:
    @pytest.mark.parametrize("name", TERMS)
    def test_license_terms(self, world: World, container: Container, name: str) -> None:
        terms, arguments, code = TERMS[name]
        world.activate(container, **terms)
        if code is None:
            assert container.checkout("cad", **arguments).check()
        else:
            refused(code, container.checkout, "cad", **arguments)
            assert [view.verdict.code for view in container.licenses() if view.verdict] in ([code], ["ok"])

    def test_a_feature_has_terms_of_its_own(self, world: World, container: Container) -> None:
        features = {"pdf": Feature(expires=START), "render": Feature(not_before=START + 1), "base": Feature()}
        world.activate(container, features=features)
        seat = world.seat(container, "base")
        refused("expired", seat.require, "pdf")
        refused("not_yet_valid", seat.require, "render")
        assert seat.check()

    def test_a_seat_ends_when_the_license_does(self, world: World, container: Container) -> None:
        world.activate(container, expires=START + 10)
        seat = world.seat(container)
        assert seat.valid_until == START + 10
        world.clock.advance(9)
        assert seat.check()
        world.clock.advance(1)
        assert not seat.check()
        assert refused("expired", seat.require).details["valid_until"] == START + 10

    def test_a_perpetual_license_never_ends(self, world: World, container: Container) -> None:
        world.activate(container)
        assert world.seat(container).valid_until is None

    def test_a_usage_period_begins_with_the_first_use_and_never_again(self, world: World, container: Container) -> None:
        license_ = world.activate(container, usage_period=2 * DAY, features={"trial": Feature(usage_period=DAY)})
        world.clock.advance(DAY)
        seat = world.seat(container)
        assert seat.valid_until == START + 3 * DAY
        world.clock.advance(DAY)
        assert world.seat(container, "trial").check("trial")
        container.close()
        container = world.open()
        world.clock.advance(DAY - 1)
        assert world.seat(container).check("trial")
        world.clock.advance(1)
        refused("usage_period_over", world.seat, container)
        usage = container.licenses()[0].usage
        assert dict(usage.first_use) == {"": START + DAY, "trial": START + 2 * DAY}
        container.install(world.acme.refresh(license_, usage_period=9 * DAY))
        assert world.seat(container).check()

    def test_looking_at_a_license_does_not_use_it(self, world: World, container: Container) -> None:
        world.activate(container, usage_period=DAY)
        container.licenses()
        world.clock.advance(5 * DAY)
        assert world.seat(container).check()

    def test_contact_is_demanded_warned_of_and_made(self, world: World, container: Container) -> None:
        license_ = world.activate(container, check_in=10 * DAY, grace=2 * DAY)
        world.clock.advance(6 * DAY)
        world.seat(container)
        world.clock.advance(5 * DAY)
        seat = world.seat(container)
        assert seat.verdict().warnings[0].code == "check_in_due"
        world.clock.advance(DAY)
        refused("check_in_overdue", world.seat, container)
        world.acme.now += 12 * DAY
        container.install(world.acme.refresh(license_))
        assert world.seat(container).check()

    def test_a_level_the_container_cannot_have_is_refused_here(self, world: World, container: Container) -> None:
        if Capability.NON_EXPORTABLE in world.case.capabilities:
            pytest.skip("NON_EXPORTABLE is present: the level is the issuer's to tell")
        world.activate(container, min_level=2)
        refused("level_too_low", world.seat, container)

    def test_the_end_is_announced(self, world: World, container: Container) -> None:
        world.activate(container, expires=START + 20 * DAY, issued_at=START - 345 * DAY)
        assert "20 days" in str(world.seat(container).verdict().warnings[0])
        world.activate(container, product="month", expires=START + 30 * DAY)
        assert world.seat(container, product="month").verdict().warnings == ()

    def test_a_wrong_version_or_date_is_the_programs_mistake(self, world: World, container: Container) -> None:
        world.activate(container, max_version="4")
        refused("malformed", container.checkout, "cad", version="four")
        refused("usage", container.checkout, "cad", release_date="yesterday")


class TestChoice:
    def test_the_license_that_lasts_longest_is_chosen(self, world: World, container: Container) -> None:
        world.activate(container, expires=START + DAY, licensee="short")
        world.activate(container, licensee="for ever")
        world.activate(container, expires=START + 9 * DAY, licensee="long")
        assert world.seat(container).license_.licensee == "for ever"

    def test_one_license_must_permit_all_that_is_asked(self, world: World, container: Container) -> None:
        world.activate(container, features=["pdf"])
        world.activate(container, features=["render"])
        world.activate(container, features=["pdf", "render"], expires=START + DAY, licensee="both")
        assert world.seat(container, "pdf", "render").license_.licensee == "both"
        world.clock.advance(DAY)
        refused("expired", world.seat, container, "pdf", "render")

    def test_a_bad_license_does_not_spoil_the_good_one(self, world: World, container: Container) -> None:
        bad = world.activate(container)
        world.activate(container, expires=START + DAY, licensee="good")
        container.install(world.acme.refresh(bad, status=2))
        assert world.seat(container).license_.licensee == "good"


class TestContent:
    @pytest.fixture
    def sealed(self) -> Callable[[str], bytes]:
        return lambda key_id: seal_content(CONTENT_KEY, key_id, b"the plan")

    def test_content_opens_in_the_licensed_container(
        self, world: World, container: Container, sealed: Callable[[str], bytes]
    ) -> None:
        world.need(Capability.UNLOCK)
        request = container.request()
        keys = {"plans": world.acme.sealed(request)}
        container.install(world.acme.answer(request, content_keys=keys, expires=START + DAY))
        seat = world.seat(container)
        assert seat.unlock(sealed("plans")) == b"the plan"
        refused("feature_not_licensed", seat.unlock, sealed("other"))
        refused("malformed", seat.unlock, b"not content")
        whole = sealed("plans")
        damaged = whole[:-1] + bytes([whole[-1] ^ 1])
        refused("decrypt_failed", seat.unlock, damaged)
        world.clock.advance(DAY)
        refused("expired", seat.unlock, sealed("plans"))

    def test_a_key_sealed_to_another_container_opens_nothing(
        self, world: World, container: Container, sealed: Callable[[str], bytes]
    ) -> None:
        world.need(Capability.UNLOCK)
        from tallystick.codec.envelope import seal_key
        from tallystick.codec.signing import SoftwareKey

        stranger = seal_key(CONTENT_KEY, SoftwareKey.generate().public_key)
        world.activate(container, content_keys={"plans": stranger})
        refused("decrypt_failed", world.seat(container).unlock, sealed("plans"))
