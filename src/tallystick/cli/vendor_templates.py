# SPDX-License-Identifier: Apache-2.0
"""``tally vendor template``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tallystick.cli.manual import CONTEXT, Command
from tallystick.cli.options import json_option
from tallystick.cli.render import put_pairs, put_table
from tallystick.cli.screen import put_json, say
from tallystick.cli.vendor_desk import Topic, office_options, open_office
from tallystick.cli.vendor_terms import offer_lines, read_terms, terms_options

if TYPE_CHECKING:
    from tallystick.authority.catalog import Template


@click.group(cls=Topic, context_settings=CONTEXT)
def template() -> None:
    """What is sold: terms under a name."""


@template.command(cls=Command)
@click.argument("name")
@click.option("--product", metavar="NAME", required=True, help="The product.")
@terms_options
@office_options
@json_option
def add(name: str, product: str, home: str | None, passphrase_file: str | None, as_json: bool, **typed: Any) -> None:
    """Add a template. Without terms it sells a perpetual license without limit.

    Spans are written 90s, 15m, 12h, 30d, 2w, 1y; dates 2027-01-31 or 2027-01-31T18:00+01:00. A feature may have terms
    of its own: not-before, expires, valid-for, usage-period, maintenance-from, maintenance-to, maintenance-for,
    max-version, units, overage. What was sold keeps its terms, so a template is never changed: add a new one.

    Examples:
      tally vendor template add cad-yearly --product cad --valid-for 365d --feature pdf
      tally vendor template add cad-trial --product cad --usage-period 30d --feature pdf --feature 'sim:units=100'
      tally vendor template add cad-site --product cad --seats 20 --lend 'max-duration=30d,return,recall'

    JSON: {"schema": 1, "name", "product", "created_at", "offer": {"terms", "features", "spans", "data"}}; spans start
          when a license is issued, by feature name, "" for the license itself; terms left out do not apply
    """
    from tallystick.authority import catalog
    from tallystick.authority.offer_text import offer

    values, spans = read_terms(typed)
    with open_office(home, passphrase_file) as office:
        made = catalog.add_template(office, name, product, offer(values, spans, typed["features"], typed["data"]))
    if as_json:
        _shown(made, as_json=True)
    else:
        say(f"{made.name} sells {made.product}: " + "; ".join(f"{one} {what}" for one, what in offer_lines(made.offer)))


@template.command("list", cls=Command)
@office_options
@json_option
def list_(home: str | None, passphrase_file: str | None, as_json: bool) -> None:
    """List the templates.

    JSON: {"schema": 1, "templates": [as `tally vendor template add`]}
    """
    from tallystick.authority.catalog import templates
    from tallystick.authority.plain import plain

    with open_office(home, passphrase_file) as office:
        found = templates(office)
    if as_json:
        put_json(templates=plain(found))
        return
    rows = [(one.name, one.product, "; ".join(f"{a} {b}" for a, b in offer_lines(one.offer))) for one in found]
    put_table(("template", "product", "terms"), rows)


@template.command(cls=Command)
@click.argument("name")
@office_options
@json_option
def show(name: str, home: str | None, passphrase_file: str | None, as_json: bool) -> None:
    """Show a template.

    JSON: as `tally vendor template add`
    """
    from tallystick.authority import catalog

    with open_office(home, passphrase_file) as office:
        found = catalog.template(office, name)
    _shown(found, as_json=as_json)


def _shown(found: Template, *, as_json: bool) -> None:
    from tallystick.authority.plain import plain

    if as_json:
        put_json(**plain(found))
    else:
        put_pairs([("template", found.name), ("product", found.product), *offer_lines(found.offer)])
