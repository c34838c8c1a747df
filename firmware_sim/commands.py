# SPDX-License-Identifier: Apache-2.0
"""What the commands of ``python -m firmware_sim`` have in common."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from firmware_sim.control import Control
from firmware_sim.dongle import SimulatedDongle
from firmware_sim.image import PAGES, ImageFlash
from firmware_sim.platform import SimulatedBoard
from firmware_sim.usb_descriptors import warning
from tallystick.clock import SystemClock
from tallystick.dongle.usb_ids import PRODUCT_ID, VENDOR_ID
from tallystick.errors import TallystickError, error

Command = TypeVar("Command", bound=Callable[..., Any])
_ID: Final[Any] = {"show_default": True, "callback": lambda _ctx, _parameter, value: usb_id(value)}


def usb_ids(command: Command) -> Command:
    """Add ``--vid`` and ``--pid``, read as numbers."""
    command = click.option("--pid", default=f"{PRODUCT_ID:04x}", help="USB product id, in hexadecimal.", **_ID)(command)
    return click.option("--vid", default=f"{VENDOR_ID:04x}", help="USB vendor id, in hexadecimal.", **_ID)(command)


def usb_id(text: str) -> int:
    """Read a USB id.

    Args:
        text: up to four hexadecimal digits.

    Raises:
        click.UsageError: it is none.
    """
    if not 1 <= len(text) <= 4 or set(text.lower()) - set("0123456789abcdef"):
        raise click.UsageError("--vid and --pid are four hexadecimal digits")
    return int(text, 16)


def own_dongle(image: Path) -> SimulatedDongle:
    """Have the dongle in a file for this program alone, as long as it runs; the file is made if it is not there.

    Args:
        image: the file.

    Returns:
        The dongle, switched on.

    Raises:
        ContainerError: ``busy``.
        OSError: the file cannot be read or made.
    """
    if not image.exists():
        ImageFlash.create(str(image), PAGES)
    flash = ImageFlash(str(image))
    if not flash.lock(wait=False):
        raise error("busy", f"another program uses {image}", "End it first.")
    flash.reload()
    orders = Control(str(image))
    board = SimulatedBoard(flash, flash.chip_id, locked=orders.locked, finger=orders.take_touch)
    return SimulatedDongle(board, SystemClock().read())


def warn_of(vid: int, pid: int) -> None:
    """Say it where a pair of ids may not be used outside."""
    if (warned := warning(vid, pid)) is not None:
        click.echo(f"warning: {warned}", err=True)


def interrupted() -> asyncio.Event:
    """Return what is set when somebody interrupts or ends this program, also where whoever started it ignores that."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for signal_ in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signal_, stop.set)
    return stop


@contextmanager
def refusals() -> Iterator[None]:
    """Show what is refused as one line, with the remedy on another."""
    try:
        yield
    except TallystickError as refusal:
        remedy = f"\nremedy: {refusal.remedy}" if refusal.remedy else ""
        raise click.ClickException(f"{refusal.message}{remedy}") from refusal
    except OSError as refusal:
        raise click.ClickException(str(refusal)) from refusal
