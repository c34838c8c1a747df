# SPDX-License-Identifier: Apache-2.0
"""``tally return``, ``tally extend`` and ``tally recall``: what may become of a loan or transfer afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from tallystick.cli.emit import Outlet, outlet_options
from tallystick.cli.lending_options import (
    amount_options,
    both,
    complete_exchanges,
    direct_options,
    dry_option,
    end_options,
    is_direct,
    read_amounts,
)
from tallystick.cli.lending_views import Side, put_done, put_dry
from tallystick.cli.manual import Command
from tallystick.cli.options import container_option, json_option, open_container
from tallystick.cli.screen import say
from tallystick.container.base import Container
from tallystick.container.lending_base import Loan
from tallystick.errors import error
from tallystick.exchange import lending, loan_lookup
from tallystick.exchange.direct import Direct
from tallystick.exchange.files import STDIN
from tallystick.exchange.loan_words import amounts_in_words, left_over, loan_plain
from tallystick.exchange.settling import Delivery, Done
from tallystick.exchange.stock import home_again, stocks
from tallystick.license.dates import show


@click.command("return", cls=Command)
@click.argument("selector", metavar="ID|PRODUCT", shell_complete=complete_exchanges)
@amount_options
@direct_options("gives back", "lent it")
@dry_option
@container_option
@outlet_options
@json_option
def return_(selector: str, from_: str | None, to: str | None, dry: bool, uri: str, as_json: bool, **more: Any) -> None:
    """Give back what was borrowed or received, all or a part of it: makes the receipt that gives it to the lender.

    It cannot be used here any more when the command returns. What was used up is told by the receipt and stays used.
    Again, for what was given back entirely: the same receipt. Seats of a loan come back by themselves at its end.

    With --from and --to, --from is the container that gives back.

    Examples:
      tally return cad
      tally return 3f2a91bc --seats 1 --text
      tally return cad --from file:laptop --to file:server

    JSON: {"schema": 1, "exchange": {as one of `tally loans --json`}, "moved": amounts given back, "file", "text"}
    JSON, --from and --to, and --dry-run: as `tally lend`
    """
    amounts = read_amounts(more) or None
    if is_direct(from_, to):
        with both(to or "", from_ or "") as line:
            if dry:
                found = line.find_taken(selector)
                _dry_return(line.receiver, found, amounts, line, as_json=as_json)
            else:
                put_done(line.give_back(selector, amounts), line.giver, "given back", as_json=as_json)
        return
    where = Outlet(as_json=as_json, **more)
    with open_container(uri) as container:
        before = loan_lookup.find_loan(container, selector, outgoing=False)
        if dry:
            _dry_return(container, before, amounts, None, as_json=as_json)
            return
        where.check(before.receipt if not before.open else b"")
        divisible = lending.is_divisible(container, before)
        receipt = container.lending.give_back(before.xid, amounts)
        loan = loan_lookup.loan_of(container, before.xid)
    moved = _moved(before, loan)
    _hand_out(where, receipt, loan, moved=moved)
    if where.output == STDIN:
        return
    if loan.returned == before.returned and loan.state == before.state:
        say("It had been given back before; this is the same receipt.")
    else:
        said = amounts_in_words(moved, divisible=divisible)
        left = left_over(loan) if loan.open else {}
        stays = f"; still here: {amounts_in_words(left, divisible=divisible)}" if any(left.values()) else ""
        say(f"{said} of {loan.product} given back{stays}.")
    say(f"Import the receipt into {loan.peer_id}: `tally import FILE`.")


@click.command(cls=Command)
@click.argument("selector", metavar="ID|PRODUCT", shell_complete=complete_exchanges)
@end_options
@direct_options("lent it", "borrowed it")
@dry_option
@container_option
@outlet_options
@json_option
def extend(
    selector: str,
    lasts: int | None,
    ends: int | None,
    from_: str | None,
    to: str | None,
    dry: bool,
    uri: str,
    as_json: bool,
    **outlet: Any,
) -> None:
    """Move the end of a loan given here to a later instant: makes a grant to be imported by the borrower.

    Nothing needs to be returned first. Until the borrower imports it, the old end holds there. What was asked back is
    not extended any more.

    Examples:
      tally extend 3f2a91bc --until 2026-11-30
      tally extend cad --for 7d --from file:server --to file:laptop

    JSON: as `tally lend`
    """
    if (lasts is None) == (ends is None):
        raise error("usage", "the new end is missing, or named twice", "Pass `--for 3d` or `--until DATE`.")

    def end(container: Container) -> int:
        return container.info().now + lasts if lasts is not None else ends or 0

    def act(container: Container, loan: Loan) -> bytes:
        return lending.extend(container, loan, end(container))

    _afterwards(
        selector, from_, to, dry=dry, uri=uri, as_json=as_json, outlet=outlet, act=act, verb="extended",
        direct=lambda line: line.extend(selector, end(line.giver)),
    )  # fmt: skip


@click.command(cls=Command)
@click.argument("selector", metavar="ID|PRODUCT", shell_complete=complete_exchanges)
@direct_options("lent it", "borrowed it")
@dry_option
@container_option
@outlet_options
@json_option
def recall(selector: str, from_: str | None, to: str | None, dry: bool, uri: str, as_json: bool, **outlet: Any) -> None:
    """Ask back what was lent or transferred from here: makes a recall to be imported by the receiver.

    Nothing changes here before the receipt of that import comes back, or the loan's end. Again: the recall once more.

    Examples:
      tally recall cad --text
      tally recall 3f2a91bc --from file:server --to file:laptop

    JSON: as `tally lend`
    """
    _afterwards(
        selector, from_, to, dry=dry, uri=uri, as_json=as_json, outlet=outlet, verb="recalled",
        act=lambda container, loan: container.lending.recall(loan.xid), direct=lambda line: line.recall(selector),
    )  # fmt: skip


def _afterwards(
    selector: str,
    from_: str | None,
    to: str | None,
    *,
    dry: bool,
    uri: str,
    as_json: bool,
    outlet: dict[str, Any],
    act: Callable[[Container, Loan], bytes],
    direct: Callable[[Direct], Done],
    verb: str,
) -> None:
    """Do something to a loan given here, by a file or directly."""

    def rehearsed(container: Container, found: Loan, delivers: tuple[Delivery, ...] = ()) -> None:
        def play(stage: Container) -> Loan:
            act(stage, found)
            return loan_lookup.loan_of(stage, found.xid)

        loan = lending.rehearse(container, play)
        here = Side(container.info().container_id, stocks(container), stocks(container))
        divisible = lending.is_divisible(container, loan)
        put_dry((loan,), (here,), divisible=divisible, as_json=as_json, delivers=delivers)

    if is_direct(from_, to):
        with both(from_ or "", to or "") as line:
            if dry:
                found = line.find_given(selector)
                rehearsed(line.giver, found, _besides(line, found))
            else:
                put_done(direct(line), line.giver, verb, as_json=as_json)
        return
    where = Outlet(as_json=as_json, **outlet)
    if not dry:
        where.check()
    with open_container(uri) as container:
        found = loan_lookup.find_loan(container, selector, outgoing=True)
        if dry:
            rehearsed(container, found)
            return
        message = act(container, found)
        loan = loan_lookup.loan_of(container, found.xid)
    _hand_out(where, message, loan)
    if where.output != STDIN:
        until = "" if loan.ends is None or verb != "extended" else f" until {show(loan.ends)}"
        then = "until then its old end holds there" if verb == "extended" else "then import its receipt here"
        say(f"{verb.capitalize()}{until}. Import it into {loan.peer_id}; {then}.")


def _hand_out(where: Outlet, message: bytes, loan: Loan, **members: Any) -> None:
    again = f"`tally pending {loan.xid.hex()[:8]} --output PATH` writes it."
    where.emit(message, again, exchange=loan_plain(loan), **members)


def _besides(line: Direct, found: Loan) -> tuple[Delivery, ...]:
    return tuple(one for one in line.outstanding() if one.loan.xid != found.xid)


def _moved(before: Loan, after: Loan) -> dict[str, int]:
    gone = {name: after.returned.get(name, 0) - before.returned.get(name, 0) for name in before.amounts}
    return {name: amount for name, amount in gone.items() if amount}


def _dry_return(
    container: Container, loan: Loan, amounts: dict[str, int] | None, line: Direct | None, *, as_json: bool
) -> None:
    """Show a return: what the holder would have left, and what its giver would have back."""

    def act(stage: Container) -> Loan:
        stage.lending.give_back(loan.xid, amounts)
        return loan_lookup.loan_of(stage, loan.xid)

    after = lending.rehearse(container, act)
    before = stocks(container)
    gone = _moved(loan, after)
    left = tuple(
        one.replace(here=one.here - gone.get(one.counter, 0), returned=one.returned + gone.get(one.counter, 0))
        if one.part == loan.xid
        else one
        for one in before
    )
    sides = [Side(container.info().container_id, before, left)]
    if line is not None:
        booked = loan_lookup.loan_of(line.giver, loan.xid)
        here = stocks(line.giver)
        home = tuple(
            home_again(one, booked, after.returned, after.used) if one.part == booked.part else one for one in here
        )
        sides.append(Side(line.giver.info().container_id, here, home))
    moved = loan.replace(amounts=gone)
    if not as_json and not moved.amounts:
        say(f"Nothing is left to give back of {amounts_in_words(left_over(loan))}.")
    delivers = _besides(line, loan) if line is not None else ()
    put_dry((moved,), sides, divisible=lending.is_divisible(container, loan), as_json=as_json, delivers=delivers)
