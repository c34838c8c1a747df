# SPDX-License-Identifier: Apache-2.0
"""``tally loans`` and ``tally pending``: who has what until when, and what has to happen next."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import click

from tallystick.cli.emit import Outlet, outlet_options
from tallystick.cli.lending_options import complete_exchanges
from tallystick.cli.manual import Command
from tallystick.cli.options import container_option, json_option, open_container
from tallystick.cli.render import put_table
from tallystick.cli.screen import put_json, say
from tallystick.container.base import Container
from tallystick.container.lending_base import ACTIVE, IN_TRANSIT, REQUESTED, Loan
from tallystick.container.lending_base import CANCELLED as DECLINED
from tallystick.container.state import CANCELLED
from tallystick.exchange.identify import SHARE_RECEIPT, identify
from tallystick.exchange.lending import is_divisible
from tallystick.exchange.loan_lookup import find_exchange
from tallystick.exchange.loan_words import (
    amounts_in_words,
    bring_receipt,
    is_due,
    loan_plain,
    next_step,
    receipts_to_deliver,
)
from tallystick.license.dates import show


@click.command(cls=Command)
@click.option("--open", "only_open", is_flag=True, help="Only those still going on.")
@container_option
@json_option
def loans(only_open: bool, uri: str, as_json: bool) -> None:
    """List loans and transfers, both ways: with whom, what, until when, and how far they are.

    States: requested, in transit (the receipt has not come), active, returned, recalled, expired, cancelled (the grant
    was declined, or the request given up).

    Examples:
      tally loans
      tally loans --open --json

    JSON: {"schema": 1, "container", "exchanges": [{"xid", "direction": "given" | "taken", "kind": "loan" | "transfer",
           "state", "recalled", "open", "vendor", "product", "license_id", "part", "peer", "peer_thumbprint",
           "request_id", "at", "ends", "amounts", "returned", "used"}]}; amounts by counter: *seats, empty for units,
           or a feature; ends is when the loan ends, as borrower and lender both call it
    """
    with open_container(uri) as container:
        every = container.lending.loans()
        found = [loan for loan in every if loan.open or not only_open]
        name = container.info().container_id
        if as_json:
            put_json(container=name, exchanges=[loan_plain(loan) for loan in found])
        elif found:
            headings = ("id", "product", "what", "direction", "other container", "borrowed until", "state")
            given_up = {one.request_id for one in container.requests() if one.status == CANCELLED}
            put_table(headings, [_row(container, loan, given_up) for loan in found])
        elif every:
            say(f"Nothing is open; {len(every)} closed, `tally loans` lists them.")
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
    bytes, with --output, --text or --qr, however old it is; only a recall is signed anew. An id is the one of
    `tally loans`, or its beginning. Whether a receipt has arrived only its receiver knows: those of the last 30 days
    for what was returned or declined here are listed too.

    Examples:
      tally pending
      tally pending 3f2a91bc --output /media/stick
      tally pending 3f2a91bc --text

    JSON: {"schema": 1, "container", "exchanges": [{... as `tally loans --json` ..., "next_step"}], "receipts":
           [the same of receipts to deliver, again if in doubt]}
    JSON, with an ID: {"schema": 1, "exchange", "file", "text"}
    """
    if selector is not None:
        _again(selector, uri, Outlet(as_json=as_json, **outlet))
        return
    with open_container(uri) as container:
        every, info = container.lending.loans(), container.info()
        due = [loan for loan in every if is_due(loan)]
        receipts = [loan for loan in receipts_to_deliver(every, info.now) if loan not in due]
        if as_json:
            exchanges = [{**loan_plain(loan), "next_step": next_step(loan)} for loan in due]
            also = [{**loan_plain(loan), "next_step": bring_receipt(loan)} for loan in receipts]
            put_json(container=info.container_id, exchanges=exchanges, receipts=also)
            return
        headings = ("id", "product", "what", "state", "next")
        if due:
            put_table(headings, [_due_row(container, loan, next_step(loan)) for loan in due])
        if receipts:
            say("Receipts to deliver (again, if in doubt):")
            put_table(headings, [_due_row(container, loan, bring_receipt(loan)) for loan in receipts])
        if not due and not receipts:
            say("Nothing is open.")


def _again(selector: str, uri: str, where: Outlet) -> None:
    with open_container(uri) as container:
        loan = find_exchange(container, selector)
        message = container.lending.message(loan.xid)
    where.check(message)
    where.emit(message, exchange=loan_plain(loan))
    if text := next_step(loan):
        say(text)
    elif identify(message) is SHARE_RECEIPT:
        say(f"Import it into {loan.peer_id}: `tally import FILE`.")


def _row(container: Container, loan: Loan, given_up: Collection[bytes]) -> tuple[str, ...]:
    direction = ("transferred" if loan.transfer else "lent") if loan.outgoing else _taken(loan)
    until = "" if loan.ends is None else show(loan.ends)
    state = f"{loan.state}, asked back" if loan.recalled and loan.state in (IN_TRANSIT, ACTIVE) else loan.state
    if loan.state == DECLINED and (loan.outgoing or loan.request_id not in given_up):
        state = "declined"
    if loan.room > 1:
        state += f", {loan.room} grants may still come"
    what = _what(container, loan)
    return loan.xid.hex()[:8], loan.product, what, direction, loan.peer_id, until, state


def _taken(loan: Loan) -> str:
    if loan.state in (REQUESTED, DECLINED):
        return "asked for"
    return "received" if loan.transfer else "borrowed"


def _due_row(container: Container, loan: Loan, then: str) -> tuple[str, ...]:
    return loan.xid.hex()[:8], loan.product, _what(container, loan), loan.state, then


def _what(container: Container, loan: Loan) -> str:
    if not loan.amounts:
        return "open"
    return amounts_in_words(loan.amounts, divisible=is_divisible(container, loan))
