# SPDX-License-Identifier: Apache-2.0
"""What every ``tally vendor`` command has in common: which vendor, who acts, passphrases, several updates at once."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from tallystick.cli.asking import Asking
from tallystick.cli.emit import Outlet, next_step
from tallystick.cli.screen import put, put_json, say
from tallystick.container.secrets import Pin, SecretRequest
from tallystick.errors import error
from tallystick.exchange.files import STDIN, read_source
from tallystick.exchange.forms import write_message

if TYPE_CHECKING:
    from tallystick.authority.office import Office
    from tallystick.authority.outbox import Sent
    from tallystick.authority.signers import Passphrase

Command = TypeVar("Command", bound=Callable[..., Any])

HOME_KEY: Final = "tallystick.vendor.home"
PASSPHRASE_KEY: Final = "tallystick.vendor.passphrase"  # noqa: S105 - where the path of its file is kept
_MAX_PASSPHRASE: Final = 4096


@click.pass_context
def _help_if_alone(ctx: click.Context) -> None:
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


class Topic(click.Group):
    """A group of commands about one thing; alone, it shows its help."""

    def __init__(self, name: str | None = None, **attributes: Any) -> None:
        attributes |= {"invoke_without_command": True, "no_args_is_help": False, "callback": _help_if_alone}
        super().__init__(name, **attributes)


def office_options(command: Command) -> Command:
    """Add ``--home`` and ``--passphrase-file``; behind the command they count more than before it."""
    command = click.option(
        "--passphrase-file",
        metavar="FILE",
        callback=_inherit(PASSPHRASE_KEY),
        help="Passphrase of encrypted key files, on its first line; asked for if left out.",
    )(command)
    return click.option(
        "--home",
        metavar="DIR",
        callback=_inherit(HOME_KEY),
        help="The vendor's folder; by default `vendor` in this user's data folder of tallystick.",
    )(command)


def _inherit(key: str) -> Callable[[click.Context, click.Parameter, str | None], str | None]:
    def value_or_group(ctx: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
        inherited: str | None = ctx.meta.get(key)
        return inherited if value is None else value

    return value_or_group


def open_office(home: str | None, passphrase_file: str | None) -> Office:
    """Open the vendor for one command.

    Args:
        home: its folder.
        passphrase_file: passphrase of encrypted key files.

    Returns:
        The office.

    Raises:
        BackendUnavailableError: the extra `vendor` is missing.
        TallystickError: as `Office.open`.
    """
    from tallystick.authority.office import Office

    return Office.open(home, actor=actor(), passphrase=passphrase_source(passphrase_file))


def actor() -> str:
    """Return who is named in the audit log: the user of this process."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user id without a name, as in OS containers
        return "unknown"


def passphrase_source(path: str | None, known: bytes | None = None) -> Passphrase:
    """Return where passphrases and PINs come from. A passphrase is no PIN: tokens count what they refuse.

    Args:
        path: of the file with the passphrase; a prompt if omitted.
        known: the passphrase, where it was asked for already.
    """

    def ask(wanted: str | SecretRequest) -> bytes:
        if isinstance(wanted, SecretRequest):
            return typed_bytes(Pin(Asking().during(lambda pin: pin(wanted))), "pin_needed", wanted.what)
        if known is not None:
            return known
        if path is not None:
            return read_passphrase(path)
        if not sys.stdin.isatty():
            raise error("usage", f"{wanted} is encrypted and nobody is there to ask", "Pass `--passphrase-file FILE`.")
        typed = Pin(click.prompt(f"Passphrase of {wanted}", hide_input=True, err=True))
        return typed_bytes(typed, "usage", f"passphrase of {wanted}")

    return ask


def typed_bytes(typed: Pin, code: str, what: str) -> bytes:
    """Return what was typed, in UTF-8.

    Args:
        typed: a PIN or a passphrase.
        code: of the error.
        what: it is, for people.

    Raises:
        TallystickError: ``code`` where it has a character that is none, as from a terminal set to other letters.
    """
    if not typed.is_sendable:  # an error of the codec's would show it
        remedy = "Set the terminal to UTF-8, or write it into a file as UTF-8 text."
        raise error(code, f"the {what} has a character that is none", remedy)
    return typed.reveal().encode()


def read_passphrase(path: str) -> bytes:
    """Read a passphrase from a file.

    Args:
        path: its first line is the passphrase.

    Raises:
        UsageError: ``usage`` for an empty one, ``file_not_found``.
        StorageError: it cannot be read.
    """
    first = read_source(path, None, _MAX_PASSPHRASE).splitlines()[:1]
    if not first or not first[0]:
        raise error("usage", f"{path} holds no passphrase", "Write it on the first line.")
    return first[0]


def hand_out(where: Outlet, sent: Sequence[Sent], **members: Any) -> None:
    """Hand out updates: one as any message, several as files of their own.

    Args:
        where: as the options said.
        sent: the updates.
        members: more members of the JSON object.

    Raises:
        UsageError: ``usage`` where several cannot go to one place.
        TallystickError: a file cannot be written.
    """
    for one in sent:
        if one.withheld:
            waiting = f"warning: {one.container} must show first that its TPM opened one of ours; {one.text}"
            say(f"{waiting}; ask for its receipt, or a new request")
    if len(sent) == 1:
        where.emit(sent[0].message, **members)
        if where.output != STDIN:
            next_step(sent[0].message)
        return
    one_file = where.output is not None and where.output != STDIN and not Path(where.output).is_dir()
    if sent and (one_file or not where.to_file):
        remedy = "Nothing is lost: repeat the command without a change, with a folder: `--output DIR`."
        raise error("usage", f"the change is made, and {len(sent)} updates do not go to one place", remedy)
    paths = [write_message(one.message, where.output, where.form, force=where.force) for one in sent]
    if where.as_json:
        put_json(**members, files=paths)
        return
    for path in paths:
        put(path)
    if not sent:
        say("No container holds a license of it, so there is nothing to send.")
