# SPDX-License-Identifier: Apache-2.0
"""In the guest: the dongle as a gadget in the conformance suite, so the kernel is the bus and libusb the way to it."""

from __future__ import annotations

import select
import threading
from collections.abc import Sequence
from pathlib import Path

from guest_bus import eventually

from conformance.cases import BackendCase, Place, renew
from firmware_sim import gadget_tree
from firmware_sim.dongle import SimulatedDongle
from firmware_sim.flash import Flash
from firmware_sim.gadget_function import FunctionFs
from firmware_sim.platform import SimulatedBoard
from firmware_sim.usb_device import UsbDevice
from tallystick.container.base import Container
from tallystick.dongle.anchor import UNCERTIFIED
from tallystick.dongle.backend import UsbBackend
from tallystick.dongle.usb_link import find
from tallystick.errors import TallystickError
from tallystick.license.trust import Trust

_FOLDER = Path("/run/tallystick-suite")
_PAGES = 64


class GadgetBus:
    """A port of ``dummy_hcd``: what is plugged in is the kernel's, and everybody's, until it is pulled out."""

    def __init__(self) -> None:
        self._tree: gadget_tree.Gadget | None = None

    def plug(self, device: UsbDevice) -> None:
        """Put a device on the bus, and wait until libusb sees it."""
        self._tree, folder = _free(device)
        self._tree.make()
        self._function = FunctionFs(device, folder, lambda: None)
        self._over = False
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        self._tree.plug()
        self._serial = device.function.serial
        eventually(lambda: [one for one in find() if one.serial == self._serial and not one.problem])

    def unplug(self) -> None:
        """Pull it out; nothing happens if nothing is there."""
        if self._tree is None:
            return
        tree, self._tree = self._tree, None
        tree.unplug()
        self._over = True
        self._thread.join(5)
        self._function.stop()
        self._function.close()
        tree.close()
        eventually(lambda: self._serial not in {one.serial for one in find()})

    def _listen(self) -> None:
        while not self._over:
            if select.select([self._function.control], [], [], 0.1)[0]:
                self._function.on_events()


def _free(device: UsbDevice) -> tuple[gadget_tree.Gadget, Path]:
    for port in sorted(path.name for path in gadget_tree.PORTS.iterdir()):
        try:
            return gadget_tree.Gadget(port, device.identity, _FOLDER / port), _FOLDER / port
        except TallystickError as taken:
            if taken.code != "busy":
                raise
    raise AssertionError("no port of dummy_hcd is free")


def _uri(place: Place) -> str:
    return f"usb:serial={place.devices['dongle'].serial}" if "dongle" in place.devices else "usb:"


def create(place: Place, trusts: Sequence[Trust]) -> Container:
    """Plug in a dongle with nothing in it; nobody creates its container."""
    backend = _backend(place)
    if "dongle" in place.devices:
        return backend.create(_uri(place), trusts)
    place.devices["bus"] = GadgetBus()
    place.devices["dongle"] = SimulatedDongle(SimulatedBoard(Flash(_PAGES)), place.clock.read())
    place.devices["bus"].plug(UsbDevice(place.devices["dongle"]))
    return backend.open(_uri(place), trusts, background=False)


def reopen(place: Place, trusts: Sequence[Trust], reproof_s: float = 60.0) -> Container:
    """Open it."""
    return _backend(place).open(_uri(place), trusts, reproof_s=reproof_s, background=False)


def unplug(place: Place, container: Container) -> None:
    """Pull it out."""
    place.devices["bus"].unplug()


def impostor(place: Place, container: Container) -> None:
    """Plug in another one that says it has the same serial number."""
    serial = place.devices["dongle"].serial
    unplug(place, container)
    other = SimulatedDongle(SimulatedBoard(Flash(_PAGES)), place.clock.read())
    other.claim_serial(serial)
    place.devices["bus"].plug(UsbDevice(other))


def leave(place: Place) -> None:
    """Leave the port to the next test."""
    if "bus" in place.devices:
        place.devices["bus"].unplug()


def _backend(place: Place) -> UsbBackend:
    return UsbBackend(place.clock, None, lambda _: str(place.path / "seats"))


GADGET = BackendCase(
    "gadget", UNCERTIFIED, create, reopen, unplug=unplug, impostor=impostor, step=renew, kind="sim", shared=False,
    leave=leave,
)  # fmt: skip
