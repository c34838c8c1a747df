# SPDX-License-Identifier: Apache-2.0
"""``python -m firmware_sim``: a simulated dongle for the Linux kernel, or for any other importer of USB/IP."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import click

from firmware_sim.control import AUTO, Control
from firmware_sim.dongle import SimulatedDongle
from firmware_sim.factory_command import factory
from firmware_sim.gadget import gadget
from firmware_sim.image import PAGES, ImageFlash
from firmware_sim.platform import SimulatedBoard
from firmware_sim.usb_descriptors import Speed, warning
from firmware_sim.usb_device import UsbDevice
from firmware_sim.usbip import PORT, UsbIpServer
from tallystick.clock import SystemClock
from tallystick.dongle.usb_ids import PRODUCT_ID, VENDOR_ID
from tallystick.errors import TallystickError, error


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """The Tallystick dongle, simulated."""


main.add_command(factory)
main.add_command(gadget)


@main.command()
@click.argument("image", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--port", default=PORT, show_default=True, help="TCP port, on loopback only; 0 for any free one.")
@click.option("--speed", type=click.Choice(["high", "full"]), default="high", show_default=True, help="Of the bus.")
@click.option("--vid", default=f"{VENDOR_ID:04x}", show_default=True, help="USB vendor id, in hexadecimal.")
@click.option("--pid", default=f"{PRODUCT_ID:04x}", show_default=True, help="USB product id, in hexadecimal.")
def serve(image: Path, port: int, speed: Speed, vid: str, pid: str) -> None:
    """Offer the dongle in the file IMAGE, which is made if it is not there, over USB/IP until interrupted.

    USB/IP has neither authentication nor encryption: only programs on this computer are served.
    """
    try:
        ids = (int(vid, 16), int(pid, 16))
        flash = _locked(image)
        board = SimulatedBoard(flash, flash.chip_id, finger=Control(str(image)).take_touch)
        device = UsbDevice(SimulatedDongle(board, SystemClock().read()), *ids, speed=speed)
        asyncio.run(_serve(device, port, *ids))
    except ValueError:
        raise click.UsageError("--vid and --pid are four hexadecimal digits") from None
    except (TallystickError, OSError) as refusal:
        raise click.ClickException(str(refusal)) from refusal


@main.command()
@click.argument("image", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--auto/--no-auto", default=None, help="Press whenever the dongle waits; or never again.")
def touch(image: Path, auto: bool | None) -> None:
    """Press the button of the dongle in the file IMAGE: now, or else the next time it waits for that."""
    control = Control(str(image))
    if auto is None:
        control.press()
    else:
        control.order(touch=AUTO if auto else None)


def _locked(image: Path) -> ImageFlash:
    """Open an image for this program alone, as long as it runs."""
    if not image.exists():
        ImageFlash.create(str(image), PAGES)
    flash = ImageFlash(str(image))
    if not flash.lock(wait=False):
        raise error("busy", f"another program uses {image}", "End it first.")
    flash.reload()
    return flash


async def _serve(device: UsbDevice, port: int, vid: int, pid: int) -> None:
    server = UsbIpServer([device], port=port)
    host, port = await server.start()
    if (warned := warning(vid, pid)) is not None:
        click.echo(f"warning: {warned}", err=True)
    click.echo(f"dongle {device.function.serial}, usb:vid={vid:04x};pid={pid:04x}")
    click.echo(f"attach, as root: modprobe vhci-hcd && usbip --tcp-port {port} attach -r {host} -b 1-1")
    click.echo("Interrupt to pull it out.")
    sys.stdout.flush()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_ in (signal.SIGINT, signal.SIGTERM):  # also where whoever started this ignores them
        loop.add_signal_handler(signal_, stop.set)
    try:
        await stop.wait()
    finally:
        await server.close()
    click.echo("The dongle is gone.", err=True)


if __name__ == "__main__":
    main(prog_name="python -m firmware_sim")
