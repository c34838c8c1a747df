# SPDX-License-Identifier: Apache-2.0
"""``tally import``: what a vendor or another container sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from tallystick.cli.emit import Outlet
from tallystick.cli.manual import Command
from tallystick.cli.options import container_option, json_option, open_container, read_input, view_container
from tallystick.cli.screen import printable, put, put_json, say
from tallystick.codec import kinds
from tallystick.codec.kinds import Kind
from tallystick.container.base import Container, Outcome
from tallystick.container.lending_base import CANCELLED, Loan
from tallystick.container.mending import MENDABLE
from tallystick.errors import LockedError, TallystickError, error
from tallystick.exchange.activate import FROM_CONTAINERS, import_message, refused
from tallystick.exchange.forms import FILE, as_text, written_before
from tallystick.exchange.identify import SHARE_RECEIPT, identify
from tallystick.exchange.lending import is_divisible
from tallystick.exchange.loan_lookup import touched
from tallystick.exchange.loan_words import amounts_in_words, back_in_words, loan_in_words, loan_plain
from tallystick.license.dates import show

_ANSWERED = (kinds.GRANT, kinds.MOVE, kinds.RECALL)  # their receipt is what closes the exchange


@click.command("import", cls=Command)
@click.argument("source", metavar="FILE|-|TEXT")
@click.option(
    "--receipt",
    "--output",
    "-o",
    "receipt",
    metavar="PATH",
    help="File or folder for the receipt, which a vendor may ask for.",
)
@click.option("--text", is_flag=True, help="The receipt as armored text for e-mail and paste.")
@click.option("--qr", is_flag=True, help="The receipt as a QR code, drawn here, or a PNG file with --receipt.")
@click.option("--force", is_flag=True, help="Replace an existing receipt file.")
@container_option
@json_option
def import_(source: str, receipt: str | None, text: bool, qr: bool, force: bool, uri: str, as_json: bool) -> None:
    """Import what was sent: a vendor's update, or its refusal of a request; another container's grant, move or recall,
    or the receipt of a grant made here.

    FILE may be the file, a text that contains the block, or the text of a scanned QR code; `-` reads what is piped, or
    pasted at the terminal. The same file twice changes nothing. A refused request is taken and gives exit status 8.
    The receipt of a grant, move or recall is always written, by default into a file here: send it back to the container
    it came from. Imported again, the file gives the same receipt again.

    Examples:
      tally import answer.tallyupd
      tally import - < mail.txt
      tally import answer.tallyupd --receipt /media/stick
      tally import loan.tallygrant --text

    JSON: {"schema": 1, "message_id", "vendor", "repeated", "note", "changes": [{"id", "product", "change", "seq"}],
           "exchanges": [as `tally loans --json`], "receipt": path written or null, "text"}; change is installed,
           refreshed, suspended, resumed, revoked, unchanged, older or not held; of exchanges borrowed, received,
           extended, declined, accepted, returned or unchanged
    """
    data = read_input(source)
    kind = identify(data).kind
    where = Outlet(output=receipt, text=text, qr=qr, force=force)
    wanted = kind in _ANSWERED or receipt is not None or text or qr
    with _opened(uri, kind) as container:
        before = {loan.xid: loan for loan in touched(container, data)} if kind in FROM_CONTAINERS else {}
        if wanted and (receipt is not None or where.to_file):
            _check(where, next((loan.receipt for loan in before.values() if not loan.outgoing), b""))
        outcome = import_message(container, data)
        loans = touched(container, data) if kind in FROM_CONTAINERS else ()
        said = [
            _said(one, change.change, before.get(one.xid), is_divisible(container, one))
            for one, change in _pairs(loans, outcome)
        ]
    refusal = refused(outcome)
    if refusal is not None:
        raise refusal
    quiet = as_json or (wanted and not where.to_file)
    if not quiet:
        _tell(outcome, kind, said)
    written = _write(where, outcome, quiet=as_json) if wanted and outcome.receipt else None
    if as_json:
        _put_json(outcome, loans, written, as_text(outcome.receipt) if text and outcome.receipt else None)
        return
    if quiet:
        for line in said or [f"{change.product}: {change.change}" for change in outcome.changes]:
            say(line)
    _tell_next(outcome, kind, loans, written)


def _opened(uri: str, kind: Kind | None) -> Container:
    """Open the container; an issuer's answer may be what lets one that is locked go on."""
    try:
        return open_container(uri)
    except LockedError as reason:
        if kind not in (kinds.UPDATE, kinds.REFUSAL) or reason.code not in MENDABLE:
            raise
        return view_container(uri)


def _repeated(kind: Kind | None, loans: Sequence[Loan]) -> str:
    if kind in _ANSWERED and loans and all(loan.state == CANCELLED for loan in loans):
        return "This grant was declined here; nothing changed."
    return "This file had been imported before; nothing changed."


def _check(where: Outlet, known: bytes) -> None:
    try:
        where.check(known)
    except TallystickError as cause:
        raise error(cause.code, cause.message, "Choose another place with `--receipt PATH`.", **cause.details) from None


def _pairs(loans: Sequence[Loan], outcome: Outcome) -> list[tuple[Loan, Any]]:
    """Put each loan beside what happened to it; a receiver cannot list more than the message had."""
    return list(zip(loans, outcome.changes, strict=False))


def _said(loan: Loan, change: str, before: Loan | None, divisible: bool) -> str:
    if change in ("borrowed", "received"):
        return loan_in_words(loan, divisible=divisible)
    if change == "extended":
        what = "" if loan.ends is None else f"borrowed until {show(loan.ends)}"
    elif change == "accepted":
        what = f"{amounts_in_words(loan.amounts, divisible=divisible)} arrived at {loan.peer_id}"
    elif change == "returned" and loan.outgoing:
        earlier = {} if before is None else before.returned
        moved = {name: amount - earlier.get(name, 0) for name, amount in loan.returned.items()}
        what = back_in_words(loan, moved, divisible=divisible)
    elif change == "returned":
        what = f"given back to {loan.peer_id}"
    elif change == "declined":
        what = f"declined by {loan.peer_id}: all of it is back" if loan.outgoing else "declined: not asked for any more"
    else:
        what = change
    return f"{loan.product}: {what}" if loan.product else what


def _tell(outcome: Outcome, kind: Kind | None, said: Sequence[str]) -> None:
    if kind in FROM_CONTAINERS and outcome.repeated:
        return
    for line in said or [f"{change.product}: {change.change}" for change in outcome.changes]:
        put(printable(line))


def _tell_next(outcome: Outcome, kind: Kind | None, loans: Sequence[Loan], written: str | None) -> None:
    if outcome.repeated:
        say(_repeated(kind, loans))
    if outcome.note:
        say(f"{outcome.vendor} says: {outcome.note}")
    receiver = outcome.vendor
    if kind in _ANSWERED and loans:
        receiver = f"{loans[0].peer_id}, which is to import it"
    if written is not None:
        say(f"The receipt is in {written}; send it to {receiver}.")


def _write(where: Outlet, outcome: Outcome, *, quiet: bool) -> str | None:
    message = outcome.receipt
    if where.output is None and where.form == FILE and (written := written_before(message)):
        return written
    short = outcome.message_id.hex()[:8]
    command = f"tally pending {short}" if identify(message) is SHARE_RECEIPT else f"tally show --receipt {short}"
    again = f"`{command} --output PATH` writes it."
    if quiet and not where.to_file:
        return None
    try:
        return where.write(message)
    except TallystickError as cause:
        raise error(cause.code, f"the file was imported, but {cause.message}", again, **cause.details) from cause


def _put_json(outcome: Outcome, loans: Sequence[Loan], written: str | None, text: str | None) -> None:
    changes = [
        {"id": one.license_id.hex(), "product": one.product, "change": one.change, "seq": one.seq}
        for one in outcome.changes
    ]
    put_json(
        message_id=outcome.message_id.hex(),
        vendor=outcome.vendor,
        repeated=outcome.repeated,
        note=outcome.note,
        changes=changes,
        exchanges=[loan_plain(loan) for loan in loans],
        receipt=written,
        text=text,
    )
