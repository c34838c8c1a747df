# SPDX-License-Identifier: Apache-2.0
"""``tally seats``: how many seats there are on this computer, and who has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from tallystick.cli.look import say_locked
from tallystick.cli.manual import Command
from tallystick.cli.options import complete_licenses, container_option, json_option, view_container
from tallystick.cli.render import put_table
from tallystick.cli.screen import put_json, say
from tallystick.container.availability import seats_available
from tallystick.container.base import LicenseView
from tallystick.container.slots_listing import seats_taken
from tallystick.container.slots_record import MODES, SeatHolder
from tallystick.license.dates import show
from tallystick.license.model import License
from tallystick.record import Record

_SCOPE = "Seats are counted among the programs of this container's user on this computer; no other user can open it."


class _Row(Record):
    """A license and its seats; None for any number."""

    license_: License
    total: int | None
    available: int | None
    holders: tuple[SeatHolder, ...]


@click.command(cls=Command)
@click.option("--product", "-p", metavar="NAME", help="Only this product.", shell_complete=complete_licenses)
@container_option
@json_option
def seats(product: str | None, uri: str, as_json: bool) -> None:
    """List the seats of each license on this computer, how many are taken, and the programs that hold them.

    Seats are counted among the programs of the user whose container it is; a program that is killed frees its seat at
    once. AVAILABLE is what is not lent or given away, TAKEN what is in use of it now.

    Examples:
      tally seats
      tally seats --product render --json

    JSON: {"schema": 1, "container": "TS-...", "licenses": [{"id", "vendor", "product", "denied_modes", "linger",
           "seats": {"total", "available", "taken"}, "holders": [{"mode", "pid", "user", "program", "since", "state",
           "until"}]}]}; total and available are null where seats are not limited; mode is user-limit, station-share,
           exclusive or no-limit; state is running, lingering (ended, its seat is kept until "until") or waiting
    """
    with view_container(uri) as container:
        found = container.info()
        rows = _rows([one for one in container.licenses() if product in (None, one.product)], found.now,
                     container.holders(product))  # fmt: skip
    if as_json:
        put_json(container=found.container_id, licenses=[_json(row) for row in rows])
    elif rows:
        _show(rows)
    else:
        say(f"{found.container_id} holds no license{f' for {product}' if product else ''}.")
    say_locked(found)


def _rows(views: Sequence[LicenseView], now: int, holders: Sequence[SeatHolder]) -> list[_Row]:
    """Add up the parts of each license."""
    rows: dict[bytes, _Row] = {}
    for view in views:
        license_ = view.license_
        if license_ is None:  # locked: only its name can be read
            continue
        key = license_.license_id
        here = seats_available(license_, view, now)
        row = rows.get(key)
        if row is None:
            held = tuple(one for one in holders if one.license_id == key)
            rows[key] = _Row(license_, license_.terms.seats, here, held)
        else:
            rows[key] = row.replace(total=_sum(row.total, license_.terms.seats), available=_sum(row.available, here))
    return list(rows.values())


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other


def _json(row: _Row) -> dict[str, Any]:
    terms = row.license_.terms
    return {
        "id": row.license_.license_id.hex(),
        "vendor": row.license_.vendor,
        "product": row.license_.product,
        "denied_modes": [name for name, number in MODES.items() if number in terms.denied_modes],
        "linger": terms.linger,
        "seats": {"total": row.total, "available": row.available, "taken": seats_taken(row.holders)},
        "holders": [
            {name: value for name, value in one.plain().items() if name not in ("license_id", "vendor", "product")}
            for one in row.holders
        ],
    }


def _show(rows: Sequence[_Row]) -> None:
    put_table(
        ("product", "vendor", "license", "seats", "available", "taken"),
        [
            (
                row.license_.product,
                row.license_.vendor,
                row.license_.license_id.hex()[:8],
                "any number" if row.total is None else row.total,
                "any number" if row.available is None else row.available,
                seats_taken(row.holders),
            )
            for row in rows
        ],
    )
    holders = [one for row in rows for one in row.holders]
    if holders:
        say("")
        put_table(
            ("product", "mode", "program", "pid", "user", "since", "state"), [_holder_row(one) for one in holders]
        )
    say(_SCOPE)


def _holder_row(one: SeatHolder) -> tuple[object, ...]:
    state = one.state if one.until is None else f"{one.state} until {show(one.until)}"
    since = show(one.since) if one.since else ""
    return (one.product, one.mode, one.program or "?", one.pid or "?", one.user or "?", since, state)
