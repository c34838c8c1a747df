# SPDX-License-Identifier: Apache-2.0
"""A simulated dongle against the oracle: `test_container_machine`, on a device that keeps the account itself."""

from __future__ import annotations

from hypothesis import settings

from firmware_sim.backend import SimBackend
from oracle.test_container_machine import ContainerMachine
from tallystick.registry import Backend


class DongleMachine(ContainerMachine):
    """One dongle in a file, up to three programs, one oracle."""

    def computer(self) -> tuple[Backend, str]:
        return SimBackend(self.clock, 64), f"sim:{self.folder / 'dongle.img'}"


TestDongle = DongleMachine.TestCase
TestDongle.settings = settings(stateful_step_count=25)
