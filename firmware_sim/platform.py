# SPDX-License-Identifier: Apache-2.0
"""`Platform`: all that the firmware may touch. Tests, the simulator and a port to a chip differ here, nowhere else."""

from __future__ import annotations

import os
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

    def touched(self) -> bool:
        """Tell whether the button was pressed since it was asked last."""

    def blink(self) -> None:
        """Let the light blink, so that somebody finds the device."""


class SimulatedBoard:
    """A board in memory.

    Args:
        flash: its memory.
        chip_id: 16 bytes.
        random: source of random bytes.
        locked: whether its debug port counts as closed.
    """

    def __init__(
        self,
        flash: Flash,
        chip_id: bytes = bytes(16),
        random: Callable[[int], bytes] = os.urandom,
        *,
        locked: bool = True,
    ) -> None:
        self.flash = flash
        self.chip_id = chip_id
        self.locked = locked
        self.kind = "sim"
        self.blinks = 0
        self.presses = 0
        self._random = random

    def random(self, size: int) -> bytes:
        """Return random bytes."""
        return self._random(size)

    def touched(self) -> bool:
        """Use up one press of the button, if there was one."""
        pressed = self.presses > 0
        self.presses -= pressed
        return pressed

    def blink(self) -> None:
        """Count it."""
        self.blinks += 1
