# SPDX-License-Identifier: Apache-2.0
"""Loans and transfers: the contract of `Container.lending`, with the backend as giver and as receiver.

Whatever is lost, repeated or late: all that was issued is used or in somebody's hands once, or on its way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from conformance.pairs import FREE, Pair, changes, free, gone, kind_of, loan, parts
from conformance.world import World, facts, left, refused
from fakes import START
from issuer import CONTENT_KEY, DAY, Issuer
from tallystick.codec.envelope import seal_content
from tallystick.container.anchor import Capability
from tallystick.container.base import Container
from tallystick.container.lending_base import (
    ACTIVE,
    CANCELLED,
    EXPIRED,
    IN_TRANSIT,
    RECALLED,
    REQUESTED,
    RETURNED,
    Loan,
)
from tallystick.license.grant_policy import MAY_ALL, MAY_EXTEND, MAY_RECALL, MAY_RETURN, SEATS, TOLERANCE_S, GrantPolicy
from tallystick.license.messages import read_request
from tallystick.license.receipts import EMPTIED, read_receipt

SHARE = {"": 30, SEATS: 2, "sim": 5}
ISSUED = {"": 100, SEATS: 5, "sim": 20}


class TestLending:
    """There: pull, push, loan, transfer."""

    @pytest.mark.parametrize("duration", [7 * DAY, None], ids=["loan", "transfer"])
    def test_what_is_given_is_in_one_place_at_a_time(self, pair: Pair, duration: int | None) -> None:
        license_ = pair.license()

        def sight() -> dict[str, int]:
            return {name: pair.sight(license_, name) for name in ISSUED}

        request = pair.receiver.lending.ask(product="cad", amounts=SHARE, duration=duration, transfer=duration is None)
        assert sight() == ISSUED
        grant = pair.giver.lending.give(request)
        assert sight() == {name: ISSUED[name] - SHARE[name] for name in ISSUED}, "on its way"
        outcome = pair.receiver.install(grant)
        assert (changes(outcome), outcome.repeated) == (["received" if duration is None else "borrowed"], False)
        assert sight() == ISSUED
        assert changes(pair.giver.install(outcome.receipt)) == ["accepted"]
        assert sight() == ISSUED
        (part,) = parts(pair.receiver, license_)
        assert part.license_ is not None
        assert (part.license_.terms.units, part.license_.terms.seats) == (30, 2)
        pair.consume(pair.receiver, 4)
        pair.consume(pair.receiver, 2, "sim")
        pair.consume(pair.giver, 7)
        assert sight() == ISSUED

    def test_a_loan_has_the_same_end_on_both_sides(self, pair: Pair) -> None:
        pair.license()
        xid = pair.lend(SHARE)
        there, here = loan(pair.giver, xid), loan(pair.receiver, xid)
        assert there.ends == here.ends == START + 7 * DAY
        assert (there.state, here.state) == (ACTIVE, ACTIVE)
        assert (there.outgoing, here.outgoing) == (True, False)
        assert there.peer == pair.receiver.info().thumbprint
        assert here.peer == pair.giver.info().thumbprint
        assert there.amounts == here.amounts == SHARE
        assert there.open
        assert here.open

    def test_the_same_request_gives_the_same_grant_and_no_second_debit(self, pair: Pair) -> None:
        license_ = pair.license()
        request = pair.receiver.lending.ask(product="cad", amounts=SHARE, duration=DAY)
        grant = pair.giver.lending.give(request)
        before = facts(pair.giver)
        pair.later(3600)
        assert pair.giver.lending.give(request) == grant
        assert facts(pair.giver) == before
        assert gone(pair.giver, license_, "") == 30
        pair.license(product="plan")
        asked = pair.receiver.lending.ask(license_id=license_.license_id, amounts={SEATS: 1})
        named = pair.giver.lending.give(asked, product="cad", ends=START + 2 * DAY)
        pair.giver.install(pair.worlds[0].acme.refresh(license_, lend=None))
        assert pair.giver.lending.give(asked) == named, "whatever is held or permitted by now"

    def test_a_grant_imported_twice_counts_once(self, pair: Pair) -> None:
        license_ = pair.license()
        grant = pair.give(SHARE)
        first = pair.receiver.install(grant)
        before = facts(pair.receiver)
        again = pair.receiver.install(grant)
        assert (again.repeated, again.receipt, changes(again)) == (True, first.receipt, ["unchanged"])
        assert facts(pair.receiver) == before
        pair.giver.install(first.receipt)
        before = facts(pair.giver)
        assert pair.giver.install(first.receipt).repeated
        assert facts(pair.giver) == before
        assert pair.sight(license_, "") == 100

    def test_a_grant_is_for_the_container_it_names(self, pair: Pair) -> None:
        pair.license()
        grant = pair.give(SHARE)
        third = pair.another(pair.cases[1])
        third.request()
        for other in (third, pair.giver):
            before = facts(other)
            refused("wrong_container", other.install, grant)
            refused("wrong_container", other.lending.decline, grant)
            assert facts(other) == before
        receipt = pair.receiver.install(grant).receipt
        for other in (third, pair.receiver):
            refused("wrong_container", other.install, receipt)
        assert changes(pair.giver.install(receipt)) == ["accepted"]

    def test_a_request_is_for_the_lender_it_names(self, pair: Pair) -> None:
        pair.license()
        ask = pair.receiver.lending.ask
        request = ask(product="cad", duration=DAY, amounts=SHARE, lender=pair.receiver.info().thumbprint)
        refused("wrong_container", pair.giver.lending.give, request)
        request = ask(product="cad", duration=DAY, amounts=SHARE, lender=pair.giver.info().thumbprint)
        pair.receiver.install(pair.giver.lending.give(request))

    def test_an_invitation_is_good_for_its_count(self, pair: Pair) -> None:
        """Push: the giver decides what and when."""
        license_ = pair.license()
        invitation = pair.receiver.lending.ask(count=3)
        ends = START + 3 * DAY
        grants = [pair.giver.lending.give(invitation, amounts={SEATS: 1}, ends=ends) for _ in range(2)]
        grants.append(pair.giver.lending.give(invitation, amounts={SEATS: 1, "": 9}, transfer=True))
        assert len(set(grants)) == 3
        refused("invitation_used", pair.giver.lending.give, invitation, amounts={SEATS: 1}, ends=ends)
        for grant in reversed(grants):
            pair.giver.install(pair.receiver.install(grant).receipt)
            assert pair.receiver.install(grant).repeated
        assert pair.sight(license_, SEATS) == 5
        assert pair.sight(license_, "") == 100
        assert len(parts(pair.receiver, license_)) == 3
        assert pair.receiver.info().open_requests == 0

    def test_a_license_without_numbers_is_given_whole(self, pair: Pair) -> None:
        license_ = pair.license(units=None, seats=None, features=["pdf"])
        refused("whole_only", pair.give, {SEATS: 1})
        xid = pair.lend(None, DAY)
        refused("lent_out", pair.giver.checkout, "cad")
        with pair.receiver.checkout("cad", features=["pdf"]) as seat:
            assert seat.check("pdf")
        pair.giver.install(pair.receiver.lending.give_back(xid))
        refused("not_licensed", pair.receiver.checkout, "cad")
        with pair.giver.checkout("cad") as seat:
            assert seat.check()
        assert pair.sight(license_, SEATS) == 1

    def test_only_these_features_go_along(self, pair: Pair) -> None:
        pair.license()
        pair.lend({SEATS: 1}, features=("pdf",))
        with pair.receiver.checkout("cad", features=["pdf"]):
            pass
        refused("feature_not_licensed", pair.receiver.checkout, "cad", features=["sim"])

    def test_everything_moves_in_one_file(self, pair: Pair) -> None:
        """Rehost."""
        one = pair.license()
        two = pair.license(product="plan", units=None, seats=None)
        pair.consume(pair.giver, 10)
        invitation = pair.receiver.lending.ask(count=9, transfer=True)
        refused("held_elsewhere", pair.giver.lending.statement, "acme")
        move = pair.giver.lending.move(invitation)
        assert kind_of(move) == "move"
        refused("held_elsewhere", pair.giver.lending.statement, "acme")  # it may yet be declined
        outcome = pair.receiver.install(move)
        assert changes(outcome) == ["received", "received"]
        assert pair.receiver.install(move).repeated
        again = pair.giver.lending.move(invitation)
        assert pair.receiver.install(again).repeated, "what is in transit is offered again"
        assert changes(pair.giver.install(outcome.receipt)) == ["accepted", "accepted"]
        refused("not_available", pair.giver.lending.move, invitation)
        key = read_request(pair.giver.request()).key
        statement = read_receipt(pair.giver.lending.statement("acme"), key)
        assert (statement.purpose, statement.vendor, statement.accounts) == (EMPTIED, "acme", ())
        refused("lent_out", pair.giver.checkout, "cad")
        for product in ("cad", "plan"):
            with pair.receiver.checkout(product) as seat:
                assert seat.check()
        assert pair.sight(one, "") == 100
        assert pair.sight(one, SEATS) == 5
        assert pair.sight(two, SEATS) == 1

    def test_a_move_takes_all_or_nothing(self, pair: Pair) -> None:
        pair.license()
        pair.license(product="plan", transfer=None)
        before = facts(pair.giver)
        invitation = pair.receiver.lending.ask(count=9, transfer=True)
        refused("lending_denied", pair.giver.lending.move, invitation)
        assert facts(pair.giver) == before


class TestNotLending:
    """What is refused, and what is cancelled."""

    def test_a_declined_grant_comes_home_and_stays_declined(self, pair: Pair) -> None:
        license_ = pair.license()
        grant = pair.give(SHARE, None)
        receipt = pair.receiver.lending.decline(grant)
        assert pair.receiver.lending.decline(grant) == receipt
        again = pair.receiver.install(grant)
        assert (again.repeated, again.receipt) == (True, receipt)
        assert parts(pair.receiver, license_) == []
        assert changes(pair.giver.install(receipt)) == ["declined"]
        assert {name: pair.sight(license_, name) for name in ISSUED} == ISSUED
        assert [one.state for one in pair.giver.lending.loans()] == [CANCELLED]
        assert [one.state for one in pair.receiver.lending.loans()] == [CANCELLED]

    def test_what_was_imported_cannot_be_declined(self, pair: Pair) -> None:
        pair.license()
        grant = pair.give(SHARE)
        pair.receiver.install(grant)
        refused("idempotency_conflict", pair.receiver.lending.decline, grant)

    def test_a_cancelled_request_declines_what_comes_for_it(self, pair: Pair) -> None:
        license_ = pair.license()
        grant = pair.give(SHARE, None)
        pair.receiver.cancel_request(pair.receiver.requests()[-1].request_id)
        outcome = pair.receiver.install(grant)
        assert changes(outcome) == ["declined"]
        pair.giver.install(outcome.receipt)
        assert {name: pair.sight(license_, name) for name in ISSUED} == ISSUED

    def test_a_lost_grant_of_a_known_lender_is_declined_without_it(self, pair: Pair) -> None:
        license_ = pair.license()
        pair.give(SHARE, None, lender=pair.giver.info().thumbprint)
        pair.receiver.cancel_request(pair.receiver.requests()[-1].request_id)
        (declined,) = pair.receiver.lending.loans()
        assert declined.state == CANCELLED
        pair.giver.install(pair.receiver.lending.message(declined.xid))
        assert {name: pair.sight(license_, name) for name in ISSUED} == ISSUED

    @pytest.mark.parametrize(
        ("terms", "amounts", "duration", "code"),
        [
            ({"lend": None}, SHARE, DAY, "lending_denied"),
            ({"transfer": None}, SHARE, None, "lending_denied"),
            ({"lend": FREE.replace(max_duration=DAY)}, SHARE, DAY + 1, "duration_too_long"),
            ({}, SHARE, 60, "loan_too_short"),
            ({"expires": START + DAY}, SHARE, 2 * DAY, "duration_too_long"),
            ({"lend": FREE.replace(low_water=4)}, SHARE, DAY, "low_water"),
            ({"lend": FREE.replace(max_per_receiver=1)}, SHARE, DAY, "receiver_limit"),
            ({"lend": FREE.replace(receivers=(bytes(32),))}, SHARE, DAY, "receiver_denied"),
            ({"lend": FREE.replace(min_level=3)}, SHARE, DAY, "receiver_level"),
            ({"lend": GrantPolicy(MAY_RETURN)}, SHARE, DAY, "lending_denied"),
            ({}, {SEATS: 6}, DAY, "not_available"),
            ({}, {"": 9}, DAY, "usage"),
        ],
        ids=["no loans", "no transfers", "too long", "too short", "past the end", "low water", "limit", "receiver",
             "level", "no direction", "too much", "no seat"],
    )  # fmt: skip
    def test_a_refusal_changes_nothing(
        self, pair: Pair, terms: dict[str, Any], amounts: dict[str, int], duration: int | None, code: str
    ) -> None:
        pair.license(**terms)
        before = facts(pair.giver)
        refused(code, pair.give, amounts, duration)
        assert facts(pair.giver) == before

    def test_the_administrators_rules_are_kept_and_hold(self, pair: Pair) -> None:
        pair.license()
        refused("usage", pair.giver.lending.set_policy, "borrow", FREE)
        pair.giver.lending.set_policy("lend", GrantPolicy(MAY_ALL, low_water=4))
        pair.giver.lending.set_policy("transfer/cad", GrantPolicy())
        pair.reopen()
        assert set(pair.giver.lending.policies()) == {"lend", "transfer/cad"}
        refused("low_water", pair.give, SHARE)
        refused("lending_restricted", pair.give, SHARE, None)
        pair.giver.lending.set_policy("lend", None)
        pair.giver.lending.set_policy("transfer/cad", None)
        assert pair.giver.lending.policies() == {}
        pair.lend(SHARE)

    def test_every_kind_is_refused_by_name_where_it_does_not_belong(self, pair: Pair) -> None:
        pair.license()
        request = pair.receiver.lending.ask(product="cad", amounts=SHARE, duration=DAY)
        grant = pair.giver.lending.give(request)
        receipt = pair.receiver.install(grant).receipt
        recall = pair.giver.lending.recall(pair.giver.lending.loans()[0].xid)
        activation = pair.receiver.request()
        for message, name in ((grant, "grant"), (receipt, "receipt"), (recall, "recall")):
            refusal = refused("wrong_kind", pair.giver.lending.give, message)
            assert name in refusal.message
        refusal = refused("wrong_kind", pair.giver.install, request)
        assert "request" in refusal.message
        refused("wrong_kind", pair.giver.lending.give, activation)
        for message in (request, receipt, recall):
            refused("wrong_kind", pair.receiver.lending.decline, message)
        for message in (b"", b"\0", grant[:-1], recall + b"x"):
            refused("malformed", pair.receiver.install, message)

    def test_a_request_needs_an_end_or_none(self, pair: Pair) -> None:
        pair.license()
        ask = pair.receiver.lending.ask
        refused("usage", ask, product="cad", duration=DAY, transfer=True)
        refused("usage", ask, product="cad", duration=0)
        refused("usage", ask, product="cad", count=0)
        refused("usage", ask, product="bad name", duration=DAY)
        refused("usage", pair.giver.lending.give, ask(product="cad", amounts=SHARE))
        pair.giver.lending.give(ask(product="cad", amounts=SHARE), ends=START + DAY)

    def test_what_was_lent_is_not_given_up(self, pair: Pair) -> None:
        license_ = pair.license()
        xid = pair.lend(SHARE)
        refused("held_elsewhere", pair.giver.deactivate, license_.license_id)
        refused("usage", pair.receiver.deactivate, xid)
        pair.giver.install(pair.receiver.lending.give_back(xid))
        pair.giver.deactivate(license_.license_id)

    def test_of_several_parts_one_that_will_do_is_taken(self, pair: Pair) -> None:
        whole = pair.license(units=None, seats=None, features=[])
        pair.lend(None)
        ended = pair.license(expires=START + DAY)
        good = pair.license()
        pair.later(DAY)
        pair.lend(SHARE)
        assert gone(pair.giver, whole, SEATS) == 1
        assert gone(pair.giver, ended, SEATS) == 0
        assert gone(pair.giver, good, SEATS) == 2

    def test_a_closed_container_lends_nothing(self, pair: Pair) -> None:
        lending = pair.giver.lending
        pair.giver.close()
        calls: list[tuple[Callable[..., object], tuple[object, ...]]] = [
            (lending.ask, ()), (lending.loans, ()), (lending.policies, ()), (lending.message, (bytes(16),)),
            (lending.extend, (bytes(16), 0)), (lending.recall, (bytes(16),)), (lending.give_back, (bytes(16),)),
            (lending.statement, ("acme",)),
        ]  # fmt: skip
        for call, arguments in calls:
            refused("closed", call, *arguments)


class TestHomecoming:
    """And back: returns, recalls, extensions, ends."""

    def test_all_of_it_comes_back_once(self, pair: Pair) -> None:
        license_ = pair.license()
        xid = pair.lend(SHARE)
        pair.consume(pair.receiver, 6)
        receipt = pair.receiver.lending.give_back(xid)
        refused("not_licensed", pair.receiver.checkout, "cad")
        assert changes(pair.giver.install(receipt)) == ["returned"]
        before = (facts(pair.giver), facts(pair.receiver))
        assert pair.receiver.lending.give_back(xid) == receipt
        assert pair.giver.install(receipt).repeated
        assert (facts(pair.giver), facts(pair.receiver)) == before
        assert gone(pair.giver, license_, "") == 6
        assert {name: pair.sight(license_, name) for name in ISSUED} == ISSUED
        for container in (pair.giver, pair.receiver):
            assert loan(container, xid).state == RETURNED
            assert not loan(container, xid).open
            assert dict(loan(container, xid).used) | {SEATS: 0} == {"": 6, SEATS: 0} | {
                name: used for name, used in loan(container, xid).used.items() if name == "sim"
            }

    def test_parts_of_it_come_back_in_any_order_of_the_files(self, pair: Pair) -> None:
        license_ = pair.license()
        xid = pair.lend(SHARE)
        receipts = [pair.receiver.lending.give_back(xid, {SEATS: 1})]
        pair.consume(pair.receiver, 10)
        receipts.append(pair.receiver.lending.give_back(xid, {"": 15}))
        refused("not_available", pair.receiver.lending.give_back, xid, {"": 6})
        receipts.append(pair.receiver.lending.give_back(xid))
        for receipt in (receipts[1], receipts[0], receipts[2], *receipts):
            pair.giver.install(receipt)
            assert pair.sight(license_, "") <= 100
        assert {name: pair.sight(license_, name) for name in ISSUED} == ISSUED
        assert gone(pair.giver, license_, "") == 10

    def test_what_was_transferred_can_be_given_back_too(self, pair: Pair) -> None:
        license_ = pair.license()
        xid = pair.lend(SHARE, None)
        pair.consume(pair.receiver, 6)
        pair.giver.install(pair.receiver.lending.give_back(xid))
        assert {name: pair.sight(license_, name) for name in ISSUED} == ISSUED

    def test_a_return_may_be_the_first_word_the_giver_hears(self, pair: Pair) -> None:
        """The first receipt was lost."""
        license_ = pair.license()
        xid = pair.receiver.install(pair.give(SHARE)).message_id
        pair.giver.install(pair.receiver.lending.give_back(xid))
        assert {name: pair.sight(license_, name) for name in ISSUED} == ISSUED

    def test_an_extension_moves_both_ends(self, pair: Pair) -> None:
        license_ = pair.license()
        xid = pair.lend(SHARE, DAY)
        with pair.receiver.checkout("cad") as seat:
            assert seat.verdict().valid_until == START + DAY - TOLERANCE_S
            longer = pair.giver.lending.extend(xid, START + 3 * DAY)
            assert pair.giver.lending.extend(xid, START + 3 * DAY) == longer
            outcome = pair.receiver.install(longer)
            assert changes(outcome) == ["extended"]
            assert pair.receiver.install(longer).repeated
            assert seat.verdict().valid_until == START + 3 * DAY - TOLERANCE_S
        assert loan(pair.giver, xid).ends == loan(pair.receiver, xid).ends == START + 3 * DAY
        pair.later(2 * DAY)
        pair.consume(pair.receiver, 1)
        assert {name: pair.sight(license_, name) for name in ISSUED} == ISSUED

    def test_an_extension_that_never_arrives_ends_the_loan_early_and_doubles_nothing(self, pair: Pair) -> None:
        license_ = pair.license()
        xid = pair.lend(SHARE, DAY)
        pair.giver.lending.extend(xid, START + 3 * DAY)
        pair.later(2 * DAY)
        refused("expired", pair.receiver.checkout, "cad")
        assert pair.sight(license_, SEATS) == 3
        pair.later(2 * DAY)
        assert pair.sight(license_, SEATS) == 5

    def test_a_recall_brings_it_home(self, pair: Pair) -> None:
        license_ = pair.license()
        xid = pair.lend(SHARE)
        recall = pair.giver.lending.recall(xid)
        assert gone(pair.giver, license_, "") == 30, "the giver's books change by the receipt only"
        outcome = pair.receiver.install(recall)
        assert changes(outcome) == ["returned"]
        assert pair.receiver.install(recall).receipt == outcome.receipt
        refused("not_licensed", pair.receiver.checkout, "cad")
        pair.giver.install(outcome.receipt)
        assert {name: pair.sight(license_, name) for name in ISSUED} == ISSUED
        assert loan(pair.giver, xid).state == loan(pair.receiver, xid).state == RECALLED

    def test_what_the_license_forbids_after_the_grant(self, pair: Pair) -> None:
        pair.license(lend=FREE.replace(allowed=MAY_ALL & ~(MAY_RETURN | MAY_RECALL | MAY_EXTEND)))
        xid = pair.lend(SHARE, DAY)
        refused("return_denied", pair.receiver.lending.give_back, xid)
        refused("recall_denied", pair.giver.lending.recall, xid)
        refused("extend_denied", pair.giver.lending.extend, xid, START + 2 * DAY)
        pair.later(DAY)
        pair.giver.install(pair.receiver.lending.give_back(xid))

    def test_at_the_end_both_sides_agree_without_a_word(self, pair: Pair) -> None:
        license_ = pair.license()
        xid = pair.lend({SEATS: 2}, DAY)
        seat = pair.receiver.checkout("cad")
        pair.later(DAY - TOLERANCE_S - 1)
        assert seat.check()
        pair.later(1)
        assert not seat.check()
        refused("expired", seat.require)
        assert pair.sight(license_, SEATS) == 3
        pair.later(2 * TOLERANCE_S - 1)
        assert pair.sight(license_, SEATS) == 3
        pair.later(1)
        assert pair.sight(license_, SEATS) == 5
        assert loan(pair.giver, xid).state == loan(pair.receiver, xid).state == EXPIRED
        assert not loan(pair.giver, xid).open
        receipt = pair.receiver.lending.give_back(xid)
        assert pair.giver.install(receipt).repeated, "asked back after the end: nothing is left to book"
        assert pair.sight(license_, SEATS) == 5

    def test_a_license_lent_whole_runs_again_at_the_first_try_after_the_end(self, pair: Pair) -> None:
        pair.license(units=None, seats=None, features=[])
        pair.lend(None, DAY)
        pair.later(DAY + TOLERANCE_S - 1)
        refused("lent_out", pair.giver.checkout, "cad")
        pair.later(1)
        with pair.giver.checkout("cad") as seat:
            assert seat.check()

    def test_units_wait_for_the_receipt_that_says_what_was_used(self, pair: Pair) -> None:
        license_ = pair.license()
        xid = pair.lend(SHARE, DAY)
        pair.consume(pair.receiver, 11)
        pair.later(3 * DAY)
        assert gone(pair.giver, license_, "") == 30
        assert gone(pair.giver, license_, SEATS) == 0
        assert loan(pair.giver, xid).open
        pair.giver.install(pair.receiver.lending.give_back(xid))
        assert gone(pair.giver, license_, "") == 11
        assert {name: pair.sight(license_, name) for name in ISSUED} == ISSUED

    def test_a_transfer_never_comes_back_by_itself(self, pair: Pair) -> None:
        license_ = pair.license()
        pair.give(SHARE, None)
        pair.lend({SEATS: 1}, None)
        for _ in range(10):
            pair.later(6 * DAY)
            pair.giver.request()
            pair.receiver.request()
        assert gone(pair.giver, license_, SEATS) == 3
        assert pair.sight(license_, SEATS) == 3

    def test_unknown_loans_are_not_found(self, pair: Pair) -> None:
        for call in (pair.giver.lending.recall, pair.giver.lending.give_back, pair.giver.lending.message):
            refused("grant_not_found", call, bytes(16))
        refused("grant_not_found", pair.giver.lending.extend, bytes(16), START + DAY)


class TestBorrowed:
    """A borrowed license is used as an own one."""

    def test_a_seat_on_a_borrowed_license(self, pair: Pair) -> None:
        license_ = pair.license()
        xid = pair.lend(SHARE, DAY)
        with pair.receiver.checkout("cad", features=["pdf", "sim"]) as seat:
            assert seat.check("pdf")
            assert seat.license_.license_id == license_.license_id
            assert seat.license_.part == xid
            assert seat.license_.borrowed_until == START + DAY
            assert seat.valid_until == START + DAY - TOLERANCE_S
            assert seat.consume(10) == 20
            assert seat.consume(2, "sim") == 3
            refused("units_exhausted", seat.consume, 21)
            assert seat.consume(1, idempotency_key="k") == seat.consume(1, idempotency_key="k") == 19
            refused("seats_in_use", pair.receiver.lending.give_back, xid)
            refused("seats_in_use", pair.receiver.install, pair.giver.lending.recall(xid))
            pair.giver.install(pair.receiver.lending.give_back(xid, {SEATS: 1, "": 1}))
            assert seat.check("pdf")
        pair.giver.install(pair.receiver.lending.give_back(xid))
        assert left(pair.giver, license_) == 100 - 11

    def test_the_end_of_a_loan_is_announced(self, pair: Pair) -> None:
        pair.license()
        pair.lend(SHARE, 10 * DAY)
        with pair.receiver.checkout("cad") as seat:
            assert seat.verdict().warnings == ()
        pair.later(9 * DAY)
        with pair.receiver.checkout("cad") as seat:
            assert [notice.code for notice in seat.verdict().warnings] == ["loan_ends_soon"]
            assert seat.verdict(warn=3600).warnings == ()
        with pair.receiver.checkout("cad", warn=3600) as seat:
            assert seat.verdict().warnings == ()
            assert seat.verdict(warn=DAY).warnings

    def test_a_block_of_a_borrowed_license(self, pair: Pair) -> None:
        license_ = pair.license()
        xid = pair.lend(SHARE)
        seat = pair.receiver.checkout("cad", reserve=10)
        seat.consume(4)
        pair.giver.install(pair.receiver.lending.give_back(xid, {"": 15}))
        seat.close()
        assert left(pair.giver, license_) == 85
        pair.giver.install(pair.receiver.lending.give_back(xid))
        assert left(pair.giver, license_) == 96

    def test_own_and_borrowed_parts_of_one_license_count_together(self, pair: Pair) -> None:
        license_ = pair.license()
        pair.lend({SEATS: 1, "": 5})
        pair.lend({SEATS: 1, "": 7}, None)
        with pair.receiver.checkout("cad") as seat:
            assert seat.consume(10) == 2
            refused("units_exhausted", seat.consume, 3)
            assert seat.consume(2) == 0
        assert pair.sight(license_, "") == 88

    def test_content_opens_in_both_containers(self, pair: Pair) -> None:
        if not all(Capability.UNLOCK in case.capabilities for case in pair.cases):
            pytest.skip("UNLOCK is absent")
        acme = pair.worlds[0].acme
        content = seal_content(CONTENT_KEY, "plans", b"the plan")
        request = pair.giver.request(product="cad")
        keys = {"plans": acme.sealed(request)}
        pair.giver.install(acme.answer(request, content_keys=keys, seats=5, lend=FREE))
        xid = pair.lend({SEATS: 1}, DAY)
        for container in (pair.giver, pair.receiver):
            with container.checkout("cad") as seat:
                assert seat.unlock(content) == b"the plan"
        third = pair.another(pair.cases[1])
        on = pair.receiver.lending.give(third.lending.ask(product="cad", duration=3600, amounts={SEATS: 1}))
        third.install(on)
        with third.checkout("cad") as seat:
            assert seat.unlock(content) == b"the plan"
        pair.receiver.install(pair.giver.lending.extend(xid, START + 2 * DAY))

    def test_the_vendors_list_revokes_what_was_borrowed(self, pair: Pair) -> None:
        pair.license(status_index=2)
        pair.lend(SHARE)
        seat = pair.receiver.checkout("cad")
        acme = pair.worlds[0].acme
        me = pair.receiver.info().thumbprint
        pair.receiver.install(acme.update(me, status_list=acme.status_list(0, 0, 1)))
        assert not seat.check()
        refused("revoked", seat.require)
        refused("revoked", pair.receiver.checkout, "cad")

    def test_the_applications_pin_counts_for_what_was_borrowed(self, pair: Pair) -> None:
        pair.license()
        pair.lend(SHARE)
        pair.receiver.close()
        impostor = pair.worlds[1].open(Issuer("acme").trust)
        refused("unknown_issuer", impostor.checkout, "cad")

    def test_a_usage_period_begins_once_for_all(self, pair: Pair) -> None:
        pair.license(usage_period=5 * DAY)
        pair.lend(SHARE, 20 * DAY)
        pair.later(5 * DAY)
        refused("usage_period_over", pair.receiver.checkout, "cad")
        refused("usage_period_over", pair.giver.checkout, "cad")

    def test_a_part_is_lent_on_and_everything_adds_up(self, pair: Pair) -> None:
        """Depth 2: giver, receiver, and a third."""
        license_ = pair.license()
        xid = pair.lend(SHARE, 9 * DAY)
        third = pair.another(pair.cases[0])
        ask = third.lending.ask
        refused("duration_too_long", pair.receiver.lending.give, ask(product="cad", duration=10 * DAY, amounts=SHARE))
        refused("lending_denied", pair.receiver.lending.give, ask(product="cad", transfer=True, amounts={SEATS: 1}))
        grant = pair.receiver.lending.give(ask(product="cad", duration=DAY, amounts={SEATS: 1, "": 10}))
        outcome = third.install(grant)
        pair.receiver.install(outcome.receipt)
        refused("held_elsewhere", pair.receiver.lending.give_back, xid)
        (view,) = parts(third, license_)
        assert free(view, "", START) == 10
        assert pair.sight(license_, "") == 90
        with third.checkout("cad") as seat:
            seat.consume(4)
        pair.receiver.install(third.lending.give_back(outcome.message_id))
        pair.giver.install(pair.receiver.lending.give_back(xid))
        assert left(pair.giver, license_) == 96
        assert pair.sight(license_, SEATS) == 5


class TestLendingBooks:
    """What is listed, and what survives."""

    def test_both_containers_are_the_same_after_every_step_when_opened_again(self, pair: Pair) -> None:
        license_ = pair.license()

        def step(expected: dict[str, int]) -> None:
            pair.reopen()
            assert {name: pair.sight(license_, name) for name in expected} == expected

        request = pair.receiver.lending.ask(product="cad", amounts=SHARE, duration=2 * DAY)
        step(ISSUED)
        grant = pair.giver.lending.give(request)
        step({"": 70, SEATS: 3})
        assert pair.giver.lending.give(request) == grant
        outcome = pair.receiver.install(grant)
        xid = outcome.message_id
        step(ISSUED)
        assert pair.receiver.install(grant).receipt == outcome.receipt
        pair.giver.install(outcome.receipt)
        step(ISSUED)
        pair.consume(pair.receiver, 3)
        part = pair.receiver.lending.give_back(xid, {"": 7, SEATS: 1})
        step({"": 93, SEATS: 4})
        pair.giver.install(part)
        step(ISSUED)
        longer = pair.giver.lending.extend(xid, START + 4 * DAY)
        step(ISSUED)
        assert pair.giver.lending.message(xid) == longer
        pair.receiver.install(longer)
        step(ISSUED)
        recall = pair.giver.lending.recall(xid)
        step(ISSUED)
        receipt = pair.receiver.install(recall).receipt
        step({"": 100 - 20, SEATS: 4})
        assert pair.receiver.lending.message(xid) == receipt
        pair.giver.install(receipt)
        step(ISSUED)
        assert left(pair.giver, license_) == 97
        pair.lend({SEATS: 1}, DAY)
        pair.later(DAY + TOLERANCE_S)
        step(ISSUED)

    def test_every_message_can_be_had_again(self, pair: Pair) -> None:
        pair.license()
        request = pair.receiver.lending.ask(product="cad", amounts=SHARE, duration=DAY)
        request_id = read_request(request).request_id
        pair.reopen()
        assert pair.receiver.lending.message(request_id) == request
        grant = pair.giver.lending.give(request)
        receipt = pair.receiver.install(grant).receipt
        xid = pair.giver.lending.loans()[0].xid
        pair.reopen()
        assert pair.giver.lending.message(xid) == grant
        assert pair.receiver.lending.message(xid) == receipt
        back = pair.receiver.lending.give_back(xid)
        assert pair.receiver.lending.message(xid) == back

    def test_the_list_tells_the_whole_story(self, pair: Pair) -> None:
        pair.license()

        def told() -> list[str]:
            lists: list[tuple[Loan, ...]] = [pair.giver.lending.loans(), pair.receiver.lending.loans()]
            return [one.state for loans in lists for one in loans]

        request = pair.receiver.lending.ask(product="cad", amounts=SHARE, duration=DAY)
        assert told() == [REQUESTED]
        grant = pair.giver.lending.give(request)
        assert told() == [IN_TRANSIT, REQUESTED]
        receipt = pair.receiver.install(grant).receipt
        assert told() == [IN_TRANSIT, ACTIVE]
        pair.giver.install(receipt)
        assert told() == [ACTIVE, ACTIVE]
        pair.later(DAY)
        assert told() == [EXPIRED, EXPIRED]
        pair.giver.install(pair.receiver.lending.give_back(pair.giver.lending.loans()[0].xid))
        assert told() == [RETURNED, RETURNED]
        pair.receiver.lending.ask(product="cad", amounts=SHARE, duration=DAY)
        pair.receiver.cancel_request(pair.receiver.requests()[-1].request_id)
        assert told()[-1] == CANCELLED

    def test_a_container_that_lent_everything_states_that_it_may_come_back(self, pair: Pair) -> None:
        pair.license()
        xid = pair.lend(None, DAY)
        refused("held_elsewhere", pair.giver.lending.statement, "acme")
        pair.later(DAY + TOLERANCE_S)
        refused("held_elsewhere", pair.giver.lending.statement, "acme")
        assert loan(pair.giver, xid).returned[SEATS] == 5

    def test_requests_to_the_vendor_name_own_licenses_only(self, pair: Pair) -> None:
        license_ = pair.license()
        pair.lend(SHARE)
        pair.consume(pair.receiver, 3)
        pair.consume(pair.giver, 2)
        assert read_request(pair.receiver.request()).accounts == ()
        (account,) = read_request(pair.giver.request()).accounts
        assert (account.license_id, account.used) == (license_.license_id, {"": 2})

    def test_two_handles_of_one_container_see_the_same_books(self, pair: Pair) -> None:
        license_ = pair.license()
        other: Container = pair.worlds[0].open()
        pair.lend(SHARE)
        assert gone(other, license_, "") == 30
        assert other.lending.loans() == pair.giver.lending.loans()

    def test_a_locked_container_lends_nothing(self, pair: Pair) -> None:
        world: World = pair.worlds[0]
        folder = world.given("files")(world.place)
        world.given("view")
        pair.license()
        pair.lend(SHARE)
        pair.license(product="more")
        pair.giver.close()
        for path in folder.glob("state.*"):
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.write_bytes(data)
        refused("tampered", lambda: world.view().lending)
