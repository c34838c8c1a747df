# SPDX-License-Identifier: Apache-2.0
"""``tally vendor settings``."""

from __future__ import annotations

import click

from tallystick.cli.manual import Command
from tallystick.cli.options import confirm, json_option, yes_option
from tallystick.cli.render import put_table
from tallystick.cli.screen import put_json, say
from tallystick.cli.vendor_desk import office_options, open_office


@click.command(cls=Command)
@click.argument("name", required=False)
@click.argument("value", required=False)
@yes_option
@office_options
@json_option
def settings(
    name: str | None, value: str | None, yes: bool, home: str | None, passphrase_file: str | None, as_json: bool
) -> None:
    """Show the vendor's settings, show one, or change it. They are kept in the database and count for everybody.

    Without keep_ek_certificates, the certificates of TPMs kept so far are deleted; without keep_serials, the serial
    numbers of tokens.

    Examples:
      tally vendor settings
      tally vendor settings keep_ek_certificates yes

    JSON: {"schema": 1, "settings": [{"name", "value", "default", "meaning"}]}
    """
    from tallystick.authority import settings as books
    from tallystick.authority.plain import plain

    with open_office(home, passphrase_file) as office:
        if name is None:
            found: tuple[books.Setting, ...] = books.settings(office)
        elif value is None:
            found = (books.setting(office, name),)
        else:
            kept = books.kept(office, name) if value == books.NO else 0
            if kept:
                what = "certificates of TPMs" if name == books.KEEP_EK_CERTIFICATES else "serial numbers of tokens"
                confirm(f"{kept} {what} will be deleted.", yes=yes, as_json=as_json)
            found = (books.choose(office, name, value),)
    if as_json:
        put_json(settings=plain(found))
        return
    put_table(("setting", "value", "default"), [(one.name, one.value, one.default) for one in found])
    for one in found:
        say(f"{one.name}: {one.meaning}")
