# SPDX-License-Identifier: Apache-2.0
"""``tally vendor``: the issuing side on the command line. Commands are loaded when used, their extra when they run."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

import click

from tallystick.cli.manual import CONTEXT, in_shape
from tallystick.cli.vendor_desk import HOME_KEY, PASSPHRASE_KEY

# heading -> command -> (module:attribute, what it does)
COMMANDS: Final = {
    "Set up": {
        "init": ("vendor_setup:init", "Make a vendor, or upgrade its database."),
        "keys": ("vendor_keys:keys", "List and rotate signing keys."),
        "product": ("vendor_catalog:product", "Products and their features."),
        "template": ("vendor_templates:template", "What is sold: terms under a name."),
        "factory": ("vendor_factories:factory", "Whose device certificates are believed."),
        "tpm": ("vendor_tpm:tpm", "Whose TPMs are believed, and what they said of their containers."),
        "piv": ("vendor_piv:piv", "Whose YubiKeys are believed, and what they said of their containers."),
        "seal": ("vendor_content:seal", "Encrypt content for the licenses of a product."),
    },
    "Sell": {
        "entitle": ("vendor_sales:entitle", "Sell: make an entitlement and its activation code."),
        "recode": ("vendor_sales:recode", "Replace a lost or leaked activation code."),
        "issue": ("vendor_exchange:issue", "Answer a request with an update or a signed refusal."),
        "receive": ("vendor_exchange:receive", "Take a receipt or a repair request."),
    },
    "Change": {
        "refresh": ("vendor_changes:refresh", "Change the terms of what was sold."),
        "suspend": ("vendor_status:suspend", "Stop licenses until they are resumed."),
        "resume": ("vendor_status:resume", "Lift a suspension."),
        "revoke": ("vendor_status:revoke", "End licenses for good."),
        "release": ("vendor_status:release", "Take a license back without proof: its container was lost."),
    },
    "See": {
        "list": ("vendor_books:list_", "List entitlements, licenses, containers, requests or repair cases."),
        "show": ("vendor_books:show", "Show the vendor, or one record."),
        "settings": ("vendor_settings:settings", "Show or change the vendor's settings."),
        "audit": ("vendor_audit:audit", "Verify and read the audit log."),
    },
}
_INDEX: Final = {name: row for section in COMMANDS.values() for name, row in section.items()}


class VendorGroup(click.Group):
    """Finds commands in the table and imports a module only when its command is asked for."""

    def __init__(self, name: str | None = None, *, help: str | None = None, **attributes: Any) -> None:
        super().__init__(name, help=in_shape(help), **attributes)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands, in the order of the table."""
        return list(_INDEX)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a command."""
        if cmd_name not in _INDEX:
            return None
        module, _, attribute = _INDEX[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(f"tallystick.cli.{module}"), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands under their headings, without loading them."""
        for heading, rows in COMMANDS.items():
            with formatter.section(heading):
                formatter.write_dl([(name, summary) for name, (_, summary) in rows.items()])


@click.group(cls=VendorGroup, context_settings=CONTEXT, no_args_is_help=False, invoke_without_command=True)
@click.option("--home", metavar="DIR", help="The vendor's folder; may also stand behind the command.")
@click.option("--passphrase-file", metavar="FILE", help="Passphrase of encrypted key files, on its first line.")
@click.pass_context
def vendor(ctx: click.Context, home: str | None, passphrase_file: str | None) -> None:
    """The vendor's side: sell, issue, change, take back. Needs the extra `vendor`.

    From nothing to a license, and back:
      tally vendor init acme > acme.trust                         applications pin this line
      tally vendor product add cad --feature pdf
      tally vendor template add cad-yearly --product cad --valid-for 365d --feature pdf
      tally vendor entitle cad-yearly --customer 'Example Ltd.'   prints the activation code, once
      tally vendor issue request.tallyreq                         makes the update to send back
      tally vendor receive receipt.tallyrct                       frees the slot of a license given up

    Everything is kept in one folder: database, keys, and the pepper without which codes cannot be checked. Back it up,
    and keep the root key elsewhere: it is needed only to rotate keys. All instants are UTC.
    """
    ctx.meta[HOME_KEY] = home
    ctx.meta[PASSPHRASE_KEY] = passphrase_file
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
