# SPDX-License-Identifier: Apache-2.0
"""``tally show``: one license, the requests, the receipts; and messages handed out again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from tallystick.cli.emit import Outlet, next_step, outlet_options
from tallystick.cli.look import say_locked
from tallystick.cli.manual import Command
from tallystick.cli.options import complete_licenses, container_option, json_option, view_container
from tallystick.cli.render import put_pairs, put_table
from tallystick.cli.screen import put_json, say
from tallystick.cli.views import license_json, license_lines, request_json, request_row
from tallystick.codec import cose
from tallystick.container.base import Container
from tallystick.errors import error
from tallystick.exchange.lookup import find_license, find_receipt, find_request
from tallystick.license.dates import show as show_instant
from tallystick.license.receipts import PURPOSE_NAMES, Receipt


@click.command(cls=Command)
@click.argument("license_", metavar="[LICENSE|PRODUCT]", required=False, shell_complete=complete_licenses)
@click.option("--requests", is_flag=True, help="List the requests made, open and closed.")
@click.option("--receipts", is_flag=True, help="List the receipts made.")
@click.option("--request", "request_id", metavar="ID", help="Hand a request out again.")
@click.option("--receipt", "receipt_id", metavar="ID", help="Hand a receipt out again, by update or license.")
@container_option
@outlet_options
@json_option
def show(
    license_: str | None,
    requests: bool,
    receipts: bool,
    request_id: str | None,
    receipt_id: str | None,
    uri: str,
    as_json: bool,
    **outlet: Any,
) -> None:
    """Show one license in full, or the requests and receipts of the container.

    A license is named by its product or by its id, or the first digits of the id. Requests and receipts are kept, so a
    lost file is no loss: `--request ID` and `--receipt ID` write the very same message again.

    Examples:
      tally show render
      tally show --requests
      tally show --request 1a2b3c4d --output /media/stick
      tally show --receipt 5e6f7a8b --text

    JSON, a license: {"schema": 1, "container": "TS-...", "license": {... as one of `tally list --json` ...}}
    JSON, --requests: {"schema": 1, "requests": [{"id", "vendor", "product", "action", "created_at", "status",
                       "answer", "reason"}]}; status is open, answered, refused or cancelled
    JSON, --receipts: {"schema": 1, "receipts": [{"id", "about", "vendor", "purpose", "created_at", "licenses"}]}
    JSON, --request and --receipt: {"schema": 1, "id", "file", "text"}
    """
    if sum(map(bool, (license_, requests, receipts, request_id, receipt_id))) != 1:
        remedy = "For example `tally show PRODUCT`, `tally show --requests`, `tally show --receipt ID`."
        raise error("usage", "name one thing to show", remedy)
    with view_container(uri) as container:
        if requests:
            _requests(container, as_json)
        elif receipts:
            _receipts(container, as_json)
        elif request_id or receipt_id:
            _hand_out(container, request_id, receipt_id, Outlet(as_json=as_json, **outlet))
        else:
            _license(container, license_ or "", as_json)
        say_locked(container.info())


def _license(container: Container, selector: str, as_json: bool) -> None:
    view = find_license(container, selector)
    if as_json:
        put_json(container=container.info().container_id, license=license_json(view))
    else:
        put_pairs(license_lines(view))


def _requests(container: Container, as_json: bool) -> None:
    found = container.requests()
    if as_json:
        put_json(requests=[request_json(one) for one in found])
    elif found:
        put_table(("request", "vendor", "product", "asks to", "made", "state"), [request_row(one) for one in found])
    else:
        say("No requests were made here yet: `tally request`.")


def _receipts(container: Container, as_json: bool) -> None:
    found = [_receipt(about, message) for about, message in container.receipts().items()]
    if as_json:
        put_json(receipts=found)
    elif found:
        rows = [
            (one["about"][:8], one["vendor"], one["purpose"], show_instant(one["created_at"]), len(one["licenses"]))
            for one in found
        ]
        put_table(("about", "vendor", "confirms", "made", "licenses"), rows)
    else:
        say("No receipts were made here yet.")


def _receipt(about: bytes, message: bytes) -> Mapping[str, Any]:
    receipt = Receipt.from_claims(cose.peek(message)[1])  # the container's own, from its sealed state
    return {
        "id": receipt.message_id.hex(),
        "about": about.hex(),
        "vendor": receipt.vendor,
        "purpose": PURPOSE_NAMES[receipt.purpose],
        "created_at": receipt.created_at,
        "licenses": [account.license_id.hex() for account in receipt.accounts],
    }


def _hand_out(container: Container, request_id: str | None, receipt_id: str | None, where: Outlet) -> None:
    if request_id:
        pending = find_request(container, request_id)
        message, name = pending.message, pending.request_id.hex()
    else:
        message = find_receipt(container, receipt_id or "")
        name = Receipt.from_claims(cose.peek(message)[1]).message_id.hex()
    where.check(message)
    where.emit(message, id=name)
    next_step(message)
