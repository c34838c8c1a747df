# SPDX-License-Identifier: Apache-2.0
"""The host's side of the kernel test: the devices behind USB/IP, the vendor, and whoever pulls the cable."""

from __future__ import annotations

import base64
import time
from typing import Any

from host_desk import Desk
from host_tpm import SoftwareTpm

from firmware_sim.dongle import SimulatedDongle
from firmware_sim.flash import Flash
from firmware_sim.platform import SimulatedBoard
from firmware_sim.usb_device import UsbDevice
from firmware_sim.usbip_thread import ServerThread
from issuer import Issuer
from tallystick.license.grant_policy import MAY_ALL, GrantPolicy


class HostSide:
    """Two dongles, at high and at full speed, a vendor, and the TPM.

    Args:
        tpm: that of the guest, if it has one.
        desk: where licenses are sold that need a TPM; with it.

    Attributes:
        port: of loopback, where the USB/IP server listens.
    """

    def __init__(self, tpm: SoftwareTpm | None = None, desk: Desk | None = None) -> None:
        self._chip, self._desk = tpm, desk
        dongles = [SimulatedDongle(SimulatedBoard(Flash(64))) for _ in range(2)]
        self.devices = {"1-1": UsbDevice(dongles[0], speed="high"), "1-2": UsbDevice(dongles[1], speed="full")}
        self._dongles = dict(zip(self.devices, dongles, strict=True))
        self._thread = ServerThread(self.devices.values(), patience=60)  # the guest is slow to say what it wants
        self._issuer = Issuer("acme")
        self._issuer.now = int(time.time())
        self.port: int = self._thread.address[1]

    def answer(self, question: dict[str, Any]) -> Any:
        """Do what the guest asks for."""
        what = question.pop("ask")
        return getattr(self, f"_{what}")(**question)

    def close(self) -> None:
        """End the server, the TPM and the day at the desk."""
        self._thread.close()
        if self._desk is not None:
            self._desk.close()
        if self._chip is not None:
            self._chip.stop()

    @property
    def failures(self) -> list[str]:
        """What went wrong in the server or a firmware."""
        return self._thread.server.failures

    def _tpm(self) -> bool:
        return self._chip is not None

    def _sold(self) -> dict[str, str]:
        """A license for genuine TPMs only: the vendor's trust file, and the code."""
        assert self._desk is not None
        return {"trust": self._desk.trust, "code": self._desk.code}

    def _sell(self, request: str) -> dict[str, str]:
        assert self._desk is not None
        update, text = self._desk.answer(base64.b64decode(request))
        return {"update": base64.b64encode(update).decode(), "text": text}

    def _fail(self) -> None:
        """Let the TPM answer nothing any more."""
        assert self._chip is not None
        self._chip.stop()

    def _serials(self) -> dict[str, str]:
        return {busid: device.function.serial for busid, device in self.devices.items()}

    def _trust(self) -> str:
        return self._issuer.trust.to_text()

    def _issue(self, request: str, lendable: bool = False, **terms: Any) -> str:
        if lendable:
            terms["lend"] = GrantPolicy(MAY_ALL)
        return base64.b64encode(self._issuer.answer(base64.b64decode(request), **terms)).decode()

    def _unplug(self, busid: str) -> None:
        self._thread.server.unplug(self.devices[busid])

    def _plug(self, busid: str) -> None:
        self._thread.server.plug(self.devices[busid])

    def _cut(self, busid: str, operations: int) -> None:
        """Let the device's power fail at a flash operation from now on."""
        self._dongles[busid].power_cut(operations)
