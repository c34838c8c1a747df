# SPDX-License-Identifier: Apache-2.0
"""``tally vendor suspend``, ``resume``, ``revoke``, ``release``."""

from __future__ import annotations

from typing import Any

import click

from tallystick.cli.emit import Outlet, outlet_options
from tallystick.cli.manual import Command
from tallystick.cli.options import confirm, json_option, yes_option
from tallystick.cli.vendor_changes import sent_members
from tallystick.cli.vendor_desk import hand_out, office_options, open_office
from tallystick.license.model import ACTIVE, REVOKED, SUSPENDED

_reason = click.option("--reason", metavar="TEXT", default="", help="Shown to the user where the license is refused.")


@click.command(cls=Command)
@click.argument("target", metavar="ENTITLEMENT|LICENSE")
@_reason
@outlet_options
@office_options
@json_option
def suspend(
    target: str, reason: str, home: str | None, passphrase_file: str | None, as_json: bool, **outlet: Any
) -> None:
    """Stop licenses until they are resumed: makes the updates that say so. A container obeys once it has its update.

    Examples:
      tally vendor suspend E-7K3QF-9XW4C --reason 'invoice 4711 is open'

    JSON: as `tally vendor refresh`
    """
    _set(target, SUSPENDED, reason, home, passphrase_file, Outlet(as_json=as_json, **outlet))


@click.command(cls=Command)
@click.argument("target", metavar="ENTITLEMENT|LICENSE")
@outlet_options
@office_options
@json_option
def resume(target: str, home: str | None, passphrase_file: str | None, as_json: bool, **outlet: Any) -> None:
    """Lift a suspension: makes the updates that say so.

    Examples:
      tally vendor resume E-7K3QF-9XW4C

    JSON: as `tally vendor refresh`
    """
    _set(target, ACTIVE, "", home, passphrase_file, Outlet(as_json=as_json, **outlet))


@click.command(cls=Command)
@click.argument("target", metavar="ENTITLEMENT|LICENSE")
@_reason
@yes_option
@outlet_options
@office_options
@json_option
def revoke(
    target: str, reason: str, yes: bool, home: str | None, passphrase_file: str | None, as_json: bool, **outlet: Any
) -> None:
    """End licenses for good: makes the updates that say so. The slots stay taken; see `tally vendor release`.

    Examples:
      tally vendor revoke 5e6f7a8b --reason 'charged back'

    JSON: as `tally vendor refresh`
    """
    where = Outlet(as_json=as_json, **outlet)
    confirm(f"This revokes {target} for good: it cannot be resumed.", yes=yes, as_json=as_json)
    _set(target, REVOKED, reason, home, passphrase_file, where)


@click.command(cls=Command)
@click.argument("license_", metavar="LICENSE")
@click.option("--reason", metavar="TEXT", required=True, help="What happened; kept in the audit log.")
@yes_option
@outlet_options
@office_options
@json_option
def release(
    license_: str, reason: str, yes: bool, home: str | None, passphrase_file: str | None, as_json: bool, **outlet: Any
) -> None:
    """Take a license back without its container's proof, because the container was lost or does not open any more.

    The slot is free at once, with what is left of it by the last report. The license is revoked: should its container
    come back, the update made here, or any other it gets, ends it there. Until then it may go on running: you decide.

    Examples:
      tally vendor release 5e6f7a8b --reason 'case R-1A2B3C4D5E: disk destroyed'

    JSON: as `tally vendor refresh`
    """
    from tallystick.authority import lookups, refreshing

    where = Outlet(as_json=as_json, **outlet)
    where.check()
    with open_office(home, passphrase_file) as office:
        found = lookups.license_(office, license_)
        loss = f"This frees the slot of license {found.license_id} ({found.product}, {found.customer}) without a proof."
        confirm(f"{loss} {found.container} may still hold it.", yes=yes, as_json=as_json)
        done = refreshing.release(office, found.license_id, reason)
    hand_out(where, done.updates, target=done.target, updates=[sent_members(one) for one in done.updates])


def _set(target: str, status: int, reason: str, home: str | None, passphrase_file: str | None, where: Outlet) -> None:
    from tallystick.authority import refreshing

    where.check()
    with open_office(home, passphrase_file) as office:
        done = refreshing.set_status(office, target, status, reason)
    hand_out(where, done.updates, target=done.target, updates=[sent_members(one) for one in done.updates])
