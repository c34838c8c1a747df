# SPDX-License-Identifier: Apache-2.0
"""Two ways from pyusb to a simulated device, with one face: in process, and USB/IP over a loopback socket."""

from __future__ import annotations

from typing import Protocol

from firmware_sim.usb_backend import InProcessBackend
from firmware_sim.usb_host import Device
from firmware_sim.usb_library import Backend
from firmware_sim.usbip_client import UsbIpBackend
from firmware_sim.usbip_thread import ServerThread


class Rig(Protocol):
    """Devices and the backend that reaches them."""

    name: str
    backend: Backend
    virtual_time: bool

    def plug(self, device: Device) -> None: ...

    def unplug(self, device: Device) -> None: ...

    def close(self) -> None: ...


class InProcessRig:
    name = "in-process"
    virtual_time = True

    def __init__(self, *devices: Device) -> None:
        self.backend = InProcessBackend(devices)

    def plug(self, device: Device) -> None:
        self.backend.plug(device)

    def unplug(self, device: Device) -> None:
        self.backend.unplug(device)

    def close(self) -> None:
        pass


class UsbIpRig:
    name = "usbip"
    virtual_time = False

    def __init__(self, *devices: Device) -> None:
        self.thread = ServerThread(devices)
        self.backend = UsbIpBackend(*self.thread.address)

    def plug(self, device: Device) -> None:
        self.thread.server.plug(device)

    def unplug(self, device: Device) -> None:
        self.thread.server.unplug(device)

    def close(self) -> None:
        self.backend.close()
        self.thread.close()


RIGS: tuple[type[InProcessRig] | type[UsbIpRig], ...] = (InProcessRig, UsbIpRig)
