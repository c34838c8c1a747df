# SPDX-License-Identifier: Apache-2.0
"""The dongle in the conformance suite: in a file, and on a simulated bus with the packets of full and high speed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from conformance.cases import BackendCase, Place, renew
from firmware_sim.backend import SimBackend
from firmware_sim.control import Control
from firmware_sim.dongle import SimulatedDongle
from firmware_sim.flash import Flash
from firmware_sim.platform import SimulatedBoard
from firmware_sim.usb_backend import InProcessBackend
from firmware_sim.usb_descriptors import Speed
from firmware_sim.usb_device import UsbDevice
from firmware_sim.usbip_client import UsbIpBackend
from firmware_sim.usbip_thread import ServerThread
from tallystick.container.base import Container
from tallystick.dongle.anchor import UNCERTIFIED
from tallystick.dongle.backend import UsbBackend
from tallystick.license.trust import Trust

PAGES = 256  # enough for a thousand licenses


def sim_uri(place: Place) -> str:
    """Where the simulated dongle is."""
    return f"sim:{place.path / 'dongle.img'}"


def sim_create(place: Place, trusts: Sequence[Trust]) -> Container:
    """Make a simulated dongle."""
    return SimBackend(place.clock, PAGES).create(sim_uri(place), trusts)


def sim_open(place: Place, trusts: Sequence[Trust], reproof_s: float = 60.0) -> Container:
    """Open it."""
    return SimBackend(place.clock).open(sim_uri(place), trusts, reproof_s=reproof_s, background=False)


def sim_unplug(place: Place, container: Container) -> None:
    """Pull it out."""
    Control(str(place.path / "dongle.img")).order(unplugged=True)


def sim_impostor(place: Place, container: Container) -> None:
    """Plug another one in."""
    link = container._session.client.link  # type: ignore[attr-defined]
    link.dongle.unplug()
    link.dongle = SimulatedDongle(SimulatedBoard(Flash()))


SIM = BackendCase(
    "sim",
    UNCERTIFIED,
    sim_create,
    sim_open,
    unplug=sim_unplug,
    impostor=sim_impostor,
    step=renew,
)


class SocketBus:
    """Devices behind a USB/IP server, and a client of it: the bus of a computer without a kernel."""

    def __init__(self) -> None:
        self._thread = ServerThread()
        self.plug = self._thread.server.plug
        self.unplug = self._thread.server.unplug
        self.client = UsbIpBackend(*self._thread.address)

    def close(self) -> None:
        """End both."""
        self.client.close()
        self._thread.close()


def _usb_backend(place: Place, socket: bool) -> UsbBackend:
    bus = place.devices.get("bus")
    if bus is None:
        bus = place.devices["bus"] = SocketBus() if socket else InProcessBackend()
    return UsbBackend(place.clock, bus.client if socket else bus, lambda _: str(place.path / "seats"))


def usb_create(place: Place, trusts: Sequence[Trust], speed: Speed, socket: bool) -> Container:
    """Plug in a dongle with nothing in it; nobody creates its container."""
    backend = _usb_backend(place, socket)
    if "dongle" in place.devices:
        return backend.create("usb:", trusts)
    place.devices["dongle"] = SimulatedDongle(SimulatedBoard(Flash(PAGES)), place.clock.read())
    place.devices["usb"] = UsbDevice(place.devices["dongle"], speed=speed)
    place.devices["bus"].plug(place.devices["usb"])
    return backend.open("usb:", trusts, background=False)


def usb_open(place: Place, trusts: Sequence[Trust], reproof_s: float = 60.0, *, socket: bool) -> Container:
    """Open it."""
    return _usb_backend(place, socket).open("usb:", trusts, reproof_s=reproof_s, background=False)


def usb_unplug(place: Place, container: Container) -> None:
    """Pull it out."""
    place.devices["bus"].unplug(place.devices["usb"])


def usb_impostor(place: Place, container: Container) -> None:
    """Plug in another one that says it has the same serial number."""
    serial = place.devices["dongle"].serial
    usb_unplug(place, container)
    other = SimulatedDongle(SimulatedBoard(Flash(PAGES)), place.clock.read())
    other.claim_serial(serial)
    place.devices["bus"].plug(UsbDevice(other))


def usb_leave(place: Place) -> None:
    """End the server, if there is one."""
    bus = place.devices.get("bus")
    if isinstance(bus, SocketBus):
        bus.close()


def _usb(speed: Speed, *, socket: bool = False) -> BackendCase:
    return BackendCase(
        f"{'usbip' if socket else 'usb'}-{speed}",
        UNCERTIFIED,
        partial(usb_create, speed=speed, socket=socket),
        partial(usb_open, socket=socket),
        unplug=usb_unplug,
        impostor=usb_impostor,
        step=renew,
        kind="sim",
        shared=False,
        leave=usb_leave,
    )


DONGLES = (SIM, _usb("full"), _usb("high"), _usb("full", socket=True), _usb("high", socket=True))
