# SPDX-License-Identifier: Apache-2.0
"""``tally pin``: the PIN of a dongle, and the PUK that unblocks it. Both are typed, never passed as arguments."""

from __future__ import annotations

import sys
from typing import Any, Final

import click

from tallystick.cli.asking import is_terminal
from tallystick.cli.dongles import dongle_at
from tallystick.cli.manual import CONTEXT, Command, in_shape
from tallystick.cli.options import container_option, json_option
from tallystick.cli.screen import put, put_json, say
from tallystick.dongle.client import DongleClient
from tallystick.errors import error

_MAX_LINE: Final = 256
_HELP = """The PIN of a dongle: whoever has the dongle but not the PIN can do nothing with it.

    A wrong PIN is counted before it is compared; after five the PIN is blocked until the PUK sets a new one. PIN and
    PUK are asked for, or read line by line from standard input.

    Examples:
      tally pin show --container usb:
      tally pin change --container usb:
      tally pin puk --container usb:
      tally pin unblock --container usb:
    """


@click.group(context_settings=CONTEXT, help=in_shape(_HELP))
def pin() -> None:
    """Group the commands."""


@pin.command(cls=Command)
@container_option
@json_option
def show(uri: str, as_json: bool) -> None:
    """Say whether a PIN is set, and how many tries are left.

    Examples:
      tally pin show --container usb:

    JSON: {"schema": 1, "set", "tries"}; tries is null where no PIN is set
    """
    with dongle_at(uri) as client:
        tries = _tries(client)
    if as_json:
        _put(tries)
    elif tries is None:
        put("no PIN is set")
    else:
        put(f"a PIN is set; {tries} tries left" if tries else "the PIN is blocked; `tally pin unblock` needs the PUK")


@pin.command(cls=Command)
@container_option
@json_option
def change(uri: str, as_json: bool) -> None:
    """Set the PIN, or another one; an empty new one takes it away.

    Examples:
      tally pin change --container usb:

    JSON: {"schema": 1, "set", "tries"}, as after the change
    """
    with dongle_at(uri) as client:
        old = _asked("PIN") if _tries(client) is not None else ""
        new = _asked("New PIN, empty for none", again=True)
        client.call("change_pin", old, new)
        tries = _tries(client)
    _done("The PIN is set." if new else "The dongle asks for no PIN any more.", tries, as_json)


@pin.command(cls=Command)
@container_option
@json_option
def puk(uri: str, as_json: bool) -> None:
    """Set the PUK, which sets a new PIN where the old one is blocked or forgotten; an empty new one takes it away.

    Examples:
      tally pin puk --container usb:

    JSON: {"schema": 1, "set", "tries"}, of the PIN
    """
    with dongle_at(uri) as client:
        if _tries(client) is not None:
            client.call("verify_pin", _asked("PIN"))
        old = _asked("PUK, empty if there is none")
        new = _asked("New PUK, empty for none", again=True)
        client.call("change_puk", old, new)
        tries = _tries(client)
    _done(
        "The PUK is set. Keep it apart from the dongle." if new else "The dongle has no PUK any more.", tries, as_json
    )


@pin.command(cls=Command)
@container_option
@json_option
def unblock(uri: str, as_json: bool) -> None:
    """Set a new PIN by the PUK.

    Examples:
      tally pin unblock --container usb:

    JSON: {"schema": 1, "set", "tries"}, as after the change
    """
    with dongle_at(uri) as client:
        given = _asked("PUK")
        client.call("unblock_pin", given, _asked("New PIN", again=True))
        tries = _tries(client)
    _done("The PIN is set.", tries, as_json)


def _done(said: str, tries: int | None, as_json: bool) -> None:
    if as_json:
        _put(tries)
    else:
        say(said)


def _put(tries: int | None) -> None:
    put_json(set=tries is not None, tries=tries)


def _tries(client: DongleClient) -> int | None:
    tries: int | None = client.call("status")[3]
    return tries


def _asked(what: str, *, again: bool = False) -> str:
    """Ask somebody, unseen; else take a line of standard input. What is new is given twice, in both cases."""
    if is_terminal():
        more: dict[str, Any] = {"confirmation_prompt": "Again"} if again else {}
        typed: str = click.prompt(what, hide_input=True, err=True, default="", show_default=False, **more)
        return typed
    lines = [_line() for _ in range(1 + again)]
    if lines[0] != lines[-1]:
        raise error("usage", "the two lines with what is new differ", "Give it twice, each time on a line of its own.")
    return lines[0]


def _line() -> str:
    line = sys.stdin.readline(_MAX_LINE)
    if not line:
        raise error("usage", "standard input ended, and a PIN or PUK was to come", "Type it at a terminal, or pipe it.")
    return line.rstrip("\r\n")
