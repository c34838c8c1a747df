# SPDX-License-Identifier: Apache-2.0
"""Random bytes against a whole dongle with recognizable secrets: none of them ever leaves it.

Unused RAM holds 0xA5 (`firmware_sim.usb_device`), and so do the secrets: a `PoisonedRandom` gives the board its keys
and salts. The host never sends two such bytes in a row. Everything that leaves the device, and everything it seals in
answers, is searched for runs of the poison, for every part of the secrets that are not made of it (PIN, PUK, their
digests), and in the clear also for what the account holds.

The tests send 100,000 packets; for more: ``PYTHONPATH=src:.:tests:tests/firmware python tests/firmware/fuzz_poison.py
--packets 1000000 --seed 7``. Without the PIN nothing of the account changes, whatever is sent; without a PIN set,
programs may change it, and still learn no secret.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from dongle_rig import Rig, Wire
from usb_campaign import clean, random_setup

from fakes import FakeClock
from firmware_sim.dongle import SimulatedDongle
from firmware_sim.flash import Flash
from firmware_sim.platform import SimulatedBoard
from firmware_sim.usb_descriptors import IDENTIFY, MS_VENDOR_CODE, PACKET_BYTES, Speed
from firmware_sim.usb_device import UsbDevice
from firmware_sim.usb_host import enumerate_device, setup_packet
from tallystick.clock import Reading
from tallystick.codec import cbor
from tallystick.container.commands import Observe, encode
from tallystick.dongle import frames
from tallystick.dongle.calls import CALLS, encode_call
from tallystick.dongle.channel import Channel, Hello
from tallystick.dongle.frames import FrameReader
from tallystick.errors import FormatError, TallystickError

POISON: Final = 0xA5
CONSTANT_RUN: Final = b"\xa5" * 2
"""In what endpoint 0 tells, which is constant and holds no such byte."""
RANDOM_RUN: Final = b"\xa5" * 6
"""In what is sealed or signed, and so looks random: six in a row come by chance once in 2^48 bytes."""
PART: Final = 8
"""Bytes of a secret in a row that count as a leak of it."""
PRODUCT: Final = "kept-to-itself"
NOW: Final = Reading(1_800_000_000, 1_000, "boot")
PIN, PUK = "a-pin-of-some-length", "a-puk-of-some-length"


class PoisonedRandom:
    """The board's randomness: while `secret`, the poison and a byte to tell them apart; else, bytes without it."""

    def __init__(self, seed: int) -> None:
        self._source = random.Random(seed)
        self._given = 0
        self.secret = True

    def __call__(self, size: int) -> bytes:
        if not self.secret:
            return clean(self._source, size)
        self._given += 1
        return bytes([POISON]) * (size - 1) + bytes([self._given])


class LeakError(AssertionError):
    """A secret left the device."""


class Watch:
    """Looks at what leaves.

    Args:
        secrets: that must not, in any part.
        private: that must not in the clear.
    """

    def __init__(self, secrets: list[bytes], private: list[bytes]) -> None:
        self._secrets = [part for secret in secrets for part in _parts(secret)]
        self._private = private
        self._tail: dict[str, bytes] = {}
        self.bytes = 0

    def told(self, data: bytes) -> None:
        """Endpoint 0 told this, to anybody."""
        self._look("endpoint 0", data, [CONSTANT_RUN, *self._secrets, *self._private])

    def sent(self, data: bytes) -> None:
        """Bulk IN sent this, over a bus on which anybody may listen."""
        self._look("bulk", data, [RANDOM_RUN, *self._secrets, *self._private])

    def answered(self, plain: bytes, private: bool) -> None:
        """This was in a sealed answer, to a program that has not given the PIN (``private``), or needs none."""
        self._look("answer", plain, [RANDOM_RUN, *self._secrets, *(self._private if private else ())])

    def _look(self, where: str, data: bytes, forbidden: list[bytes]) -> None:
        self.bytes += len(data)
        data = self._tail.get(where, b"") + data  # a secret may be cut in two by packets
        for one in forbidden:
            if one in data:
                raise LeakError(f"{where}: {one.hex()} in {data.hex()}")
        self._tail[where] = data[-max(map(len, forbidden)) + 1 :]


def _parts(secret: bytes) -> list[bytes]:
    return [secret[at : at + PART] for at in range(max(1, len(secret) - PART + 1))]


class Fuzz:
    """A dongle with a license, keys of poison, and whoever sends it what comes to mind.

    Args:
        seed: decides what is sent.
        speed: of the bus.
        pin: whether PIN and PUK are set.
        folder: for seats.
    """

    def __init__(self, seed: int, speed: Speed, pin: bool, folder: Path) -> None:
        self.source = random.Random(seed)
        self.pin = pin
        self.random = PoisonedRandom(seed)
        clock = FakeClock()
        board = SimulatedBoard(Flash(16), random=self.random, monotonic=clock.monotonic)
        self.dongle = SimulatedDongle(board, clock.read())
        self.recorded: list[bytes] = []
        private = self._furnish(Rig(folder), clock)
        device = self.dongle.firmware.account.device
        secrets = [device.identity, device.agreement, PIN.encode(), PUK.encode()]
        secrets += [part for secret in (device.pin, device.puk) if secret for part in secret]
        self.watch = Watch(secrets, private)
        self.device = UsbDevice(self.dongle, speed=speed)
        self.most = PACKET_BYTES[speed]
        self.packets = self.answers = self.performed = 0
        self.before = self.kept()
        enumerate_device(self.device, 1)

    def _furnish(self, rig: Rig, clock: FakeClock) -> list[bytes]:
        """Install a license, record how, set PIN and PUK; return what the account holds."""
        rig.dongle = rig.link.dongle = self.dongle
        rig.clock = clock
        receive = self.dongle.receive
        self.dongle.receive = lambda data: (self.recorded.append(data), receive(data))[1]  # type: ignore[method-assign]
        self.random.secret = False
        with rig.open() as container:
            request = container.request(rig.acme.trust, product=PRODUCT)
            made = rig.acme.license(request, units=1000)
            container.install(rig.acme.answer(request, made))
            with container.checkout(PRODUCT) as seat:
                seat.consume(3)
        self.dongle.receive = receive  # type: ignore[method-assign]
        if self.pin:
            self.random.secret = True  # the salts
            wire = Wire(self.dongle)
            channel = wire.greet()
            assert wire.ask(channel, "change_puk", "", PUK) is None
            assert wire.ask(channel, "change_pin", "", PIN) is None
            self.random.secret = False
        self.root = rig.acme.root.public_key.cose
        return [PRODUCT.encode(), made.license_id, self.root]

    def kept(self) -> tuple[bytes, bytes]:
        """What the device keeps: the account, and what the factory put in or the owner may change."""
        account = self.dongle.firmware.account
        return account.current().to_bytes(), cbor.encode(account.device.row())

    # -- the bus

    def out(self, data: bytes) -> None:
        """Send bytes, cut as a host does."""
        for at in range(0, len(data), self.most):
            self.packets += 1
            self.device.token_out(1, data[at : at + self.most])

    def take(self) -> bytes:
        """Read what waits."""
        data = bytearray()
        while isinstance(packet := self.token_in(1), bytes):
            data += packet
        return bytes(data)

    def token_in(self, endpoint: int) -> object:
        self.packets += 1
        answer = self.device.token_in(endpoint)
        if isinstance(answer, bytes):
            assert len(answer) <= self.most
            (self.watch.sent if endpoint else self.watch.told)(answer)
        return answer

    # -- what comes to mind

    def step(self) -> None:
        """Send something."""
        turn = self.source.random()
        if turn < 0.20:
            self.control()
        elif turn < 0.60:
            self.token_in(self.source.choice([0, 0, 0, 1, 1, 2, 15]))
        elif turn < 0.93:
            self.out(self.message())
        elif turn < 0.98:
            self.talk()
        elif turn < 0.999:
            self.device.bus_reset()
            enumerate_device(self.device, self.source.randrange(1, 128))
        else:
            self.device.unplug()
            self.device.plug()
            enumerate_device(self.device, 1)

    def control(self) -> None:
        """A control request, its answer read as far as it goes, or not quite."""
        source = self.source
        size = source.choice([0, 8, 64, 255, 65_535])
        proper = [setup_packet(0xC0, IDENTIFY, 0, 0, size), setup_packet(0xC0, MS_VENDOR_CODE, 0, 7, size),
                  setup_packet(0x80, 6, source.choice([0x100, 0x200, 0xF00]), 0, size)]  # fmt: skip
        self.packets += 1
        self.device.token_setup(source.choice(proper) if source.random() < 0.3 else random_setup(source))
        for _ in range(source.choice([0, 1, 2, 70])):
            if not isinstance(self.token_in(0), bytes):
                break

    def message(self) -> bytes:
        """A message near what is valid, or far from it."""
        source = self.source
        kind = source.choice([frames.MESSAGE, frames.MESSAGE, frames.CANCEL, frames.WAIT, frames.ERROR, frames.SYNC,
                              frames.HELLO, source.randrange(256)])  # fmt: skip
        data = clean(source, source.choice([0, 1, 8, 26, 40, source.randrange(1017)]))
        picked = source.random()
        if picked < 0.2:
            return data
        if picked < 0.4:
            data = bytearray(source.choice(self.recorded))
            for _ in range(source.choice([0, 1, 3])):
                data[source.randrange(len(data))] = source.randrange(POISON)
            return bytes(data)
        if kind == frames.MESSAGE and picked < 0.7:
            data = source.randrange(POISON).to_bytes(2) + bytes(8) + data
        return frames.encode(kind, source.randrange(POISON), data)

    def talk(self) -> None:
        """Open a channel, as any program can, and say a few things through it."""
        self.device.token_out(0, b"")
        enumerate_device(self.device, 3)  # whatever was halted or half said before
        self.out(frames.encode(frames.SYNC, 0, bytes(8)))
        self.take()
        hello = Hello(lambda size: clean(self.source, size))
        self.out(frames.encode(frames.HELLO, 1, hello.message))
        (greeting,) = FrameReader().feed(self.take())
        channel, _, _ = hello.finish(greeting.payload)
        for transaction in range(2, 2 + self.source.randrange(1, 6)):
            if not self.ask(channel, transaction, self.call()):
                return

    def ask(self, channel: Channel, transaction: int, message: bytes) -> bool:
        """Say something through a channel; tell whether it is still open."""
        self.out(frames.encode(frames.MESSAGE, transaction, channel.seal(transaction, message)))
        try:
            (answer,) = FrameReader().feed(self.take())
        except FormatError as reason:
            raise AssertionError("the device's answer is no frame") from reason
        if answer.type != frames.MESSAGE:
            return False
        plain = channel.open(transaction, answer.payload)
        self.answers += 1
        self.performed += plain[1] == 0  # [0, result]
        self.watch.answered(plain, private=self.pin)
        return True

    def call(self) -> bytes:
        """A call of the table with arguments that may fit, or something else."""
        source = self.source
        if source.random() < 0.1:
            return clean(source, source.randrange(200))
        if source.random() < 0.4:
            return encode_call(*source.choice(self.proper()))
        number = source.choice([*(row.number for row in CALLS.values()), source.randrange(256)])
        row = next((row for row in CALLS.values() if row.number == number), None)
        if row is CALLS["change_pin"] and not self.pin:
            number = CALLS["status"].number  # whoever sets a PIN keeps all the others out
        count = len(row.arguments) if row and source.random() < 0.8 else source.randrange(5)
        return cbor.encode([number, *(self.value(2) for _ in range(count))])

    def proper(self) -> list[tuple[Any, ...]]:
        """Calls that are performed, where no PIN is asked for; the wrong PIN is one of them."""
        state = self.dongle.firmware.account.current()
        part = next(iter(state.holdings), bytes(16))
        return [
            ("status",), ("identify",), ("chip",), ("state", 0), ("state", state.generation),
            ("page", state.generation, 0), ("prove", clean(self.source, 32)),
            ("apply", state.generation, encode(NOW, (Observe(),))), ("statement", NOW, "acme"),
            ("request", NOW, "acme", self.root, "", PRODUCT, 1, False, {}), ("content_key", NOW, part, "k"),
            ("verify_pin", "not-the-pin"), ("unblock_pin", "not-the-puk", "1234"), ("deactivate", NOW, bytes(16)),
            ("message", NOW, bytes(16)), ("certify", clean(self.source, 300)),
        ]  # fmt: skip

    def value(self, depth: int) -> Any:
        """Something a field may hold."""
        source = self.source
        known = [*self.dongle.firmware.account.current().holdings]
        return source.choice([
            lambda: None, lambda: True, lambda: 0, lambda: source.randrange(1 << 40), lambda: "", lambda: "acme",
            lambda: "1234567", lambda: PRODUCT, lambda: clean(source, source.choice([0, 16, 32, 65, 300])),
            lambda: known[0] if known else bytes(16),
            lambda: [1_800_000_000, 10, "boot"], lambda: {"": 1},
            lambda: [self.value(depth - 1) for _ in range(source.randrange(4))] if depth else [],
        ])()  # fmt: skip

    # -- afterwards

    def finish(self) -> None:
        """The device still works, and has changed nothing that it should not."""
        if self.pin:
            assert self.kept() == self.before, "the account was changed without the PIN"
        self.device.unplug()
        self.device.plug()
        assert not self.pin or self.kept() == self.before, "on the flash, the account was changed without the PIN"
        enumerate_device(self.device, 9)
        self.talk()
        self.device.bus_reset()
        assert set(self.device.ram) == {POISON}, "something is left behind in memory"
        assert self.answers > 0
        assert self.watch.bytes > self.packets


def fuzz(
    packets: int, seed: int, speed: Speed = "full", *, pin: bool = True, tamper: Callable[[Fuzz], object] | None = None
) -> Fuzz:
    """Send that many packets, and see that no secret leaves.

    Args:
        packets: how many, at least.
        seed: decides what they are.
        speed: of the bus.
        pin: whether the device has a PIN, which is not given.
        tamper: breaks the device first, to show that a leak is found.

    Raises:
        LeakError: a secret left the device.
        AssertionError: something else is wrong.
    """
    with tempfile.TemporaryDirectory() as folder:
        one = Fuzz(seed, speed, pin, Path(folder))
        if tamper is not None:
            tamper(one)
        while one.packets < packets:
            try:
                one.step()
            except TallystickError as refusal:
                raise AssertionError(f"seed {seed}: {refusal}") from refusal
        one.finish()
    return one


def main() -> None:
    """Run as many as asked, at both speeds, with a PIN and without."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--packets", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    speeds: tuple[Speed, Speed] = ("full", "high")
    for speed in speeds:
        for pin in (True, False):
            one = fuzz(asked.packets // 4, asked.seed, speed, pin=pin)
            print(
                f"{speed} speed, {'with' if pin else 'without'} a PIN: {one.packets} packets, {one.answers} calls "
                f"answered, {one.performed} performed, {one.watch.bytes} bytes, seed {asked.seed}: no secret left",
                flush=True,
            )


if __name__ == "__main__":
    main()
