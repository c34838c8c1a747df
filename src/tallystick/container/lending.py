# SPDX-License-Identifier: Apache-2.0
"""`SealedLending`: loans and transfers of a container kept in files.

Each method is one transaction: the ledger decides, the anchor signs, and what was decided and signed becomes durable
together before a message is returned. A message signed in a transaction that then failed never leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from tallystick.clock import assess
from tallystick.codec import cbor, cose, kinds
from tallystick.codec.keys import PublicKey
from tallystick.container import commands as c
from tallystick.container.base import Outcome
from tallystick.container.exchanges import ACCEPTED, HELD, Arrival, Given
from tallystick.container.ledger_books import license_of
from tallystick.container.ledger_given import as_of
from tallystick.container.ledger_take import arrival_of
from tallystick.container.lending_base import Lending, Loan
from tallystick.container.lending_parts import answered, check_returned, debited, left_here, moved
from tallystick.container.loans import loans_of
from tallystick.container.papers import sealed_for, write_grant, write_receipt, write_request
from tallystick.container.post import Post
from tallystick.container.session import Session, Transaction
from tallystick.container.state import State
from tallystick.errors import error
from tallystick.license.grant_policy import GrantPolicy
from tallystick.license.grants import Grant, Move, Recall, read_recall
from tallystick.license.messages import BORROW, Request
from tallystick.license.receipts import DECLINED, EMPTIED, RETURNED
from tallystick.license.trust import Trust
from tallystick.license.want import Want

ID_BYTES: Final = 16
_RULES: Final = ("lend", "transfer")
_FULL: Final = cbor.MAX_BYTES // 2  # of a move; one more grant, and what is around them, still has room


class SealedLending(Lending):
    """Loans and transfers of one `SealedContainer`.

    Args:
        session: the container's state.
        backend: scheme of the container, told in requests.
        trust: picks the vendor of a request that names none.
        require_open: raises ``closed`` after close.
        changed: called after something came or went: seats decide anew.
        taken: how many seats of a license are in use on this machine.
        random: source of ids.
    """

    def __init__(
        self,
        session: Session,
        backend: str,
        *,
        trust: Callable[[State], Trust],
        require_open: Callable[[], None],
        changed: Callable[[], None],
        taken: Callable[[bytes], int],
        random: Callable[[int], bytes],
    ) -> None:
        self._session = session
        self._backend = backend
        self._trust = trust
        self._require_open = require_open
        self._changed = changed
        self._taken = taken
        self._random = random
        self._post = Post(session, random)

    # -- asking and giving

    def ask(
        self,
        trust: Trust | None = None,
        *,
        product: str = "",
        license_id: bytes | None = None,
        amounts: Mapping[str, int] | None = None,
        features: tuple[str, ...] | None = None,
        duration: int | None = None,
        transfer: bool = False,
        count: int = 1,
        lender: bytes | None = None,
    ) -> bytes:
        """Ask another container for a loan or a transfer."""
        self._require_open()
        if count < 1 or (duration is not None and (transfer or duration <= 0)):
            raise error("usage", "a count of 1 or more, and a duration for loans only")
        want = Want(product, license_id, dict(amounts or {}), features, duration, transfer, count, lender)
        with self._session.transaction() as tx:
            trust = trust or self._trust(tx.state)
            tx.apply(c.AddVendor(trust.vendor, trust.root.cose))
            request_id = self._random(ID_BYTES)
            draft = Request(
                trust.vendor, self._now(tx), request_id, self._session.anchor.public_key, BORROW, product=product,
                backend=self._backend, want=want,
            )  # fmt: skip
            message = write_request(self._session.anchor, tx.state, draft)
            tx.apply(c.OpenRequest(request_id, trust.vendor, product, BORROW, message, count))
        return message

    def give(
        self,
        request: bytes,
        *,
        part: bytes | None = None,
        product: str = "",
        amounts: Mapping[str, int] | None = None,
        features: tuple[str, ...] | None = None,
        ends: int | None = None,
        transfer: bool = False,
    ) -> bytes:
        """Lend or transfer to the container that made a request."""
        self._require_open()
        read = _claimed(request)
        want = read.want or Want()
        with self._session.transaction() as tx:
            if want.count == 1 and (known := answered(tx.state, read.request_id)):
                return known
            if ends is None and read.want is not None and not (transfer or want.transfer):
                if want.duration is None:
                    raise error("usage", "a loan needs an end", "Name its end, or transfer for good.")
                ends = self._now(tx) + want.duration
            command = c.Give(
                request,
                part or b"",
                dict(want.amounts if amounts is None else amounts),
                want.features if features is None else features,
                ends,
            )
            message = self._granted(tx, debited(tx, command, product or want.product, read, self._taken), read)
        self._changed()
        return message

    def move(self, request: bytes, *, vendor: str | None = None) -> bytes:
        """Transfer everything to the container that made a standing invitation, in one file."""
        self._require_open()
        read = _claimed(request)
        with self._session.transaction() as tx:
            messages = [
                entry.message
                for entry in tx.state.given.values()
                if entry.request_id == read.request_id and entry.message and entry.ends is None and not entry.status
            ]
            given = moved(tx, request, read, vendor, _FULL - sum(map(len, messages)), self._taken)
            messages += [self._granted(tx, entry, read) for entry in given]
            if not messages:
                raise error("not_available", "nothing is left here to move")
            move = Move(
                self._now(tx),
                self._random(ID_BYTES),
                read.key.thumbprint,
                self._session.anchor.public_key,
                tuple(messages),
            ).sign(self._session.anchor)
        self._changed()
        return move

    def extend(self, xid: bytes, ends: int) -> bytes:
        """Extend a loan given here."""
        self._require_open()
        with self._session.transaction() as tx:
            before = tx.state.given.get(xid)
            entry: Given = tx.apply(c.Extend(xid, ends))
            if entry.message or before is None:
                return entry.message
            old = Grant.from_claims(cose.peek(before.message)[1])
            message = write_grant(self._session.anchor, tx.state, entry, self._now(tx), old.content_keys)
            tx.apply(c.KeepGrant(xid, message))
        return message

    def recall(self, xid: bytes) -> bytes:
        """Ask a loan back."""
        self._require_open()
        with self._session.transaction() as tx:
            return self._recalling(tx, tx.apply(c.Recall(xid)))

    # -- giving back

    def give_back(self, xid: bytes, amounts: Mapping[str, int] | None = None, recall: bytes = b"") -> bytes:
        """Give back what came by a grant."""
        self._require_open()
        with self._session.transaction() as tx:
            before = arrival_of(tx.state, xid)
            arrival: Arrival = tx.apply(c.Return(xid, dict(amounts or {}), recall))
            if before.status == HELD and (before.ends is None or self._now(tx) < before.ends):  # else none runs on it
                check_returned(tx.state, before, amounts, self._taken)
            receipt = self._post.receipt(tx, RETURNED, arrival)
        self._changed()
        return receipt

    def decline(self, grant: bytes) -> bytes:
        """Refuse a grant for good."""
        self._require_open()
        with self._session.transaction() as tx:
            taken = tx.apply(c.Decline(grant))
            return self._post.receipt(tx, DECLINED, arrival_of(tx.state, taken.xid))

    def install(self, message: bytes) -> Outcome:
        """Take a grant, a move, a recall, or a receiver's receipt."""
        kind = cose.peek(message)[0].kind
        if kind is kinds.RECALL:
            recall = read_recall(message)
            receipt = self.give_back(recall.xid, None, message)
            return self._post.recalled(recall, receipt)
        with self._session.transaction() as tx:
            outcome = self._post.take(tx, kind, message)
        self._changed()
        return outcome

    # -- looking

    def loans(self) -> tuple[Loan, ...]:
        """List loans and transfers, given, taken and asked for, oldest first."""
        self._require_open()
        state = self._session.current()
        now = assess(state.clock, self._session.clock.read()).now
        return loans_of(as_of(state, now), now)

    def message(self, xid: bytes) -> bytes:
        """Return the newest message of an exchange again."""
        self._require_open()
        with self._session.transaction() as tx:
            state = tx.state
            if xid in state.given:
                entry = state.given[xid]
                # while it is in transit, the receiver may lack the grant
                asked_back = entry.recalled_at and entry.status == ACCEPTED and entry.part in state.holdings
                return self._recalling(tx, entry) if asked_back else entry.message
            if xid in state.arrivals:
                arrival = state.arrivals[xid]
                return arrival.receipt or self._post.receipt(tx, DECLINED, arrival)
            if xid in state.pending:
                return state.pending[xid].message
        raise error("grant_not_found", "this container knows nothing of that id")

    def statement(self, vendor: str) -> bytes:
        """State, signed, that nothing of a vendor may be used here any more."""
        self._require_open()
        state = self._session.current()
        now = assess(state.clock, self._session.clock.read()).now
        state = as_of(state, now)
        if left := left_here(state, vendor, now):
            remedy = "Move or deactivate what is here; import the receipts of what is not, or wait for its end."
            raise error("held_elsewhere", "; ".join(left), remedy)
        return write_receipt(
            self._session.anchor,
            state,
            vendor=vendor,
            now=now,
            message_id=self._random(ID_BYTES),
            purpose=EMPTIED,
            about=None,
            accounts=(),
        )

    def policies(self) -> Mapping[str, GrantPolicy]:
        """Return the administrator's rules."""
        self._require_open()
        return self._session.current().policies

    def set_policy(self, key: str, policy: GrantPolicy | None) -> None:
        """Set one of the administrator's rules."""
        self._require_open()
        if key.partition("/")[0] not in _RULES:
            raise error("usage", f"no rule is called {key[:40]!r}", "Use lend, transfer, lend/PRODUCT, ...")
        with self._session.transaction() as tx:
            tx.apply(c.SetPolicy(key, {} if policy is None else policy.to_map()))

    # -- inside

    def _now(self, tx: Transaction) -> int:
        return assess(tx.state.clock, tx.reading).now

    def _recalling(self, tx: Transaction, entry: Given) -> bytes:
        receiver = PublicKey.from_cose(entry.receiver).thumbprint
        anchor, vendor = self._session.anchor, tx.state.holdings[entry.part].vendor
        return Recall(vendor, entry.recalled_at, entry.xid, receiver, anchor.public_key).sign(anchor)

    def _granted(self, tx: Transaction, entry: Given, read: Request) -> bytes:
        if entry.message:
            return entry.message
        license_ = license_of(tx.state.holdings[entry.part])
        sealed = sealed_for(self._session.anchor, license_, read.agreement_key) if license_.content_keys else {}
        message = write_grant(self._session.anchor, tx.state, entry, self._now(tx), sealed)
        kept: bytes = tx.apply(c.KeepGrant(entry.xid, message))
        return kept


def _claimed(request: bytes) -> Request:
    """Read a request whose signature the ledger is about to verify."""
    header, claims = cose.peek(request)
    cose.expect(header, kinds.REQUEST)
    return Request.from_claims(claims)
