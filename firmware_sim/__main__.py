# SPDX-License-Identifier: Apache-2.0
"""``python -m firmware_sim``: a simulated dongle for the Linux kernel, or for any other importer of USB/IP."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click

from firmware_sim.commands import interrupted, own_dongle, refusals, usb_ids, warn_of
from firmware_sim.control import AUTO, Control
from firmware_sim.factory_command import factory
from firmware_sim.gadget import gadget
from firmware_sim.usb_descriptors import Speed
from firmware_sim.usb_device import UsbDevice
from firmware_sim.usbip import PORT, UsbIpServer


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """The Tallystick dongle, simulated."""


main.add_command(factory)
main.add_command(gadget)


@main.command()
@click.argument("image", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--port", default=PORT, show_default=True, help="TCP port, on loopback only; 0 for any free one.")
@click.option("--speed", type=click.Choice(["high", "full"]), default="high", show_default=True, help="Of the bus.")
@usb_ids
def serve(image: Path, port: int, speed: Speed, vid: int, pid: int) -> None:
    """Offer the dongle in the file IMAGE, which is made if it is not there, over USB/IP until interrupted.

    USB/IP has neither authentication nor encryption: only programs on this computer are served.
    """
    with refusals():
        device = UsbDevice(own_dongle(image), vid, pid, speed=speed)
        asyncio.run(_serve(device, port, vid, pid))


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


async def _serve(device: UsbDevice, port: int, vid: int, pid: int) -> None:
    server = UsbIpServer([device], port=port)
    host, port = await server.start()
    warn_of(vid, pid)
    click.echo(f"dongle {device.function.serial}, usb:vid={vid:04x};pid={pid:04x}")
    click.echo(f"attach, as root: modprobe vhci-hcd && usbip --tcp-port {port} attach -r {host} -b 1-1")
    click.echo("Interrupt to pull it out.")
    sys.stdout.flush()
    try:
        await interrupted().wait()
    finally:
        await server.close()
    click.echo("The dongle is gone.", err=True)


if __name__ == "__main__":
    main(prog_name="python -m firmware_sim")
