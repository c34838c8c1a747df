# SPDX-License-Identifier: Apache-2.0
"""Bare accounts that lend to each other: the ledger's commands, and the messages a container would make of them.

acme = Issuer()
giver, receiver = Lender(acme), Lender(acme)
license_ = giver.hold(units=100, lend=FREE)
grant = giver.give(receiver.ask(), license_, {"": 30}, giver.end(DAY))
giver.book(receiver.accept(grant))
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from books import Books

from fakes import START
from issuer import DAY
from tallystick.clock import assess
from tallystick.codec import cose
from tallystick.container import commands as c
from tallystick.container import ledger
from tallystick.container.exchanges import DECLINED, HELD, RETURNED, Arrival, Given
from tallystick.container.ledger_books import license_of
from tallystick.container.ledger_shares import shares_of
from tallystick.container.papers import write_grant, write_receipt
from tallystick.container.state import Counter, Holding, State
from tallystick.license import receipts
from tallystick.license.grant_policy import MAY_ALL, SEATS, GrantPolicy, held
from tallystick.license.grants import Grant, Recall
from tallystick.license.messages import BORROW, Request
from tallystick.license.model import License
from tallystick.license.want import Want

FREE = GrantPolicy(MAY_ALL, max_depth=4)
_PURPOSES = {HELD: receipts.ACCEPTED, RETURNED: receipts.RETURNED, DECLINED: receipts.DECLINED}


class Lender(Books):
    """An account that lends and borrows.

    Attributes:
        consumed: what was used here, by license id and counter, whatever became of the part it was used from.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.consumed: dict[tuple[bytes, str], int] = {}

    @property
    def thumbprint(self) -> bytes:
        """Who it is."""
        return self.identity.public_key.thumbprint

    @property
    def now(self) -> int:
        """The time this account goes by."""
        return assess(self.state.clock, self.clock.read()).now

    @property
    def seen(self) -> State:
        """The account as of now, as a container shows it."""
        return ledger.as_of(self.state, self.now)

    # -- the giver

    def give(
        self,
        request: bytes,
        part: License | bytes,
        amounts: Mapping[str, int] | None = None,
        ends: int | None = None,
        **more: Any,
    ) -> bytes:
        """Debit and sign; without an end it is a transfer."""
        id_ = part.part if isinstance(part, License) else part
        entry: Given = self.do(c.Give(request, id_, dict(amounts or {}), more.pop("features", None), ends, **more))
        return self._kept(entry)

    def extend(self, xid: bytes, ends: int) -> bytes:
        """Move the end of a loan."""
        entry: Given = self.do(c.Extend(xid, ends))
        return self._kept(entry)

    def recall(self, xid: bytes) -> bytes:
        """Ask a loan back."""
        entry: Given = self.do(c.Recall(xid))
        receiver = cose_thumbprint(entry.receiver)
        return Recall("acme", entry.recalled_at, xid, receiver, self.identity.public_key).sign(self.identity)

    def book(self, receipt: bytes) -> list[str]:
        """Book a receiver's receipt; returns what changed."""
        return [taken.change for taken in self.do(c.TakeShares(receipt))]

    def _kept(self, entry: Given) -> bytes:
        if entry.message:
            return entry.message
        anchor: Any = self.identity
        kept: bytes = self.do(c.KeepGrant(entry.xid, write_grant(anchor, self.state, entry, self.now, {})))
        return kept

    # -- the receiver

    def ask(self, **want: Any) -> bytes:
        """Open a request for one grant, or for as many as ``count`` says; returns its message."""
        vendor = want.pop("vendor", "acme")
        made = Want(**{"product": "cad"} | want)
        id_ = self.acme.id()
        request = Request(vendor, self.acme.now, id_, self.identity.public_key, BORROW, product=made.product, want=made)
        message = request.sign(self.identity)
        self.do(c.OpenRequest(id_, vendor, made.product, BORROW, message, made.count))
        return message

    def accept(self, grant: bytes) -> bytes:
        """Take a grant; returns the receipt that counts."""
        return self.receipt(self.do(c.Accept(grant)).xid)

    def decline(self, grant: bytes) -> bytes:
        """Refuse a grant; returns the receipt."""
        return self.receipt(self.do(c.Decline(grant)).xid)

    def give_back(self, xid: bytes, amounts: Mapping[str, int] | None = None, recall: bytes = b"") -> bytes:
        """Give back; returns the receipt."""
        return self.receipt(self.do(c.Return(xid, dict(amounts or {}), recall)).xid, receipts.RETURNED)

    def receipt(self, xid: bytes, purpose: int = 0, **share: Any) -> bytes:
        """Sign the receipt of an exchange, once; with changes, sign what an honest container would not."""
        arrival: Arrival = self.state.arrivals[xid]
        if "share_of" in share:
            share["xid"] = share.pop("share_of")
        if arrival.receipt and not share:
            return arrival.receipt
        anchor: Any = self.identity
        message = write_receipt(
            anchor,
            self.state,
            vendor=arrival.vendor,
            now=self.now,
            message_id=self.acme.id(),
            purpose=purpose or _PURPOSES[arrival.status],
            about=xid,
            accounts=(),
            shares=tuple(one.replace(**share) for one in shares_of(self.state.arrivals, (xid,))),
        )
        if share:
            return message
        kept: bytes = self.do(c.KeepShare(xid, message))
        return kept

    # -- looking

    def end(self, seconds: int = 7 * DAY) -> int:
        """An end of a loan, from now."""
        return self.now + seconds

    def consume(self, part: License | bytes, units: int, feature: str = "") -> int:
        """Use up units, and remember it."""
        id_ = part.part if isinstance(part, License) else part
        license_ = license_of(self.state.holdings[id_])
        left: int = self.do(c.Consume(id_, feature, units))
        own = license_.features[feature].units if feature else None
        key = (license_.license_id, feature if own is not None else "")
        self.consumed[key] = self.consumed.get(key, 0) + units
        return left

    def part(self, part: License | bytes) -> Holding:
        """A part as of now."""
        return self.seen.holdings[part.part if isinstance(part, License) else part]

    def counter(self, part: License | bytes, name: str = "") -> Counter:
        """A counter as of now."""
        return self.part(part).counters.get(name, Counter())

    def free(self, license_id: bytes, name: str) -> int:
        """How much of a license may be used or given here, in all its parts that have not ended."""
        total = 0
        for holding in self.seen.holdings.values():
            license_ = license_of(holding)
            ended = license_.terms.expires is not None and self.now >= license_.terms.expires
            if license_.license_id != license_id or (ended and name == SEATS):
                continue
            total += max(0, (held(license_, name) or 0) - holding.counters.get(name, Counter()).gone)
        return total


def xid_of(grant: bytes) -> bytes:
    """The exchange a grant begins."""
    xid: bytes = cose.peek(grant)[1][7]
    return xid


def grant_of(message: bytes) -> Grant:
    """A grant, as it can be read."""
    return Grant.from_claims(cose.peek(message)[1])


def cose_thumbprint(key: bytes) -> bytes:
    """Thumbprint of an encoded key."""
    from tallystick.codec.keys import PublicKey

    return PublicKey.from_cose(key).thumbprint


def in_sight(license_: License, name: str, *lenders: Lender) -> int:
    """What all of them together have used, and could use: never more than was issued."""
    used = sum(lender.consumed.get((license_.license_id, name), 0) for lender in lenders)
    return used + sum(lender.free(license_.license_id, name) for lender in lenders)


def check_books(*lenders: Lender) -> None:
    """What holds on the books of everybody at every moment."""
    for lender in lenders:
        state = lender.seen
        assert state.clock.floor >= START
        for holding in state.holdings.values():
            out = {entry.xid: entry for entry in state.given.values() if entry.part == holding.license_id}
            for name, counter in holding.counters.items():
                places = {"in_transit": 0, "lent": 0, "given": 0}
                for entry in out.values():
                    field = "given" if entry.ends is None else "lent"
                    places["in_transit" if entry.status == 0 else field] += entry.out(name)
                assert places == {"in_transit": counter.in_transit, "lent": counter.lent, "given": counter.given}
                assert min(counter.used, counter.returned, *places.values()) >= 0
