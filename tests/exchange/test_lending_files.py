# SPDX-License-Identifier: Apache-2.0
"""Loans and transfers by files: what is asked, answered, found, counted, verified, and said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from lending_pair import DAY, Pair, only

from tallystick.codec import kinds
from tallystick.codec.ident import container_id
from tallystick.container.lending_base import ACTIVE, CANCELLED, EXPIRED, IN_TRANSIT, REQUESTED, RETURNED
from tallystick.errors import FormatError, NotFoundError, TallystickError, UsageError
from tallystick.exchange import lending, loan_lookup, loan_words
from tallystick.exchange.activate import import_message
from tallystick.exchange.identify import BORROW_REQUEST, SHARE_RECEIPT, STATEMENT, identify
from tallystick.exchange.inspect import inspect
from tallystick.exchange.lending import Wish
from tallystick.exchange.proof import Reference
from tallystick.exchange.stock import Stock
from tallystick.exchange.verify import MISSING, verify
from tallystick.exchange.when import duration
from tallystick.license.grant_policy import SEATS
from tallystick.license.trust import Trust

WEEKEND = Wish(product="cad", amounts={SEATS: 1, "": 30}, duration=3 * DAY)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    yield made
    made.close()


def borrowed(pair: Pair, wish: Wish = WEEKEND) -> tuple[bytes, bytes, bytes]:
    """Request, grant and receipt of a loan that is complete."""
    request = lending.ask(pair.laptop, wish)
    grant, _ = lending.answer(pair.office, request, Wish(transfer=wish.transfer))
    receipt = import_message(pair.laptop, grant).receipt
    import_message(pair.office, receipt)
    return request, grant, receipt


def counted(pair: Pair, name: str, counter: str) -> Stock:
    return next(stock for stock in pair.stock(name) if stock.counter == counter)


def read_nothing(_: str) -> bytes:
    raise AssertionError("no file is needed")


# ------------------------------------------------------------------------------------------------ asking and answering


def test_what_the_request_names_need_not_be_said_again(pair: Pair) -> None:
    borrowed(pair)
    loan = only(pair.office.lending.loans())
    assert (loan.amounts, loan.state) == ({SEATS: 1, "": 30}, ACTIVE)
    assert loan.ends == pair.office.info().now + 3 * DAY
    assert only(pair.laptop.lending.loans()).ends == loan.ends, "both sides call the end the same"


def test_an_end_is_asked_for_as_a_duration(pair: Pair) -> None:
    request = lending.ask(pair.laptop, WEEKEND.replace(duration=None, ends=pair.laptop.info().now + DAY))
    assert lending.wanted(request).duration == DAY
    with pytest.raises(UsageError, match="past"):
        lending.ask(pair.laptop, WEEKEND.replace(duration=None, ends=5))


@pytest.mark.parametrize(
    ("asked", "given", "code"),
    [
        (WEEKEND, Wish(transfer=True), "not_wanted"),
        (WEEKEND.replace(duration=None, transfer=True), Wish(), "not_wanted"),
        (WEEKEND.replace(duration=None), Wish(), "usage"),
        (WEEKEND.replace(amounts={}), Wish(), "usage"),
        (WEEKEND, Wish(amounts={SEATS: 2}), "not_wanted"),
        (WEEKEND, Wish(product="sim"), "not_licensed"),
        (WEEKEND, Wish(license_="ffffffff"), "license_not_found"),
        (WEEKEND, Wish(duration=60), "loan_too_short"),
    ],
)
def test_an_answer_that_does_not_fit_is_refused_with_a_remedy(pair: Pair, asked: Wish, given: Wish, code: str) -> None:
    request = lending.ask(pair.laptop, asked)
    with pytest.raises(TallystickError) as refusal:
        lending.answer(pair.office, request, given)
    assert refusal.value.code == code
    assert refusal.value.remedy
    assert pair.seats() == (20, 0, 0)


def test_everything_is_given_only_where_somebody_says_so(pair: Pair) -> None:
    request = lending.ask(pair.laptop, WEEKEND.replace(amounts={}))
    _, loan = lending.answer(pair.office, request, Wish(whole=True))
    assert loan.amounts == {SEATS: 20, "": 100}


def test_a_license_without_seats_is_given_whole_and_said_so(tmp_path: Path) -> None:
    pair = Pair(tmp_path, features=["pdf"])
    request = lending.ask(pair.laptop, WEEKEND.replace(amounts={}))
    grant, loan = lending.answer(pair.office, request, Wish())
    assert not lending.is_divisible(pair.office, loan)
    assert loan_words.loan_in_words(loan, divisible=False).startswith("the whole license of cad lent to TS-")
    assert dict(inspect(grant).lines)["gives"] == "the whole license"
    seats = counted(pair, "office", SEATS)
    assert loan_words.stock_in_words(seats) == "in transit"
    assert loan_words.stock_name(seats) == "license"
    pair.close()


def test_a_request_to_a_vendor_cannot_be_lent_to(pair: Pair) -> None:
    request = pair.laptop.request(pair.acme.trust, product="cad")
    with pytest.raises(FormatError, match="for the vendor") as refusal:
        lending.wanted(request)
    assert refusal.value.code == "wrong_kind"
    with pytest.raises(FormatError, match="a request is needed"):
        lending.wanted(pair.acme.answer(request))


# ---------------------------------------------------------------------------------------------------- importing by name


def test_every_message_between_containers_is_imported_and_others_by_name(pair: Pair) -> None:
    request, grant, receipt = borrowed(pair)
    assert import_message(pair.laptop, grant).repeated
    assert import_message(pair.office, receipt).repeated
    with pytest.raises(FormatError, match="this is a request to borrow; an update or a refusal") as refusal:
        import_message(pair.office, request)
    assert "tally lend" in (refusal.value.remedy or "")
    with pytest.raises(TallystickError, match="made for") as other:
        import_message(pair.other, grant)
    assert other.value.code == "wrong_container"
    installed = next(iter(pair.office.receipts().values()))
    with pytest.raises(FormatError, match="for the vendor"):
        import_message(pair.office, installed)


def test_messages_name_the_one_who_must_get_them_next(pair: Pair) -> None:
    request, grant, receipt = borrowed(pair)
    assert identify(request) is BORROW_REQUEST
    assert identify(receipt) is SHARE_RECEIPT
    assert identify(pair.laptop.lending.give_back(loan_lookup.xids_of(grant)[0])) is SHARE_RECEIPT
    assert identify(pair.laptop.lending.statement("acme")) is STATEMENT
    office, laptop = (f"container {one.info().container_id}" for one in (pair.office, pair.laptop))
    assert (inspect(request).sender, inspect(request).receiver) == (laptop, "any container")
    assert (inspect(grant).sender, inspect(grant).receiver) == (office, laptop)
    assert (inspect(receipt).sender, inspect(receipt).receiver) == (laptop, office)
    named = lending.ask(pair.laptop, WEEKEND.replace(lender=pair.office.info().thumbprint, count=3))
    assert inspect(named).receiver == office
    lines = dict(inspect(named).lines)
    assert (lines["wants"], lines["kind"], lines["invites"]) == ("1 seat, 30 units", "loan of 3 days", "up to 3 grants")


# ------------------------------------------------------------------------------------------------------------ verifying


def test_a_grant_is_verified_up_to_the_vendor(pair: Pair) -> None:
    _, grant, receipt = borrowed(pair)
    against = Reference({"acme": pair.acme.trust}, container=pair.laptop.info().thumbprint)
    proof = verify(grant, against)
    assert proof.verified, proof.reason
    assert all(step.passed for step in proof.steps)
    stranger = verify(grant, against.replace(trusts={"acme": Trust("acme", pair.acme.keys["license"].public_key)}))
    assert [step.passed for step in stranger.steps] == [True, True, False, None, None]
    elsewhere = verify(grant, against.replace(container=pair.other.info().thumbprint))
    assert elsewhere.reason is not None
    assert elsewhere.reason.code == "wrong_container"
    changed = bytearray(grant)
    changed[-1] ^= 1
    assert [step.passed for step in verify(bytes(changed), against).steps][:2] == [True, False]
    missing = verify(receipt, Reference())
    assert missing.reason is not None
    assert MISSING in missing.reason.details


def test_a_recall_and_a_move_are_verified(pair: Pair) -> None:
    _, grant, _ = borrowed(pair)
    recall = pair.office.lending.recall(loan_lookup.xids_of(grant)[0])
    laptop = pair.laptop.info().thumbprint
    assert verify(recall, Reference(container=laptop)).verified
    move = pair.office.lending.move(pair.other.lending.ask(transfer=True, count=5))
    proof = verify(move, Reference({"acme": pair.acme.trust}, container=pair.other.info().thumbprint))
    assert proof.verified
    assert [part.what for part in proof.parts] == ["grant"]
    assert not verify(move, Reference({}, container=pair.other.info().thumbprint)).verified
    assert [part.what for part in inspect(move).parts] == ["grant"]
    assert loan_lookup.xids_of(move) != ()


# -------------------------------------------------------------------------------------------------------------- finding


def test_a_loan_is_found_by_product_and_by_the_beginning_of_its_id(pair: Pair) -> None:
    borrowed(pair)
    loan = only(pair.laptop.lending.loans())
    assert loan_lookup.find_loan(pair.laptop, "cad", outgoing=False) == loan
    assert loan_lookup.find_loan(pair.laptop, loan.xid.hex()[:8].upper(), outgoing=False) == loan
    assert loan_lookup.find_exchange(pair.office, loan.xid.hex()[:6]).outgoing
    for selector, outgoing in (("cad", True), ("sim", False), ("ffffffff", False)):
        with pytest.raises(NotFoundError) as refusal:
            loan_lookup.find_loan(pair.laptop, selector, outgoing=outgoing)
        assert refusal.value.code == "grant_not_found"
    with pytest.raises(NotFoundError):
        loan_lookup.find_exchange(pair.laptop, "ffffffff")
    with pytest.raises(NotFoundError):
        loan_lookup.loan_of(pair.laptop, bytes(16))
    borrowed(pair)
    with pytest.raises(UsageError) as ambiguous:
        loan_lookup.find_loan(pair.laptop, "cad", outgoing=False)
    assert len(ambiguous.value.details["ids"]) == 2
    pair.laptop.lending.give_back(loan.xid)
    assert loan_lookup.find_loan(pair.laptop, "cad", outgoing=False).xid != loan.xid, "those still going on come first"


def test_a_container_is_named_by_request_thumbprint_or_acquaintance(pair: Pair) -> None:
    laptop = pair.laptop.info().thumbprint
    request = pair.laptop.lending.ask(product="cad")
    assert loan_lookup.identity_of(pair.office, "a file", lambda _: request) == laptop
    assert loan_lookup.identity_of(pair.office, laptop.hex(), read_nothing) == laptop
    with pytest.raises(UsageError, match="never dealt"):
        loan_lookup.identity_of(pair.office, container_id(laptop), read_nothing)
    borrowed(pair)
    assert loan_lookup.identity_of(pair.office, container_id(laptop).lower(), read_nothing) == laptop
    with pytest.raises(FormatError):
        loan_lookup.identity_of(pair.office, "a file", lambda _: pair.acme.answer(request))


# ------------------------------------------------------------------------------------------ numbers, words, what is due


def test_the_numbers_add_up_on_both_sides(pair: Pair) -> None:
    _, grant, _ = borrowed(pair)
    with pair.laptop.checkout("cad") as seat:
        seat.consume(5)
    here = counted(pair, "office", "")
    assert (here.total, here.here, here.lent) == (100, 70, 30)
    assert loan_words.stock_in_words(here) == "70 of 100 here, 30 lent"
    there = counted(pair, "laptop", "")
    assert loan_words.stock_in_words(there) == "25 of 30 here, 5 used"
    pair.office.install(pair.laptop.lending.give_back(loan_lookup.xids_of(grant)[0]))
    assert loan_words.stock_in_words(counted(pair, "office", "")) == "95 of 100 here, 5 used"
    assert pair.stock("laptop") == ()
    for stock in pair.stock("office"):
        plain = stock.to_plain()
        parts = ("here", "used", "lent", "in_transit", "given", "returned")
        assert plain["total"] == sum(plain[name] for name in parts)


def test_every_state_says_what_is_next_where_something_is(pair: Pair) -> None:
    request = lending.ask(pair.laptop, WEEKEND)
    asked = only(pair.laptop.lending.loans())
    assert asked.state == REQUESTED
    assert "tally lend" in loan_words.next_step(asked)
    assert loan_words.loan_in_words(asked) == "1 seat, 30 units of cad asked of any container"
    grant, given = lending.answer(pair.office, request, Wish())
    assert given.state == IN_TRANSIT
    assert "import its receipt here" in loan_words.next_step(given)
    pair.office.install(import_message(pair.laptop, grant).receipt)
    for container in (pair.office, pair.laptop):
        loan = only(container.lending.loans())
        assert (loan.state, loan_words.is_due(loan), loan_words.next_step(loan)) == (ACTIVE, False, "")
        assert json.loads(json.dumps(loan_words.loan_plain(loan)))["state"] == "active"
    pair.office.lending.recall(given.xid)
    assert "tally recall" in loan_words.next_step(only(pair.office.lending.loans()))
    pair.clock.advance(4 * DAY)
    giver, receiver = only(pair.office.lending.loans()), only(pair.laptop.lending.loans())
    assert (giver.state, receiver.state) == (EXPIRED, EXPIRED)
    assert counted(pair, "office", SEATS).whole, "seats come home by themselves"
    assert counted(pair, "office", "").lent == 30, "units do not"
    assert "receipt of `tally return" in loan_words.next_step(giver)
    assert "Give its units back" in loan_words.next_step(receiver)
    pair.office.install(pair.laptop.lending.give_back(given.xid))
    assert counted(pair, "office", "").whole
    assert not any(loan_words.is_due(loan) for loan in (*pair.office.lending.loans(), *pair.laptop.lending.loans()))


def test_a_loan_of_seats_alone_needs_nothing_at_its_end(pair: Pair) -> None:
    borrowed(pair, WEEKEND.replace(amounts={SEATS: 1}))
    pair.clock.advance(4 * DAY)
    loans = (only(pair.office.lending.loans()), only(pair.laptop.lending.loans()))
    assert [loan.state for loan in loans] == [EXPIRED, EXPIRED]
    assert not loans[0].open
    assert not any(loan_words.is_due(loan) for loan in loans)
    assert counted(pair, "office", SEATS).whole


def test_a_request_that_was_cancelled_refuses_its_grant_and_gives_it_back(pair: Pair) -> None:
    request = lending.ask(pair.laptop, WEEKEND)
    grant, _ = lending.answer(pair.office, request, Wish())
    pair.laptop.cancel_request(only(pair.laptop.lending.loans()).request_id)
    outcome = import_message(pair.laptop, grant)
    assert [change.change for change in outcome.changes] == ["declined"]
    pair.office.install(outcome.receipt)
    assert pair.loans(pair.office) == [("given", CANCELLED)]
    assert pair.seats() == (20, 0, 0)


def test_touched_lists_what_a_message_was_about(pair: Pair) -> None:
    request, grant, receipt = borrowed(pair)
    assert loan_lookup.touched(pair.office, receipt) == pair.office.lending.loans()
    assert loan_lookup.touched(pair.laptop, grant) == pair.laptop.lending.loans()
    assert loan_lookup.xids_of(request) == ()
    assert loan_lookup.touched(pair.office, request) == ()
    assert identify(grant).kind is kinds.GRANT
    pair.laptop.lending.give_back(loan_lookup.xids_of(grant)[0])
    assert only(pair.laptop.lending.loans()).state == RETURNED


@pytest.mark.parametrize(("text", "seconds"), [("3d", 3 * DAY), (" 12H", 43_200), ("90m", 5400), ("2w", 14 * DAY)])
def test_spans_are_read(text: str, seconds: int) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0d", "3", "d", "-3d", "3 days", "1y"])
def test_what_is_no_span_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        duration(text)
