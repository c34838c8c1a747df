# SPDX-License-Identifier: Apache-2.0
"""``tally loans`` and ``tally pending``: who has what until when, and what has to happen next."""

from __future__ import annotations

from typing import Any

import click

from tallystick.cli.emit import Outlet, outlet_options
from tallystick.cli.lending_options import complete_exchanges
from tallystick.cli.manual import Command
from tallystick.cli.options import container_option, json_option, open_container
from tallystick.cli.render import put_table
from tallystick.cli.screen import put_json, say
from tallystick.container.base import Container
from tallystick.container.lending_base import ACTIVE, REQUESTED, Loan
from tallystick.exchange.lending import find_exchange, is_divisible
from tallystick.exchange.loan_words import amounts_in_words, is_due, loan_plain, next_step
from tallystick.license.dates import show


@click.command(cls=Command)
@click.option("--open", "only_open", is_flag=True, help="Only those still going on.")
@container_option
@json_option
def loans(only_open: bool, uri: str, as_json: bool) -> None:
    """List loans and transfers, both ways: with whom, what, until when, and how far they are.

    States: requested, in transit (the receipt has not come), active, returned, recalled, expired, cancelled.

    Examples:
      tally loans
      tally loans --open --json

    JSON: {"schema": 1, "container", "exchanges": [{"xid", "direction": "given" | "taken", "kind": "loan" | "transfer",
           "state", "recalled", "open", "vendor", "product", "license_id", "part", "peer", "peer_thumbprint",
           "request_id", "at", "ends", "amounts", "returned", "used"}]}; amounts by counter: *seats, empty for units,
           or a feature; ends is when the loan ends, as borrower and lender both call it
    """
    with open_container(uri) as container:
        found = [loan for loan in container.lending.loans() if loan.open or not only_open]
        name = container.info().container_id
        if as_json:
            put_json(container=name, exchanges=[loan_plain(loan) for loan in found])
        elif found:
            headings = ("id", "product", "what", "direction", "other container", "borrowed until", "state")
            put_table(headings, [_row(container, loan) for loan in found])
        else:
            say("Nothing was lent, borrowed or transferred here yet.")


@click.command(cls=Command)
@click.argument("selector", metavar="[ID]", required=False, shell_complete=complete_exchanges)
@container_option
@outlet_options
@json_option
def pending(selector: str | None, uri: str, as_json: bool, **outlet: Any) -> None:
    """List what is open on this side and what has to happen next; with an ID, write its newest message again.

    Every message is kept: the request, the grant, the receipt. A lost file is therefore written again, the very same
    bytes, with --output, --text or --qr, however old it is. An id is the one of `tally loans`, or its beginning.

    Examples:
      tally pending
      tally pending 3f2a91bc --output /media/stick
      tally pending 3f2a91bc --text

    JSON: {"schema": 1, "container", "exchanges": [{... as `tally loans --json` ..., "next_step"}]}
    JSON, with an ID: {"schema": 1, "exchange", "file", "text"}
    """
    if selector is not None:
        _again(selector, uri, Outlet(as_json=as_json, **outlet))
        return
    with open_container(uri) as container:
        due = [loan for loan in container.lending.loans() if is_due(loan)]
        name = container.info().container_id
        if as_json:
            put_json(container=name, exchanges=[{**loan_plain(loan), "next_step": next_step(loan)} for loan in due])
        elif due:
            headings = ("id", "product", "what", "state", "next")
            put_table(headings, [_due_row(container, loan) for loan in due])
        else:
            say("Nothing is open.")


def _again(selector: str, uri: str, where: Outlet) -> None:
    where.check()
    with open_container(uri) as container:
        loan = find_exchange(container, selector)
        message = container.lending.message(loan.xid)
    where.emit(message, exchange=loan_plain(loan))
    if text := next_step(loan):
        say(text)


def _row(container: Container, loan: Loan) -> tuple[str, ...]:
    direction = ("transferred" if loan.transfer else "lent") if loan.outgoing else _taken(loan)
    until = "" if loan.ends is None else show(loan.ends)
    state = f"{loan.state}, asked back" if loan.recalled and loan.state == ACTIVE else loan.state
    what = _what(container, loan)
    return loan.xid.hex()[:8], loan.product, what, direction, loan.peer_id, until, state


def _taken(loan: Loan) -> str:
    if loan.state == REQUESTED:
        return "asked for"
    return "received" if loan.transfer else "borrowed"


def _due_row(container: Container, loan: Loan) -> tuple[str, ...]:
    return loan.xid.hex()[:8], loan.product, _what(container, loan), loan.state, next_step(loan)


def _what(container: Container, loan: Loan) -> str:
    if not loan.amounts:
        return "open"
    return amounts_in_words(loan.amounts, divisible=is_divisible(container, loan))
