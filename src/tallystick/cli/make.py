# SPDX-License-Identifier: Apache-2.0
"""``tally create``, ``tally import``, ``tally deactivate``: what changes a container, but for requests."""

from __future__ import annotations

from typing import Any

import click

import tallystick
from tallystick.cli.emit import Outlet, next_step, outlet_options
from tallystick.cli.manual import Command
from tallystick.cli.options import (
    complete_licenses,
    confirm,
    container_option,
    json_option,
    open_container,
    read_input,
    trust_option,
    yes_option,
)
from tallystick.cli.render import put_pairs
from tallystick.cli.screen import printable, put, put_json, say
from tallystick.cli.views import info_lines, info_plain, license_row
from tallystick.container.base import LicenseView, Outcome
from tallystick.errors import TallystickError, error
from tallystick.exchange.activate import import_message, record_trust, refused
from tallystick.exchange.files import STDIN, check_target
from tallystick.exchange.forms import write_message
from tallystick.exchange.lookup import find_license, given_up
from tallystick.license.trust import Trust


@click.command(cls=Command)
@click.option(
    "--tolerance",
    type=click.Choice(["loose", "medium", "strict"]),
    default="medium",
    show_default=True,
    help="How much of the computer may change before the container locks.",
)
@trust_option("A vendor to record, so that later requests need not name it.")
@container_option
@json_option
def create(tolerance: str, trust: Trust | None, uri: str, as_json: bool) -> None:
    """Make a license container, bound to this computer.

    It holds two key pairs of its own, which never leave it. Make it once; licenses of any number of vendors go into it.
    In an OS container, where nothing identifies the computer, add an identity of your own to the URI.

    Examples:
      tally create
      tally create --container file:/srv/render --tolerance loose --trust acme.trust
      tally create --container 'file:/data/licenses?identity-file=/run/secrets/identity'

    JSON: as `tally info --json`
    """
    with tallystick.create(uri, tolerance=tolerance) as container:
        if trust is not None:
            record_trust(container, trust)
        found = container.info()
    if as_json:
        put_json(**info_plain(found))
    else:
        put_pairs(info_lines(found))
        say("Next: `tally request --trust FILE --code CODE`, with what your vendor gave you.")


@click.command("import", cls=Command)
@click.argument("source", metavar="FILE|-|TEXT")
@click.option("--receipt", metavar="PATH", help="Also write the receipt the vendor may ask for.")
@click.option("--force", is_flag=True, help="Replace an existing receipt file.")
@container_option
@json_option
def import_(source: str, receipt: str | None, force: bool, uri: str, as_json: bool) -> None:
    """Import what a vendor sent: an update, or its refusal of a request.

    FILE may be the file, a text that contains the block, or the text of a scanned QR code; `-` reads what is piped, or
    pasted at the terminal. The same file twice changes nothing. A refused request is taken and gives exit status 8.

    Examples:
      tally import answer.tallyupd
      tally import - < mail.txt
      tally import answer.tallyupd --receipt /media/stick

    JSON: {"schema": 1, "message_id", "vendor", "repeated", "note", "changes": [{"id", "product", "change", "seq"}],
           "receipt": path written or null}; change is installed, refreshed, suspended, resumed, revoked, unchanged,
           older or not held
    """
    data = read_input(source)
    if receipt is not None:
        check_target(receipt, force=force)
    with open_container(uri) as container:
        outcome = import_message(container, data)
    refusal = refused(outcome)
    if refusal is not None:
        raise refusal
    written = _write_receipt(outcome, receipt, force)
    if as_json:
        _put_outcome(outcome, written)
        return
    for change in outcome.changes:
        put(f"{printable(change.product)}: {change.change}")
    if outcome.repeated:
        say("This file had been imported before; nothing changed.")
    if outcome.note:
        say(f"{outcome.vendor} says: {outcome.note}")
    if written is not None:
        say(f"The receipt is in {written}; send it to {outcome.vendor}.")


def _write_receipt(outcome: Outcome, path: str | None, force: bool) -> str | None:
    if path is None or not outcome.receipt:
        return None
    try:
        return write_message(outcome.receipt, path, force=force)
    except TallystickError as cause:
        again = f"`tally show --receipt {outcome.message_id.hex()[:8]} --output PATH` writes it."
        raise error(cause.code, f"the file was imported, but {cause.message}", again, **cause.details) from cause


def _put_outcome(outcome: Outcome, written: str | None) -> None:
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
        receipt=written,
    )


@click.command(cls=Command)
@click.argument("license_", metavar="LICENSE|PRODUCT", shell_complete=complete_licenses)
@yes_option
@container_option
@outlet_options
@json_option
def deactivate(license_: str, yes: bool, uri: str, as_json: bool, **outlet: Any) -> None:
    """Give a license up for good, and get the receipt that proves it to the vendor.

    The license cannot be used here any more; the vendor, given the receipt, frees its slot for another computer. Again:
    the same receipt. Named by its id instead of its product, a license given up earlier gives its receipt, too.

    Examples:
      tally deactivate render --output /media/stick
      tally deactivate 5e6f7a8b --yes --text

    JSON: {"schema": 1, "id", "product", "vendor", "file", "text"}
    """
    where = Outlet(as_json=as_json, **outlet)
    where.check()
    with open_container(uri) as container:
        license_id = given_up(container, license_)
        members: dict[str, Any] = {}
        if license_id is None:
            view = find_license(container, license_)
            confirm(_loss(view), yes=yes, as_json=as_json)
            license_id = view.license_id
            members = {"product": view.product, "vendor": view.vendor}
        receipt = container.deactivate(license_id)
        again = f"`tally show --receipt {license_id.hex()[:8]} --output PATH` writes it."
    where.emit(receipt, again, id=license_id.hex(), **members)
    if where.output != STDIN:
        next_step(receipt)


def _loss(view: LicenseView) -> str:
    _, _, state, until, left, short = license_row(view)
    has = [state, f"ends {until}" if until else "", f"{left} units left" if left else ""]
    told = ", ".join(part for part in has if part)
    return f"This gives up {view.product} of {view.vendor} here, for good: license {short} ({told})."
