# SPDX-License-Identifier: Apache-2.0
"""A dongle as one holds it: plugged in or not, and without power when its flash is cut."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from firmware_sim.firmware import Firmware
from firmware_sim.flash import PowerLoss
from firmware_sim.platform import SimulatedBoard
from tallystick.clock import Reading, SystemClock
from tallystick.errors import error

_PAUSE_S: Final = 0.01


class SimulatedDongle:
    """A board with firmware, that can be unplugged; also a `usb_device.Function`.

    Args:
        board: the board.
        made: when it is switched on for the first time; now if omitted.
    """

    def __init__(self, board: SimulatedBoard, made: Reading | None = None) -> None:
        self.board = board
        self._firmware: Firmware | None = Firmware(board, made or SystemClock().read())
        self._serial = self.firmware.serial

    @property
    def firmware(self) -> Firmware:
        """The running firmware.

        Raises:
            BackendError: ``device_removed`` while it has no power.
        """
        if self._firmware is None:
            raise error("device_removed", "the simulated dongle has no power")
        return self._firmware

    @property
    def plugged(self) -> bool:
        """Whether it has power."""
        return self._firmware is not None

    @property
    def serial(self) -> str:
        """The container's printed identity."""
        return self._serial

    def claim_serial(self, serial: str) -> None:
        """Pretend to be another device, as far as a serial number can."""
        self._serial = serial

    def plug(self) -> None:
        """Give it power; nothing happens if it has."""
        if self._firmware is None:
            self.board.flash.power_on()
            try:
                self._firmware = Firmware(self.board)
            except PowerLoss:
                self._firmware = None

    def unplug(self) -> None:
        """Take its power away."""
        self._firmware = None

    def power_cut(self, operations: int = 1) -> None:
        """Let the power fail at the n-th flash operation from now on."""
        self.board.flash.cut_power_after(operations)

    def receive(self, data: bytes) -> None:
        """Take bytes in."""
        try:
            self.firmware.receive(data)
        except PowerLoss:
            self._firmware = None

    def transmit(self) -> bytes:
        """Return what waits to be sent."""
        return b"" if self._firmware is None else self._firmware.transmit()

    def poll(self) -> bool:
        """Let the firmware go on with what it waits for, see `usb_device.Function`; at least every 50 ms."""
        if self._firmware is None:
            return False
        try:
            return self._firmware.poll()
        except PowerLoss:
            self._firmware = None
            return True

    def identify(self) -> bytes:
        """Tell what anybody may know."""
        return self.firmware.identify()

    def reset(self) -> None:
        """Take note that the host is gone."""
        if self._firmware is not None:
            self._firmware.reset()


class DirectLink:
    """The shortest pipe to a simulated dongle: no bus, and no waiting but for its button.

    Args:
        dongle: at the other end.
        pause: lets time pass, on the board's clock too.
    """

    def __init__(self, dongle: SimulatedDongle, pause: Callable[[float], None] = time.sleep) -> None:
        self.dongle = dongle
        self._meanwhile = pause

    def claim(self, timeout_s: float) -> None:
        """Nobody else is there."""

    def release(self) -> None:
        """Nobody else is there."""

    def write(self, data: bytes) -> None:
        """Send bytes."""
        self._require()
        self.dongle.receive(data)

    def read(self, timeout_s: float) -> bytes:
        """Return what has arrived; nothing comes later than at once, but from a dongle that waits."""
        self._require()
        end = self.dongle.board.ticks() + timeout_s * 1000
        while not (data := self.dongle.transmit()) and self.dongle.poll() and self.dongle.board.ticks() < end:
            self._meanwhile(_PAUSE_S)
            self._require()
        return data

    def close(self) -> None:
        """Nothing is held."""

    def _require(self) -> None:
        if not self.dongle.plugged:
            raise error("device_removed", "the simulated dongle was unplugged")
