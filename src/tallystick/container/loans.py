# SPDX-License-Identifier: Apache-2.0
"""Loans and transfers as both sides list them, from the books."""

from __future__ import annotations

from tallystick.codec import cose
from tallystick.codec.keys import PublicKey
from tallystick.container import exchanges as x
from tallystick.container import lending_base as lb
from tallystick.container.ledger_books import license_of
from tallystick.container.lending_base import Loan
from tallystick.container.state import CANCELLED, OPEN, Pending, State
from tallystick.license.messages import BORROW, MAX_EXCHANGES, Exchange, Request
from tallystick.license.want import Want


def loans_of(state: State, now: int) -> tuple[Loan, ...]:
    """List what was given, what came, and what was asked for.

    Args:
        state: the account.
        now: seconds since 1970.

    Returns:
        Oldest first.
    """
    found = [_given(state, entry, now) for entry in state.given.values()]
    found += [_arrived(arrival, now, state.pending.get(arrival.request_id)) for arrival in state.arrivals.values()]
    answered = {arrival.request_id for arrival in state.arrivals.values()}
    found += [
        _asked(pending)
        for pending in state.pending.values()
        if pending.action == BORROW and (pending.status == OPEN or pending.request_id not in answered)
    ]
    return tuple(sorted(found, key=lambda loan: loan.at))


def _given(state: State, entry: x.Given, now: int) -> Loan:
    holding = state.holdings.get(entry.part)
    license_id = license_of(holding).license_id if holding else entry.part
    over = entry.ends is not None and now >= entry.ends
    if entry.status == x.CLOSED:
        how = {"declined": lb.CANCELLED, "ended": lb.EXPIRED, "returned": lb.RETURNED}[entry.outcome]
        told = lb.RECALLED if how == lb.RETURNED and entry.recalled_at else how
    elif over:
        told = lb.EXPIRED
    else:
        told = lb.IN_TRANSIT if entry.status == x.IN_TRANSIT else lb.ACTIVE
    return Loan(
        xid=entry.xid,
        outgoing=True,
        transfer=entry.ends is None,
        vendor=holding.vendor if holding else "",
        product=holding.product if holding else "",
        license_id=license_id,
        part=entry.part,
        peer=PublicKey.from_cose(entry.receiver).thumbprint,
        request_id=entry.request_id,
        at=entry.at,
        ends=entry.ends,
        amounts=entry.amounts,
        returned=entry.returned,
        used=entry.used,
        state=told,
        recalled=bool(entry.recalled_at),
    )


def _arrived(arrival: x.Arrival, now: int, pending: Pending | None) -> Loan:
    transfer = arrival.ends is None
    if arrival.status == x.HELD:
        told = lb.EXPIRED if arrival.ends is not None and now >= arrival.ends else lb.ACTIVE
    elif arrival.status == x.DECLINED:
        told = lb.CANCELLED
        if transfer and pending is not None and pending.status == CANCELLED:  # perhaps before any grant was seen
            transfer = _want_of(pending).transfer
    else:
        told = lb.RECALLED if arrival.recalled else lb.RETURNED
    return Loan(
        xid=arrival.xid,
        outgoing=False,
        transfer=transfer,
        vendor=arrival.vendor,
        product=arrival.product,
        license_id=arrival.license_id,
        part=arrival.xid if arrival.status == x.HELD else b"",
        peer=arrival.giver,
        request_id=arrival.request_id,
        at=arrival.at,
        ends=arrival.ends,
        amounts=arrival.amounts,
        returned=arrival.returned,
        used=arrival.used,
        state=told,
        recalled=arrival.recalled,
        receipt=arrival.receipt,
    )


def _asked(pending: Pending) -> Loan:
    want = _want_of(pending)
    return Loan(
        xid=pending.request_id,
        outgoing=False,
        transfer=want.transfer,
        vendor=pending.vendor,
        product=pending.product,
        license_id=want.license_id or b"",
        part=b"",
        peer=want.lender,
        request_id=pending.request_id,
        at=pending.created_at,
        ends=None,
        amounts=want.amounts,
        returned={},
        used={},
        state=lb.CANCELLED if pending.status == CANCELLED else lb.REQUESTED,
        room=pending.count - pending.taken if pending.status == OPEN else 0,
    )


def _want_of(pending: Pending) -> Want:
    return Request.from_claims(cose.peek(pending.message)[1]).want or Want()


def exchanges_of(state: State, vendor: str) -> tuple[Exchange, ...]:
    """Report loans and transfers to the vendor whose licenses they are of; declined ones moved nothing.

    Args:
        state: the account.
        vendor: name of the vendor.

    Returns:
        The newest `MAX_EXCHANGES`, oldest first.
    """
    found = []
    for entry in state.given.values():
        holding = state.holdings.get(entry.part)
        if holding is not None and holding.vendor == vendor and entry.outcome != "declined":
            peer, license_ = PublicKey.from_cose(entry.receiver).thumbprint, license_of(holding).license_id
            told = (entry.amounts, entry.returned, entry.used)
            found.append(Exchange(entry.xid, license_, peer, True, entry.ends is None, *told))
    for arrival in state.arrivals.values():
        if arrival.vendor == vendor and arrival.status != x.DECLINED:
            part = state.holdings.get(arrival.xid)
            used = arrival.used if part is None else {name: row.used for name, row in part.counters.items() if row.used}
            ids = (arrival.xid, arrival.license_id, arrival.giver)
            found.append(Exchange(*ids, False, arrival.ends is None, arrival.amounts, arrival.returned, used))
    return tuple(found[-MAX_EXCHANGES:])
