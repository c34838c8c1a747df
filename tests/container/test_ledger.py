# SPDX-License-Identifier: Apache-2.0
"""Rules of the ledger one by one, above all its limits; loans and transfers are in `test_ledger_lending`, and
`tests/oracle` compares it with another account of itself."""

from __future__ import annotations

import pytest
from books import Books

from fakes import START
from issuer import DAY, Issuer
from tallystick.codec import cbor
from tallystick.codec.signing import SoftwareKey
from tallystick.container import commands as c
from tallystick.container.ledger_install import MAX_RECEIPT_BYTES, MAX_RECEIPTS
from tallystick.container.ledger_units import MAX_RESERVATIONS, MAX_RETRIES
from tallystick.container.state import CANCELLED, OPEN, REFUSED, State
from tallystick.errors import TallystickError
from tallystick.license.messages import ACTIVATE, BORROW, REFRESH, read_request


@pytest.fixture
def books() -> Books:
    return Books()


def refused(books: Books, code: str, command: c.Command) -> None:
    """A refusal, and the very same account after it."""
    before = books.state
    with pytest.raises(TallystickError) as caught:
        books.do(command)
    assert caught.value.code == code, caught.value
    assert books.state is before


def xid(number: int) -> bytes:
    return number.to_bytes(16)


class TestRequests:
    def test_the_history_keeps_the_newest_256_events(self, books: Books) -> None:
        for number in range(300):
            books.do(c.Note("note", str(number)))
        assert len(books.state.history) == 256
        assert books.state.history[-1].text == "299"
        books.do(c.Note("note", "x" * 10_000))
        assert len(books.state.history[-1].text) == 512

    def test_closed_requests_are_forgotten_beyond_256(self, books: Books) -> None:
        kept = read_request(books.asked()).request_id
        for _ in range(300):
            books.do(c.CancelRequest(read_request(books.asked()).request_id))
        assert len(books.state.pending) <= 258
        assert next(iter(books.state.pending)) == kept
        assert books.state.pending[kept].status == OPEN

    def test_closed_requests_are_forgotten_beyond_a_megabyte(self, books: Books) -> None:
        """A container of a thousand licenses that asks for a refresh each day must not fill up."""
        for _ in range(12):
            books.do(c.CancelRequest(read_request(books.asked(size=200_000)).request_id))
        closed = [entry for entry in books.state.pending.values() if entry.status == CANCELLED]
        assert 4 <= len(closed) <= 6
        assert sum(len(entry.message) for entry in closed) <= (1 << 20) + 201_000

    def test_open_requests_are_bounded_and_never_forgotten(self, books: Books) -> None:
        messages = [books.asked(size=20_000) for _ in range(64)]
        refused(books, "full", c.OpenRequest(xid(1), "acme", "", REFRESH, b""))
        assert [entry.message for entry in books.state.pending.values()] == messages

    def test_vendors_are_bounded(self, books: Books) -> None:
        root = books.acme.root.public_key.cose
        for number in range(63):
            books.do(c.AddVendor(f"v{number}", root))
        refused(books, "full", c.AddVendor("one more", root))
        books.do(c.AddVendor("acme", root))

    def test_a_root_must_be_a_key(self, books: Books) -> None:
        refused(books, "bad_key", c.AddVendor("brick", b"\xa0"))
        refused(books, "malformed", c.AddVendor("brick", b"\xff"))

    def test_a_request_id_is_used_once(self, books: Books) -> None:
        id_ = read_request(books.asked()).request_id
        refused(books, "idempotency_conflict", c.OpenRequest(id_, "acme", "", REFRESH, b""))
        refused(books, "vendor_unknown", c.OpenRequest(xid(1), "brick", "", REFRESH, b""))

    def test_variables_are_bounded(self, books: Books) -> None:
        for number in range(32):
            books.do(c.SetVariable(f"v{number}", "x"))
        refused(books, "full", c.SetVariable("one-more", "x"))
        books.do(c.SetVariable("v0", "y"))
        books.do(c.SetVariable("v1", ""))
        assert list(books.state.variables)[-1] == "v0"
        books.do(c.SetVariable("one-more", "x"))


class TestReceipts:
    def test_receipts_are_forgotten_beyond_their_number(self, books: Books) -> None:
        license_ = books.hold()
        first = next(iter(books.state.receipts))
        many = {xid(number): b"\xd2" for number in range(1, MAX_RECEIPTS)}
        books.state = books.state.replace(receipts={**books.state.receipts, **many})
        assert len(books.state.receipts) == MAX_RECEIPTS
        update = books.acme.refresh(license_)
        books.do(c.Install(update))
        assert len(books.state.receipts) == MAX_RECEIPTS
        assert first not in books.state.receipts

    def test_receipts_are_forgotten_beyond_their_size(self, books: Books) -> None:
        license_ = books.hold()
        large = {xid(number): bytes(MAX_RECEIPT_BYTES // 2) for number in (1, 2, 3)}
        books.state = books.state.replace(receipts=large)
        books.do(c.Install(books.acme.refresh(license_)))
        assert list(books.state.receipts)[:2] == [xid(2), xid(3)]

    def test_a_forgotten_update_changes_nothing_when_it_comes_again(self, books: Books) -> None:
        license_ = books.hold()
        request = books.asked()
        answer = books.acme.answer(request)
        newer = books.acme.refresh(license_)
        reset = books.acme.update(license_.container, clock_reset=True)
        books.acme.now += 9 * DAY
        later = books.acme.update(license_.container)
        for update in (answer, newer, reset, later):
            books.do(c.Install(update))
        books.state = books.state.replace(receipts={})
        floor = books.state.clock.floor
        refused(books, "request_not_found", c.Install(answer))
        assert [change.change for change in books.do(c.Install(newer)).changes] == ["unchanged"]
        books.do(c.Install(reset))
        assert books.state.clock.floor >= floor == START + 9 * DAY

    def test_a_receipt_is_kept_once_and_only_where_it_is_waited_for(self, books: Books) -> None:
        license_ = books.hold()
        update_id = next(iter(books.state.receipts))
        receipt, other = books.acme.time(), books.acme.time()
        refused(books, "receipt_unknown", c.KeepReceipt(xid(1), receipt))
        refused(books, "malformed", c.KeepReceipt(update_id, b"not a message"))
        assert books.do(c.KeepReceipt(update_id, receipt)) == receipt
        before = books.state
        assert books.do(c.KeepReceipt(update_id, other)) == receipt
        assert books.state is before
        assert books.do(c.Deactivate(license_.license_id)) is not None
        assert books.do(c.KeepReceipt(license_.license_id, receipt)) == receipt
        assert books.do(c.KeepReceipt(license_.license_id, other)) == receipt
        assert books.do(c.Deactivate(license_.license_id)) is None


class TestWritten:
    """What was signed for a vendor is remembered with the vendor, newest first."""

    def test_requests_to_issuers_are_and_those_to_containers_are_not(self, books: Books) -> None:
        assert books.state.written == {}
        ids = [read_request(books.asked(action=action)).request_id for action in (ACTIVATE, BORROW, REFRESH)]
        assert books.state.written == {"acme": (ids[2][:8], ids[0][:8])}

    def test_receipts_are_once(self, books: Books) -> None:
        license_ = books.hold()
        (asked,) = books.state.written["acme"]
        update_id, receipt = next(iter(books.state.receipts)), books.acme.time()
        keep = c.KeepReceipt(update_id, receipt, "acme", b"installed receipt")
        books.do(keep)
        before = books.state
        books.do(keep)
        assert books.state is before
        books.do(c.Deactivate(license_.license_id))
        buried = c.KeepReceipt(license_.license_id, receipt, "acme", b"deactivation's")
        books.do(buried)
        books.do(buried)
        assert books.state.written == {"acme": (b"deactiva", b"installe", asked)}

    def test_a_receipt_of_a_journal_that_does_not_name_it_is_not(self, books: Books) -> None:
        books.hold()
        before = books.state.written
        update_id, receipt = next(iter(books.state.receipts)), books.acme.time()
        _, (old,) = c.decode(cbor.encode([[0, 0, ""], [6, update_id, receipt]]))
        assert books.do(old) == receipt
        assert books.state.written == before

    def test_the_last_16_are_of_each_vendor(self, books: Books) -> None:
        other = Issuer("brick")
        books.do(c.AddVendor("brick", other.root.public_key.cose))
        first = books.asked("brick")
        ids = []
        for _ in range(20):
            ids.append(read_request(books.asked()).request_id)
            books.do(c.CancelRequest(ids[-1]))
        assert books.state.written["acme"] == tuple(id_[:8] for id_ in reversed(ids[4:]))
        assert books.state.written["brick"] == (read_request(first).request_id[:8],)
        assert State.from_bytes(books.state.to_bytes()).written == books.state.written


class TestUnits:
    def test_the_oldest_retry_is_forgotten(self, books: Books) -> None:
        license_ = books.hold(units=5_000)
        for number in range(MAX_RETRIES + 1):
            books.do(c.Consume(license_.license_id, "", 1, b"%d" % number))
        assert len(books.state.retries) == MAX_RETRIES
        left = books.do(c.Consume(license_.license_id, "", 1, b"1"))
        assert left == 5_000 - 2
        assert books.do(c.Consume(license_.license_id, "", 1, b"0")) == 5_000 - MAX_RETRIES - 2

    def test_the_oldest_reservation_is_forfeited(self, books: Books) -> None:
        license_ = books.hold(units=5_000)
        for number in range(MAX_RESERVATIONS + 1):
            books.do(c.Reserve(license_.license_id, "", 2, xid(number)))
        refused(books, "no_reservation", c.Release(license_.license_id, xid(0), 2))
        refused(books, "not_conserved", c.Release(license_.license_id, xid(1), 3))
        refused(books, "not_conserved", c.Release(license_.license_id, xid(1), -1))
        refused(books, "idempotency_conflict", c.Reserve(license_.license_id, "", 2, xid(1)))
        books.do(c.Release(license_.license_id, xid(1), 2))
        assert books.holding(license_).counters[""].used == 2 * MAX_RESERVATIONS

    def test_first_use_is_once_and_of_what_is_licensed(self, books: Books) -> None:
        license_ = books.hold(features=["pdf"])
        assert books.do(c.FirstUse(license_.license_id, "pdf")) == START
        books.clock.advance(100)
        before = books.state
        assert books.do(c.FirstUse(license_.license_id, "pdf")) == START
        assert books.state is before
        refused(books, "feature_not_licensed", c.FirstUse(license_.license_id, "render"))
        refused(books, "license_not_found", c.FirstUse(xid(1), ""))

    def test_observing_always_counts(self, books: Books) -> None:
        before = books.state.generation
        books.do(c.Observe())
        books.do(c.Observe())
        assert books.state.generation == before + 2


class TestRefusals:
    def test_a_refusal_needs_a_request_that_is_open(self, books: Books) -> None:
        request = books.asked()
        refusal = books.acme.refuse(request)
        stranger = Issuer("brick")
        books.do(c.AddVendor("brick", stranger.root.public_key.cose))
        refused(books, "request_not_found", c.TakeRefusal(stranger.refuse(request)))
        books.do(c.TakeRefusal(refusal))
        before = books.state
        assert books.do(c.TakeRefusal(refusal)).code == "quantity_exhausted"
        assert books.state is before
        assert books.state.pending[read_request(request).request_id].status == REFUSED
        answered = books.asked()
        books.do(c.Install(books.acme.answer(answered)))
        refused(books, "request_not_found", c.TakeRefusal(books.acme.refuse(answered)))

    def test_nothing_is_known_of_a_vendor_before_its_first_key_set(self, books: Books) -> None:
        books.acme.keyset = b""
        me = books.state.container
        refused(books, "unknown_issuer", c.Install(books.acme.update(me, keyset=None)))
        refused(books, "malformed", c.Install(books.acme.update(me, keyset=b"x")))

    def test_a_key_set_of_another_root_is_refused(self, books: Books) -> None:
        forger = Issuer("acme")
        refused(books, "unknown_issuer", c.Install(forger.update(books.state.container)))

    def test_an_update_with_a_bad_time_or_list_is_refused_whole(self, books: Books) -> None:
        license_ = books.hold()
        acme, me = books.acme, books.state.container
        newer = acme.newer(license_)
        wrong = acme.keys | {"time": SoftwareKey.generate(), "status": SoftwareKey.generate()}
        right, acme.keys = acme.keys, wrong
        time, status_list = acme.time(), acme.status_list(0)
        acme.keys = right
        refused(books, "unknown_issuer", c.Install(acme.update(me, newer, time=time)))
        refused(books, "unknown_issuer", c.Install(acme.update(me, newer, status_list=status_list)))
        refused(books, "wrong_kind", c.Install(acme.update(me, newer, time=status_list)))
        books.do(c.Install(acme.update(me, newer, time=acme.time(), status_list=acme.status_list(0))))
