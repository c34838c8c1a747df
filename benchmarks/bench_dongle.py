# SPDX-License-Identifier: Apache-2.0
"""The dongle, simulated: what its protocol costs beside a bare echo of the same bytes over the same transport.

In process (no kernel, virtual time), and over USB/IP on loopback (a real socket, no kernel). No figure is one of
hardware: the flash and the bus of a device are slower, its protocol is the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import usb.core
import usb.util

from firmware_sim.dongle import SimulatedDongle
from firmware_sim.flash import Flash
from firmware_sim.platform import SimulatedBoard
from firmware_sim.usb_backend import InProcessBackend
from firmware_sim.usb_device import UsbDevice
from firmware_sim.usbip_client import UsbIpBackend
from firmware_sim.usbip_thread import ServerThread
from firmware_sim.vendor import SimulatedVendor
from tallystick.codec.signing import SoftwareKey
from tallystick.dongle import frames
from tallystick.dongle.backend import UsbBackend

PROOF_OUT = frames.HEAD + 10 + 16 + 37  # frame, channel and counter, tag, call 5 with its nonce
PROOF_IN = frames.HEAD + 10 + 16 + 68
ROUNDS = 300
WEAR_ROUNDS = 1500
MINUTES_A_YEAR = 365.25 * 24 * 60


class Echo:
    """A function that answers so many bytes with so many others, and does nothing."""

    serial = "TS-ECHO"

    def __init__(self) -> None:
        self._heard = 0
        self._waiting: list[bytes] = []

    def receive(self, data: bytes) -> None:
        self._heard += len(data)
        while self._heard >= PROOF_OUT:
            self._heard -= PROOF_OUT
            self._waiting.append(bytes(PROOF_IN))

    def transmit(self) -> bytes:
        return self._waiting.pop(0) if self._waiting else b""

    def identify(self) -> bytes:
        return b"\xa0"

    def reset(self) -> None:
        self._heard = 0
        self._waiting.clear()


class Bus:
    """A bus to plug devices into: in this process, or a USB/IP server in a thread."""

    def __init__(self, socket: bool) -> None:
        self._thread = ServerThread() if socket else None
        if self._thread is None:
            self.pyusb: Any = InProcessBackend()
            self.plug: Any = self.pyusb.plug
        else:
            self.pyusb = UsbIpBackend(*self._thread.address)
            self.plug = self._thread.server.plug

    def close(self) -> None:
        if self._thread is not None:
            self.pyusb.close()
            self._thread.close()


@pytest.fixture(params=["in process", "USB/IP"])
def bus(request: pytest.FixtureRequest) -> Iterator[tuple[str, Bus]]:
    made = Bus(request.param == "USB/IP")
    yield request.param, made
    made.close()


@pytest.fixture
def dongle(bus: tuple[str, Bus], tmp_path: Path) -> Iterator[tuple[Any, ...]]:
    """A dongle with a license, opened, and a seat of it."""
    held = SimulatedDongle(SimulatedBoard(Flash(64)))
    bus[1].plug(UsbDevice(held))
    backend = UsbBackend(usb=bus[1].pyusb, folder=lambda _: str(tmp_path / "seats"))
    vendor = SimulatedVendor()
    with ExitStack() as stack:
        container = stack.enter_context(backend.open("usb:", (vendor.trust,), background=False))
        vendor.sell(container, "render", units=10_000_000)
        seat = stack.enter_context(container.checkout("render"))
        yield bus[0], backend, vendor, container, seat, held


def test_echo(benchmark: Any, bus: tuple[str, Bus]) -> None:
    benchmark.group = f"dongle, {bus[0]}"
    benchmark.name = "bare echo of as many bytes as a proof"
    bus[1].plug(UsbDevice(Echo()))
    device = usb.core.find(backend=bus[1].pyusb)
    usb.util.claim_interface(device, 0)
    sent = bytes(PROOF_OUT)

    def echo() -> None:
        device.write(0x01, sent, 2000)
        assert len(device.read(0x81, 16_384, 2000)) == PROOF_IN

    benchmark.pedantic(echo, rounds=ROUNDS, warmup_rounds=10)
    usb.util.dispose_resources(device)


def test_signature(benchmark: Any, bus: tuple[str, Bus]) -> None:
    benchmark.group = f"dongle, {bus[0]}"
    benchmark.name = "the proof's signature and its verification, same library"
    key, nonce = SoftwareKey.generate(), os.urandom(63)
    benchmark.pedantic(
        lambda: key.public_key.verify_raw(nonce, key.sign(nonce)), rounds=ROUNDS, iterations=3, warmup_rounds=10
    )


def test_proof(benchmark: Any, dongle: tuple[Any, ...]) -> None:
    benchmark.group = f"dongle, {dongle[0]}"
    benchmark.name = "re-proof"
    benchmark.pedantic(dongle[4]._host._prove, rounds=ROUNDS, warmup_rounds=10)


def test_consume(benchmark: Any, dongle: tuple[Any, ...]) -> None:
    benchmark.group = f"dongle, {dongle[0]}"
    benchmark.name = "seat.consume(1)"
    flash = dongle[5].board.flash
    before, erased = flash.programs, flash.erases
    benchmark.pedantic(lambda: dongle[4].consume(1), rounds=ROUNDS, warmup_rounds=10)
    used = ROUNDS + 10
    while used < WEAR_ROUNDS:  # so many that the log was compacted some times
        dongle[4].consume(1)
        used += 1
    benchmark.extra_info["words"] = (flash.programs - before) / used
    erases = max(1, flash.erases - erased) / used
    benchmark.extra_info["years"] = flash.pages * flash.endurance / erases / MINUTES_A_YEAR


def test_check(benchmark: Any, dongle: tuple[Any, ...]) -> None:
    benchmark.group = f"dongle, {dongle[0]}"
    benchmark.name = "seat.check, hot"
    benchmark.extra_info["per_round"] = 1000
    seat = dongle[4]

    def loop() -> None:
        for _ in range(1000):
            seat.check()

    benchmark.pedantic(loop, rounds=20, warmup_rounds=2)


def test_open(benchmark: Any, dongle: tuple[Any, ...]) -> None:
    benchmark.group = f"dongle, {dongle[0]}"
    benchmark.name = "find, open, read the account, close"
    _, backend, vendor, _, seat, _ = dongle
    seat.close()

    def opened() -> None:
        backend.open("usb:", (vendor.trust,), background=False).close()

    benchmark.pedantic(opened, rounds=50, warmup_rounds=2)
