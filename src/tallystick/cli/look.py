# SPDX-License-Identifier: Apache-2.0
"""``tally info``, ``tally list``, ``tally history``: looking at a container. All of them work on a locked one, too."""

from __future__ import annotations

import click

from tallystick.cli.manual import Command
from tallystick.cli.options import container_option, json_option, view_container
from tallystick.cli.render import put_pairs, put_table
from tallystick.cli.screen import put_json, say
from tallystick.cli.views import elsewhere, info_lines, info_plain, license_json, license_row
from tallystick.container.base import ContainerInfo
from tallystick.container.lending_base import REQUESTED
from tallystick.errors import CODES
from tallystick.exchange.loan_words import is_due
from tallystick.license.dates import show


@click.command(cls=Command)
@container_option
@json_option
def info(uri: str, as_json: bool) -> None:
    """Say what a container is, what it can promise, and whether it opens here.

    Works on a locked container, too: it is named, and says why it is locked and what to do.

    Examples:
      tally info
      tally info --container file:/srv/render --json

    JSON: {"schema": 1, "uri", "backend", "id", "thumbprint", "capabilities", "created_at", "generation",
           "licenses", "open_requests", "vendors", "location", "clock": {"status", "now", "wall"},
           "locked": null | {"code", "message"}, "details", "exchanges": {"given", "taken", "due"}}
    """
    with view_container(uri) as container:
        found = container.info()
        loans = container.lending.loans() if found.locked is None else ()
    given = [loan for loan in loans if loan.outgoing and loan.open]
    taken = [loan for loan in loans if not loan.outgoing and loan.open and loan.state != REQUESTED]
    due = [loan for loan in loans if is_due(loan)]
    if as_json:
        counts = {"given": len(given), "taken": len(taken), "due": len(due)}
        put_json(**info_plain(found), exchanges=counts)
    else:
        to_do = f"{len(due)} open: `tally pending` lists what is next" if due else ""
        put_pairs([*info_lines(found), *_exchanged(len(given), len(taken)), ("to do", to_do)])
    say_locked(found)


def _exchanged(given: int, taken: int) -> list[tuple[str, object]]:
    lines = [("lent or given", given), ("borrowed or got", taken)]
    return [(name, count) for name, count in lines if count]


@click.command("list", cls=Command)
@container_option
@click.option("--vendor", metavar="NAME", help="Only licenses of this vendor.")
@json_option
def list_(uri: str, vendor: str | None, as_json: bool) -> None:
    """List the licenses held, with what each permits now.

    Examples:
      tally list
      tally list --json | jq -r '.licenses[] | select(.verdict.ok) | .product'

    JSON: {"schema": 1, "container": "TS-...", "licenses": [{"id", "vendor", "product", "installed_at",
           "license": {... as signed ...}, "exchange", "borrowed_until", "books": [{"counter", "total", "here", "used",
           "lent", "in_transit", "given", "returned", ...}], "usage": {"used", "first_use", "contact"},
           "verdict": {"ok", "code", "message", "remedy", "valid_until", "available",
                       "warnings": [{"code", "message"}]}}]}
    """
    with view_container(uri) as container:
        found, views = container.info(), container.licenses(vendor)
    if as_json:
        put_json(container=found.container_id, licenses=[license_json(view) for view in views])
    elif views:
        headings = ["product", "vendor", "state", "ends", "left", "license"]
        rows = [list(license_row(view)) for view in views]
        out = [elsewhere(view) for view in views]
        if any(out):
            headings.append("lent and borrowed")
            rows = [[*row, text] for row, text in zip(rows, out, strict=True)]
        put_table(headings, rows)
    else:
        say(f"{found.container_id} holds no licenses. Activate one: `tally request`.")
    say_locked(found)


@click.command(cls=Command)
@container_option
@json_option
def history(uri: str, as_json: bool) -> None:
    """List what happened to a container, oldest first: the last 256 events.

    Example:
      tally history

    JSON: {"schema": 1, "container": "TS-...", "events": [{"at", "kind", "subject", "text"}]}
    """
    with view_container(uri) as container:
        found, events = container.info(), container.history()
    if as_json:
        rows = [{"at": one.at, "kind": one.kind, "subject": one.subject.hex(), "text": one.text} for one in events]
        put_json(container=found.container_id, events=rows)
    elif events:
        put_table(("when", "what", "details"), [(show(one.at), one.kind, one.text) for one in events])
    say_locked(found)


def say_locked(info: ContainerInfo) -> None:
    """Warn that a container is locked, and how to go on.

    Args:
        info: of the container.
    """
    if info.locked is not None:
        code, message = info.locked
        say(f"warning: the container is locked: {message}")
        say(f"remedy: {CODES[code].remedy}")
