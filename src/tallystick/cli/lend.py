# SPDX-License-Identifier: Apache-2.0
"""``tally lend`` and ``tally transfer``: the giver's side."""

from __future__ import annotations

from typing import Any

import click

from tallystick.cli.emit import Outlet, outlet_options
from tallystick.cli.lending_options import (
    again_option,
    answer_options,
    both,
    choice_options,
    direct_options,
    dry_option,
    end_options,
    is_direct,
    read_wish,
)
from tallystick.cli.lending_views import Side, put_done, put_dry, say_given
from tallystick.cli.manual import Command
from tallystick.cli.options import confirm, container_option, json_option, open_container, read_input, yes_option
from tallystick.codec.ident import container_id
from tallystick.container.base import Container
from tallystick.container.lending_base import Loan
from tallystick.errors import ContainerError, error
from tallystick.exchange import lending
from tallystick.exchange.direct import Direct
from tallystick.exchange.files import STDIN
from tallystick.exchange.lending import Wish
from tallystick.exchange.loan_words import loan_in_words, loan_plain, stock_in_words, stock_name
from tallystick.exchange.stock import Stock, arriving, stocks
from tallystick.license.messages import read_request


@click.command(cls=Command)
@click.argument("source", metavar="REQUEST|-|TEXT", required=False)
@answer_options
@end_options
@choice_options
@direct_options("lends", "borrows")
@again_option
@dry_option
@yes_option
@container_option
@outlet_options
@json_option
def lend(source: str | None, from_: str | None, to: str | None, **more: Any) -> None:
    """Lend to the container that made a request: makes a grant to be imported there. It comes back by itself.

    What the request names need not be said again; less may be given, and an earlier end: what is named here replaces
    that part of the request, the rest stays as asked, and 0 leaves it out. The amount has left this container when the
    command returns. The same request again gives the same grant, so a lost file is no loss; the receipt of the import
    closes the exchange. Seats are back at the loan's end without any file, units with the borrower's receipt that says
    how many were used.

    With --from and --to, both containers at hand, no request is needed; if interrupted, the same command finishes it.
    What else is in transit between the two is delivered first. --again lends as much once more, each time it is said.

    Examples:
      tally lend laptop.tallyreq
      tally lend laptop.tallyreq --seats 1 --until 2026-11-23T08:00 --output /media/stick
      tally lend laptop.tallyreq --units 0
      tally lend laptop.tallyreq --dry-run
      tally lend --from file:server --to file:laptop --product cad --seats 1 --for 3d

    JSON: {"schema": 1, "exchange": {as one of `tally loans --json`}, "asked": amounts, "file", "text"}
    JSON, --from and --to: {"schema": 1, "dry_run": false, "repeated", "exchanges": [...], "moved": amounts given back,
                           "delivered": [{"message": "grant" | "extension" | "recall" | "receipt", "exchange"}],
                           "notes": [...]}
    JSON, --dry-run: {"schema": 1, "dry_run": true, "moves": [as `tally loans --json`], "sides": [{"container",
                     "before": [...], "after": [...]}], "delivers": [as "delivered"], "stays": [what cannot go]};
                     a side lists {"product", "license_id", "part", "counter", "divisible", "total", "here", "used",
                     "lent", "in_transit", "given", "returned"}; counter is *seats, empty for units, or a feature
    """
    _answer(source, from_, to, transfer=False, **more)


@click.command(cls=Command)
@click.argument("source", metavar="REQUEST|-|TEXT", required=False)
@answer_options
@choice_options
@direct_options("gives", "receives")
@again_option
@dry_option
@yes_option
@container_option
@outlet_options
@json_option
def transfer(source: str | None, from_: str | None, to: str | None, **more: Any) -> None:
    """Give a license, seats or units to another container for good: makes a grant to be imported there.

    As `tally lend`, but nothing ever comes back by itself, not even where the file gets lost: the same request again
    writes the same grant. It is asked for confirmation, which names what is left here.

    Examples:
      tally transfer siteb.tallyreq --seats 5
      tally transfer siteb.tallyreq --whole --yes --text
      tally transfer --from file:a --to file:b --product cad --seats 5

    JSON: as `tally lend`
    """
    _answer(source, from_, to, transfer=True, **more)


def _answer(
    source: str | None,
    from_: str | None,
    to: str | None,
    *,
    transfer: bool,
    again: bool,
    dry: bool,
    yes: bool,
    uri: str,
    as_json: bool,
    **more: Any,
) -> None:
    wish = read_wish(more, least=0, transfer=transfer)
    if is_direct(from_, to):
        if source is not None:
            raise error("usage", "with `--from` and `--to` no request is needed")
        direct_lend(from_ or "", to or "", wish, again=again, dry=dry, yes=yes, as_json=as_json)
        return
    if source is None:
        raise error("usage", "a request is missing", "The receiver makes one: `tally borrow`.")
    request = read_input(source)
    where = Outlet(as_json=as_json, **more)
    with open_container(uri) as container:
        if dry:
            _dry(container, request, wish, as_json=as_json)
            return
        before = lending.answer_of(container, request)
        where.check(container.lending.message(before.xid) if before is not None else b"")
        if transfer and not yes:
            confirm(_loss(container, request, wish), yes=yes, as_json=as_json)
        message, loan = lending.answer(container, request, wish)
        divisible = lending.is_divisible(container, loan)
    again_how = f"The same command again, or `tally pending {loan.xid.hex()[:8]} --output PATH`, writes it."
    asked = lending.wanted(request).amounts
    where.emit(message, again_how, exchange=loan_plain(loan), asked=dict(asked))
    if where.output != STDIN:
        say_given(loan, divisible, asked)


def direct_lend(giver: str, receiver: str, wish: Wish, *, again: bool, dry: bool, yes: bool, as_json: bool) -> None:
    """Lend or transfer between two containers at hand.

    Args:
        giver: URI of the lender.
        receiver: URI of the borrower.
        wish: what is wanted.
        again: as much once more.
        dry: only show it.
        yes: confirmed beforehand.
        as_json: print the JSON object.
    """
    with both(giver, receiver) as line:
        if dry or (wish.transfer and not yes):
            moved, sides, divisible = _rehearsed(line, wish, again)
            if dry:
                put_dry(moved, sides, divisible=divisible, as_json=as_json, delivers=line.outstanding())
                return
            if moved:
                confirm(loss_in_words(moved, sides[0].after, divisible), yes=yes, as_json=as_json)
        put_done(line.lend(wish, again=again), line.giver, "", as_json=as_json)


def _rehearsed(line: Direct, wish: Wish, again: bool) -> tuple[tuple[Loan, ...], tuple[Side, Side], bool]:
    """See what a direct command would move: what would be new among the giver's loans."""
    known = {loan.xid for loan in line.given()}
    before = stocks(line.giver), stocks(line.receiver)
    moved, after = line.try_lend(wish, again=again)
    divisible = bool(moved) and lending.is_divisible(line.giver, moved[0])
    new = tuple(loan for loan in moved if loan.xid not in known)
    incoming = tuple(stock for loan in new for stock in arriving(loan, divisible))
    names = [container.info().container_id for container in (line.giver, line.receiver)]
    return new, (Side(names[0], before[0], after), Side(names[1], before[1], (*before[1], *incoming))), divisible


def _dry(container: Container, request: bytes, wish: Wish, *, as_json: bool) -> None:
    loan, before, after, divisible = _seen(container, request, wish)
    known = any(one.xid == loan.xid for one in container.lending.loans())
    here = Side(container.info().container_id, before, after)
    there = Side(loan.peer_id, (), arriving(loan, divisible))
    put_dry(() if known else (loan,), (here,) if known else (here, there), divisible=divisible, as_json=as_json)


def _seen(container: Container, request: bytes, wish: Wish) -> tuple[Loan, tuple[Stock, ...], tuple[Stock, ...], bool]:
    def act(stage: Container) -> tuple[Loan, tuple[Stock, ...], bool]:
        _, loan = lending.answer(stage, request, wish)
        return loan, stocks(stage), lending.is_divisible(stage, loan)

    before = stocks(container)
    loan, after, divisible = lending.rehearse(container, act)
    return loan, before, after, divisible


def _loss(container: Container, request: bytes, wish: Wish) -> str:
    """Name what is lost here; where it cannot be tried, what is asked."""
    try:
        loan, _, after, divisible = _seen(container, request, wish)
    except ContainerError as reason:
        if reason.code != "not_supported":
            raise
        return f"This transfers a license to {container_id(read_request(request).key.thumbprint)}, for good."
    return loss_in_words((loan,), after, divisible)


def loss_in_words(
    loans: tuple[Loan, ...], after: tuple[Stock, ...], divisible: bool, stays: tuple[str, ...] = ()
) -> str:
    """Say what a transfer takes away and what stays.

    Args:
        loans: what would move.
        after: what the giver would hold.
        divisible: whether the licenses count seats.
        stays: what of everything cannot go, and why.
    """
    gone = "; ".join(loan_in_words(loan, divisible=divisible) for loan in loans)
    parts = {loan.part for loan in loans}
    left = [f"{one.product} {stock_name(one)} {stock_in_words(one)}" for one in after if one.part in parts]
    kept = f" This stays: {'; '.join(stays)}." if stays else ""
    return f"This is for good: {gone}. Then: {'; '.join(left)}.{kept}"
