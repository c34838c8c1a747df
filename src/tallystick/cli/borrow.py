# SPDX-License-Identifier: Apache-2.0
"""``tally borrow`` and ``tally decline``: the receiver's side."""

from __future__ import annotations

from typing import Any

import click

from tallystick.cli.emit import Outlet, next_step, outlet_options
from tallystick.cli.lend import direct_lend
from tallystick.cli.lending_options import (
    again_option,
    choice_options,
    direct_options,
    dry_option,
    end_options,
    is_direct,
    read_wish,
    wish_options,
)
from tallystick.cli.manual import Command
from tallystick.cli.options import container_option, json_option, open_container, read_input, trust_option, yes_option
from tallystick.cli.screen import put, put_json, say
from tallystick.codec import kinds
from tallystick.codec.ident import container_id
from tallystick.errors import error
from tallystick.exchange import lending, loan_lookup
from tallystick.exchange.files import STDIN
from tallystick.exchange.identify import expect
from tallystick.exchange.lending import Wish
from tallystick.exchange.loan_words import amounts_in_words, answer_hint
from tallystick.license.dates import span
from tallystick.license.messages import read_request
from tallystick.license.trust import Trust


@click.command(cls=Command)
@wish_options
@end_options
@click.option("--transfer", is_flag=True, help="For good instead of for a time.")
@click.option("--lender", metavar="TS-ID|FILE", help="The only container asked: a request of it, its thumbprint or id.")
@click.option("--count", metavar="N", type=click.IntRange(1, 1000), default=1, help="How many grants may answer.")
@choice_options
@trust_option("The vendor; may be left out once the container knows it.")
@direct_options("lends", "borrows")
@again_option
@dry_option
@yes_option
@container_option
@outlet_options
@json_option
def borrow(
    trust: Trust | None,
    transfer: bool,
    lender: str | None,
    count: int,
    from_: str | None,
    to: str | None,
    again: bool,
    dry: bool,
    yes: bool,
    uri: str,
    as_json: bool,
    **more: Any,
) -> None:
    """Ask another container for a loan, or with --transfer for good: makes a request to give to whoever runs it.

    They answer with `tally lend` or `tally transfer`; the grant is imported here with `tally import`, and its receipt
    goes back. A request is answered once. With --count it is a standing invitation: whoever has it may give so many
    times, unasked; with --transfer and without a product it is what `tally rehost` answers. With --lender, only that
    container can answer, and cancelling the request (`tally request --cancel`) gives it back what it may have given.

    With --from and --to the whole exchange runs at once, as `tally lend --from --to`.

    Examples:
      tally borrow --product cad --seats 1 --for 3d
      tally borrow --product cad --seats 5 --transfer --text
      tally borrow --product cad --count 10 --lender office.tallyreq
      tally borrow --product cad --seats 1 --for 3d --from file:server --to file:laptop

    JSON: {"schema": 1, "id", "vendor", "product", "amounts", "duration", "transfer", "count", "lender", "file",
           "text"}; `tally lend` has that of --from and of --dry-run
    """
    wish = read_wish(more, transfer=transfer, count=count)
    if is_direct(from_, to):
        direct_lend(from_ or "", to or "", wish, again=again, dry=dry, yes=yes, as_json=as_json)
        return
    if wish.whole or wish.license_ or again:
        raise error("usage", "`--whole`, `--license` and `--again` are the lender's to say", "Use them with `--from`.")
    where = Outlet(as_json=as_json, **more)
    if not dry:
        where.check()
    _ask(uri, wish, lender, trust, where, dry)


def _ask(uri: str, wish: Wish, lender: str | None, trust: Trust | None, where: Outlet, dry: bool) -> None:
    with open_container(uri) as container:
        if lender is not None:
            wish = wish.replace(lender=loan_lookup.identity_of(container, lender, read_input))
        if dry:
            message = lending.rehearse(container, lambda stage: lending.ask(stage, wish, trust))
        else:
            message = lending.ask(container, wish, trust)
    made = read_request(message)
    want = lending.wanted(message)
    members = {
        "vendor": made.vendor,
        "product": want.product,
        "amounts": dict(want.amounts),
        "duration": want.duration,
        "transfer": want.transfer,
        "count": want.count,
        "lender": None if want.lender is None else container_id(want.lender),
    }
    if dry:
        if where.as_json:
            put_json(dry_run=True, moves=[], sides=[], delivers=[], stays=[], **members)
        else:
            put(f"would ask for {_asked(wish, want.duration)}")
            say("Nothing was changed.")
        return
    name = made.request_id.hex()
    again = f"`tally pending {name[:8]} --output PATH` writes it."
    where.emit(message, again, id=name, **members)
    if where.output != STDIN:
        say(answer_hint(want))


def _asked(wish: Wish, duration: int | None) -> str:
    what = amounts_in_words(wish.amounts) if wish.amounts else "what the giver decides"
    of = f" of {wish.product}" if wish.product else ""
    if wish.transfer:
        return f"{what}{of}, for good"
    return f"{what}{of}, for {span(duration)}" if duration else f"{what}{of}, until the giver's end"


@click.command(cls=Command)
@click.argument("source", metavar="FILE|-|TEXT")
@container_option
@outlet_options
@json_option
def decline(source: str, uri: str, as_json: bool, **outlet: Any) -> None:
    """Refuse a grant that was not imported, for good: the receipt gives the giver back what it debited.

    What was imported is given back with `tally return`; a request not wanted any more, with `tally request --cancel`.

    Example:
      tally decline offer.tallygrant --output /media/stick

    JSON: {"schema": 1, "xid", "file", "text"}
    """
    data = read_input(source)
    expect(data, kinds.GRANT)
    where = Outlet(as_json=as_json, **outlet)
    with open_container(uri) as container:
        before = loan_lookup.touched(container, data)
        where.check(before[0].receipt if before else b"")
        receipt = container.lending.decline(data)
    name = loan_lookup.xids_of(data)[0].hex()
    where.emit(receipt, f"`tally pending {name[:8]} --output PATH` writes it.", xid=name)
    if where.output != STDIN:
        next_step(receipt)
