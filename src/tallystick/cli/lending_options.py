# SPDX-License-Identifier: Apache-2.0
"""Options of the lending commands, and what they mean: how much, until when, and between which two containers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import click

import tallystick
from tallystick.cli.lending_views import say_delivered
from tallystick.cli.options import open_container
from tallystick.cli.quick import DEFAULT_CONTAINER
from tallystick.container.base import Container
from tallystick.errors import TallystickError, error
from tallystick.exchange.direct import Direct
from tallystick.exchange.lending import Wish
from tallystick.exchange.when import duration
from tallystick.license.dates import instant
from tallystick.license.grant_policy import SEATS

Command = TypeVar("Command", bound=Callable[..., Any])
AMOUNTS: Final = ("seats", "units", "feature_units")


def amount_options(command: Command, least: int = 1) -> Command:
    """Add ``--seats``, ``--units`` and ``--feature-units``: how much."""
    none = "" if least else "; 0 leaves them out"
    return _with(
        command,
        click.option("--seats", metavar="N", type=click.IntRange(min=least), help="Seats."),
        click.option("--units", metavar="N", type=click.IntRange(min=least), help=f"Units of the license{none}."),
        click.option("--feature-units", metavar="NAME=N", multiple=True, help="Units of a feature."),
    )


def end_options(command: Command) -> Command:
    """Add ``--for`` and ``--until``: the end of a loan."""
    return _with(
        command,
        click.option("--for", "lasts", metavar="SPAN", callback=_lasts, help="How long: 90m, 12h, 3d, 2w."),
        click.option("--until", "ends", metavar="DATE", callback=_ends, help="Its end: 2026-11-23, 2026-11-23T08:00."),
    )


def wish_options(command: Command, least: int = 1) -> Command:
    """Add ``--product``, ``--feature`` and the amounts."""
    return _with(
        amount_options(command, least),
        click.option("--product", metavar="NAME", default="", help="Which product."),
        click.option("--feature", "-f", "features", metavar="NAME", multiple=True, help="Only this feature, and ..."),
    )


def answer_options(command: Command) -> Command:
    """Add what `wish_options` adds, where an amount of 0 leaves out what a request asks."""
    return wish_options(command, 0)


def choice_options(command: Command) -> Command:
    """Add ``--whole`` and ``--license``: what a giver can say besides."""
    return _with(
        command,
        click.option("--whole", is_flag=True, help="Everything that is left of it."),
        click.option("--license", "license_", metavar="ID", default="", help="Which license, where several would do."),
    )


def direct_options(giver: str, receiver: str) -> Callable[[Command], Command]:
    """Add ``--from`` and ``--to``: both containers at hand, no files.

    Args:
        giver: what the first one does.
        receiver: what the second one does.
    """

    def add(command: Command) -> Command:
        return _with(
            command,
            click.option("--from", "from_", metavar="URI", help=f"Directly: the container that {giver}, and ..."),
            click.option("--to", metavar="URI", help=f"... the one that {receiver}; no files are needed."),
        )

    return add


def dry_option(command: Command) -> Command:
    """Add ``--dry-run``."""
    return _with(
        command, click.option("--dry-run", "dry", is_flag=True, help="Only show what would move; nothing changes.")
    )


def again_option(command: Command) -> Command:
    """Add ``--again``."""
    return _with(
        command,
        click.option("--again", is_flag=True, help="Directly: as much once more, each time it is said."),
    )


def read_wish(typed: dict[str, Any], *, least: int = 1, **more: Any) -> Wish:
    """Take the options of a wish out of what was typed.

    Args:
        typed: options; those that belong to a wish are taken out.
        least: smallest amount that may be typed.
        **more: other fields of `Wish`.

    Returns:
        The wish.

    Raises:
        UsageError: ``usage``.
    """
    lasts, ends = typed.pop("lasts", None), typed.pop("ends", None)
    if lasts is not None and ends is not None:
        raise error("usage", "`--for` and `--until` exclude each other")
    features: Sequence[str] = typed.pop("features", ())
    wish = Wish(
        product=typed.pop("product", ""),
        license_=typed.pop("license_", ""),
        amounts=read_amounts(typed, least),
        whole=typed.pop("whole", False),
        features=tuple(features) or None,
        duration=lasts,
        ends=ends,
        **more,
    )
    if wish.transfer and (lasts or ends):
        raise error("usage", "a transfer is for good and has no end", "Leave out `--for` and `--until`.")
    if wish.whole and wish.amounts:
        raise error("usage", "`--whole` leaves no amounts to name")
    return wish


def read_amounts(typed: dict[str, Any], least: int = 1) -> dict[str, int]:
    """Take the options of `amount_options` out of what was typed.

    Returns:
        Amounts by counter.

    Raises:
        UsageError: ``usage``.
    """
    seats, units, pairs = (typed.pop(name, None) for name in AMOUNTS)
    amounts = {name: amount for name, amount in ((SEATS, seats), ("", units)) if amount is not None}
    for pair in pairs or ():
        name, equals, number = pair.rpartition("=")
        if not equals or not name or not (number.isascii() and number.isdigit()) or int(number) < least:
            raise error("usage", f"{pair[:40]!r} is not NAME=N", "For example `--feature-units sim=20`.")
        amounts[name] = int(number)
    return amounts


def is_direct(from_: str | None, to: str | None) -> bool:
    """Tell whether both containers were named.

    Raises:
        UsageError: ``usage`` for one without the other.
    """
    if (from_ is None) != (to is None):
        raise error("usage", "`--from` and `--to` belong together", "Name both containers, or work with files.")
    return from_ is not None


@contextmanager
def both(giver: str, receiver: str) -> Iterator[Direct]:
    """Open two containers.

    Args:
        giver: its URI.
        receiver: its URI.

    Yields:
        The line between them.

    Raises:
        TallystickError: one of them does not open.
    """
    with _opened(giver) as one, _opened(receiver) as other:
        line = Direct(one, other)
        try:
            yield line
        except TallystickError:
            say_delivered(line.delivered, line.giver)  # what was in transit arrived, whatever was refused afterwards
            raise


def _opened(uri: str) -> Container:
    try:
        return open_container(uri)
    except TallystickError as cause:
        if cause.code != "container_not_found":
            raise
        remedy = f"Create one: `tally create --container {uri}`."
        raise error(cause.code, cause.message, remedy, **cause.details) from cause


def complete_exchanges(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Offer ids of loans and transfers, for shell completion."""
    try:
        with tallystick.open(_ctx.params.get("uri") or DEFAULT_CONTAINER, background=False) as container:
            return _ids(container, incomplete)
    except TallystickError:
        return []


def _ids(container: Container, incomplete: str) -> list[str]:
    names = [loan.xid.hex()[:8] for loan in container.lending.loans()]
    return [name for name in names if name.startswith(incomplete)]


def _lasts(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> int | None:
    return None if value is None else duration(value)


def _ends(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> int | None:
    return None if value is None else instant(value)


def _with(command: Command, *options: Callable[[Command], Command]) -> Command:
    for add in reversed(options):
        command = add(command)
    return command
