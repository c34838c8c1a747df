# SPDX-License-Identifier: Apache-2.0
"""Options that mean the same in every command, and what stands behind them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, Final, TypeVar

import click
from click.core import ParameterSource

import tallystick
from tallystick.cli.asking import Asking, is_terminal
from tallystick.cli.quick import CONTAINER_KEY, DEFAULT_CONTAINER
from tallystick.cli.screen import ask_for_touch, say
from tallystick.container.base import Container
from tallystick.errors import TallystickError, error
from tallystick.exchange.files import MAX_INPUT, STDIN, read_message, read_pasted
from tallystick.exchange.trusts import read_trust
from tallystick.license.trust import Trust

Command = TypeVar("Command", bound=Callable[..., Any])

_ASKING: Final = "tallystick.asking"  # in click's context: who asks for PINs, by container


def container_option(command: Command) -> Command:
    """Add ``--container URI``: the container a command works on. Before the command it counts where none is behind."""
    return click.option(
        "--container",
        "-c",
        "uri",
        metavar="URI",
        envvar="TALLY_CONTAINER",
        show_envvar=True,
        default=DEFAULT_CONTAINER,
        show_default=True,
        callback=_container,
        help="The container: `file:`, `file:NAME`, `file:/path/to/folder`, or another scheme.",
    )(command)


def _container(ctx: click.Context, _parameter: click.Parameter, value: str) -> str:
    before: str | None = ctx.meta.get(CONTAINER_KEY)
    return value if before is None or named_behind("uri") else before


def named_behind(parameter: str) -> bool:
    """Tell whether an option stands behind the command, and is not a default or from the environment."""
    return click.get_current_context().get_parameter_source(parameter) is ParameterSource.COMMANDLINE


def unnamed() -> str:
    """Return the container that commands work on where none is named."""
    return os.environ.get("TALLY_CONTAINER") or DEFAULT_CONTAINER


def behind(where: str | None, uri: str) -> str:
    """Return the container a command names without ``--container``, where it does.

    Args:
        where: as it was named so; None where it was not.
        uri: of ``--container``.

    Raises:
        UsageError: ``usage``: both are given, and differ.
    """
    if where is None:
        return uri
    if where != uri and named_behind("uri"):
        raise error("usage", f"two places are named: {where} and {uri}", "Name one.")
    return where


def json_option(command: Command) -> Command:
    """Add ``--json``: one JSON object on standard output."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")(command)


def yes_option(command: Command) -> Command:
    """Add ``--yes``: answer the confirmation beforehand."""
    return click.option("--yes", "-y", is_flag=True, help="Do not ask for confirmation.")(command)


def trust_option(help_text: str) -> Callable[[Command], Command]:
    """Add ``--trust``: a vendor's trust text, or the file that holds it.

    Args:
        help_text: what it is for in this command.

    Returns:
        The decorator.
    """
    return click.option(
        "--trust",
        "trust",
        metavar="TEXT|FILE",
        callback=_trust,
        help=f"{help_text} The text `tallytrust:...` itself, or the file that holds it (FILE or @FILE).",
    )


def _trust(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> Trust | None:
    return None if value is None else read_trust(value, standard_input())


def open_container(uri: str, trusts: Sequence[Trust] = ()) -> Container:
    """Open a container for one command.

    Args:
        uri: where.
        trusts: pinned vendors.

    Returns:
        The container, seats renewed by nobody.

    Raises:
        TallystickError: as `tallystick.open`.
    """
    pinned = list(trusts) or None
    return _tells(asking(uri).during(lambda ask: tallystick.open(uri, pinned, background=False, secrets=ask)))


def view_container(uri: str) -> Container:
    """Open a container read-only where it is locked, for one command.

    Args:
        uri: where.

    Returns:
        The container.

    Raises:
        TallystickError: as `tallystick.view`.
    """
    return _tells(asking(uri).during(lambda ask: tallystick.view(uri, secrets=ask)))


def asking(uri: str) -> Asking:
    """Return who asks for the PIN of a container in this command.

    Args:
        uri: of the container.
    """
    kept: dict[str, Asking] = click.get_current_context().meta.setdefault(_ASKING, {})
    return kept.setdefault(uri, Asking())


def _tells(container: Container) -> Container:
    """Let a container say when its device waits for a touch."""
    container.on_touch = ask_for_touch
    return container


def confirm(loss: str, *, yes: bool, as_json: bool) -> None:
    """Ask before something is lost.

    Args:
        loss: names the object and what is lost.
        yes: asked and answered beforehand.
        as_json: nobody is there to answer.

    Raises:
        UsageError: ``not_confirmed``.
    """
    if yes:
        return
    if as_json:
        raise error("not_confirmed", f"{loss} Nothing is asked under `--json`.", "Pass `--yes`.")
    say(loss)
    try:
        agreed = click.confirm("Go on?", default=False, err=True)
    except click.Abort:
        say("")
        agreed = False
    if not agreed:
        raise error("not_confirmed", "nothing was changed")


def read_input(source: str, limit: int | None = None) -> bytes:
    """Read what an argument names: a file, standard input, pasted text, or what is pasted now at the terminal.

    Args:
        source: path, ``-`` or text.
        limit: largest accepted size in bytes, where it is not that of a message.

    Returns:
        The bytes, armor taken off.

    Raises:
        UsageError, StorageError, FormatError: as `exchange.files.read_message`.
    """
    if source == STDIN and is_terminal():
        say("Paste the text block or QR text here, then press Enter (Ctrl-D ends).")
        return read_pasted(sys.stdin)
    return read_message(source, standard_input(), MAX_INPUT if limit is None else limit)


def standard_input() -> BinaryIO | None:
    """Return standard input for bytes; None where it was closed."""
    return None if sys.stdin is None else sys.stdin.buffer


def complete_licenses(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Offer the products held in the container, for shell completion; silence where it does not open."""
    uri = _ctx.params.get("uri") or DEFAULT_CONTAINER
    try:
        with tallystick.view(uri) as container:
            return sorted({view.product for view in container.licenses() if view.product.startswith(incomplete)})
    except TallystickError:
        return []
