# SPDX-License-Identifier: Apache-2.0
"""What a receiver says of grants, and how the giver books it.

A receipt names each exchange with what was returned and used *since the grant*: it may come twice, late, or after a
later one, and the books are the same.
"""

from __future__ import annotations

from collections.abc import Mapping

from tallystick.clock import Assessment, Reading
from tallystick.codec import cose, kinds
from tallystick.codec.ident import container_id
from tallystick.codec.keys import PublicKey
from tallystick.container import commands as c
from tallystick.container.exchanges import CLOSED, HELD, IN_TRANSIT, Arrival, Given
from tallystick.container.ledger_books import license_of
from tallystick.container.ledger_given import accepted, book, given_of, uses_up
from tallystick.container.state import State
from tallystick.errors import error
from tallystick.license import receipts
from tallystick.license.receipts import Receipt, read_receipt
from tallystick.record import Record


class Taken(Record):
    """What a message did to one exchange.

    Attributes:
        xid: 16 bytes.
        license_id: of the license it is a part of.
        product: what for.
        change: ``borrowed``, ``received``, ``extended``, ``declined``, ``returned``, ``accepted``, ``unchanged``.
    """

    xid: bytes
    license_id: bytes
    product: str
    change: str


def take_shares(state: State, command: c.TakeShares, time: Assessment, _: Reading) -> tuple[State, tuple[Taken, ...]]:
    """Book a receiver's receipt. Result: what became of each grant it names."""
    header, claims = cose.peek(command.message)
    cose.expect(header, kinds.RECEIPT)
    unverified = Receipt.from_claims(claims)
    if unverified.purpose not in (receipts.ACCEPTED, receipts.RETURNED, receipts.DECLINED) or not unverified.shares:
        raise error("wrong_kind", "this receipt is for the vendor", "Send it to the vendor it names.")
    if any(share.giver != state.container for share in unverified.shares):
        giver = container_id(unverified.shares[0].giver)
        raise error("wrong_container", f"this receipt is for {giver}", f"Import it into {giver}, which gave the grant.")
    receiver = given_of(state, unverified.shares[0].xid).receiver
    receipt = read_receipt(command.message, PublicKey.from_cose(receiver))
    done = []
    for share in receipt.shares:
        entry = given_of(state, share.xid)
        if entry.receiver != receiver:
            raise error("wrong_container", "this receipt names a loan of another container", "Ask who sent it.")
        before = state
        state = _book_share(state, entry, receipt.purpose, share, time.now)
        holding = before.holdings.get(entry.part)
        change = "unchanged" if state is before else receipts.PURPOSE_NAMES[receipt.purpose]
        license_id = license_of(holding).license_id if holding else entry.part
        done.append(Taken(share.xid, license_id, holding.product if holding else "", change))
    return state, tuple(done)


def _book_share(state: State, entry: Given, purpose: int, share: receipts.Share, now: int) -> State:
    if purpose == receipts.DECLINED:
        if entry.status == CLOSED and entry.outcome in ("declined", "ended"):
            return state
        if entry.status != IN_TRANSIT:
            raise error("not_conserved", "this grant was accepted; it cannot be declined any more")
        return book(state, entry, entry.amounts, {}, now, "declined")
    state = accepted(state, entry)
    entry = state.given[entry.xid]
    if purpose == receipts.ACCEPTED or not _says_more(entry, share):
        return state
    return book(state, entry, share.returned, share.used, now, "returned")


def _says_more(entry: Given, share: receipts.Share) -> bool:
    return any(
        share.returned.get(name, 0) > entry.returned.get(name, 0)
        or (uses_up(entry, name) and share.used.get(name, 0) > entry.used.get(name, 0))
        for name in entry.amounts
    )


def shares_of(arrivals: Mapping[bytes, Arrival], xids: tuple[bytes, ...]) -> tuple[receipts.Share, ...]:
    """Write what a receipt says of some exchanges."""
    return tuple(
        receipts.Share(xid, entry.giver, entry.returned, entry.used, entry.status != HELD)
        for xid, entry in ((xid, arrivals[xid]) for xid in xids)
    )
