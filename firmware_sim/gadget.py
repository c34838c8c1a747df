# SPDX-License-Identifier: Apache-2.0
"""``python -m firmware_sim gadget``: a computer with a device's USB port becomes a dongle.

A Raspberry Pi Zero on a cable is one; ``dummy_hcd`` is one on the same machine, for tests. The kernel does the bus, so
this is also a second opinion on the simulated one.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from firmware_sim import gadget_tree
from firmware_sim.commands import interrupted, own_dongle, refusals, usb_ids, warn_of
from firmware_sim.gadget_function import FunctionFs
from firmware_sim.usb_device import UsbDevice
from tallystick.errors import error


@click.command()
@click.argument("image", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--udc", metavar="NAME", help="USB device controller, of /sys/class/udc; by default the only one.")
@usb_ids
@click.option("--functionfs", metavar="DIR", type=click.Path(file_okay=False, path_type=Path),
              help="Where to mount FunctionFS; by default below /run.")  # fmt: skip
def gadget(image: Path, udc: str | None, vid: int, pid: int, functionfs: Path | None) -> None:
    """Be the dongle in the file IMAGE, which is made if it is not there, on this computer's USB device port.

    Runs until interrupted, as root, on Linux with a USB device controller: a Raspberry Pi Zero, or, to try it on one
    machine, `modprobe dummy_hcd`. Whoever has the image has the dongle: it is of level L0.
    """
    with refusals():
        gadget_tree.require_configfs()
        port = gadget_tree.port(udc)
        device = UsbDevice(own_dongle(image), vid, pid)
        warn_of(vid, pid)
        asyncio.run(run(device, port, functionfs or Path("/run") / f"tallystick-{port}"))


async def run(device: UsbDevice, port: str, folder: Path) -> None:
    """Be a device on a port until interrupted.

    Args:
        device: what is plugged in.
        port: name of the device controller.
        folder: where FunctionFS is mounted.

    Raises:
        TallystickError: the kernel refuses, or ``device_removed``: the firmware lost its power.
        OSError: the kernel does not take the descriptors, or lost an endpoint.
    """
    loop, stop = asyncio.get_running_loop(), interrupted()
    tree = gadget_tree.Gadget(port, device.identity, folder)
    function = None
    try:
        tree.make()
        function = FunctionFs(device, folder, lambda: loop.call_soon_threadsafe(stop.set))
        loop.add_reader(function.control, function.on_events)
        tree.plug()
        ids = f"vid={device.identity.vid:04x};pid={device.identity.pid:04x}"
        click.echo(f"dongle {device.function.serial}, usb:{ids}, on {port}\nInterrupt to pull it out.")
        await stop.wait()
    finally:
        tree.unplug()
        if function is not None:
            loop.remove_reader(function.control)
            function.stop()
            function.close()
        tree.close()
    if function.failure is not None:
        raise function.failure
    if not device.connected:
        raise error("device_removed", "the dongle has lost its power", "Start it again.")
    click.echo("The dongle is gone.", err=True)
