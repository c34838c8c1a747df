# SPDX-License-Identifier: Apache-2.0
"""``tally vendor factory``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tallystick.cli.manual import CONTEXT, Command
from tallystick.cli.options import confirm, json_option, yes_option
from tallystick.cli.render import put_table
from tallystick.cli.screen import put_json, say
from tallystick.cli.vendor_desk import Topic, office_options, open_office
from tallystick.license.dates import show
from tallystick.license.pins import ACCOUNT_STAYS, KEY_STAYS

if TYPE_CHECKING:
    from tallystick.authority.factories import KnownFactory


@click.group(cls=Topic, context_settings=CONTEXT)
def factory() -> None:
    """Whose device certificates are believed, and up to which level."""


@factory.command(cls=Command)
@click.argument("line", metavar="TEXT")
@click.option(
    "--level",
    type=click.IntRange(KEY_STAYS, ACCOUNT_STAYS),
    default=ACCOUNT_STAYS,
    show_default=True,
    help="2: keys stay in its devices; 3: their firmware keeps the account, too.",
)
@office_options
@json_option
def add(line: str, level: int, home: str | None, passphrase_file: str | None, as_json: bool) -> None:
    """Believe a factory, or believe it more or less than before. TEXT is the line `tallyfactory:...` it publishes.

    Containers in its devices get their level with their next request. Compare the line with the factory on another way
    than the one it came by: whoever has its key makes containers of this level out of files.

    Examples:
      tally vendor factory add tallyfactory:acme-dongles:owECAyYgASFYIA...
      tally vendor factory add tallyfactory:acme-dongles:owECAyYgASFYIA... --level 2

    JSON: {"schema": 1, "name", "text", "level", "added_at"}
    """
    from tallystick.authority import factories

    with open_office(home, passphrase_file) as office:
        known = factories.add(office, line, level=level)
    _shown(known, f"Devices of {known.name} count up to level L{known.level}.", as_json)


@factory.command("list", cls=Command)
@office_options
@json_option
def list_(home: str | None, passphrase_file: str | None, as_json: bool) -> None:
    """List the factories.

    JSON: {"schema": 1, "factories": [{"name", "text", "level", "added_at"}]}
    """
    from tallystick.authority import factories
    from tallystick.authority.plain import plain

    with open_office(home, passphrase_file) as office:
        found = factories.factories(office)
    if as_json:
        put_json(factories=plain(found))
    else:
        put_table(("factory", "level", "added"), [(one.name, f"L{one.level}", show(one.added_at)) for one in found])


@factory.command(cls=Command)
@click.argument("name")
@yes_option
@office_options
@json_option
def remove(name: str, yes: bool, home: str | None, passphrase_file: str | None, as_json: bool) -> None:
    """Believe a factory no more: its devices count as level L0 from their next request on.

    What they hold stays; what needs a higher level is not issued to them again.

    Examples:
      tally vendor factory remove acme-dongles

    JSON: as `tally vendor factory add`
    """
    from tallystick.authority import factories

    confirm(f"Devices of {name} will count as level L0.", yes=yes, as_json=as_json)
    with open_office(home, passphrase_file) as office:
        known = factories.remove(office, name)
    _shown(known, f"Devices of {known.name} count as level L0 from their next request on.", as_json)


def _shown(known: KnownFactory, said: str, as_json: bool) -> None:
    from tallystick.authority.plain import plain

    if as_json:
        put_json(**plain(known))
        return
    say(said)
    say("Containers that lend learn it from the key set: `tally vendor keys publish`, with the root key.")
