# SPDX-License-Identifier: Apache-2.0
"""``tally rehost``: everything to another container, and the statement that nothing is left."""

from __future__ import annotations

from typing import Any

import click

from tallystick.cli.emit import Outlet, next_step, outlet_options
from tallystick.cli.lend import loss_in_words
from tallystick.cli.lending_options import both, direct_options, dry_option, is_direct
from tallystick.cli.lending_views import Side, put_done, put_dry
from tallystick.cli.manual import Command
from tallystick.cli.options import confirm, container_option, json_option, open_container, read_input, yes_option
from tallystick.cli.screen import say
from tallystick.codec import cose
from tallystick.codec.ident import container_id
from tallystick.container.base import Container
from tallystick.container.lending_base import Loan
from tallystick.errors import error
from tallystick.exchange import lending, loan_lookup
from tallystick.exchange.files import STDIN
from tallystick.exchange.loan_words import loan_in_words, loan_plain
from tallystick.exchange.stock import Stock, arriving, stocks
from tallystick.license.dates import show
from tallystick.license.messages import read_request
from tallystick.license.receipts import Receipt


@click.command(cls=Command)
@click.argument("source", metavar="REQUEST|-|TEXT", required=False)
@click.option("--vendor", metavar="NAME", help="Only licenses of this vendor.")
@click.option("--statement", is_flag=True, help="State, signed, that as of now nothing of a vendor may be used here.")
@direct_options("gives everything", "receives it")
@dry_option
@yes_option
@container_option
@outlet_options
@json_option
def rehost(
    source: str | None,
    vendor: str | None,
    statement: bool,
    from_: str | None,
    to: str | None,
    dry: bool,
    yes: bool,
    uri: str,
    as_json: bool,
    **outlet: Any,
) -> None:
    """Transfer all licenses to another container, in one file: makes a move to be imported there.

    The receiver's request is a standing invitation with room for every license: `tally borrow --transfer --count 20`.
    Either everything goes or nothing: what is borrowed is returned first. What is lent, and what expired, stays.
    Afterwards --statement makes the signed proof that this container was empty at that instant, which anybody can test
    with `tally verify` and a request of this container. What was transferred may be returned later, where its terms
    allow that; the statement says nothing of then.

    Examples:
      tally rehost newserver.tallyreq --output /media/stick
      tally rehost newserver.tallyreq --dry-run
      tally rehost --statement --output empty.tallyrct
      tally rehost --from file:old --to file:new --yes

    JSON: {"schema": 1, "exchanges": [as `tally loans --json`], "file", "text"}
    JSON, --statement: {"schema": 1, "container", "vendor", "as_of", "file", "text"}
    JSON, --from and --to, and --dry-run: as `tally lend`
    """
    if is_direct(from_, to):
        if source is not None or statement or vendor is not None:
            raise error("usage", "with `--from` and `--to` everything goes, and no request is needed")
        _direct(from_ or "", to or "", dry=dry, yes=yes, as_json=as_json)
        return
    if (source is not None) == statement:
        raise error("usage", "pass a request, or `--statement`", "The receiver: `tally borrow --transfer --count 20`.")
    where = Outlet(as_json=as_json, **outlet)
    if not dry:
        where.check()
    if statement:
        _state(uri, vendor, where)
        return
    _by_file(uri, source or "", vendor, where, dry=dry, yes=yes)


def _by_file(uri: str, source: str, vendor: str | None, where: Outlet, *, dry: bool, yes: bool) -> None:
    request = read_input(source)
    want = lending.wanted(request)
    if want.duration is not None or want.amounts or (want.product and want.count == 1):
        remedy = "The receiver makes one that does: `tally borrow --transfer --count 20`."
        raise error("not_wanted", "this request does not ask for everything", remedy)
    with open_container(uri) as container:
        if dry or not yes:
            before = stocks(container)
            stays = lending.staying(container, read_request(request).key.thumbprint, vendor)
            loans, after = lending.rehearse(container, lambda stage: _moved(stage, request, vendor))
            if dry:
                _put_dry(container.info().container_id, loans, before, after, (), as_json=where.as_json, stays=stays)
                return
            new = tuple(loan for loan in loans if loan.part in {one.part for one in before if one.here})
            if new:
                confirm(loss_in_words(new, after, divisible=True, stays=stays), yes=yes, as_json=where.as_json)
        message = container.lending.move(request, vendor=vendor)
        loans = loan_lookup.touched(container, message)
    where.emit(message, "The same command again writes what is still in transit.", exchanges=[*map(loan_plain, loans)])
    if where.output != STDIN:
        for loan in loans:
            say(f"{loan_in_words(loan)}.")
        receiver = container_id(read_request(request).key.thumbprint)
        say(f"Import it into {receiver}, then import its receipt here; until then it is in transit.")


def _moved(stage: Container, request: bytes, vendor: str | None) -> tuple[tuple[Loan, ...], tuple[Stock, ...]]:
    xids = loan_lookup.xids_of(stage.lending.move(request, vendor=vendor))
    return tuple(loan for loan in stage.lending.loans() if loan.xid in xids), stocks(stage)


def _put_dry(
    name: str,
    loans: tuple[Loan, ...],
    before: tuple[Stock, ...],
    after: tuple[Stock, ...],
    theirs: tuple[Stock, ...],
    **more: Any,
) -> None:
    seats = {one.license_id: one.divisible for one in before}
    incoming = tuple(stock for loan in loans for stock in arriving(loan, seats.get(loan.license_id, True)))
    sides = [Side(name, before, after)]
    if loans:
        sides.append(Side(loans[0].peer_id, theirs, (*theirs, *incoming)))
    put_dry(loans, sides, divisible=True, **more)


def _direct(giver: str, receiver: str, *, dry: bool, yes: bool, as_json: bool) -> None:
    with both(giver, receiver) as line:
        if dry or not yes:
            before = stocks(line.giver)
            loans, after = line.try_rehost()
            if dry:
                name, more = line.giver.info().container_id, {"delivers": line.outstanding(), "stays": line.staying()}
                _put_dry(name, loans, before, after, stocks(line.receiver), as_json=as_json, **more)
                return
            if loans:
                loss = loss_in_words(loans, after, divisible=True, stays=line.staying())
                confirm(loss, yes=yes, as_json=as_json)
        put_done(line.rehost(), line.giver, "", as_json=as_json)


def _state(uri: str, vendor: str | None, where: Outlet) -> None:
    with open_container(uri) as container:
        found = container.info()
        if vendor is None:
            if len(found.vendors) != 1:
                raise error("vendor_needed", f"this container knows {len(found.vendors)} vendors", "Pass `--vendor`.")
            vendor = found.vendors[0]
        message = container.lending.statement(vendor)
    made = Receipt.from_claims(cose.peek(message)[1]).created_at
    where.emit(message, container=found.container_id, vendor=vendor, as_of=made)
    if where.output != STDIN:
        say(f"{found.container_id} states that as of {show(made)} nothing of {vendor} may be used in it.")
        next_step(message)
