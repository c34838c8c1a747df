# SPDX-License-Identifier: Apache-2.0
"""``tally destroy``: the end of a container."""

from __future__ import annotations

from typing import Final

import click
from click.core import ParameterSource

import tallystick
from tallystick.backends.clearing import LEFT
from tallystick.cli.manual import Command
from tallystick.cli.options import asking, behind, confirm, container_option, json_option, yes_option
from tallystick.cli.quick import CONTAINER_KEY
from tallystick.cli.screen import put, put_json, say
from tallystick.errors import TallystickError, error

_AWAY: Final = ("device_removed", "device_silent", "backend_unavailable")


@click.command(cls=Command)
@click.argument("where", metavar="[URI]", required=False)
@click.option("--force", is_flag=True, help="Also where it holds licenses, is locked, or its device is gone.")
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
@yes_option
@container_option
@json_option
def destroy(where: str | None, force: bool, dry_run: bool, yes: bool, uri: str, as_json: bool) -> None:
    """Remove a container for good; URI stands for --container URI. There is no default: one of them must be given, or
    TALLY_CONTAINER be set, whose container it is then.

    Everything that will go is listed before the question: its files and, of one in a TPM or on a token, what it put
    there. A container that holds licenses, or is locked, is refused unless --force is given: what it holds is lost
    then, and the vendor has to be asked for other licenses. Requests and receipts made there go, too; hand in receipts
    first.

    What interrupts it is gone on with by the same command. Where the TPM or token is gone, --force removes the files
    and says what stays; a TPM with an owner password asks for `?owner-auth-source=file:PATH`.

    Examples:
      tally destroy file:demo
      tally destroy tpm:name=old --dry-run
      tally destroy 'tpm:?owner-auth-source=file:/root/owner' --yes
      tally destroy file:/srv/render --force --yes --json

    JSON: {"schema": 1, "uri", "dry_run", "removed": [TEXT], "left": [TEXT]}; left is what stays
    """
    uri = _named(where, uri)
    ask = asking(uri)
    try:
        lines = ask.during(lambda pin: tallystick.destroy(uri, force=force, dry_run=True, secrets=pin))
    except TallystickError as reason:
        if reason.code not in _AWAY or force:
            raise
        raise _with_force(uri, reason) from reason
    if not dry_run:
        if not (yes or as_json):
            for line in lines:
                say(line)
        confirm(f"This destroys the container {uri} and what is listed, for good.", yes=yes, as_json=as_json)
        lines = ask.during(lambda pin: tallystick.destroy(uri, force=force, secrets=pin))
    if as_json:
        left = [line.removeprefix(LEFT) for line in lines if line.startswith(LEFT)]
        put_json(uri=uri, dry_run=dry_run, removed=[line for line in lines if not line.startswith(LEFT)], left=left)
        return
    for line in lines:
        put(line)
    if not dry_run:
        say("The container is destroyed.")


def _with_force(uri: str, reason: TallystickError) -> TallystickError:
    """Say of a device that is away what can be destroyed without it, and what cannot."""
    try:
        lines = tallystick.destroy(uri, force=True, dry_run=True)
    except TallystickError:  # not even that
        return reason
    left = [line.removeprefix(LEFT).removesuffix(f": {reason.message}") for line in lines if line.startswith(LEFT)]
    if not left:
        return reason
    lost = f"If it is gone for good: `--force` removes the files, and what they hold; {', '.join(left)} stay."
    return error(reason.code, reason.message, f"{reason.remedy} {lost}", **reason.details)


def _named(where: str | None, uri: str) -> str:
    ctx = click.get_current_context()
    nowhere = ctx.get_parameter_source("uri") is ParameterSource.DEFAULT and ctx.meta.get(CONTAINER_KEY) is None
    if where is None and nowhere:
        raise error("usage", "no container is named", "Name it: `tally destroy URI`; the default one is `file:`.")
    return behind(where, uri)
