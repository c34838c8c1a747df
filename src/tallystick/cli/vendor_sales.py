# SPDX-License-Identifier: Apache-2.0
"""``tally vendor entitle`` and ``recode``: the only places that show an activation code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tallystick.cli.manual import Command
from tallystick.cli.options import confirm, json_option, yes_option
from tallystick.cli.screen import put, put_json, say
from tallystick.cli.vendor_desk import office_options, open_office

if TYPE_CHECKING:
    from tallystick.authority.entitlements import Entitled


@click.command(cls=Command)
@click.argument("template")
@click.option("--quantity", "-n", metavar="N", type=click.IntRange(min=1), default=1, help="How many activations.")
@click.option("--customer", metavar="TEXT", default="", help="Who bought it; for the vendor.")
@click.option("--licensee", metavar="TEXT", default="", help="Shown to the user; the customer if left out.")
@click.option(
    "--reference", metavar="TEXT", default="", help="The vendor's own reference, an order number for example."
)
@office_options
@json_option
def entitle(
    template: str,
    quantity: int,
    customer: str,
    licensee: str,
    reference: str,
    home: str | None,
    passphrase_file: str | None,
    as_json: bool,
) -> None:
    """Sell what a template says. Prints the activation code, which is stored nowhere and shown only now.

    Examples:
      tally vendor entitle cad-yearly --customer 'Example Ltd.' --reference PO-4711
      tally vendor entitle cad-yearly --quantity 20

    JSON: {"schema": 1, "code", "entitlement": {"id", "product", "template", "offer", "quantity", "taken", "customer",
           "licensee", "reference", "status", "reason", "created_at"}}
    """
    from tallystick.authority import entitlements

    with open_office(home, passphrase_file) as office:
        made = entitlements.entitle(
            office, template, quantity=quantity, customer=customer, licensee=licensee, reference=reference
        )
    _shown(made, as_json)


@click.command(cls=Command)
@click.argument("entitlement")
@yes_option
@office_options
@json_option
def recode(entitlement: str, yes: bool, home: str | None, passphrase_file: str | None, as_json: bool) -> None:
    """Replace the activation code of an entitlement, because it was lost or has leaked. Licenses issued stay.

    What was revoked gets no new code: that is final.

    Examples:
      tally vendor recode E-7K3QF-9XW4C

    JSON: as `tally vendor entitle`
    """
    from tallystick.authority import entitlements

    with open_office(home, passphrase_file) as office:
        before = entitlements.entitlement(office, entitlement)
        confirm(f"The activation code of {before.id} ({before.customer}) will be refused.", yes=yes, as_json=as_json)
        made = entitlements.recode(office, before.id)
    _shown(made, as_json)


def _shown(made: Entitled, as_json: bool) -> None:
    from tallystick.authority.plain import plain

    sold = made.entitlement
    if as_json:
        put_json(code=made.code.reveal(), entitlement=plain(sold))
        return
    put(made.code.reveal())
    say(f"{sold.id}: {sold.quantity} of {sold.template} for {sold.licensee or 'nobody named'}")
    say("The activation code above is not stored: send it to the customer now.")
