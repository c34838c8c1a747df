# SPDX-License-Identifier: Apache-2.0
"""Ledger rules of the receiver: accept, decline, give back.

Steps of `accept` (all or nothing):

(1) The grant names a vendor this container knows; a newer key set it carries is signed by that vendor's root.
(2) The whole chain verifies up to that vendor's signature (`license.lineage`), for this container.
(3) Seen before: the same entry; a later end of the same loan takes the earlier one's place.
(4) It answers a request of this container, under an id made of that request, so that it can take the place of nothing
    else that is held. If the request is cancelled, or was answered as often as it allows, the grant is
    declined for good: its receipt gives the giver back what it debited.
(5) What it brings becomes a part of its own; the request is one answer nearer to its count.
"""

from __future__ import annotations

from typing import Final

from tallystick.clock import Assessment, Reading
from tallystick.codec import cose, kinds
from tallystick.codec.ident import container_id
from tallystick.container import commands as c
from tallystick.container.exchanges import DECLINED, HELD, RETURNED, Arrival, exchange_id
from tallystick.container.ledger_books import (
    MAX_LICENSES,
    license_of,
    logged,
    oldest_beyond,
    with_counter,
    with_holding,
)
from tallystick.container.ledger_given import available, told, told_since
from tallystick.container.ledger_install import check_receiver, keys_of, newest_book
from tallystick.container.ledger_shares import Taken
from tallystick.container.state import ANSWERED, OPEN, Counter, Holding, Pending, State
from tallystick.errors import error
from tallystick.license.dates import show
from tallystick.license.grant_policy import MAY_RECALL, MAY_RETURN, SEATS, held, policy_of
from tallystick.license.grants import Grant, read_grant, read_recall
from tallystick.license.messages import BORROW, Request
from tallystick.license.model import License
from tallystick.license.verify import LicenseVerifier

MAX_ARRIVALS: Final = 4096
MAX_ARRIVAL_BYTES: Final = 1 << 21
_ZERO: Final = Counter()


def accept(state: State, command: c.Accept, time: Assessment, _: Reading) -> tuple[State, Taken]:
    """Take what a grant brings. Result: what became of it."""
    header, unverified = cose.peek(command.message)
    cose.expect(header, kinds.GRANT)
    vendor = newest_book(state, unverified.get(3), unverified.get(-65627), kinds.GRANT)  # (1)
    grant = Grant.from_claims(unverified)
    check_receiver(state, grant.receiver, vendor.name, grant.vendor)
    license_ = LicenseVerifier(keys_of(vendor), state.container).accept(command.message)  # (2), and now it is verified
    known = state.arrivals.get(grant.xid)
    if known is not None:  # (3)
        return _again(state, known, grant, command.message, time.now)
    pending = _request_of(state, grant)  # (4)
    arrival = Arrival(
        grant.xid, license_.license_id, license_.vendor, license_.product, grant.in_reply_to, grant.giver.thumbprint,
        time.now, dict(grant.amounts), grant.ends,
    )  # fmt: skip
    state = state.replace(vendors={**state.vendors, vendor.name: vendor})
    if pending.status != OPEN or pending.taken >= pending.count:
        return _declined(state, arrival, time.now), Taken(grant.xid, license_.license_id, license_.product, "declined")
    if len(state.holdings) >= MAX_LICENSES:
        raise error("full", f"the container holds {MAX_LICENSES} licenses")
    part = Holding(  # (5)
        grant.xid, license_.vendor, license_.product, grant.seq, command.message, time.now,
        min(grant.contact, time.now), first_use=dict(grant.first_use),
    )  # fmt: skip
    state = with_holding(_with_arrival(_counted(state, pending, grant.xid), arrival), part)
    change = "received" if grant.ends is None else "borrowed"
    until = "" if grant.ends is None else f" until {show(grant.ends)}"
    text = f"{told(grant.amounts)} of {license_.product} {change} from {container_id(arrival.giver)}{until}"
    return logged(state, time.now, change, grant.xid, text), Taken(
        grant.xid, license_.license_id, license_.product, change
    )


def decline(state: State, command: c.Decline, time: Assessment, _: Reading) -> tuple[State, Taken]:
    """Refuse a grant for good. Result: what became of it."""
    grant = read_grant(command.message)
    check_receiver(state, grant.receiver, grant.vendor, grant.vendor)
    known = state.arrivals.get(grant.xid)
    if known is not None:
        if known.status == HELD:
            raise error("idempotency_conflict", "this grant was imported", "Give it back: `tally return`.")
        return state, Taken(known.xid, known.license_id, known.product, "unchanged")
    pending = _request_of(state, grant)
    if pending.status == OPEN and pending.taken < pending.count:
        state = _counted(state, pending, grant.xid)
    arrival = Arrival(
        grant.xid, b"", grant.vendor, pending.product, grant.in_reply_to, grant.giver.thumbprint, time.now,
        dict(grant.amounts), grant.ends,
    )  # fmt: skip
    return _declined(state, arrival, time.now), Taken(grant.xid, b"", pending.product, "declined")


def give_back(state: State, command: c.Return, time: Assessment, _: Reading) -> tuple[State, Arrival]:
    """Give back all or a part of what a grant brought; durable before the receipt says so. Result: the entry."""
    arrival = arrival_of(state, command.xid)
    if command.recall:
        recall = read_recall(command.recall)
        if (recall.xid, recall.receiver, recall.giver.thumbprint) != (arrival.xid, state.container, arrival.giver):
            raise error("grant_not_found", "this recall is for another loan")
        arrival = arrival.replace(recalled=True)
    if arrival.status != HELD:
        return state, arrival
    holding = state.holdings[command.xid]
    license_ = license_of(holding)
    policy = policy_of(license_, arrival.ends)
    over = arrival.ends is not None and time.now >= arrival.ends
    bit, code = (MAY_RECALL, "recall_denied") if command.recall else (MAY_RETURN, "return_denied")
    if not over and (policy is None or not policy.allowed & bit):
        raise error(code, f"the license does not allow to give {holding.product} back before its end")
    if any(counter.lent or counter.in_transit for counter in holding.counters.values()) and not command.amounts:
        raise error("held_elsewhere", f"part of {holding.product} is lent on or in transit")
    amounts = dict(command.amounts) or {name: available(holding, license_, name) for name in arrival.amounts}
    for name, amount in amounts.items():
        left = available(holding, license_, name) if held(license_, name) is not None else 0
        if amount > left or (command.amounts and amount <= 0):
            raise error("not_available", f"{told({name: amount})} to give back, {left} here", available=left)
        counter = holding.counters.get(name, _ZERO)
        holding = with_counter(holding, name, counter.replace(returned=counter.returned + amount))
    return _returned(state, arrival, holding, license_, time.now)


def _returned(state: State, arrival: Arrival, holding: Holding, license_: License, now: int) -> tuple[State, Arrival]:
    counters = {name: holding.counters.get(name, _ZERO) for name in arrival.amounts}
    # what was transferred on may come back, too, and must then find its part here
    out = any(counter.lent or counter.in_transit or counter.given for counter in holding.counters.values())
    stays = out or any(available(holding, license_, name) for name in arrival.amounts)
    after = arrival.replace(
        returned={name: counter.returned for name, counter in counters.items() if counter.returned},
        used=_used(holding, arrival, with_blocks=not stays),
    )
    if stays and after == arrival and arrival.returned and arrival.receipt:
        return state, arrival  # its receipt says all there is to say, and is the same for ever
    before, arrival = arrival.returned, after.replace(receipt=b"")
    if stays:
        state = with_holding(state, holding)
    else:
        arrival = arrival.replace(status=RETURNED)
        holdings = {key: part for key, part in state.holdings.items() if key != arrival.xid}
        state = state.replace(holdings=holdings)
    to = f"given back to {container_id(arrival.giver)}"
    text = told_since(before, arrival.returned, arrival.product, to)
    return logged(_with_arrival(state, arrival), now, "given back", arrival.xid, text), arrival


def _used(holding: Holding, arrival: Arrival, *, with_blocks: bool) -> dict[str, int]:
    """Tell what was used of each counter. Open blocks are debited but may come back, so they count with the part's end
    only: a receipt must never say more than a later one.
    """
    used = {name: holding.counters.get(name, _ZERO).used for name in arrival.amounts if name != SEATS}
    for name, units in () if with_blocks else holding.reservations.values():
        used[name] = used.get(name, 0) - units
    return {name: units for name, units in used.items() if units > 0}


def keep_share(state: State, command: c.KeepShare, _time: Assessment, _: Reading) -> tuple[State, bytes]:
    """Keep the receipt of what became of a grant. Result: the one that counts."""
    cose.cut(command.message)
    arrival = arrival_of(state, command.xid)
    if arrival.receipt:
        return state, arrival.receipt
    return _with_arrival(state, arrival.replace(receipt=command.message)), command.message


def declined_ahead(state: State, pending: Pending, now: int) -> State:
    """Decline the one grant that may answer a cancelled request, where it is known which one that is."""
    _, claims = cose.peek(pending.message)
    want = Request.from_claims(claims).want
    if want is None or want.lender is None or want.count != 1:
        return state
    xid = exchange_id(pending.request_id, want.lender, 0)
    arrival = Arrival(
        xid, b"", pending.vendor, pending.product, pending.request_id, want.lender, now, dict(want.amounts), None
    )
    return state if xid in state.arrivals else _declined(state, arrival, now)


def arrival_of(state: State, xid: bytes) -> Arrival:
    """Find what came by a grant.

    Raises:
        NotFoundError: ``grant_not_found``.
    """
    arrival = state.arrivals.get(xid)
    if arrival is None:
        raise error("grant_not_found", "nothing came here by a grant of that id")
    return arrival


def _again(state: State, known: Arrival, grant: Grant, message: bytes, now: int) -> tuple[State, Taken]:
    unchanged = Taken(known.xid, known.license_id, known.product, "unchanged")
    if known.giver != grant.giver.thumbprint:
        raise error("grant_invalid", "an exchange of that id is on the books with another giver")
    if known.status != HELD or grant.ends is None or known.ends is None:
        return state, unchanged
    part = state.holdings[known.xid]
    if grant.seq <= part.seq or grant.ends <= known.ends or dict(grant.amounts) != dict(known.amounts):
        return state, unchanged
    state = with_holding(state, part.replace(seq=grant.seq, message=message))
    state = _with_arrival(state, known.replace(ends=grant.ends))
    text = f"loan of {known.product} extended until {show(grant.ends)}"
    return logged(state, now, "extended", known.xid, text), unchanged.replace(change="extended")


def _request_of(state: State, grant: Grant) -> Pending:
    pending = state.pending.get(grant.in_reply_to)
    asked = pending is None or not pending.product or pending.vendor == grant.vendor
    if pending is None or pending.action != BORROW or not asked:
        raise error("request_not_found", "this grant answers a request this container never made")
    giver = grant.giver.thumbprint
    if all(grant.xid != exchange_id(pending.request_id, giver, number) for number in range(pending.count)):
        raise error("grant_invalid", "the id of this grant is not one that an answer to its request has")
    return pending


def _counted(state: State, pending: Pending, xid: bytes) -> State:
    taken = pending.taken + 1
    status = ANSWERED if taken >= pending.count else OPEN
    entry = pending.replace(taken=taken, status=status, answer=xid)
    return state.replace(pending={**state.pending, pending.request_id: entry})


def _declined(state: State, arrival: Arrival, now: int) -> State:
    state = _with_arrival(state, arrival.replace(status=DECLINED))
    return logged(state, now, "declined", arrival.xid, f"{arrival.product or 'a grant'} declined")


def _with_arrival(state: State, arrival: Arrival) -> State:
    """Put an entry back. The oldest closed ones make room; what answered a request that is still open is kept, for its
    grant, come again, would be taken again.
    """
    arrivals = {**state.arrivals, arrival.xid: arrival}
    wanted = {pending.request_id for pending in state.pending.values() if pending.status == OPEN}
    sizes = {
        xid: len(entry.receipt)
        for xid, entry in arrivals.items()
        if entry.status != HELD and entry.request_id not in wanted
    }
    gone = oldest_beyond(sizes, MAX_ARRIVALS, MAX_ARRIVAL_BYTES)
    return state.replace(arrivals={xid: entry for xid, entry in arrivals.items() if xid not in gone})
