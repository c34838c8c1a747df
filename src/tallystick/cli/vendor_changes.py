# SPDX-License-Identifier: Apache-2.0
"""``tally vendor refresh``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tallystick.cli.emit import Outlet, outlet_options
from tallystick.cli.manual import Command
from tallystick.cli.options import json_option
from tallystick.cli.vendor_desk import hand_out, office_options, open_office
from tallystick.cli.vendor_terms import read_terms, terms_options
from tallystick.errors import error

if TYPE_CHECKING:
    from tallystick.authority.changes import Change

_PERPETUAL = ("not_before", "expires", "usage_period")


@click.command(cls=Command)
@click.argument("target", metavar="ENTITLEMENT|LICENSE")
@click.option("--extend", metavar="SPAN", help="Move every expiration by this long.")
@click.option("--perpetual", is_flag=True, help="Take start, expiration and usage period away.")
@click.option("--add-units", "added", metavar="[FEATURE=]N", multiple=True, help="Add units to a counter.")
@click.option("--add-quantity", metavar="N", type=click.IntRange(min=0), default=0, help="Add activations.")
@click.option("--drop-feature", "drop", metavar="NAME", multiple=True, help="Take a feature away.")
@terms_options
@outlet_options
@office_options
@json_option
def refresh(
    target: str, add_quantity: int, home: str | None, passphrase_file: str | None, as_json: bool, **typed: Any
) -> None:
    """Change the terms of what was sold, and make one update for each container that has a license of it.

    No request is needed and nothing is charged. Terms given replace the old ones; a feature given is added, or replaced
    with its terms. Given an entitlement, the change counts for all its licenses and for those to come; given a license,
    for that one. Without any change, the updates of the present terms are made again.

    Examples:
      tally vendor refresh E-7K3QF-9XW4C --feature sim
      tally vendor refresh E-7K3QF-9XW4C --extend 365d --add-units render=500
      tally vendor refresh 5e6f7a8b --seats 10 --output /media/stick

    JSON: {"schema": 1, "target", "updates": [as `tally vendor issue`, without the bytes], "file", "text"}; with several
          containers "files" instead of "file" and "text"
    """
    from tallystick.authority import refreshing

    outlet = {name: typed.pop(name) for name in ("output", "text", "qr", "force")}
    where = Outlet(as_json=as_json, **outlet)
    where.check()
    change = _change(typed)
    with open_office(home, passphrase_file) as office:
        done = refreshing.refresh(office, target, change, add_quantity=add_quantity)
    hand_out(where, done.updates, target=done.target, updates=[sent_members(one) for one in done.updates])


def sent_members(sent: Any) -> dict[str, Any]:
    """Return what JSON says of a message sent.

    Args:
        sent: an `authority.outbox.Sent`.
    """
    from tallystick.authority.plain import plain

    members: dict[str, Any] = plain(sent)
    members["summary"] = members.pop("text")
    del members["message"]
    return members


def _change(typed: dict[str, Any]) -> Change:
    from tallystick.authority import offer_text
    from tallystick.authority.changes import Change

    terms, spans = read_terms(typed)
    if spans.valid_for is not None or spans.maintenance_for is not None:
        remedy = "Use `--extend SPAN`, or a date: `--expires DATE`, `--maintenance-to DATE`."
        raise error("usage", "what was sold has no moment of issue any more to count a span from", remedy)
    if typed["perpetual"]:
        terms |= dict.fromkeys(_PERPETUAL)
    features, their_spans = offer_text.features(typed["features"])
    return Change(
        terms=terms,
        extend=offer_text.span(typed["extend"]) if typed["extend"] else 0,
        add_units=offer_text.counters(typed["added"]),
        features=features,
        spans=their_spans,
        drop=tuple(typed["drop"]),
        data=offer_text.data(typed["data"]),
    )
