# SPDX-License-Identifier: Apache-2.0
"""Two containers at hand, and a third one that is none of their business; what their books and refusals say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from lending_pair import DAY, Pair, only

from tallystick.codec import cose, kinds
from tallystick.codec.ident import container_id
from tallystick.container.lending_base import ACTIVE, IN_TRANSIT, RECALLED, RETURNED
from tallystick.errors import ContainerError, LendingError, VerificationError
from tallystick.exchange import lending
from tallystick.exchange.direct import Direct
from tallystick.exchange.lending import Wish
from tallystick.exchange.loan_lookup import loan_of
from tallystick.exchange.loan_words import receipts_to_deliver
from tallystick.license.grant_policy import SEATS

TWO_SEATS = Wish(product="cad", amounts={SEATS: 2, "": 30}, duration=3 * DAY)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    yield made
    made.close()


def asked(pair: Pair, seats: int = 1) -> bytes:
    return pair.laptop.lending.ask(product="cad", amounts={SEATS: seats}, duration=DAY)


# -------------------------------------------------------------------------------------------------- whose loan is meant


def test_a_product_means_what_is_between_the_two(pair: Pair) -> None:
    line, other = Direct(pair.office, pair.laptop), Direct(pair.office, pair.other)
    mine, theirs = (only(one.lend(TWO_SEATS).loans).xid for one in (line, other))
    assert line.find_given("cad").xid == mine
    end = loan_of(pair.office, theirs).ends
    assert end is not None
    assert only(other.extend("cad", end + DAY).loans).xid == theirs
    assert only(line.recall("cad").loans).xid == mine
    with pytest.raises(VerificationError, match="went to"):
        line.find_given(theirs.hex()[:8])
    assert only(Direct(pair.office, pair.other).give_back("cad").loans).xid == theirs


def test_a_product_that_went_to_somebody_else_only_is_named_so(pair: Pair) -> None:
    other = Direct(pair.office, pair.other)
    other.lend(TWO_SEATS)
    other.lend(TWO_SEATS, again=True)
    with pytest.raises(VerificationError, match="went to"):
        Direct(pair.office, pair.laptop).recall("cad")


# --------------------------------------------------------------------------------------------------- what is on its way


def test_what_would_be_delivered_is_what_is_delivered(pair: Pair) -> None:
    line = Direct(pair.office, pair.laptop)
    first = only(line.lend(TWO_SEATS).loans)
    pair.office.lending.recall(first.xid)
    pair.office.lending.give(asked(pair))
    second = only(line.lend(TWO_SEATS.replace(amounts={SEATS: 3})).loans)
    assert [one.what for one in line.delivered] == ["recall", "grant"]
    assert line.outstanding() == ()
    pair.laptop.lending.give_back(second.xid)
    assert second.ends is not None
    third = only(line.lend(TWO_SEATS.replace(amounts={SEATS: 4})).loans)
    pair.office.lending.extend(third.xid, second.ends + DAY)
    again = Direct(pair.office, pair.laptop)
    assert [(one.what, one.loan.xid) for one in again.outstanding()] == [("extension", third.xid)]
    assert again.settle()[0][0].what == "extension"


def test_a_receipt_is_a_delivery_too(pair: Pair) -> None:
    loan = only(Direct(pair.office, pair.laptop).lend(TWO_SEATS).loans)
    pair.laptop.lending.give_back(loan.xid)
    line = Direct(pair.office, pair.laptop)
    assert [one.what for one in line.outstanding()] == ["receipt"]
    done = line.lend(TWO_SEATS.replace(amounts={SEATS: 1}))
    assert [(one.what, one.loan.state) for one in done.delivered] == [("receipt", RETURNED)]


def test_a_partial_return_tells_what_moved(pair: Pair) -> None:
    line = Direct(pair.office, pair.laptop)
    line.lend(TWO_SEATS)
    assert line.give_back("cad", {SEATS: 1}).moved == {SEATS: 1}
    assert line.give_back("cad", {"": 4}).moved == {"": 4}
    assert line.give_back("cad").moved == {SEATS: 1, "": 26}
    assert line.give_back("cad").moved == {}


# ----------------------------------------------------------------------------------------------------- newest messages


def test_the_newest_message_of_a_loan_asked_back_is_the_recall(pair: Pair) -> None:
    grant = pair.office.lending.give(asked(pair))
    xid = only(pair.office.lending.loans()).xid
    pair.office.lending.recall(xid)
    assert pair.office.lending.message(xid) == grant, "the receiver may lack it"
    assert loan_of(pair.office, xid).state == IN_TRANSIT
    pair.office.install(pair.laptop.install(grant).receipt)
    assert loan_of(pair.office, xid).state == ACTIVE
    recall = pair.office.lending.message(xid)
    assert cose.peek(recall)[0].kind is kinds.RECALL
    pair.office.install(pair.laptop.install(recall).receipt)
    assert loan_of(pair.office, xid).state == RECALLED
    assert pair.office.lending.message(xid) == grant, "nothing is asked back any more"


def test_a_loan_that_is_over_is_not_extended_in_silence(pair: Pair) -> None:
    line = Direct(pair.office, pair.laptop)
    loan = only(line.lend(TWO_SEATS).loans)
    assert loan.ends is not None
    line.extend("cad", loan.ends + DAY)
    line.give_back("cad")
    for ends in (loan.ends + DAY, loan.ends + 2 * DAY):
        with pytest.raises(LendingError, match="this loan was returned"):
            line.extend("cad", ends)
        with pytest.raises(LendingError, match="this loan was returned"):
            lending.extend(pair.office, loan_of(pair.office, loan.xid), ends)
    with pytest.raises(LendingError, match="this loan was returned"):
        pair.office.lending.extend(loan.xid, loan.ends + 2 * DAY)
    with pytest.raises(LendingError, match="came back already"):
        line.recall("cad")


def test_the_ledger_names_how_a_loan_ended(pair: Pair) -> None:
    grant = pair.office.lending.give(asked(pair))
    declined = only(pair.office.lending.loans())
    pair.office.install(pair.laptop.lending.decline(grant))
    assert declined.ends is not None
    with pytest.raises(LendingError, match="was declined"):
        pair.office.lending.extend(declined.xid, declined.ends + DAY)
    with pytest.raises(LendingError, match="was declined"):
        pair.office.lending.recall(declined.xid)
    home = only(Direct(pair.office, pair.laptop).lend(TWO_SEATS).loans)
    Direct(pair.office, pair.laptop).give_back(home.xid.hex(), {SEATS: 2})
    assert home.ends is not None
    with pytest.raises(LendingError, match="the seats of this loan were returned"):
        pair.office.lending.extend(home.xid, home.ends + DAY)
    pair.clock.advance(4 * DAY)
    with pytest.raises(LendingError, match="this loan ended 2027"):
        pair.office.lending.extend(home.xid, home.ends + 9 * DAY)


def test_an_open_request_whose_grant_is_dead_is_not_used_again(pair: Pair) -> None:
    """The grant was lost, and the loan is over by its time."""
    line = Direct(pair.office, pair.laptop)
    giver = pair.office.info().thumbprint
    wish = TWO_SEATS.replace(amounts={SEATS: 2})
    request = lending.ask(pair.laptop, wish.replace(lender=giver))
    pair.office.lending.give(request)
    pair.clock.advance(4 * DAY)
    with pytest.raises(LendingError, match="that loan has ended"):
        lending.answer(pair.office, request, wish)
    done = line.lend(wish)
    assert only(done.loans).state == ACTIVE
    assert pair.seats() == (18, 2, 0)


# ---------------------------------------------------------------------------------------------------------------- words


def test_history_does_not_add_up_what_is_counted_from_the_grant_on(pair: Pair) -> None:
    line = Direct(pair.office, pair.laptop)
    line.lend(TWO_SEATS)
    for units in (3, 2):
        line.give_back("cad", {"": units})
    giver = container_id(pair.office.info().thumbprint)
    texts = [event.text for event in pair.laptop.history() if event.kind == "given back"]
    assert texts == [
        f"3 units of cad given back to {giver}",
        f"2 units more of cad given back to {giver}, 5 units in all",
    ]
    texts = [event.text for event in pair.office.history() if event.kind == "returned"]
    assert texts == ["3 units of cad returned", "2 units more of cad returned, 5 units in all"]


def test_an_ended_loan_is_named_with_its_lender(pair: Pair) -> None:
    Direct(pair.office, pair.laptop).lend(TWO_SEATS)
    pair.clock.advance(3 * DAY)
    verdict = only(pair.laptop.licenses()).verdict  # type: ignore[arg-type, attr-defined]  # the one license
    assert (verdict.code, verdict.remedy) == ("expired", "Borrow it again: `tally borrow`.")
    giver = container_id(pair.office.info().thumbprint)
    assert verdict.message == f"the loan of cad from {giver} ended 2027-01-04 00:00 UTC"
    assert verdict.valid_until is not None


def test_receipts_are_reminded_of_for_thirty_days(pair: Pair) -> None:
    Direct(pair.office, pair.laptop).lend(TWO_SEATS)
    pair.clock.advance(2 * DAY)
    Direct(pair.office, pair.laptop).give_back("cad")

    def listed() -> int:
        return len(receipts_to_deliver(pair.laptop.lending.loans(), pair.laptop.info().now))

    pair.clock.advance(30 * DAY - 1)
    assert listed() == 1
    pair.clock.advance(2)
    assert listed() == 0
    assert receipts_to_deliver(pair.office.lending.loans(), 0) == ()


def test_the_statement_names_what_may_come_back(pair: Pair) -> None:
    line = Direct(pair.office, pair.laptop)
    line.lend(TWO_SEATS)
    with pytest.raises(ContainerError) as refusal:
        pair.office.lending.statement("acme")
    assert refusal.value.code == "held_elsewhere"
    laptop = container_id(pair.laptop.info().thumbprint)
    lent = f"30 units, 2 seats of cad lent to {laptop} until 2027-01-04 00:00 UTC may come back"
    assert refusal.value.message == f"cad is still here; {lent}"
