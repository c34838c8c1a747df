# SPDX-License-Identifier: Apache-2.0
"""``tally vendor issue`` and ``receive``: what customers send."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from tallystick.cli.emit import Outlet, next_step, outlet_options
from tallystick.cli.manual import Command
from tallystick.cli.options import json_option, read_input
from tallystick.cli.render import put_pairs
from tallystick.cli.screen import put_json, say
from tallystick.cli.vendor_desk import office_options, open_office
from tallystick.errors import CODES, TallystickError, error
from tallystick.exchange.files import STDIN
from tallystick.exchange.words import counts

_Result = TypeVar("_Result")
_MORE: Final = (
    "To repair it once more all the same: `tally vendor settings resync_quota N`; then the customer imports this "
    "refusal and makes a new request, `tally request --repair`: this one stays refused."
)
_RECEIVED: Final = "Take it by `tally vendor receive FILE`."
_PLACES: Final = {
    "repair request": f"It is not signed and proves nothing, but can be kept as a case. {_RECEIVED}",
    "receipt": _RECEIVED,
    "request": "Answer it by `tally vendor issue FILE`.",
}


@click.command(cls=Command)
@click.argument("source", metavar="FILE|-|TEXT")
@outlet_options
@office_options
@json_option
def issue(source: str, home: str | None, passphrase_file: str | None, as_json: bool, **outlet: Any) -> int:
    """Answer a request: makes the update to send back, or a signed refusal that says why.

    The same request again gives the same bytes and charges nothing. A refusal is a file to be sent back as well; the
    exit status is then that of its code (5 for a code that cannot be used or is exhausted, 7 for terms not met).

    A repair request that is signed, as by a container in a TPM or on a token whose files were put back, is answered
    here, too: it may go on, so often in so many days as the settings resync_quota and resync_days say. One that is not
    signed is for `tally vendor receive`.

    Examples:
      tally vendor issue request.tallyreq
      tally vendor issue - --text < mail.txt
      tally vendor issue request.tallyreq --output /media/stick

    JSON: {"schema": 1, "kind": "update" | "refusal", "summary", "code", "remedy", "message_id", "request_id",
           "container", "entitlement", "licenses": [{"license_id", "product", "seq", "status"}], "withheld", "charged",
           "repeated", "clock_reset", "warnings", "file", "text"}; withheld: ids of licenses that need more proof
    """
    from tallystick.authority import issuing
    from tallystick.authority.plain import plain

    where = Outlet(as_json=as_json, **outlet)
    where.check()
    message = read_input(source)
    with open_office(home, passphrase_file) as office:
        result = _here(lambda: issuing.issue(office, message))
    members = {name: value for name, value in plain(result).items() if name != "sent"}
    members |= {name: value for name, value in plain(result.sent).items() if name not in ("message", "text")}
    where.emit(result.message, "Run the same command again: it gives the same bytes.", summary=result.text, **members)
    for warning in result.warnings:
        say(f"warning: {warning}")
    say(f"{result.text}{' (answered before: the same bytes)' if result.repeated else ''}")
    if result.sent.code == "resync_quota":
        say(_MORE)
    if where.output != STDIN and not as_json:
        next_step(result.message)
    return CODES[result.sent.code].exit_status if result.sent.code else 0


@click.command(cls=Command)
@click.argument("source", metavar="FILE|-|TEXT")
@office_options
@json_option
def receive(source: str, home: str | None, passphrase_file: str | None, as_json: bool) -> None:
    """Take a receipt, or a repair request of a locked container.

    A receipt of a deactivation frees the slot, once, and books what was used. A repair request that is not signed
    proves nothing: it is kept as a case; `tally vendor release` takes a license back by your decision. One that is
    signed, as by a container in a TPM or on a token, is for `tally vendor issue`.

    Examples:
      tally vendor receive receipt.tallyrct
      tally vendor receive locked.tallyrepair

    JSON: {"schema": 1, "kind": "installed" | "deactivated" | "repair", "container", "text", "licenses":
           [{"license_id", "entitlement", "effect", "used"}], "variables", "repeated", "case", "warnings"}
    """
    from tallystick.authority import receiving
    from tallystick.authority.plain import plain

    message = read_input(source)
    with open_office(home, passphrase_file) as office:
        result = _here(lambda: receiving.receive(office, message))
    if as_json:
        put_json(**plain(result))
    else:
        lines: list[tuple[str, object]] = [("container", result.container), ("case", result.case)]
        for one in result.licenses:
            used = f"; used {counts(one.used)}" if one.used else ""
            lines.append((f"license {one.license_id[:8]}", f"{one.effect} ({one.entitlement}){used}"))
        lines += [(f"variable {name}", value) for name, value in (result.variables or {}).items()]
        put_pairs(lines)
    for warning in result.warnings:
        say(f"warning: {warning}")
    say(f"{result.text}{' (received before: nothing changed)' if result.repeated else ''}")


def _here(work: Callable[[], _Result]) -> _Result:
    """Do something with what a customer sent, and name the command for it where it is not this one."""
    try:
        return work()
    except TallystickError as reason:
        remedy = _PLACES.get(str(reason.details.get("found", "")))
        if reason.code != "wrong_kind" or remedy is None:
            raise
        raise error(reason.code, reason.message, remedy, **reason.details) from reason
