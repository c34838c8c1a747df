# SPDX-License-Identifier: Apache-2.0
"""A USB/IP server on a free loopback port, in a thread of its own: for programs that have no event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable
from typing import Any

from firmware_sim.usb_host import Device
from firmware_sim.usbip import UsbIpServer


class ServerThread:
    """A running server; close it.

    Args:
        devices: plugged in from the start.
        patience: seconds a new connection has to say what it wants.

    Attributes:
        server: plug devices in and pull them out there, from any thread.
        address: host and port.
    """

    def __init__(self, devices: Iterable[Device] = (), patience: float = 5.0) -> None:
        self.server = UsbIpServer(devices, port=0, patience=patience)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.address: tuple[str, int] = self.run(self.server.start())

    def run(self, work: Any) -> Any:
        """Run a coroutine where the server runs, and return its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    def close(self) -> None:
        """End the server and the thread."""
        self.run(self.server.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)
        self._loop.close()
