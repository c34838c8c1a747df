# SPDX-License-Identifier: Apache-2.0
"""The simulated dongle against the oracle: the same story as `test_container_machine`, the account kept by the device.

Once in memory, where all programs talk to one device, which is pulled out now and then; once in a file, where each
program brings a device of its own and finds what the others wrote. All that the outcome depends on is drawn: there is
no thread, the clocks are moved by hand, and one program at a time asks.
``HYPOTHESIS_PROFILE=thorough ./run test tests/oracle -o faulthandler_timeout=0`` tries very many steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis.stateful import rule

from fakes import FakeClock
from firmware_sim.backend import SimBackend
from firmware_sim.dongle import DirectLink, SimulatedDongle
from firmware_sim.flash import Flash
from firmware_sim.platform import SimulatedBoard
from oracle.test_container_machine import ContainerMachine
from tallystick.container.base import Container
from tallystick.dongle.anchor import UNCERTIFIED
from tallystick.dongle.opening import open_dongle
from tallystick.license.trust import Trust
from tallystick.registry import Backend

PAGES = 64
SLICE = settings().max_examples // 2  # each of the two machines: half of what the profile asks for


class OneDongle:
    """A backend that knows a single dongle, whatever it is asked to create or open.

    Args:
        clock: of the computer.
        folder: where its seats are counted.
    """

    scheme = "sim"

    def __init__(self, clock: FakeClock, folder: Path) -> None:
        self._clock = clock
        self._folder = folder
        board = SimulatedBoard(Flash(PAGES), monotonic=clock.monotonic)
        self.dongle = SimulatedDongle(board, clock.read())

    def create(self, uri: str, trusts: Sequence[Trust] = (), **_: Any) -> Container:
        return self.open(uri, trusts, background=False)

    def open(
        self, uri: str, trusts: Sequence[Trust] = (), *, reproof_s: float = 60.0, background: bool = True
    ) -> Container:
        return open_dongle(
            uri, DirectLink(self.dongle), trusts, self._clock, folder=lambda _: str(self._folder / "seats"),
            capabilities=UNCERTIFIED, reproof_s=reproof_s, background=background,
        )  # fmt: skip

    def view(self, uri: str) -> Container:
        return self.open(uri, background=False)


class DongleMachine(ContainerMachine):
    """One dongle, up to three programs, one oracle."""

    backend: OneDongle

    def computer(self) -> tuple[Backend, str]:
        return OneDongle(self.clock, self.folder), "sim:"

    def power_fails(self) -> None:
        """The device forgets its channels, and so who reserved what; the account is in its flash."""
        held = self.oracle.books["held"].values()
        self.forfeited |= {reservation for one in held for reservation in one["reservations"]}
        self.backend.dongle.unplug()
        self.backend.dongle.plug()

    @rule()
    def it_is_pulled_out_and_put_back(self) -> None:
        self.power_fails()
        self.both(lambda: None, lambda _: None)


class ImageMachine(ContainerMachine):
    """One dongle in a file, up to three programs that have it switched on by turns, one oracle."""

    def computer(self) -> tuple[Backend, str]:
        return SimBackend(self.clock, PAGES), f"sim:{self.folder / 'dongle.img'}"


TestDongle = DongleMachine.TestCase
TestDongle.settings = settings(stateful_step_count=25, max_examples=SLICE)
TestImage = ImageMachine.TestCase
TestImage.settings = settings(stateful_step_count=25, max_examples=SLICE)
