# SPDX-License-Identifier: Apache-2.0
"""What the stories found once, told in as few words as possible."""

from __future__ import annotations

import random

import pytest

from issuer import DAY, Issuer
from lending.sites import Site
from tallystick.container import ledger_take
from tallystick.errors import TallystickError
from tallystick.license.grant_policy import MAY_ALL, SEATS, GrantPolicy
from tallystick.license.messages import read_request
from tallystick.license.model import Feature

POLICY = GrantPolicy(MAY_ALL, max_depth=2)


class Shelf:
    """A vendor and three containers, the first of which has a license of 100 units and 9 seats."""

    def __init__(self) -> None:
        self.acme = Issuer()
        self.sites = [Site(index, self.acme.trust, anchored=False, rng=random.Random(index)) for index in range(3)]
        self.first, self.second, self.third = (site.container for site in self.sites)
        request = self.first.request(product="cad")
        features = {"render": Feature(units=9), "pdf": Feature()}
        made = self.acme.license(request, units=100, seats=9, features=features, lend=POLICY, transfer=POLICY)
        self.first.install(self.acme.answer(request, made))

    def pass_on(self, giver: int, receiver: int, **amounts: int) -> bytes:
        """Transfer, and bring the receipt back."""
        one, other = self.sites[giver].container, self.sites[receiver].container
        wanted = {SEATS: 1, "": amounts["units"]}
        request = other.lending.ask(self.acme.trust, product="cad", amounts=wanted, transfer=True)
        outcome = other.install(one.lending.give(request))
        one.install(outcome.receipt)
        return outcome.message_id

    def left(self, index: int) -> tuple[int, int]:
        """Units and seats that can still be used there, in all parts."""
        views = self.sites[index].container.licenses()
        terms = [(view.license_.terms, view.usage.used) for view in views if view.license_ is not None]
        units = sum((term.units or 0) - used.get("", 0) for term, used in terms)
        return units, sum((term.seats or 0) - used.get(SEATS, 0) for term, used in terms)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


def test_what_was_passed_on_finds_its_way_home_when_the_one_between_gave_back_its_own(shelf: Shelf) -> None:
    outer = shelf.pass_on(0, 1, units=10)
    inner = shelf.pass_on(1, 2, units=4)
    shelf.first.install(shelf.second.lending.give_back(outer))
    shelf.second.install(shelf.third.lending.give_back(inner))
    assert shelf.left(1) == (4, 1)
    shelf.first.install(shelf.second.lending.give_back(outer))
    assert [shelf.left(index) for index in range(3)] == [(100, 9), (0, 0), (0, 0)]


def test_a_grant_declined_before_it_came_is_declined_whatever_is_asked_then(shelf: Shelf) -> None:
    lender = shelf.first.info().thumbprint
    request = shelf.second.lending.ask(shelf.acme.trust, product="cad", amounts={SEATS: 1}, duration=DAY, lender=lender)
    shelf.second.cancel_request(read_request(request).request_id)
    shelf.first.lending.give(request)
    (loan,) = shelf.first.lending.loans()
    shelf.first.install(shelf.second.lending.give_back(loan.xid))
    assert shelf.left(0) == (100, 9)


def test_units_of_a_feature_that_is_not_given_stay_at_home(shelf: Shelf) -> None:
    request = shelf.second.lending.ask(shelf.acme.trust, product="cad", features=("pdf",), transfer=True)
    outcome = shelf.second.install(shelf.first.lending.give(request))
    shelf.first.install(shelf.second.lending.give_back(outcome.message_id))
    assert shelf.left(0) == (100, 9)
    assert shelf.first.checkout("cad", features=["render"]).consume(9, "render") == 0


def test_an_old_block_does_not_spoil_a_later_return(shelf: Shelf) -> None:
    xid = shelf.pass_on(0, 1, units=10)
    seat = shelf.second.checkout("cad", reserve=5)
    seat.consume(2)
    shelf.first.install(shelf.second.lending.give_back(xid, {"": 1}))
    seat.close()
    shelf.first.install(shelf.second.lending.give_back(xid))
    assert shelf.left(0) == (98, 9)


def test_a_grant_of_an_open_invitation_is_taken_once_however_much_came_since(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_take, "MAX_ARRIVALS", 2)
    invitation = shelf.second.lending.ask(shelf.acme.trust, count=20)
    grants = []
    for _ in range(5):
        grants.append(shelf.first.lending.give(invitation, product="cad", transfer=True))
        outcome = shelf.second.install(grants[-1])
        shelf.first.install(outcome.receipt)
        shelf.first.install(shelf.second.lending.give_back(outcome.message_id))
    for grant in grants:
        assert shelf.second.install(grant).repeated
    assert [shelf.left(index) for index in range(2)] == [(100, 9), (0, 0)]


def test_a_receipt_for_another_lender_changes_nothing(shelf: Shelf) -> None:
    xid = shelf.pass_on(0, 1, units=10)
    receipt = shelf.second.lending.give_back(xid)
    before = shelf.sites[2].state()
    with pytest.raises(TallystickError) as caught:
        shelf.third.install(receipt)
    assert caught.value.code == "wrong_container"
    assert shelf.sites[2].state() is before
