# SPDX-License-Identifier: Apache-2.0
"""`Platform`: all that the firmware may use. Tests, the simulator and a port to a chip differ here, nowhere else."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Protocol

from firmware_sim.flash import Flash


class Platform(Protocol):
    """The board under the firmware."""

    flash: Flash
    """Memory that stays."""

    chip_id: bytes
    """16 bytes, different for every chip."""

    kind: str
    """``usb`` for a real device, ``sim`` for a simulated one: told in requests."""

    locked: bool
    """Whether the debug port is closed for good; a factory certifies no device where it is not."""

    def random(self, size: int) -> bytes:
        """Return bytes nobody can guess."""

    def ticks(self) -> int:
        """Return the milliseconds since some moment before power on: the board's own clock, which never goes back."""

    def listen(self) -> None:
        """Forget earlier presses of the button: from now on one counts."""

    def touched(self) -> bool:
        """Tell whether the button was pressed since `listen`, or since it was asked last."""

    def blink(self) -> None:
        """Let the light blink, so that somebody finds the device."""


class SimulatedBoard:
    """A board in memory.

    Args:
        flash: its memory.
        chip_id: 16 bytes.
        random: source of random bytes.
        locked: whether its debug port counts as closed.
        monotonic: seconds, of its clock.
        finger: looked at while the firmware waits: whether it presses the button now.

    Attributes:
        presses: of the button, not yet noticed by the firmware.
        blinks: how often the light was told to blink.
    """

    def __init__(
        self,
        flash: Flash,
        chip_id: bytes = bytes(16),
        random: Callable[[int], bytes] = os.urandom,
        *,
        locked: bool = True,
        monotonic: Callable[[], float] = time.monotonic,
        finger: Callable[[], bool] | None = None,
    ) -> None:
        self.flash = flash
        self.chip_id = chip_id
        self.locked = locked
        self.kind = "sim"
        self.blinks = 0
        self.presses = 0
        self._random = random
        self._monotonic = monotonic
        self._finger = finger

    def random(self, size: int) -> bytes:
        """Return random bytes."""
        return self._random(size)

    def ticks(self) -> int:
        """Return the milliseconds of its clock."""
        return int(self._monotonic() * 1000)

    def listen(self) -> None:
        """Forget presses."""
        self.presses = 0

    def touched(self) -> bool:
        """Use up one press of the button, if there was one."""
        if self.presses:
            self.presses -= 1
            return True
        return self._finger is not None and self._finger()

    def blink(self) -> None:
        """Count it."""
        self.blinks += 1
