# SPDX-License-Identifier: Apache-2.0
"""Loans, transfers and what is where, in words for people and in plain values for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from tallystick.codec import cose
from tallystick.codec.ident import container_id
from tallystick.container import lending_base as lb
from tallystick.container.lending_base import Loan
from tallystick.exchange.stock import Stock
from tallystick.exchange.words import policy_in_words
from tallystick.license.dates import DAY_S, number_of, show
from tallystick.license.grant_policy import MAX_DEPTH, SEATS
from tallystick.license.model import License
from tallystick.license.receipts import Receipt
from tallystick.license.want import Want

RECEIPT_DAYS: Final = 30  # how long `receipts_to_deliver` reminds of a receipt nobody here can know the way of
_PLACES: Final = (
    ("lent", "lent"), ("in_transit", "in transit"), ("given", "given away"), ("returned", "given back"),
)  # fmt: skip


def amounts_in_words(amounts: Mapping[str, int], *, divisible: bool = True) -> str:
    """Write amounts.

    Args:
        amounts: by counter.
        divisible: False where the license counts no seats, and 1 of them stands for the whole license.

    Returns:
        For example ``2 seats, 30 units``; ``nothing`` for none.
    """
    order = sorted(amounts, key=lambda name: (name != SEATS, name))
    return ", ".join(_amount(name, amounts[name], divisible) for name in order if amounts[name]) or "nothing"


def stock_in_words(stock: Stock) -> str:
    """Say where a counter is.

    Args:
        stock: the counter.

    Returns:
        For example ``15 of 20 here, 3 lent, 2 in transit``.
    """
    out = out_in_words(stock)
    if not stock.divisible:
        return out or "here"
    used = [f"{stock.used} used"] if stock.used else []
    return ", ".join([f"{stock.here} of {stock.total} here", *used, *([out] if out else [])])


def out_in_words(stock: Stock) -> str:
    """Say what of a counter is elsewhere.

    Args:
        stock: the counter.

    Returns:
        For example ``3 lent, 2 in transit``; without the number where it counts no seats; empty where nothing is.
    """
    out = [(getattr(stock, field), word) for field, word in _PLACES if getattr(stock, field)]
    return ", ".join(f"{amount} {word}" if stock.divisible else word for amount, word in out)


def stock_name(stock: Stock) -> str:
    """Name a counter: ``seats``, ``units`` or the feature; ``license`` where it counts no seats."""
    return _name(stock.counter) if stock.divisible else "license"


def loan_in_words(loan: Loan, *, divisible: bool = True) -> str:
    """Say what a loan or transfer is about, on one line.

    Args:
        loan: from `Lending.loans`.
        divisible: as `amounts_in_words`.

    Returns:
        For example ``2 seats of cad lent to TS-... until 2026-11-23 08:00 UTC``.
    """
    what = amounts_in_words(loan.amounts, divisible=divisible) if loan.amounts else "what the giver decides"
    of = f" of {loan.product}" if loan.product else ""
    peer = loan.peer_id or "any container"
    until = "" if loan.ends is None else f" until {show(loan.ends)}"
    if loan.state == lb.REQUESTED or (not loan.outgoing and loan.state == lb.CANCELLED):
        return f"{what}{of} asked of {peer}"
    if loan.outgoing:
        return f"{what}{of} {'transferred' if loan.transfer else 'lent'} to {peer}{until}"
    return f"{what}{of} {'received' if loan.transfer else 'borrowed'} from {peer}{until}"


def is_due(loan: Loan) -> bool:
    """Tell whether somebody has to do something about a loan: bring a file, or give units back."""
    if loan.state in (lb.REQUESTED, lb.IN_TRANSIT):
        return True
    units = any(amount for name, amount in left_over(loan).items() if name != SEATS)
    return (loan.state == lb.ACTIVE and loan.recalled) or (loan.state == lb.EXPIRED and units)


def next_step(loan: Loan) -> str:
    """Say what has to happen next.

    Args:
        loan: from `Lending.loans`.

    Returns:
        One sentence; empty where nothing is due.
    """
    peer, short = loan.peer_id or "the container that is to give", loan.xid.hex()[:8]
    if not is_due(loan):
        return ""
    if loan.state == lb.REQUESTED:
        how = "`tally lend`" if not loan.transfer else "`tally transfer`" if loan.product else "`tally rehost`"
        more = f" {loan.room} grants may still come." if loan.room > 1 else ""
        return f"Give the request to {peer}, which answers it with {how}; import the answer.{more}"
    if loan.state == lb.IN_TRANSIT and loan.recalled:
        return f"Bring the grant to {peer}, then the recall (`tally recall {short}`), and import the receipts here."
    if loan.state == lb.IN_TRANSIT:
        return f"Bring the grant to {peer}, import it there, and import its receipt here."
    if loan.state == lb.EXPIRED:
        if loan.outgoing:
            return f"Its units come home with the receipt of `tally return {short}` at {peer}."
        return f"Give its units back: `tally return {short}`, and bring the receipt to {peer}."
    if loan.outgoing:
        return f"Bring the recall (`tally recall {short}`) to {peer}, import it there, and import its receipt here."
    return f"Give it back: `tally return {short}`, and bring the receipt to {peer}."


def answer_hint(want: Want) -> str:
    """Say how a request is answered.

    Args:
        want: what it asks for.

    Returns:
        A sentence for who made it.
    """
    if want.transfer:
        how = "`tally transfer FILE`" if want.product else "`tally rehost FILE`, or `tally transfer FILE`"
    else:
        how = "`tally lend FILE`" if want.duration else "`tally lend FILE`, or `tally transfer FILE`"
    often = f" It may be answered {want.count} times." if want.count > 1 else ""
    return f"Give it to the container that is to {'give' if want.transfer else 'lend'}: {how}.{often}"


def receipts_to_deliver(loans: Sequence[Loan], now: int) -> tuple[Loan, ...]:
    """Find what was given back or declined here lately: only its giver knows whether the receipt has arrived.

    Args:
        loans: of the container.
        now: seconds since 1970.

    Returns:
        Those of the last `RECEIPT_DAYS` days.
    """
    made = ((loan, _receipt_made(loan)) for loan in loans)
    return tuple(loan for loan, at in made if at is not None and now - at <= RECEIPT_DAYS * DAY_S)


def bring_receipt(loan: Loan) -> str:
    """Say what to do with a receipt of `receipts_to_deliver`."""
    return f"`tally pending {loan.xid.hex()[:8]} --output PATH` writes the receipt; import it into {loan.peer_id}."


def _receipt_made(loan: Loan) -> int | None:
    refused = loan.state == lb.CANCELLED and loan.xid != loan.request_id  # else a request was given up, and that is all
    if loan.outgoing or not (refused or any(loan.returned.values()) or loan.state in (lb.RETURNED, lb.RECALLED)):
        return None
    if not loan.receipt:  # it is written when it is asked for
        return loan.at
    return Receipt.from_claims(cose.peek(loan.receipt)[1]).created_at


def back_in_words(loan: Loan, moved: Mapping[str, int], *, divisible: bool = True) -> str:
    """Say what came back.

    Args:
        loan: as its giver lists it now.
        moved: how much came back just now, by counter.
        divisible: as `amounts_in_words`.

    Returns:
        For example ``back from TS-...: 1 seat, 3 seats in all; used there: 4 units; still there: 6 units``.
    """
    text = f"back from {loan.peer_id}: {amounts_in_words(moved, divisible=divisible)}"
    if amounts_in_words(moved) != amounts_in_words(loan.returned):
        text += f", {amounts_in_words(loan.returned, divisible=divisible)} in all"
    text += f"; used there: {amounts_in_words(loan.used)}" if any(loan.used.values()) else ""
    left = left_over(loan)
    return text + (f"; still there: {amounts_in_words(left, divisible=divisible)}" if any(left.values()) else "")


def onward_in_words(license_: License) -> dict[str, str]:
    """Say what a part that was borrowed or received may be given on: its terms, less what its way here used up.

    Args:
        license_: as it is held; one of the container's own has nothing to add.

    Returns:
        By name of the terms, ``lending`` and ``transfer``, of those that are allowed at all.
    """
    said = {}
    for name, policy in (("lending", license_.terms.lend), ("transfer", license_.terms.transfer)):
        if policy is None or not license_.depth:
            continue
        if name == "transfer" and license_.borrowed_until is not None:
            said[name] = "not from here: it is borrowed"
        elif license_.depth > policy.max_depth or license_.depth >= MAX_DEPTH:
            said[name] = "not from here: it was given on as often as it may be"
        else:
            said[name] = policy_in_words(policy.replace(max_depth=policy.max_depth - license_.depth))
    return said


def left_over(loan: Loan) -> dict[str, int]:
    """Tell how much of a loan is neither returned nor used, by counter."""
    return {name: amount - loan.returned.get(name, 0) - loan.used.get(name, 0) for name, amount in loan.amounts.items()}


def loan_plain(loan: Loan) -> dict[str, Any]:
    """Return a loan in plain values; the schema of ``tally loans --json``."""
    return {
        "xid": loan.xid.hex(),
        "direction": "given" if loan.outgoing else "taken",
        "kind": "transfer" if loan.transfer else "loan",
        "state": loan.state,
        "recalled": loan.recalled,
        "open": loan.open,
        "vendor": loan.vendor,
        "product": loan.product,
        "license_id": loan.license_id.hex() or None,
        "part": loan.part.hex() or None,
        "peer": None if loan.peer is None else container_id(loan.peer),
        "peer_thumbprint": None if loan.peer is None else loan.peer.hex(),
        "request_id": loan.request_id.hex(),
        "at": loan.at,
        "ends": loan.ends,
        "amounts": dict(loan.amounts),
        "returned": dict(loan.returned),
        "used": dict(loan.used),
    }


def _amount(name: str, amount: int, divisible: bool) -> str:
    if name == SEATS:
        return "the whole license" if not divisible else number_of(amount, "seat")
    if not name:
        return number_of(amount, "unit")
    return f"{amount} {name}"


def _name(counter: str) -> str:
    return {SEATS: "seats", "": "units"}.get(counter, counter)
