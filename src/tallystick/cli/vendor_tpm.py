# SPDX-License-Identifier: Apache-2.0
"""``tally vendor tpm``: containers that live in TPMs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tallystick.cli.manual import CONTEXT, Command
from tallystick.cli.options import confirm, json_option, yes_option
from tallystick.cli.render import put_table
from tallystick.cli.screen import put_json, say
from tallystick.cli.vendor_desk import Topic, office_options, open_office
from tallystick.cli.vendor_tpm_advisories import advisory
from tallystick.cli.vendor_tpm_roots import root
from tallystick.license.dates import show

if TYPE_CHECKING:
    from tallystick.authority.attestations import AttestedContainer


@click.group(cls=Topic, context_settings=CONTEXT)
def tpm() -> None:
    """Containers in TPMs: whose chips are believed, and what they said."""


tpm.add_command(root)
tpm.add_command(advisory)


@tpm.command("list", cls=Command)
@click.option("--limit", metavar="N", type=click.IntRange(min=1), help="Only so many, the latest.")
@office_options
@json_option
def list_(limit: int | None, home: str | None, passphrase_file: str | None, as_json: bool) -> None:
    """List the containers that proved a TPM, and what it said last.

    JSON: {"schema": 1, "containers": [{"container", "level", "manufacturer", "model", "firmware", "counter", "clock",
          "resets", "restarts", "certificate_kept", "seen_at", "rewound_at", "reason"}]}
    """
    from tallystick.authority import attestations
    from tallystick.authority.plain import plain

    with open_office(home, passphrase_file) as office:
        found = attestations.attested(office, limit=limit)
    if as_json:
        put_json(containers=plain(found))
    else:
        headings = ("container", "level", "maker", "firmware", "counter", "last seen", "rewound")
        put_table(headings, [_row(one) for one in found])


@tpm.command(cls=Command)
@click.argument("container")
@click.option("--reason", metavar="TEXT", default="", help="Why; kept in the audit log.")
@yes_option
@office_options
@json_option
def settle(
    container: str, reason: str, yes: bool, home: str | None, passphrase_file: str | None, as_json: bool
) -> None:
    """Let a container go on that was set back or exists twice: its requests are answered again.

    What it said last is what its next request is compared with. If there are two of it, the other one is refused then.
    Ask first what happened: a virtual machine restored from a snapshot has its units again. `tally vendor list cases`
    says when and why it was noticed; `tally vendor release` takes a license back instead.

    Examples:
      tally vendor tpm settle TS-0123A-BCDEF-GHJK5 --reason 'machine restored after a disk failure, ticket 4711'

    JSON: as a container of `tally vendor tpm list`
    """
    from tallystick.authority import attestations
    from tallystick.authority.plain import plain

    confirm(f"What {container} had used up and undid is not known; it gets licenses again.", yes=yes, as_json=as_json)
    with open_office(home, passphrase_file) as office:
        settled = attestations.settle(office, container, reason)
    if as_json:
        put_json(**plain(settled))
        return
    say(f"The next request of {settled.container} is answered; let its user make a new one.")


@tpm.command("close-meter", cls=Command)
@click.argument("license_id", metavar="LICENSE")
@click.option("--reason", metavar="TEXT", default="", help="Why; required, and kept in the audit log.")
@click.option("--used", metavar="N", type=click.IntRange(min=0), help="So many units count as used, not fewer.")
@yes_option
@office_options
@json_option
def close_meter(
    license_id: str,
    reason: str,
    used: int | None,
    yes: bool,
    home: str | None,
    passphrase_file: str | None,
    as_json: bool,
) -> None:
    """Give up a meter whose counter was removed from its TPM: the license gets another one for the rest of its units.

    `tally vendor issue` warns of such a license. What is used is what the meter certified last, or what its container
    reported since, if that is more; --used counts more as used, up to all. Then the container's next request with
    `tally request --refresh --metered` brings another meter. A counter that is shown again instead was not lost: it
    counts on, and nothing is given again.

    Whoever hides a counter that is still there can use its rest once more. Ask first what happened.

    Examples:
      tally vendor tpm close-meter 5e6f7a8b --reason 'TPM indices removed by an installer, ticket 4711'
      tally vendor tpm close-meter 5e6f7a8b --used 40 --reason 'lost for the second time'

    JSON: {"schema": 1, "license_id", "container", "granted", "used"}
    """
    from tallystick.authority import lost_meters
    from tallystick.authority.plain import plain

    confirm(f"What is left of {license_id} is given again, whatever became of its counter.", yes=yes, as_json=as_json)
    with open_office(home, passphrase_file) as office:
        closed = lost_meters.close(office, license_id, reason, used)
    if as_json:
        put_json(**plain(closed))
        return
    say(f"{closed.granted - closed.used} of {closed.granted} units are left for another meter of {closed.container}.")
    say("Let its user make a request: `tally request --refresh --metered`.")


def _row(one: AttestedContainer) -> tuple[object, ...]:
    rewound = "" if one.rewound_at is None else f"{show(one.rewound_at)}: {one.reason}"
    maker = one.manufacturer or "unknown"
    return one.container, f"L{one.level}", maker, one.firmware, one.counter, show(one.seen_at), rewound
