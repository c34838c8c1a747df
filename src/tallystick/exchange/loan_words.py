# SPDX-License-Identifier: Apache-2.0
"""Loans, transfers and what is where, in words for people and in plain values for programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tallystick.codec.ident import container_id
from tallystick.container import lending_base as lb
from tallystick.container.lending_base import Loan
from tallystick.exchange.stock import Stock
from tallystick.license.dates import show
from tallystick.license.grant_policy import SEATS

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
        return f"Give the request to {peer}, which answers it with `tally lend` or `tally transfer`; import the answer."
    if loan.state == lb.IN_TRANSIT:
        return f"Bring the grant to {peer}, import it there, and import its receipt here."
    if loan.state == lb.EXPIRED:
        if loan.outgoing:
            return f"Its units come home with the receipt of `tally return {short}` at {peer}."
        return f"Give its units back: `tally return {short}`, and bring the receipt to {peer}."
    if loan.outgoing:
        return f"Bring the recall (`tally recall {short}`) to {peer}, import it there, and import its receipt here."
    return f"Give it back: `tally return {short}`, and bring the receipt to {peer}."


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
        return "the whole license" if not divisible else f"{amount} seat{'' if amount == 1 else 's'}"
    if not name:
        return f"{amount} unit{'' if amount == 1 else 's'}"
    return f"{amount} of {name}"


def _name(counter: str) -> str:
    return {SEATS: "seats", "": "units"}.get(counter, counter)
