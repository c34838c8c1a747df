# SPDX-License-Identifier: Apache-2.0
"""``tally vendor audit``."""

from __future__ import annotations

import json

import click

from tallystick.cli.manual import CONTEXT, Command
from tallystick.cli.options import json_option
from tallystick.cli.render import put_table
from tallystick.cli.screen import put, put_json, say
from tallystick.cli.vendor_desk import Topic, office_options, open_office
from tallystick.license.dates import show


@click.group(cls=Topic, context_settings=CONTEXT)
def audit() -> None:
    """Verify and read the audit log."""


@audit.command(cls=Command)
@click.option("--head", metavar="NUMBER:HASH", help="What an earlier run printed: nothing before it may have changed.")
@office_options
@json_option
def verify(head: str | None, home: str | None, passphrase_file: str | None, as_json: bool) -> None:
    """Check every row of the audit log; names the first that was changed, inserted or removed.

    Prints the log's head. Note it somewhere else: given back with --head, it proves that nobody rewrote the log as a
    whole. A broken log gives exit status 8.

    Examples:
      tally vendor audit verify
      tally vendor audit verify --head 57:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08

    JSON: {"schema": 1, "rows", "head"}
    """
    from tallystick.authority import audit as log

    noted = None if head is None else log.AuditHead.from_text(head)
    with open_office(home, passphrase_file) as office:
        found = office.read(lambda work: log.verify(work.db, noted))
    if as_json:
        put_json(rows=found.count, head=found.to_text())
    else:
        put(found.to_text())
        say(f"The audit log is whole: {found.count} rows.")


@audit.command("list", cls=Command)
@click.option("--subject", metavar="ID", default="", help="Only rows about this record.")
@click.option("--limit", metavar="N", type=click.IntRange(1, 100_000), default=100, help="How many rows, the newest.")
@office_options
@json_option
def list_(subject: str, limit: int, home: str | None, passphrase_file: str | None, as_json: bool) -> None:
    """List the newest rows, oldest first.

    JSON: {"schema": 1, "rows": [{"seq", "at", "actor", "action", "subject", "payload", "hash"}]}
    """
    from tallystick.authority import audit as log
    from tallystick.authority.plain import plain

    with open_office(home, passphrase_file) as office:
        found = office.read(lambda work: log.rows(work.db, subject, limit))
    if as_json:
        put_json(rows=[{**plain(row), "payload": json.loads(row.payload)} for row in found])
    else:
        rows = [(row.seq, show(row.at), row.actor, row.action, row.subject, row.payload) for row in found]
        put_table(("row", "at", "who", "action", "subject", "details"), rows)
