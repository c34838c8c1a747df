# SPDX-License-Identifier: Apache-2.0
"""``tally vendor product``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tallystick.cli.manual import CONTEXT, Command
from tallystick.cli.options import json_option
from tallystick.cli.render import put_table
from tallystick.cli.screen import put_json, say
from tallystick.cli.vendor_desk import Topic, office_options, open_office

if TYPE_CHECKING:
    from tallystick.authority.catalog import Product


@click.group(cls=Topic, context_settings=CONTEXT)
def product() -> None:
    """Products and their features."""


@product.command(cls=Command)
@click.argument("name")
@click.option("--title", metavar="TEXT", default="", help="Shown to users; the name if left out.")
@click.option("--feature", "-f", "features", metavar="NAME", multiple=True, help="A feature it has; may be repeated.")
@office_options
@json_option
def add(
    name: str, title: str, features: tuple[str, ...], home: str | None, passphrase_file: str | None, as_json: bool
) -> None:
    """Add a product. NAME is what the application checks out.

    Examples:
      tally vendor product add cad --title 'CAD Pro' --feature pdf --feature render

    JSON: {"schema": 1, "id", "title", "features", "created_at"}
    """
    from tallystick.authority.catalog import add_product

    with open_office(home, passphrase_file) as office:
        made = add_product(office, name, title=title, features=features)
    _shown(made, as_json)


@product.command(cls=Command)
@click.argument("name")
@click.argument("features", metavar="FEATURE...", nargs=-1, required=True)
@office_options
@json_option
def feature(name: str, features: tuple[str, ...], home: str | None, passphrase_file: str | None, as_json: bool) -> None:
    """Add features to a product. Licenses get them only by new templates, or by `tally vendor refresh --feature`.

    Examples:
      tally vendor product feature cad sim raytracing

    JSON: as `tally vendor product add`
    """
    from tallystick.authority.catalog import add_features

    with open_office(home, passphrase_file) as office:
        made = add_features(office, name, features)
    _shown(made, as_json)


@product.command("list", cls=Command)
@office_options
@json_option
def list_(home: str | None, passphrase_file: str | None, as_json: bool) -> None:
    """List the products.

    JSON: {"schema": 1, "products": [{"id", "title", "features", "created_at"}]}
    """
    from tallystick.authority.catalog import products
    from tallystick.authority.plain import plain

    with open_office(home, passphrase_file) as office:
        found = products(office)
    if as_json:
        put_json(products=plain(found))
    else:
        put_table(("product", "title", "features"), [(one.id, one.title, ", ".join(one.features)) for one in found])


def _shown(made: Product, as_json: bool) -> None:
    from tallystick.authority.plain import plain

    if as_json:
        put_json(**plain(made))
    else:
        say(f"{made.id}: {made.title}, features: {', '.join(made.features) or 'none'}")
