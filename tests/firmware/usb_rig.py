# SPDX-License-Identifier: Apache-2.0
"""Two ways from pyusb to a simulated device, with one face: in process, and USB/IP over a loopback socket."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable
from typing import Any, Protocol

from firmware_sim.usb_backend import InProcessBackend
from firmware_sim.usb_host import Device
from firmware_sim.usb_library import Backend
from firmware_sim.usbip import UsbIpServer
from firmware_sim.usbip_client import UsbIpBackend


class ServerThread:
    """A USB/IP server on a free loopback port, in a thread of its own."""

    def __init__(self, devices: Iterable[Device] = (), patience: float = 5.0) -> None:
        self.server = UsbIpServer(devices, port=0, patience=patience)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.address = self.run(self.server.start())

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    def close(self) -> None:
        self.run(self.server.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)
        self._loop.close()


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
