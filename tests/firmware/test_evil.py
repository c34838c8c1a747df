# SPDX-License-Identifier: Apache-2.0
"""A dongle is hostile until proven otherwise: every fault of the switchboard against every kind of command.

Each ends in the right answer or a typed refusal, within 2 s of (virtual) time; and when the device is good again, so is
the next command, after it was unplugged and plugged in again at the latest.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fakes import FakeClock
from firmware_sim.dongle import SimulatedDongle
from firmware_sim.faults import PROFILES, FaultyDevice
from firmware_sim.flash import Flash
from firmware_sim.platform import SimulatedBoard
from firmware_sim.usb_backend import InProcessBackend
from issuer import Issuer
from tallystick.container.base import Container
from tallystick.dongle.backend import UsbBackend
from tallystick.errors import TallystickError

CODES = {
    "backend_failed", "device_silent", "device_removed", "channel_broken", "busy", "bad_signature", "no_permission",
    "container_not_found", "bad_key",
}  # fmt: skip
LIMIT_S = 2.1
PATIENT_S = 31.0  # whoever says that it is working is believed so long
SLOW_S = 15.0  # each answer in time, and several of them


class TickingClock(FakeClock):
    """Looking at the clock takes a moment: a device that always has something to say does not stop time."""

    def monotonic(self) -> float:
        self.advance(0.0005)
        return super().monotonic()


class Bench:
    """A faulty device on a bus, with a license on it."""

    def __init__(self, folder: Path, speed: str) -> None:
        self.clock = TickingClock()
        self.acme = Issuer()
        self.dongle = SimulatedDongle(SimulatedBoard(Flash(32)), self.clock.read())
        self.device = FaultyDevice(self.dongle, speed=speed)
        self.bus = InProcessBackend([self.device], elapse=self.clock.advance)
        self.backend = UsbBackend(self.clock, self.bus, lambda _: str(folder / "seats"))
        self.container = self.open()
        request = self.container.request(self.acme.trust, product="cad")
        made = self.acme.license(request, units=1_000_000)
        self.container.install(self.acme.answer(request, made))

    def open(self) -> Container:
        return self.backend.open("usb:", (self.acme.trust,), background=False)

    def used(self) -> int:
        """What the device's own books say, whatever it told."""
        (holding,) = self.dongle.firmware.account.current().holdings.values()
        return holding.usage().used.get("", 0)


def use(bench: Bench) -> int:
    with bench.container.checkout("cad") as seat:
        return seat.consume(1)


COMMANDS: dict[str, Callable[[Bench], Any]] = {
    "look": lambda bench: bench.container.licenses(),
    "use": use,
    "ask": lambda bench: bench.container.request(bench.acme.trust, product="cad"),
    "lend": lambda bench: bench.container.lending.ask(bench.acme.trust, product="cad"),
    "open": lambda bench: bench.open().close(),
}


@pytest.mark.parametrize("speed", ["full", "high"])
@pytest.mark.parametrize("profile", PROFILES)
def test_every_fault_ends_in_a_typed_error_and_the_next_command_works(tmp_path: Path, profile: str, speed: str) -> None:
    bench = Bench(tmp_path, speed)
    limit = {"keep-alive": PATIENT_S, "slow": SLOW_S, "byte-by-byte": SLOW_S}.get(profile, LIMIT_S)
    for name, command in COMMANDS.items():
        for times in (None, 1):
            before = bench.used()
            begun = bench.clock.monotonic()
            bench.device.arm(profile, times=times)
            try:
                left = command(bench)
                if name == "use":
                    assert left == 1_000_000 - before - 1
            except TallystickError as refusal:
                assert refusal.code in CODES, (name, refusal.code, refusal)
                assert refusal.remedy
            assert bench.clock.monotonic() - begun <= limit, (name, times)
            bench.device.disarm()
            if not bench.dongle.plugged:
                bench.bus.plug(bench.device)
            assert bench.used() - before <= 1, "one unit was asked for"
            _works_again(bench)


def _works_again(bench: Bench) -> None:
    before = bench.used()
    try:
        use(bench)
    except TallystickError as refusal:
        assert refusal.code in CODES
        bench.bus.unplug(bench.device)
        bench.bus.plug(bench.device)
        use(bench)
        before += bench.used() - before - 1
    assert bench.used() == before + 1


def test_the_switchboard_has_enough_on_it() -> None:
    assert len(PROFILES) >= 30
