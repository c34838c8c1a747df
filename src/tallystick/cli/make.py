# SPDX-License-Identifier: Apache-2.0
"""``tally create`` and ``tally deactivate``: the beginning of a container, the end of a license."""

from __future__ import annotations

from typing import Any

import click

import tallystick
from tallystick import registry
from tallystick.cli.emit import Outlet, next_step, outlet_options
from tallystick.cli.manual import Command
from tallystick.cli.options import (
    asking,
    behind,
    complete_licenses,
    confirm,
    container_option,
    json_option,
    named_behind,
    open_container,
    trust_option,
    unnamed,
    yes_option,
)
from tallystick.cli.render import put_pairs
from tallystick.cli.screen import put_json, say
from tallystick.cli.views import info_lines, info_plain, license_row
from tallystick.container.base import LicenseView
from tallystick.errors import error
from tallystick.exchange.activate import record_trust
from tallystick.exchange.files import STDIN
from tallystick.exchange.lookup import find_license, given_up
from tallystick.license.dates import number_of
from tallystick.license.trust import Trust


@click.command(cls=Command)
@click.argument("where", metavar="[URI]", required=False)
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
def create(where: str | None, tolerance: str, trust: Trust | None, uri: str, as_json: bool) -> None:
    """Make a license container, bound to this computer; URI stands for --container URI.

    It holds two key pairs of its own, which never leave it. Make it once; licenses of any number of vendors go into it.
    In an OS container, where nothing identifies the computer, add an identity of your own to the URI. --tolerance is
    for containers that know the computer by its traits (file:); a container in a TPM knows its TPM, one on a token its
    token. A token's PIN is asked for; `tally tokens` lists tokens with their URIs.

    Examples:
      tally create
      tally create file:/srv/render --tolerance loose --trust acme.trust
      tally create tpm:
      tally create pkcs11:token=LABEL
      tally create sim:demo.img
      tally create --container 'file:/data/licenses?identity-file=/run/secrets/identity'

    JSON: as `tally info --json`
    """
    uri = behind(where, uri)
    if named_behind("tolerance") and not hasattr(registry.backend(uri), "explain"):
        message = f"--tolerance means nothing to {uri.partition(':')[0]}: containers: no traits of a computer bind them"
        raise error("usage", message, "Leave it out.")
    made = asking(uri).during(lambda ask: tallystick.create(uri, tolerance=tolerance, secrets=ask))
    with made as container:
        if trust is not None:
            record_trust(container, trust)
        found = container.info()
    if as_json:
        put_json(**info_plain(found))
    else:
        put_pairs(info_lines(found))
        named = f"--container '{uri}' " if uri != unnamed() else ""
        named += "" if trust is not None else "--trust FILE "
        say(f"Next: `tally request {named}--code CODE`, with what your vendor gave you.")


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
    has = [state, f"ends {until}" if until else "", number_of(int(left), "unit") + " left" if left else ""]
    told = ", ".join(part for part in has if part)
    return f"This gives up {view.product} of {view.vendor} here, for good: license {short} ({told})."
