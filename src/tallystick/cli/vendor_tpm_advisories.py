# SPDX-License-Identifier: Apache-2.0
"""``tally vendor tpm advisory``: firmware of TPMs, and of YubiKeys, that is not believed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from tallystick.cli.manual import CONTEXT, Command
from tallystick.cli.options import confirm, json_option, yes_option
from tallystick.cli.render import put_table
from tallystick.cli.screen import put_json, say
from tallystick.cli.vendor_desk import Topic, office_options, open_office

if TYPE_CHECKING:
    from tallystick.authority.tpm_advisories import KnownAdvisory

_HIGHEST: Final = "65535"


@click.group(cls=Topic, context_settings=CONTEXT)
def advisory() -> None:
    """Firmware of TPMs and YubiKeys that is known to keep keys badly."""


@advisory.command(cls=Command)
@click.argument("manufacturer")
@click.option("--from", "first", metavar="VERSION", required=True, help="The first version affected.")
@click.option("--to", "last", metavar="VERSION", required=True, help="The last one; `7.61` is all of its builds.")
@click.option("--max-level", type=click.IntRange(0, 2), default=1, show_default=True, help="The highest level it gets.")
@click.option("--reason", metavar="TEXT", required=True, help="Where it is told; shown when it counts.")
@office_options
@json_option
def add(
    manufacturer: str,
    first: str,
    last: str,
    max_level: int,
    reason: str,
    home: str | None,
    passphrase_file: str | None,
    as_json: bool,
) -> None:
    """Cap the level of TPMs or YubiKeys with some firmware, from their next request on.

    MANUFACTURER is the sign in the certificates of its TPMs: AMD, IFX, INTC, NTC, STM; for YubiKeys YUBI, and besides
    YBIO for those with a fingerprint reader. Versions are as `tally vendor tpm list` and `tally vendor piv list` show
    them.

    Examples:
      tally vendor tpm advisory add NTC --from 7.2.0 --to 7.2.3 --reason 'maker notice of 2026-05'
      tally vendor tpm advisory add YUBI --from 5.7 --to 5.7.4 --reason 'maker notice of 2026-06'

    JSON: {"schema": 1, "id", "manufacturer", "first", "last", "max_level", "reason"}
    """
    from tallystick.authority import tpm_advisories
    from tallystick.authority.plain import plain

    with open_office(home, passphrase_file) as office:
        known = tpm_advisories.add(office, manufacturer, first=first, last=last, max_level=max_level, reason=reason)
    if as_json:
        put_json(**plain(known))
        return
    say(f"{_shown(known)} counts up to L{known.max_level}.")


@advisory.command("list", cls=Command)
@office_options
@json_option
def list_(home: str | None, passphrase_file: str | None, as_json: bool) -> None:
    """List advisories: the vendor's own, by number, and those that Tallystick brings.

    JSON: {"schema": 1, "advisories": [{"id", "manufacturer", "first", "last", "max_level", "reason"}]}; an id of null
          is one that Tallystick brings
    """
    from tallystick.authority import tpm_advisories
    from tallystick.authority.plain import plain

    with open_office(home, passphrase_file) as office:
        found = tpm_advisories.advisories(office)
    if as_json:
        put_json(advisories=plain(found))
    else:
        rows = [
            ("" if one.id is None else one.id, one.manufacturer, one.first, _last(one), f"L{one.max_level}", one.reason)
            for one in found
        ]
        put_table(("id", "maker", "from", "to", "up to", "reason"), rows)


@advisory.command(cls=Command)
@click.argument("number", metavar="ID", type=click.IntRange(min=1))
@yes_option
@office_options
@json_option
def remove(number: int, yes: bool, home: str | None, passphrase_file: str | None, as_json: bool) -> None:
    """Take an advisory of the vendor's own back.

    Examples:
      tally vendor tpm advisory remove 3

    JSON: as `tally vendor tpm advisory add`
    """
    from tallystick.authority import tpm_advisories
    from tallystick.authority.plain import plain

    confirm(f"Advisory {number} will cap no level any more.", yes=yes, as_json=as_json)
    with open_office(home, passphrase_file) as office:
        known = tpm_advisories.remove(office, number)
    if as_json:
        put_json(**plain(known))
        return
    say(f"{_shown(known)} is not capped any more by advisory {number}.")


def _shown(known: KnownAdvisory) -> str:
    return f"Firmware {known.first} to {_last(known)} of {known.manufacturer}"


def _last(known: KnownAdvisory) -> str:
    """The last version; of numbers left out, which are the highest there are, only a star."""
    kept = known.last.split(".")
    while len(kept) > 1 and kept[-1] == _HIGHEST:
        kept.pop()
    return known.last if len(kept) == known.last.count(".") + 1 else ".".join((*kept, "*"))
