# SPDX-License-Identifier: Apache-2.0
"""Loans and transfers on the books of both sides: whatever is lost, repeated or late, nothing is minted.

`free` is what a container may use or give; what nobody has in sight is on its way, or waits for a receipt.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from lenders import FREE, Lender, check_books, grant_of, in_sight, xid_of

from fakes import START
from issuer import DAY, Issuer
from tallystick.codec.signing import SoftwareKey
from tallystick.container import commands as c
from tallystick.container import ledger_give, ledger_take
from tallystick.container.exchanges import ACCEPTED, CLOSED, DECLINED, HELD, IN_TRANSIT, RETURNED, exchange_id
from tallystick.container.ledger_books import license_of
from tallystick.container.state import ANSWERED, CANCELLED, OPEN, Counter, State
from tallystick.errors import TallystickError
from tallystick.license.grant_policy import (
    MAY_ALL,
    MAY_EXTEND,
    MAY_PULL,
    MAY_PUSH,
    MAY_RECALL,
    MAY_RETURN,
    SEATS,
    TOLERANCE_S,
    GrantPolicy,
)
from tallystick.license.messages import read_request
from tallystick.license.model import Feature, License
from tallystick.license.receipts import DECLINED as TOLD_DECLINED
from tallystick.license.receipts import RETURNED as TOLD_RETURNED


@pytest.fixture
def acme() -> Issuer:
    return Issuer()


@pytest.fixture
def giver(acme: Issuer) -> Lender:
    return Lender(acme)


@pytest.fixture
def receiver(acme: Issuer) -> Lender:
    return Lender(acme)


@pytest.fixture
def third(acme: Issuer) -> Lender:
    return Lender(acme)


@pytest.fixture
def license_(giver: Lender) -> License:
    return giver.hold(units=100, seats=5, lend=FREE, transfer=FREE, features={"sim": Feature(units=20)})


def refused(code: str, who: Lender, call: Any, *args: Any, **values: Any) -> TallystickError:
    """A refusal, and the very same account after it."""
    before = who.state
    with pytest.raises(TallystickError) as caught:
        call(*args, **values)
    assert caught.value.code == code, caught.value
    assert who.state is before
    return caught.value


def kept(lender: Lender) -> None:
    """What is on the books survives being written."""
    assert State.from_bytes(lender.state.to_bytes()) == lender.state


SHARE = {"": 30, SEATS: 2, "sim": 5}


class TestThereAndBack:
    @pytest.mark.parametrize("loan", [True, False], ids=["loan", "transfer"])
    def test_what_is_given_moves_once_and_every_step_adds_up(
        self, giver: Lender, receiver: Lender, license_: License, loan: bool
    ) -> None:
        def sight(name: str) -> int:
            check_books(giver, receiver)
            kept(giver)
            kept(receiver)
            return in_sight(license_, name, giver, receiver)

        request = receiver.ask(transfer=not loan)
        grant = giver.give(request, license_, SHARE, giver.end() if loan else None)
        assert giver.counter(license_) == Counter(in_transit=30)
        assert [sight(name) for name in SHARE] == [70, 3, 15], "on its way, it is nobody's"
        receipt = receiver.accept(grant)
        assert [sight(name) for name in SHARE] == [100, 5, 20]
        assert giver.book(receipt) == ["accepted"]
        field = "lent" if loan else "given"
        for name, amount in SHARE.items():
            assert giver.counter(license_, name) == Counter(**{field: amount})
            assert sight(name) == {"": 100, SEATS: 5, "sim": 20}[name]
        receiver.consume(xid_of(grant), 4)
        receiver.consume(xid_of(grant), 3, "sim")
        giver.consume(license_, 6)
        back = receiver.give_back(xid_of(grant))
        assert [sight(name) for name in SHARE] == [100 - 26, 5 - 2, 20 - 2]
        assert giver.book(back) == ["returned"]
        assert [sight(name) for name in SHARE] == [100, 5, 20]
        if loan:
            assert giver.counter(license_) == Counter(used=10), "what the borrower used counts as used here"
            assert giver.counter(license_, "sim") == Counter(used=3)
        else:
            assert giver.counter(license_) == Counter(used=6, given=4), "what was used after a transfer stays given"
        assert giver.counter(license_, SEATS) == Counter()
        assert xid_of(grant) not in receiver.state.holdings
        assert giver.consume(license_, 1) == 100 - 11

    def test_the_receiver_has_exactly_what_was_granted(
        self, giver: Lender, receiver: Lender, license_: License
    ) -> None:
        ends = giver.end(DAY)
        grant = giver.give(receiver.ask(), license_, SHARE, ends)
        receiver.accept(grant)
        part = license_of(receiver.part(xid_of(grant)))
        assert (part.terms.units, part.terms.seats, part.features["sim"].units) == (30, 2, 5)
        assert (part.terms.expires, part.borrowed_until) == (ends - TOLERANCE_S, ends)
        refused("units_exhausted", receiver, receiver.consume, xid_of(grant), 31)
        assert receiver.consume(xid_of(grant), 30) == 0

    @pytest.mark.parametrize("steps", list(itertools.permutations(["accept", "accept", "return"])), ids=str)
    def test_receipts_may_come_in_any_order_and_any_number(
        self, giver: Lender, receiver: Lender, license_: License, steps: tuple[str, ...]
    ) -> None:
        grant = giver.give(receiver.ask(), license_, SHARE, giver.end())
        letters = {"accept": receiver.accept(grant)}
        receiver.consume(xid_of(grant), 4)
        letters["return"] = receiver.give_back(xid_of(grant))
        for step in steps * 2:
            giver.book(letters[step])
            check_books(giver, receiver)
        assert giver.counter(license_) == Counter(used=4)
        assert giver.counter(license_, SEATS) == Counter()
        assert giver.state.given[xid_of(grant)].outcome == "returned"

    def test_a_repetition_is_the_same_bytes_and_changes_nothing(
        self, giver: Lender, receiver: Lender, license_: License
    ) -> None:
        request = receiver.ask()
        grant = giver.give(request, license_, SHARE, giver.end())
        before = giver.state
        giver.clock.advance(100)
        assert giver.give(request, license_, {"": 99, SEATS: 1}, giver.end(90 * DAY)) == grant
        assert giver.state is before
        receipt = receiver.accept(grant)
        at = receiver.state
        assert receiver.accept(grant) == receipt
        assert receiver.state is at
        giver.book(receipt)
        at = giver.state
        assert giver.book(receipt) == ["unchanged"]
        assert giver.give(request, license_, SHARE, giver.end()) == grant
        assert giver.state is at
        back = receiver.give_back(xid_of(grant))
        at = receiver.state
        assert receiver.give_back(xid_of(grant)) == receiver.accept(grant) == back
        assert receiver.state is at

    def test_everything_is_given_where_no_amount_is_named(
        self, giver: Lender, receiver: Lender, license_: License
    ) -> None:
        giver.consume(license_, 10)
        grant = giver.give(receiver.ask(transfer=True), license_)
        assert grant_of(grant).amounts == {SEATS: 5, "": 90, "sim": 20}
        refused("lent_out", giver, giver.consume, license_, 1)
        refused("lent_out", giver, giver.give, receiver.ask(transfer=True), license_)
        receiver.accept(grant)
        assert in_sight(license_, "", giver, receiver) == 100

    def test_a_part_travels_on_and_home_again(
        self, giver: Lender, receiver: Lender, third: Lender, license_: License
    ) -> None:
        """A gives to B for good, B to C, C back to A: it is a part of the same license, beside A's own."""
        everybody = (giver, receiver, third)
        hops = [(giver, receiver, license_.license_id)]
        grant = b""
        for one, other in ((giver, receiver), (receiver, third), (third, giver)):
            part = xid_of(grant) if grant else license_.license_id
            grant = one.give(other.ask(transfer=True), part, {"": 10, SEATS: 1})
            one.book(other.accept(grant))
            check_books(*everybody)
            assert in_sight(license_, "", *everybody) == 100
            assert in_sight(license_, SEATS, *everybody) == 5
            hops.append((one, other, part))
        assert license_of(giver.part(xid_of(grant))).depth == 3
        assert giver.consume(license_, 95) == 5, "from both parts"
        assert (giver.counter(license_).used, giver.counter(xid_of(grant)).used) == (90, 5)


class TestDeclining:
    @pytest.mark.parametrize("loan", [True, False], ids=["loan", "transfer"])
    def test_what_was_declined_is_back_for_good(
        self, giver: Lender, receiver: Lender, license_: License, loan: bool
    ) -> None:
        grant = giver.give(receiver.ask(), license_, SHARE, giver.end() if loan else None)
        receipt = receiver.decline(grant)
        assert receiver.decline(grant) == receipt
        assert receiver.accept(grant) == receipt, "a tombstone, whatever is imported later"
        assert xid_of(grant) not in receiver.state.holdings
        assert giver.book(receipt) == ["declined"]
        assert giver.book(receipt) == ["unchanged"]
        assert giver.counter(license_) == giver.counter(license_, SEATS) == Counter()
        entry = giver.state.given[xid_of(grant)]
        assert (entry.status, entry.outcome) == (CLOSED, "declined")
        check_books(giver, receiver)
        kept(giver)
        kept(receiver)

    def test_what_was_imported_cannot_be_declined(self, giver: Lender, receiver: Lender, license_: License) -> None:
        grant = giver.give(receiver.ask(), license_, SHARE, giver.end())
        receiver.accept(grant)
        refused("idempotency_conflict", receiver, receiver.decline, grant)

    def test_a_refusal_after_the_receipt_is_a_lie(self, giver: Lender, receiver: Lender, license_: License) -> None:
        grant = giver.give(receiver.ask(), license_, SHARE)
        giver.book(receiver.accept(grant))
        lie = receiver.receipt(xid_of(grant), TOLD_DECLINED, final=True)
        refused("not_conserved", giver, giver.book, lie)
        giver.book(receiver.give_back(xid_of(grant)))
        refused("not_conserved", giver, giver.book, lie)

    def test_a_cancelled_request_declines_what_comes_for_it(
        self, giver: Lender, receiver: Lender, license_: License
    ) -> None:
        request = receiver.ask()
        grant = giver.give(request, license_, SHARE)
        receiver.do(c.CancelRequest(read_request(request).request_id))
        receipt = receiver.accept(grant)
        assert receiver.state.arrivals[xid_of(grant)].status == DECLINED
        assert receiver.state.holdings == {}
        giver.book(receipt)
        assert giver.counter(license_) == Counter()

    def test_with_the_lender_known_a_cancelled_request_is_declined_ahead(
        self, giver: Lender, receiver: Lender, license_: License
    ) -> None:
        """The grant may have been lost: the giver gets its part back without it."""
        request = receiver.ask(lender=giver.thumbprint, amounts=SHARE)
        grant = giver.give(request, license_, SHARE)
        request_id = read_request(request).request_id
        receiver.do(c.CancelRequest(request_id))
        (xid,) = receiver.state.arrivals
        assert xid == xid_of(grant) == exchange_id(request_id, giver.thumbprint, 0)
        giver.book(receiver.receipt(xid))
        assert giver.counter(license_) == Counter()
        before = receiver.state
        receiver.accept(grant)
        assert receiver.state is before

    def test_what_is_declined_ahead_is_nothing_to_a_giver_that_gave_nothing(
        self, giver: Lender, receiver: Lender, license_: License
    ) -> None:
        request = receiver.ask(lender=giver.thumbprint)
        receiver.do(c.CancelRequest(read_request(request).request_id))
        (xid,) = receiver.state.arrivals
        refused("grant_not_found", giver, giver.book, receiver.receipt(xid))
        grant = giver.give(request, license_, SHARE)  # the old file is found after all
        giver.book(receiver.accept(grant))
        assert giver.counter(license_) == Counter()

    def test_an_invitation_is_not_declined_ahead(self, giver: Lender, receiver: Lender) -> None:
        request = receiver.ask(lender=giver.thumbprint, count=2)
        receiver.do(c.CancelRequest(read_request(request).request_id))
        assert receiver.state.arrivals == {}

    def test_an_answered_request_is_not_cancelled(self, giver: Lender, receiver: Lender, license_: License) -> None:
        request = receiver.ask()
        receiver.accept(giver.give(request, license_, SHARE))
        refused("request_not_found", receiver, receiver.do, c.CancelRequest(read_request(request).request_id))


class TestEnds:
    @pytest.mark.parametrize("accepted", [True, False], ids=["accepted", "in transit"])
    def test_seats_of_a_loan_come_home_by_themselves_and_units_do_not(
        self, giver: Lender, receiver: Lender, license_: License, accepted: bool
    ) -> None:
        ends = giver.end(DAY)
        grant = giver.give(receiver.ask(), license_, SHARE, ends)
        receipt = receiver.accept(grant)
        if accepted:
            giver.book(receipt)
        giver.clock.advance(DAY + TOLERANCE_S - 1)
        assert giver.free(license_.license_id, SEATS) == 3
        giver.clock.advance(1)
        assert giver.free(license_.license_id, SEATS) == 5
        assert giver.counter(license_, SEATS) == Counter()
        assert giver.counter(license_).gone == 30
        giver.do(c.Observe())
        entry = giver.state.given[xid_of(grant)]
        assert entry.status == (ACCEPTED if accepted else IN_TRANSIT), "its units are still out"
        assert giver.state.history[-1].kind == "ended"
        check_books(giver)
        kept(giver)

    def test_a_loan_of_seats_alone_closes_with_its_end(
        self, giver: Lender, receiver: Lender, license_: License
    ) -> None:
        grant = giver.give(receiver.ask(), license_, {SEATS: 2}, giver.end(DAY))
        giver.clock.advance(DAY + TOLERANCE_S)
        giver.do(c.Observe())
        entry = giver.state.given[xid_of(grant)]
        assert (entry.status, entry.outcome) == (CLOSED, "ended")
        before = giver.state
        for receipt in (receiver.accept(grant), receiver.give_back(xid_of(grant))):
            assert giver.book(receipt) == ["unchanged"]
        assert giver.state is before

    def test_nobody_can_use_a_seat_while_the_other_does(self, giver: Lender, receiver: Lender) -> None:
        """At no second of the end are there more usable seats than licensed, nor any lost after it."""
        license_ = giver.hold(seats=1, units=9, lend=FREE)
        grant = giver.give(receiver.ask(), license_, {SEATS: 1, "": 9}, giver.end(3600))
        giver.book(receiver.accept(grant))
        usable = []
        for second in range(3600 - TOLERANCE_S - 2, 3600 + TOLERANCE_S + 2):
            for lender in (giver, receiver):
                lender.clock.set_wall(START + second)
                lender.clock.uptime = 1000 + second
            usable.append(in_sight(license_, SEATS, giver, receiver))
        assert usable == [1, 1] + [0] * 2 * TOLERANCE_S + [1, 1]

    def test_a_transfer_never_comes_back_by_itself(self, giver: Lender, receiver: Lender, license_: License) -> None:
        giver.give(receiver.ask(transfer=True), license_, SHARE)
        giver.book(receiver.accept(giver.give(receiver.ask(transfer=True), license_, {SEATS: 1})))
        for _ in range(60):
            giver.clock.advance(6 * DAY)
            giver.do(c.Observe())
        assert giver.counter(license_, SEATS) == Counter(in_transit=2, given=1)
        assert giver.free(license_.license_id, SEATS) == 2

    def test_a_clock_set_back_or_far_ahead_brings_nothing_home_early(
        self, giver: Lender, receiver: Lender, license_: License
    ) -> None:
        giver.give(receiver.ask(), license_, {SEATS: 2}, giver.end(30 * DAY))
        giver.clock.set_wall(START + 3000 * DAY)
        giver.do(c.Observe())
        assert giver.free(license_.license_id, SEATS) == 3
        giver.clock.set_wall(0)
        giver.do(c.Observe())
        assert giver.free(license_.license_id, SEATS) == 3

    def test_units_that_come_late_are_counted_with_what_was_used(
        self, giver: Lender, receiver: Lender, license_: License
    ) -> None:
        grant = giver.give(receiver.ask(), license_, SHARE, giver.end(DAY))
        receiver.accept(grant)
        receiver.consume(xid_of(grant), 12)
        for lender in (giver, receiver):
            lender.clock.advance(3 * DAY)
        refused("expired", receiver, receiver.consume, xid_of(grant), 1)
        giver.book(receiver.give_back(xid_of(grant)))
        assert giver.counter(license_) == Counter(used=12)
        assert in_sight(license_, "", giver, receiver) == 100
        assert in_sight(license_, SEATS, giver, receiver) == 5

    def test_after_its_end_a_loan_may_be_given_back_whatever_the_license_says(
        self, giver: Lender, receiver: Lender
    ) -> None:
        license_ = giver.hold(units=9, lend=GrantPolicy(MAY_PULL))
        grant = giver.give(receiver.ask(), license_, {"": 9}, giver.end(DAY))
        receiver.accept(grant)
        refused("return_denied", receiver, receiver.give_back, xid_of(grant))
        receiver.clock.advance(DAY - 1)
        refused("return_denied", receiver, receiver.give_back, xid_of(grant))
        receiver.clock.advance(1)
        giver.book(receiver.give_back(xid_of(grant)))
        assert giver.counter(license_) == Counter()

    def test_a_license_lent_whole_runs_again_after_the_end(self, giver: Lender, receiver: Lender) -> None:
        license_ = giver.hold(lend=FREE, features=["pdf"])
        grant = giver.give(receiver.ask(), license_, {}, giver.end(DAY))
        assert grant_of(grant).amounts == {SEATS: 1}
        giver.book(receiver.accept(grant))
        assert (giver.free(license_.license_id, SEATS), receiver.free(license_.license_id, SEATS)) == (0, 1)
        refused("lent_out", giver, giver.give, receiver.ask(), license_, {}, giver.end(DAY))
        refused("whole_only", giver, giver.give, receiver.ask(), giver.hold(lend=FREE), {SEATS: 1}, giver.end(DAY))
        giver.clock.advance(DAY + TOLERANCE_S)
        assert giver.free(license_.license_id, SEATS) == 1
        giver.give(receiver.ask(), license_, {}, giver.end(DAY))


class TestExtending:
    def test_both_ends_move_by_one_message(self, giver: Lender, receiver: Lender, license_: License) -> None:
        first = giver.give(receiver.ask(), license_, SHARE, giver.end(DAY))
        giver.book(receiver.accept(first))
        receiver.consume(xid_of(first), 3)
        ends = giver.end(5 * DAY)
        second = giver.extend(xid_of(first), ends)
        assert (xid_of(second), grant_of(second).seq) == (xid_of(first), 1)
        assert giver.extend(xid_of(first), ends) == second
        receipt = receiver.accept(second)
        assert receipt == receiver.accept(first), "no other receipt is due, and the older grant changes nothing"
        assert license_of(receiver.part(xid_of(first))).borrowed_until == ends
        assert receiver.counter(xid_of(first)).used == 3
        for lender in (giver, receiver):
            lender.clock.advance(2 * DAY)
        assert giver.free(license_.license_id, SEATS) == 3
        receiver.consume(xid_of(first), 1)
        giver.book(receiver.give_back(xid_of(first)))
        assert giver.counter(license_) == Counter(used=4)
        kept(giver)
        kept(receiver)

    def test_an_extension_may_come_first_or_never(self, giver: Lender, receiver: Lender, license_: License) -> None:
        first = giver.give(receiver.ask(), license_, SHARE, giver.end(DAY))
        second = giver.extend(xid_of(first), giver.end(5 * DAY))
        third = giver.extend(xid_of(first), giver.end(6 * DAY))
        receiver.accept(second)
        receiver.accept(first)
        assert license_of(receiver.part(xid_of(first))).borrowed_until == START + 5 * DAY
        receiver.accept(third)
        receiver.accept(second)
        assert license_of(receiver.part(xid_of(first))).borrowed_until == START + 6 * DAY

    def test_what_came_back_is_not_extended(self, giver: Lender, receiver: Lender, license_: License) -> None:
        grant = giver.give(receiver.ask(), license_, SHARE, giver.end(DAY))
        later = giver.extend(xid_of(grant), giver.end(2 * DAY))
        receiver.accept(grant)
        receipt = receiver.give_back(xid_of(grant))
        assert receiver.accept(later) == receipt
        assert receiver.state.holdings == {}
        giver.book(receipt)
        refused("loan_over", giver, giver.extend, xid_of(grant), giver.end(9 * DAY))

    def test_what_may_be_extended(self, giver: Lender, receiver: Lender, license_: License) -> None:
        grant = giver.give(receiver.ask(), license_, SHARE, giver.end(DAY))
        refused("grant_not_found", giver, giver.extend, bytes(16), giver.end())
        refused("loan_too_short", giver, giver.extend, xid_of(grant), giver.end(DAY))
        refused("loan_too_short", giver, giver.extend, xid_of(grant), giver.end(DAY) - 1)
        transfer = giver.give(receiver.ask(), license_, {SEATS: 1})
        refused("extend_denied", giver, giver.extend, xid_of(transfer), giver.end())
        giver.clock.advance(DAY + TOLERANCE_S)
        refused("loan_over", giver, giver.extend, xid_of(grant), giver.end(9 * DAY))

    @pytest.mark.parametrize(
        ("lend", "days", "code"),
        [
            (FREE, 20, None),
            (FREE, 31, "duration_too_long"),
            (FREE.replace(allowed=MAY_ALL & ~MAY_EXTEND), 2, "extend_denied"),
            (FREE.replace(max_duration=3 * DAY), 3, None),
            (FREE.replace(max_duration=3 * DAY), 4, "duration_too_long"),
        ],
        ids=["free", "past the license", "denied", "as long as allowed", "too long"],
    )
    def test_the_license_decides_about_extensions(
        self, giver: Lender, receiver: Lender, lend: GrantPolicy, days: int, code: str | None
    ) -> None:
        license_ = giver.hold(seats=3, lend=lend, expires=START + 30 * DAY)
        grant = giver.give(receiver.ask(), license_, {SEATS: 1}, giver.end(DAY))
        receiver.accept(grant)
        if code is None:
            receiver.accept(giver.extend(xid_of(grant), giver.end(days * DAY)))
        else:
            refused(code, giver, giver.extend, xid_of(grant), giver.end(days * DAY))

    def test_a_license_refreshed_without_lending_is_not_extended(
        self, giver: Lender, receiver: Lender, license_: License
    ) -> None:
        grant = giver.give(receiver.ask(), license_, SHARE, giver.end(DAY))
        giver.do(c.Install(giver.acme.refresh(license_, lend=None)))
        refused("extend_denied", giver, giver.extend, xid_of(grant), giver.end(2 * DAY))

    def test_the_administrator_may_forbid_extensions(self, giver: Lender, receiver: Lender, license_: License) -> None:
        grant = giver.give(receiver.ask(), license_, SHARE, giver.end(DAY))
        giver.do(c.SetPolicy("lend", FREE.replace(allowed=MAY_ALL & ~MAY_EXTEND).to_map()))
        refused("extend_denied", giver, giver.extend, xid_of(grant), giver.end(2 * DAY))


class TestReturning:
    def test_parts_come_back_in_pieces_and_the_numbers_are_cumulative(
        self, giver: Lender, receiver: Lender, license_: License
    ) -> None:
        grant = giver.give(receiver.ask(), license_, SHARE, giver.end())
        xid = xid_of(grant)
        receipts = [receiver.accept(grant)]
        receipts.append(receiver.give_back(xid, {"": 5}))
        receiver.consume(xid, 7)
        receipts.append(receiver.give_back(xid, {"": 3, SEATS: 1}))
        assert receiver.counter(xid) == Counter(used=7, returned=8)
        receipts.append(receiver.give_back(xid))
        shares = [receiver_share(receipt) for receipt in receipts]
        assert [share.returned for share in shares] == [{}, {"": 5}, {"": 8, SEATS: 1}, {"": 23, SEATS: 2, "sim": 5}]
        assert [share.used for share in shares] == [{}, {}, {"": 7}, {"": 7}]
        assert [share.final for share in shares] == [False, False, False, True]
        for receipt in (receipts[2], receipts[1], receipts[3], *receipts):
            giver.book(receipt)
            check_books(giver)
            assert giver.counter(license_).gone <= 30
        assert giver.counter(license_) == Counter(used=7)

    def test_no_more_comes_back_than_is_there(self, giver: Lender, receiver: Lender, license_: License) -> None:
        grant = giver.give(receiver.ask(), license_, SHARE, giver.end())
        xid = xid_of(grant)
        receiver.accept(grant)
        receiver.consume(xid, 10)
        for amounts in ({"": 21}, {SEATS: 3}, {"": 0}, {"nowhere": 1}, {"": 1, "sim": 6}, {"": -1}):
            refused("not_available", receiver, receiver.give_back, xid, amounts)
        refused("grant_not_found", receiver, receiver.give_back, bytes(16))
        receiver.give_back(xid, {"": 20})
        refused("units_exhausted", receiver, receiver.consume, xid, 1)

    def test_a_block_that_is_open_comes_back_or_counts_with_the_last_receipt(
        self, giver: Lender, receiver: Lender, license_: License
    ) -> None:
        """A receipt never says more was used than a later one will: what a program holds back may be released."""
        grant = giver.give(receiver.ask(), license_, {"": 30, SEATS: 1}, giver.end())
        xid = xid_of(grant)
        receiver.accept(grant)
        receiver.do(c.Reserve(xid, "", 10, b"r" * 16))
        receiver.consume(xid, 2)
        giver.book(receiver.give_back(xid, {"": 15}))
        assert giver.counter(license_) == Counter(used=2, lent=13)
        receiver.do(c.Release(xid, b"r" * 16, 7))
        giver.book(receiver.give_back(xid, {"": 4}))
        receiver.do(c.Reserve(xid, "", 2, b"s" * 16))
        giver.book(receiver.give_back(xid))
        assert giver.counter(license_) == Counter(used=7), "2 consumed, 3 of the first block, the second is forfeited"
        assert xid not in receiver.state.holdings

    def test_the_license_decides_about_early_returns(self, giver: Lender, receiver: Lender) -> None:
        for lend, code in ((FREE, None), (GrantPolicy(MAY_ALL & ~MAY_RETURN), "return_denied")):
            license_ = giver.hold(seats=5, lend=lend)
            grant = giver.give(receiver.ask(), license_, {SEATS: 1}, giver.end())
            receiver.accept(grant)
            if code:
                refused(code, receiver, receiver.give_back, xid_of(grant))
            else:
                receiver.give_back(xid_of(grant))

    def test_what_is_lent_on_comes_back_when_it_is_back(
        self, giver: Lender, receiver: Lender, third: Lender, license_: License
    ) -> None:
        grant = giver.give(receiver.ask(), license_, {"": 30, SEATS: 2}, giver.end(9 * DAY))
        giver.book(receiver.accept(grant))
        xid = xid_of(grant)
        on = receiver.give(third.ask(), xid, {"": 10, SEATS: 1}, receiver.end(2 * DAY))
        refused("held_elsewhere", receiver, receiver.give_back, xid)
        giver.book(receiver.give_back(xid, {"": 20, SEATS: 1}))
        assert xid in receiver.state.holdings, "something may still come back to it"
        receiver.book(third.accept(on))
        third.consume(xid_of(on), 4)
        receiver.book(third.give_back(xid_of(on)))
        assert receiver.counter(xid) == Counter(used=4, returned=20)
        giver.book(receiver.give_back(xid))
        assert giver.counter(license_) == Counter(used=4)
        assert in_sight(license_, "", giver, receiver, third) == 100

    def test_what_went_on_for_good_comes_home_the_way_it_went(
        self, giver: Lender, receiver: Lender, third: Lender, license_: License
    ) -> None:
        everybody = (giver, receiver, third)
        grant = giver.give(receiver.ask(), license_, {"": 30, SEATS: 2})
        giver.book(receiver.accept(grant))
        on = receiver.give(third.ask(), xid_of(grant), {"": 10, SEATS: 1})
        receiver.book(third.accept(on))
        giver.book(receiver.give_back(xid_of(grant)))
        assert giver.counter(license_) == Counter(given=10)
        assert xid_of(grant) in receiver.state.holdings, "what went on may come back to it"
        assert in_sight(license_, "", *everybody) == 100
        third.consume(xid_of(on), 4)
        receiver.book(third.give_back(xid_of(on)))
        giver.book(receiver.give_back(xid_of(grant)))
        assert giver.counter(license_) == Counter(given=4)
        assert in_sight(license_, "", *everybody) == 100
        assert in_sight(license_, SEATS, *everybody) == 5


class TestRecalling:
    def test_a_recall_brings_it_home_and_changes_the_givers_books_only_by_the_receipt(
        self, giver: Lender, receiver: Lender, license_: License
    ) -> None:
        grant = giver.give(receiver.ask(), license_, SHARE, giver.end())
        giver.book(receiver.accept(grant))
        receiver.consume(xid_of(grant), 5)
        recall = giver.recall(xid_of(grant))
        assert giver.counter(license_) == Counter(lent=30)
        assert giver.state.given[xid_of(grant)].recalled_at == START
        before = giver.state
        giver.recall(xid_of(grant))
        assert giver.state is before
        receipt = receiver.give_back(xid_of(grant), {}, recall)
        assert receiver.state.arrivals[xid_of(grant)].recalled
        assert receiver.give_back(xid_of(grant), {}, recall) == receipt
        giver.book(receipt)
        assert giver.counter(license_) == Counter(used=5)
        refused("loan_over", giver, giver.recall, xid_of(grant))

    def test_a_recall_is_the_givers_and_of_that_loan(
        self, giver: Lender, receiver: Lender, third: Lender, license_: License
    ) -> None:
        one = giver.give(receiver.ask(), license_, {SEATS: 1}, giver.end())
        two = giver.give(receiver.ask(), license_, {SEATS: 1}, giver.end())
        receiver.accept(one)
        receiver.accept(two)
        recall = giver.recall(xid_of(one))
        refused("grant_not_found", receiver, receiver.give_back, xid_of(two), {}, recall)
        forged = third.identity
        from tallystick.license.grants import Recall

        strange = Recall("acme", START, xid_of(one), receiver.thumbprint, forged.public_key).sign(forged)
        refused("grant_not_found", receiver, receiver.give_back, xid_of(one), {}, strange)

    @pytest.mark.parametrize(
        ("allowed", "by_recall", "by_hand"),
        [
            (MAY_ALL, None, None),
            (MAY_ALL & ~MAY_RECALL, "recall_denied", None),
            (MAY_ALL & ~MAY_RETURN, None, "return_denied"),
        ],
        ids=["both", "no recall", "no return"],
    )
    def test_the_license_decides_about_recalls(
        self, giver: Lender, receiver: Lender, allowed: int, by_recall: str | None, by_hand: str | None
    ) -> None:
        license_ = giver.hold(seats=5, lend=GrantPolicy(allowed))
        grant = giver.give(receiver.ask(), license_, {SEATS: 1}, giver.end())
        xid = xid_of(grant)
        receiver.accept(grant)
        if by_hand:
            refused(by_hand, receiver, receiver.give_back, xid)
        if by_recall:
            refused(by_recall, giver, giver.recall, xid)
        else:
            receiver.give_back(xid, {}, giver.recall(xid))

    def test_a_transfer_may_be_asked_back_too(self, giver: Lender, receiver: Lender, license_: License) -> None:
        grant = giver.give(receiver.ask(), license_, SHARE)
        giver.book(receiver.accept(grant))
        giver.book(receiver.give_back(xid_of(grant), {}, giver.recall(xid_of(grant))))
        assert giver.counter(license_) == Counter()


class TestInvitations:
    def test_an_invitation_is_used_once_for_each_grant(
        self, giver: Lender, receiver: Lender, third: Lender, license_: License
    ) -> None:
        request = receiver.ask(product="", count=3)
        grants = [giver.give(request, license_, {SEATS: 1}, giver.end()) for _ in range(3)]
        request_id = read_request(request).request_id
        assert [xid_of(grant) for grant in grants] == [
            exchange_id(request_id, giver.thumbprint, number) for number in range(3)
        ]
        refused("invitation_used", giver, giver.give, request, license_, {SEATS: 1}, giver.end())
        other = third.hold(seats=2, lend=FREE)
        late = third.give(request, other, {SEATS: 1}, third.end())
        for number, grant in enumerate(reversed(grants)):
            assert receiver.state.pending[request_id].status == OPEN
            giver.book(receiver.accept(grant))
            receiver.accept(grant)
            assert receiver.state.pending[request_id].taken == number + 1
        assert receiver.state.pending[request_id].status == ANSWERED
        third.book(receiver.accept(late))
        assert third.counter(other, SEATS) == Counter(), "one too many is declined, and comes home"
        assert in_sight(license_, SEATS, giver, receiver) == 5

    def test_a_forgotten_entry_does_not_free_its_number(
        self, giver: Lender, receiver: Lender, license_: License
    ) -> None:
        """The book is full of closed entries and forgets the oldest: a new grant must not take another's place."""
        request = receiver.ask(product="", count=9)
        grants = [giver.give(request, license_, {SEATS: 1}) for _ in range(3)]
        giver.book(receiver.decline(grants[0]))
        closed = giver.state.given[xid_of(grants[0])]
        many = {xid(number): closed.replace(xid=xid(number), request_id=b"") for number in range(ledger_give.MAX_GIVEN)}
        giver.state = giver.state.replace(
            given=dict([*giver.state.given.items(), *many.items()][: ledger_give.MAX_GIVEN])
        )
        fourth = giver.give(request, license_, {SEATS: 1})
        assert xid_of(grants[0]) in giver.state.given  # its request has open entries: none of them is forgotten
        assert len({xid_of(grant) for grant in (*grants, fourth)}) == 4
        assert giver.counter(license_, SEATS) == Counter(in_transit=3)

    def test_a_forgotten_answer_is_not_given_again(self, giver: Lender, receiver: Lender, license_: License) -> None:
        """The book is full of closed entries and forgets the oldest: its request, found again, must not be answered."""
        old = receiver.ask(product="cad")
        giver.book(receiver.decline(giver.give(old, license_, {SEATS: 1}, giver.end())))
        (closed,) = giver.state.given.values()
        many = {xid(n): closed.replace(xid=xid(n), request_id=xid(n)) for n in range(ledger_give.MAX_GIVEN - 1)}
        giver.state = giver.state.replace(given={**giver.state.given, **many})
        receiver.acme.now += 60  # which dates requests here
        giver.give(receiver.ask(product="cad"), license_, {SEATS: 1}, giver.end())
        assert closed.xid not in giver.state.given
        refused("invitation_used", giver, giver.give, old, license_, {SEATS: 1}, giver.end())
        giver.give(receiver.ask(product="cad"), license_, {SEATS: 1}, giver.end())
        assert giver.counter(license_, SEATS) == Counter(in_transit=2)

    def test_the_book_is_bounded_by_what_is_open(self, giver: Lender, receiver: Lender) -> None:
        license_ = giver.hold(units=5000, transfer=FREE)
        entry = giver.state.given
        giver.give(receiver.ask(), license_, {"": 1})
        (open_,) = giver.state.given.values()
        assert entry == {}
        many = {xid(number): open_.replace(xid=xid(number)) for number in range(ledger_give.MAX_GIVEN)}
        giver.state = giver.state.replace(given=many)
        refused("full", giver, giver.give, receiver.ask(), license_, {"": 1})

    def test_direction_is_what_the_request_says(self, giver: Lender, receiver: Lender) -> None:
        pull = giver.hold(seats=3, lend=GrantPolicy(MAY_PULL))
        push = giver.hold(seats=3, lend=GrantPolicy(MAY_PUSH))
        asked, invited = receiver.ask(), receiver.ask(product="", count=3)
        refused("direction_denied", giver, giver.give, asked, push, {SEATS: 1}, giver.end())
        refused("direction_denied", giver, giver.give, invited, pull, {SEATS: 1}, giver.end())
        giver.give(asked, pull, {SEATS: 1}, giver.end())
        giver.give(invited, push, {SEATS: 1}, giver.end())


class TestWhatIsAsked:
    @pytest.mark.parametrize(
        ("want", "amounts", "loan", "code"),
        [
            ({}, {SEATS: 1}, True, None),
            ({"product": "plan"}, {SEATS: 1}, True, "not_wanted"),
            ({"license_id": bytes(16)}, {SEATS: 1}, True, "not_wanted"),
            ({"transfer": True}, {SEATS: 1}, True, "not_wanted"),
            ({"duration": DAY}, {SEATS: 1}, False, "not_wanted"),
            ({"amounts": {SEATS: 1}}, {SEATS: 2}, True, "not_wanted"),
            ({"amounts": {SEATS: 1}}, {SEATS: 1, "": 1}, True, "not_wanted"),
            ({"amounts": {SEATS: 2, "": 9}}, {SEATS: 1}, True, None),
            ({"lender": bytes(32)}, {SEATS: 1}, True, "wrong_container"),
            ({}, {SEATS: 6}, True, "not_available"),
            ({}, {SEATS: 1, "": 101}, True, "not_available"),
            ({}, {SEATS: 1, "": 0}, True, "not_available"),
            ({}, {SEATS: 1, "pdf": 1}, True, "whole_only"),
            ({}, {"": 1}, True, "usage"),
        ],
        ids=repr,
    )
    def test_what_is_given_is_what_was_asked_for_and_is_there(
        self, giver: Lender, receiver: Lender, license_: License, want: Any, amounts: Any, loan: bool, code: str | None
    ) -> None:
        request = receiver.ask(**want)
        ends = giver.end() if loan else None
        if code is None:
            receiver.accept(giver.give(request, license_, amounts, ends))
        else:
            refused(code, giver, giver.give, request, license_, amounts, ends)

    def test_a_request_for_the_vendor_is_no_request_for_a_lender(
        self, giver: Lender, receiver: Lender, license_: License
    ) -> None:
        refused("wrong_kind", giver, giver.give, receiver.asked(), license_, {SEATS: 1})

    def test_a_container_does_not_lend_to_itself(self, giver: Lender, license_: License) -> None:
        refused("usage", giver, giver.give, giver.ask(), license_, {SEATS: 1})

    def test_another_vendors_product_of_the_same_name_is_not_meant(
        self, giver: Lender, receiver: Lender, license_: License
    ) -> None:
        brick = Issuer("brick")
        receiver.do(c.AddVendor("brick", brick.root.public_key.cose))
        refused("not_wanted", giver, giver.give, receiver.ask(vendor="brick"), license_, {SEATS: 1})

    def test_what_has_ended_is_not_lent(self, giver: Lender, receiver: Lender) -> None:
        license_ = giver.hold(seats=5, lend=FREE, expires=START + DAY)
        giver.clock.advance(DAY)
        refused("expired", giver, giver.give, receiver.ask(), license_, {SEATS: 1}, giver.end())
        refused("license_not_found", giver, giver.give, receiver.ask(), bytes(16), {SEATS: 1}, giver.end())

    def test_only_these_features_go_along(self, giver: Lender, receiver: Lender, license_: License) -> None:
        refused(
            "feature_not_licensed", giver, giver.give, receiver.ask(), license_, {SEATS: 1}, giver.end(),
            features=["nowhere"],
        )  # fmt: skip
        grant = giver.give(receiver.ask(), license_, {SEATS: 1}, giver.end(), features=[])
        receiver.accept(grant)
        refused("feature_not_licensed", receiver, receiver.consume, xid_of(grant), 1, "sim")
        kept(giver)

    def test_no_units_go_along_of_a_feature_that_does_not(
        self, giver: Lender, receiver: Lender, license_: License
    ) -> None:
        """They could not be used there, nor given back."""
        refused(
            "usage", giver, giver.give, receiver.ask(), license_, {SEATS: 1, "sim": 5}, giver.end(), features=[],
        )  # fmt: skip
        grant = giver.give(receiver.ask(), license_, {}, giver.end(), features=[])
        assert grant_of(grant).amounts == {SEATS: 5, "": 100}
        giver.book(receiver.accept(grant))
        giver.book(receiver.give_back(xid_of(grant)))
        assert giver.state.given[xid_of(grant)].status == CLOSED
        assert giver.counter(license_, "sim") == Counter()

    def test_deactivation_waits_for_what_is_out(self, giver: Lender, receiver: Lender, license_: License) -> None:
        grant = giver.give(receiver.ask(), license_, SHARE, giver.end())
        refused("held_elsewhere", giver, giver.do, c.Deactivate(license_.license_id))
        receipt = receiver.accept(grant)
        giver.book(receipt)
        refused("held_elsewhere", giver, giver.do, c.Deactivate(license_.license_id))
        refused("usage", receiver, receiver.do, c.Deactivate(xid_of(grant)))
        giver.book(receiver.give_back(xid_of(grant)))
        grant = giver.give(receiver.ask(), license_, {SEATS: 1})
        giver.book(receiver.accept(grant))
        refused("held_elsewhere", giver, giver.do, c.Deactivate(license_.license_id))
        giver.book(receiver.give_back(xid_of(grant)))
        giver.do(c.Deactivate(license_.license_id))
        assert giver.book(receipt) == ["unchanged"]


class TestUsage:
    def test_a_usage_period_begins_with_the_first_grant_and_goes_along(self, giver: Lender, receiver: Lender) -> None:
        """Else it would begin anew wherever a part goes."""
        features = {"sim": Feature(usage_period=3 * DAY), "pdf": Feature()}
        license_ = giver.hold(seats=5, usage_period=9 * DAY, lend=FREE, features=features)
        giver.clock.advance(DAY)
        grant = giver.give(receiver.ask(), license_, {SEATS: 1}, giver.end(20 * DAY))
        assert giver.part(license_).first_use == {"": START + DAY, "sim": START + DAY}
        receiver.clock.advance(5 * DAY)
        receiver.accept(grant)
        assert receiver.part(xid_of(grant)).first_use == {"": START + DAY, "sim": START + DAY}
        assert receiver.do(c.FirstUse(xid_of(grant), "sim")) == START + DAY
        giver.clock.advance(10 * DAY)
        refused("usage_period_over", giver, giver.give, receiver.ask(), license_, {SEATS: 1}, giver.end(20 * DAY))

    def test_the_contact_goes_along(self, giver: Lender, receiver: Lender, license_: License) -> None:
        giver.acme.now += DAY
        giver.do(c.Install(giver.acme.update(license_.container)))
        grant = giver.give(receiver.ask(), license_, {SEATS: 1}, giver.end())
        receiver.clock.advance(2 * DAY)
        receiver.accept(grant)
        assert receiver.part(xid_of(grant)).contact == START + DAY

    def test_a_contact_of_the_future_counts_from_now(self, giver: Lender, receiver: Lender, license_: License) -> None:
        giver.acme.now += 5 * DAY
        giver.do(c.Install(giver.acme.update(license_.container)))
        grant = giver.give(receiver.ask(), license_, {SEATS: 1}, giver.end())
        receiver.accept(grant)
        assert receiver.part(xid_of(grant)).contact == START

    def test_a_consumption_spans_parts_of_one_license(self, giver: Lender, receiver: Lender, license_: License) -> None:
        grants = [giver.give(receiver.ask(), license_, {"": units, SEATS: 1}, giver.end()) for units in (5, 10, 20)]
        for grant in grants:
            giver.book(receiver.accept(grant))
        first, second, last = map(xid_of, grants)
        assert receiver.consume(second, 12) == 23
        assert [receiver.counter(part).used for part in (first, second, last)] == [2, 10, 0]
        assert receiver.consume(first, 22) == 1
        assert [receiver.counter(part).used for part in (first, second, last)] == [5, 10, 19]
        refusal = refused("units_exhausted", receiver, receiver.consume, first, 2)
        assert refusal.details["available"] == 1
        assert receiver.do(c.Consume(last, "", 1, b"key")) == receiver.do(c.Consume(last, "", 1, b"key")) == 0
        for part in (first, second, last):
            giver.book(receiver.give_back(part))
        assert giver.counter(license_).used == 35

    def test_a_consumption_spans_no_other_license(self, giver: Lender, receiver: Lender, license_: License) -> None:
        other = giver.hold(units=50, lend=FREE)
        grants = [
            giver.give(receiver.ask(), license_, {"": 5, SEATS: 1}, giver.end()),
            giver.give(receiver.ask(), other, {"": 5}, giver.end()),
        ]
        for grant in grants:
            receiver.accept(grant)
        refused("units_exhausted", receiver, receiver.consume, xid_of(grants[0]), 6)

    def test_an_ended_part_is_no_source(self, giver: Lender, receiver: Lender, license_: License) -> None:
        short = giver.give(receiver.ask(), license_, {"": 5, SEATS: 1}, giver.end(DAY))
        long = giver.give(receiver.ask(), license_, {"": 5, SEATS: 1}, giver.end(9 * DAY))
        receiver.accept(short)
        receiver.accept(long)
        receiver.clock.advance(DAY)
        refused("units_exhausted", receiver, receiver.consume, xid_of(long), 6)
        assert receiver.consume(xid_of(long), 5) == 0
        giver.book(receiver.accept(long))
        giver.book(receiver.give_back(xid_of(short)))
        assert giver.counter(license_).lent == 5

    def test_a_block_is_of_one_part(self, giver: Lender, receiver: Lender, license_: License) -> None:
        grants = [giver.give(receiver.ask(), license_, {"": 5, SEATS: 1}, giver.end()) for _ in range(2)]
        for grant in grants:
            receiver.accept(grant)
        refused("units_exhausted", receiver, receiver.do, c.Reserve(xid_of(grants[0]), "", 6, b"r" * 16))
        receiver.do(c.Reserve(xid_of(grants[0]), "", 5, b"r" * 16))
        receiver.consume(xid_of(grants[0]), 1)
        assert receiver.counter(xid_of(grants[1])).used == 1


class TestLocalPolicy:
    def test_the_administrator_allows_less_by_kind_and_by_product(
        self, giver: Lender, receiver: Lender, license_: License
    ) -> None:
        ends = giver.end()
        giver.do(c.SetPolicy("lend", GrantPolicy(MAY_ALL, low_water=3).to_map()))
        refused("low_water", giver, giver.give, receiver.ask(), license_, {SEATS: 3}, ends)
        giver.do(c.SetPolicy("lend/cad", GrantPolicy(MAY_ALL, max_per_receiver=1).to_map()))
        refused("receiver_limit", giver, giver.give, receiver.ask(), license_, {SEATS: 2}, ends)
        giver.do(c.SetPolicy("lend/plan", GrantPolicy(0).to_map()))
        giver.do(c.SetPolicy("transfer", GrantPolicy(0).to_map()))
        refused("lending_restricted", giver, giver.give, receiver.ask(), license_, {SEATS: 1})
        kept(giver)
        giver.give(receiver.ask(), license_, {SEATS: 1}, ends)
        refused("receiver_limit", giver, giver.give, receiver.ask(), license_, {SEATS: 1}, ends)
        giver.do(c.SetPolicy("lend/cad", {}))
        giver.do(c.SetPolicy("lend", {}))
        giver.do(c.SetPolicy("transfer", {}))
        giver.give(receiver.ask(), license_, {SEATS: 1})
        assert list(giver.state.policies) == ["lend/plan"]

    def test_the_limit_of_a_receiver_counts_what_it_holds_now(
        self, giver: Lender, receiver: Lender, third: Lender
    ) -> None:
        license_ = giver.hold(seats=9, lend=FREE.replace(max_per_receiver=2))
        first = giver.give(receiver.ask(), license_, {SEATS: 1}, giver.end())
        giver.give(receiver.ask(), license_, {SEATS: 1}, giver.end())
        refused("receiver_limit", giver, giver.give, receiver.ask(), license_, {SEATS: 1}, giver.end())
        giver.give(third.ask(), license_, {SEATS: 2}, giver.end())
        receiver.accept(first)
        giver.book(receiver.give_back(xid_of(first)))
        giver.give(receiver.ask(), license_, {SEATS: 1}, giver.end())

    def test_rules_are_bounded_and_checked(self, giver: Lender) -> None:
        refused("malformed", giver, giver.do, c.SetPolicy("lend", {1: 99}))
        refused("unsupported_version", giver, giver.do, c.SetPolicy("lend", {1: 0, 99: 0}))
        many = {f"lend/p{number}": GrantPolicy() for number in range(ledger_give.MAX_POLICIES)}
        giver.state = giver.state.replace(policies=many)
        refused("full", giver, giver.do, c.SetPolicy("lend", FREE.to_map()))

    def test_a_level_nobody_can_prove_yet_closes_lending(self, giver: Lender, receiver: Lender) -> None:
        by_policy = giver.hold(seats=5, lend=FREE.replace(min_level=1))
        by_terms = giver.hold(seats=5, lend=FREE, min_level=1)
        for license_ in (by_policy, by_terms):
            refused("receiver_level", giver, giver.give, receiver.ask(), license_, {SEATS: 1}, giver.end())
            giver.give(receiver.ask(), license_, {SEATS: 1}, giver.end(), level=1)


class TestHostileMessages:
    def test_a_grant_takes_the_place_of_nothing_else(self, giver: Lender, receiver: Lender, license_: License) -> None:
        """A modified giver may sign any exchange id; a request names the licenses held where it was made."""
        own = receiver.hold(units=1000, product="plan")
        grant = grant_of(giver.give(receiver.ask(), license_, SHARE, giver.end()))
        other = exchange_id(grant.in_reply_to, receiver.thumbprint, 0)
        for id_ in (own.license_id, bytes(16), other, exchange_id(grant.in_reply_to, giver.thumbprint, 1)):
            forged = grant.replace(xid=id_).sign(giver.identity)
            refused("grant_invalid", receiver, receiver.accept, forged)
            refused("grant_invalid", receiver, receiver.decline, forged)
        assert receiver.holding(own).message
        receiver.accept(grant.sign(giver.identity))

    def test_a_grant_for_another_container_is_refused(
        self, giver: Lender, receiver: Lender, third: Lender, license_: License
    ) -> None:
        grant = giver.give(receiver.ask(), license_, SHARE, giver.end())
        refused("wrong_container", third, third.accept, grant)
        refused("wrong_container", third, third.decline, grant)

    def test_a_grant_nobody_asked_for_is_refused(self, giver: Lender, receiver: Lender, license_: License) -> None:
        grant = grant_of(giver.give(receiver.ask(), license_, SHARE, giver.end()))
        strange = grant.replace(in_reply_to=bytes(16), xid=exchange_id(bytes(16), giver.thumbprint, 0))
        refused("request_not_found", receiver, receiver.accept, strange.sign(giver.identity))
        refused("request_not_found", receiver, receiver.decline, strange.sign(giver.identity))
        activation = receiver.asked()
        id_ = read_request(activation).request_id
        strange = grant.replace(in_reply_to=id_, xid=exchange_id(id_, giver.thumbprint, 0))
        refused("request_not_found", receiver, receiver.accept, strange.sign(giver.identity))

    def test_a_grant_above_what_the_giver_had_is_refused_and_takes_nothing(
        self, giver: Lender, receiver: Lender, license_: License
    ) -> None:
        grant = grant_of(giver.give(receiver.ask(), license_, SHARE, giver.end()))
        forged = grant.replace(amounts={"": 101, SEATS: 1}).sign(giver.identity)
        refused("grant_invalid", receiver, receiver.accept, forged)
        receiver.accept(grant.sign(giver.identity))
        more = grant.replace(amounts={"": 99, SEATS: 1}, seq=1).sign(giver.identity)
        before = receiver.state
        receiver.accept(more)
        assert receiver.state is before, "an extension changes the end, and nothing else"

    def test_a_grant_of_an_unknown_vendor_is_refused(self, giver: Lender, license_: License) -> None:
        stranger = Lender(Issuer("brick"))
        stranger.state = stranger.state.replace(vendors={})
        grant = grant_of(giver.give(Lender(giver.acme).ask(), license_, SHARE, giver.end()))
        refused(
            "vendor_unknown",
            stranger,
            stranger.accept,
            grant.replace(receiver=stranger.thumbprint).sign(giver.identity),
        )

    @pytest.mark.parametrize(
        "share",
        [
            {"returned": {"": 31}},
            {"returned": {"": 20}, "used": {"": 11}},
            {"used": {"": 31}},
            {"returned": {SEATS: 3}},
        ],
        ids=repr,
    )
    def test_a_receipt_cannot_give_back_more_than_was_given(
        self, giver: Lender, receiver: Lender, license_: License, share: Any
    ) -> None:
        grant = giver.give(receiver.ask(), license_, SHARE, giver.end())
        receiver.accept(grant)
        refused("not_conserved", giver, giver.book, receiver.receipt(xid_of(grant), TOLD_RETURNED, **share))

    def test_a_receipt_cannot_use_up_seats(self, giver: Lender, receiver: Lender, license_: License) -> None:
        """A borrower that says so would take them away for good."""
        grant = giver.give(receiver.ask(), license_, {SEATS: 2}, giver.end(DAY))
        giver.book(receiver.accept(grant))
        giver.book(receiver.receipt(xid_of(grant), TOLD_RETURNED, used={SEATS: 2}, final=True))
        assert giver.counter(license_, SEATS) == Counter(lent=2)
        giver.clock.advance(DAY + TOLERANCE_S)
        assert giver.free(license_.license_id, SEATS) == 5

    def test_counters_never_given_are_not_booked(self, giver: Lender, receiver: Lender, license_: License) -> None:
        grant = giver.give(receiver.ask(), license_, {SEATS: 1}, giver.end())
        giver.book(receiver.accept(grant))
        giver.book(receiver.receipt(xid_of(grant), TOLD_RETURNED, returned={"": 50, "nowhere": 1}, used={"sim": 9}))
        assert giver.counter(license_) == giver.counter(license_, "sim") == Counter()

    def test_a_receipt_is_the_receivers_and_for_this_giver(
        self, giver: Lender, receiver: Lender, third: Lender, license_: License
    ) -> None:
        grant = giver.give(receiver.ask(), license_, SHARE, giver.end())
        receipt = receiver.accept(grant)
        refused("wrong_container", third, third.book, receipt)
        xid_ = xid_of(grant)
        third.state = third.state.replace(arrivals=receiver.state.arrivals)
        refused("unknown_issuer", giver, giver.book, third.receipt(xid_, TOLD_RETURNED, returned=SHARE))
        unknown = receiver.receipt(xid_, TOLD_RETURNED, share_of=bytes(16))
        refused("grant_not_found", giver, giver.book, unknown)
        on_other = giver.give(third.ask(), license_, {SEATS: 1}, giver.end())
        refused("unknown_issuer", giver, giver.book, receiver.receipt(xid_, TOLD_DECLINED, share_of=xid_of(on_other)))

    def test_a_receipt_for_the_vendor_is_refused_by_name(self, giver: Lender, receiver: Lender) -> None:
        from tallystick.license.receipts import DEACTIVATED, Receipt

        receipt = Receipt("acme", START, bytes(16), receiver.thumbprint, DEACTIVATED).sign(receiver.identity)
        refused("wrong_kind", giver, giver.book, receipt)
        refused("wrong_kind", giver, giver.book, receiver.ask())
        refused("wrong_kind", receiver, receiver.do, c.Accept(receipt))
        refused("malformed", giver, giver.book, b"x")
        refused("malformed", receiver, receiver.do, c.Accept(b"x"))

    def test_a_good_receipt_signed_by_another_key_is_refused(
        self, giver: Lender, receiver: Lender, license_: License
    ) -> None:
        grant = giver.give(receiver.ask(), license_, SHARE, giver.end())
        receiver.accept(grant)
        receiver.identity = SoftwareKey.generate()
        refused("unknown_issuer", giver, giver.book, receiver.receipt(xid_of(grant), TOLD_RETURNED, returned=SHARE))


class TestKeeping:
    def test_messages_are_kept_once(self, giver: Lender, receiver: Lender, license_: License) -> None:
        request = receiver.ask()
        grant = giver.give(request, license_, SHARE, giver.end())
        other = giver.acme.time()
        before = giver.state
        assert giver.do(c.KeepGrant(xid_of(grant), other)) == grant
        assert giver.state is before
        receipt = receiver.accept(grant)
        assert receiver.do(c.KeepShare(xid_of(grant), other)) == receipt
        refused("grant_not_found", giver, giver.do, c.KeepGrant(bytes(16), other))
        refused("grant_not_found", receiver, receiver.do, c.KeepShare(bytes(16), other))
        refused("malformed", giver, giver.do, c.KeepGrant(xid_of(grant), b"x"))

    def test_closed_arrivals_are_forgotten_and_held_ones_never(
        self, giver: Lender, receiver: Lender, license_: License, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ledger_take, "MAX_ARRIVALS", 3)
        grants = [giver.give(receiver.ask(), license_, {SEATS: 1}, giver.end()) for _ in range(5)]
        held_ = receiver.accept(grants[0])
        for grant in grants[1:]:
            receiver.decline(grant)
        assert held_
        assert [arrival.status for arrival in receiver.state.arrivals.values()] == [HELD, *[DECLINED] * 3]
        assert xid_of(grants[1]) not in receiver.state.arrivals

    def test_a_forgotten_arrival_is_not_taken_again(self, giver: Lender, receiver: Lender, license_: License) -> None:
        grant = giver.give(receiver.ask(), license_, SHARE)
        giver.book(receiver.accept(grant))
        giver.book(receiver.give_back(xid_of(grant)))
        receiver.state = receiver.state.replace(arrivals={})
        refused_now = receiver.accept(grant)
        assert receiver.state.holdings == {}
        assert receiver.state.arrivals[xid_of(grant)].status == DECLINED
        refused("not_conserved", giver, giver.book, refused_now)
        assert giver.counter(license_) == Counter()

    def test_what_answered_an_open_invitation_is_not_forgotten(
        self, giver: Lender, receiver: Lender, license_: License, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Else a grant given back long ago could be imported again while its invitation is open."""
        invitation = receiver.ask(product="", count=9)
        grant = giver.give(invitation, license_, SHARE)
        giver.book(receiver.accept(grant))
        giver.book(receiver.give_back(xid_of(grant)))
        monkeypatch.setattr(ledger_take, "MAX_ARRIVALS", 2)
        for closed in (False, True):
            if closed:
                receiver.do(c.CancelRequest(read_request(invitation).request_id))
            for _ in range(3):
                giver.book(receiver.decline(giver.give(receiver.ask(), license_, {SEATS: 1})))
            assert (xid_of(grant) in receiver.state.arrivals) is not closed
            receiver.accept(grant)
            assert receiver.state.holdings == {}
            assert in_sight(license_, "", giver, receiver) == 100

    def test_a_full_container_takes_no_part(
        self, giver: Lender, receiver: Lender, license_: License, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        grant = giver.give(receiver.ask(), license_, SHARE)
        monkeypatch.setattr(ledger_take, "MAX_LICENSES", 0)
        refused("full", receiver, receiver.accept, grant)
        monkeypatch.undo()
        receiver.accept(grant)

    def test_cancelled_and_answered_look_so(self, giver: Lender, receiver: Lender, license_: License) -> None:
        request = receiver.ask()
        receiver.do(c.CancelRequest(read_request(request).request_id))
        assert receiver.state.pending[read_request(request).request_id].status == CANCELLED
        grant = giver.give(receiver.ask(), license_, SHARE, giver.end())
        receiver.accept(grant)
        giver_back = receiver.give_back(xid_of(grant))
        assert giver_back
        assert receiver.state.arrivals[xid_of(grant)].status == RETURNED


def receiver_share(receipt: bytes) -> Any:
    from tallystick.codec import cose
    from tallystick.license.receipts import Receipt

    return Receipt.from_claims(cose.peek(receipt)[1]).shares[0]


def xid(number: int) -> bytes:
    return number.to_bytes(16)


def test_what_was_used_after_a_partial_return_is_told_by_the_last_one(giver: Lender, receiver: Lender) -> None:
    """Nothing is left to give back, but the giver must still learn that the rest was used."""
    license_ = giver.hold(units=100, lend=FREE)
    grant = giver.give(receiver.ask(), license_, {"": 10}, giver.end())
    giver.book(receiver.accept(grant))
    first = receiver.give_back(xid_of(grant), {"": 4})
    giver.book(first)
    receiver.do(c.Consume(xid_of(grant), "", 6))
    last = receiver.give_back(xid_of(grant))
    assert last != first
    giver.book(last)
    assert giver.counter(license_, "") == Counter(used=6)
    assert receiver.give_back(xid_of(grant)) == last
