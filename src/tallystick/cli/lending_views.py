# SPDX-License-Identifier: Apache-2.0
"""What the lending commands show: what moved, what would move, and what each side holds.

JSON of a direct command: ``{"schema": 1, "dry_run": false, "repeated", "exchanges": [as `tally loans --json`],
"moved", "delivered": [DELIVERY], "notes"}``. JSON of ``--dry-run``: ``{"schema": 1, "dry_run": true, "moves": [as
`tally loans --json`], "sides": [{"container", "before": [STOCK], "after": [STOCK]}], "delivers": [DELIVERY], "stays":
[...]}``, where DELIVERY is ``{"message": "grant" | "extension" | "recall" | "receipt", "exchange"}`` and STOCK is
``{"product", "license_id", "part", "counter",
"divisible", "total", "here", "used", "lent", "in_transit", "given", "returned"}``; counter is ``*seats``, ``""`` for
units, or a feature.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tallystick.cli.screen import printable, put, put_json, say
from tallystick.container.base import Container
from tallystick.container.lending_base import IN_TRANSIT, Loan
from tallystick.exchange.lending import is_divisible
from tallystick.exchange.loan_words import (
    amounts_in_words,
    back_in_words,
    loan_in_words,
    loan_plain,
    stock_in_words,
    stock_name,
)
from tallystick.exchange.settling import Delivery, Done
from tallystick.exchange.stock import Stock
from tallystick.record import Record


class Side(Record):
    """One container before and after.

    Attributes:
        name: its printed id.
        before, after: its counters.
    """

    name: str
    before: tuple[Stock, ...]
    after: tuple[Stock, ...]


def put_dry(
    moves: Sequence[Loan],
    sides: Sequence[Side],
    *,
    divisible: bool,
    as_json: bool,
    delivers: Sequence[Delivery] = (),
    stays: Sequence[str] = (),
) -> None:
    """Show what would move and what each side would hold.

    Args:
        moves: as the giver would list them.
        sides: the containers concerned.
        divisible: whether the licenses count seats.
        as_json: as the JSON object.
        delivers: what is in transit between the two, and would be delivered first.
        stays: what would be left behind, and why.
    """
    if as_json:
        put_json(
            dry_run=True,
            delivers=[_delivery_plain(one) for one in delivers],
            stays=list(stays),
            moves=[loan_plain(loan) for loan in moves],
            sides=[
                {"container": side.name, "before": _plain(side.before), "after": _plain(side.after)} for side in sides
            ],
        )
        return
    for one in delivers:
        put(f"would first deliver: {printable(_delivery(one, divisible))}")
    for loan in moves:
        put(f"would move: {printable(loan_in_words(loan, divisible=divisible))}")
    for text in stays:
        put(f"would stay: {printable(text)}")
    for side in sides:
        for stock in _changed(side):
            put(f"{side.name} would hold {printable(stock.product)} {stock_name(stock)}: {stock_in_words(stock)}")
    say("Nothing was changed.")


def put_done(done: Done, giver: Container, verb: str, *, as_json: bool) -> None:
    """Show what a direct command did.

    Args:
        done: its result.
        giver: open.
        verb: what was done to the loans, where they were given before: ``extended``, ``returned``; empty for new ones.
        as_json: as the JSON object.
    """
    if as_json:
        exchanges = [loan_plain(loan) for loan in done.loans]
        delivered = [_delivery_plain(one) for one in done.delivered]
        put_json(
            dry_run=False,
            repeated=done.repeated,
            exchanges=exchanges,
            moved=dict(done.moved),
            delivered=delivered,
            notes=list(done.notes),
        )
        return
    for loan in done.loans:
        divisible = is_divisible(giver, loan)
        said = loan_in_words(loan, divisible=divisible)
        if done.moved:
            put(printable(f"{loan.product}: {back_in_words(loan, done.moved, divisible=divisible)}"))
        else:
            put(printable(f"{said}: {verb}" if verb else said))
    say_delivered(done.delivered, giver)
    if done.repeated:
        say("This had been done before; nothing moved.")
    for note in done.notes:
        say(f"note: still in transit: {note}")


def say_delivered(deliveries: Sequence[Delivery], giver: Container) -> None:
    """Say what a direct command delivered besides what was asked.

    Args:
        deliveries: what was in transit.
        giver: open.
    """
    for one in deliveries:
        say(f"also delivered: {_delivery(one, is_divisible(giver, one.loan))}")


def say_given(loan: Loan, divisible: bool, asked: Mapping[str, int]) -> None:
    """Say what left this container, and what has to happen next.

    Args:
        loan: its entry.
        divisible: whether the license counts seats.
        asked: what the receiver asked for, by counter; empty where it left that open.
    """
    say(f"{loan_in_words(loan, divisible=divisible)}.")
    if any(amount > loan.amounts.get(name, 0) for name, amount in asked.items()):
        what, gets = amounts_in_words(asked, divisible=divisible), amounts_in_words(loan.amounts, divisible=divisible)
        say(f"That is less than was asked for: {what}; given are {gets}.")
    if loan.state == IN_TRANSIT:
        say(f"Import it into {loan.peer_id}, then import its receipt here; until then it is in transit.")


def _delivery(one: Delivery, divisible: bool) -> str:
    return f"{one.what} of {loan_in_words(one.loan, divisible=divisible)}"


def _delivery_plain(one: Delivery) -> dict[str, Any]:
    return {"message": one.what, "exchange": loan_plain(one.loan)}


def _changed(side: Side) -> list[Stock]:
    before = {(stock.part, stock.counter): stock for stock in side.before}
    return [stock for stock in side.after if before.get((stock.part, stock.counter)) != stock]


def _plain(stocks: Sequence[Stock]) -> list[dict[str, Any]]:
    return [stock.to_plain() for stock in stocks]
