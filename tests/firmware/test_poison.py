# SPDX-License-Identifier: Apache-2.0
"""Memory and secrets of poison never leave the dongle, whatever it is sent; and if they did, it would be seen.

The fuzz stands in `fuzz_poison`, which also tells how to run a million packets.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fuzz_poison import Fuzz, LeakError, fuzz

from firmware_sim.usb_control import ANSWER_BYTES
from firmware_sim.usb_descriptors import Speed
from tallystick.codec import cbor
from tallystick.container.commands import Note
from tallystick.dongle import frames
from tallystick.dongle.frames import Frame

PACKETS = 100_000


@pytest.mark.parametrize("pin", [True, False], ids=["PIN", "no PIN"])
@pytest.mark.parametrize("speed", ["full", "high"])
def test_no_secret_and_no_unused_memory_leaves_the_dongle(speed: Speed, pin: bool) -> None:
    one = fuzz(PACKETS // 4, 7, speed, pin=pin)
    assert one.answers > 500
    assert one.performed > (100 if pin else 300)


def clamps_skipped(one: Fuzz) -> None:
    """Endpoint 0 believes the host how long the answer is."""
    one.device.endpoint0.clamp_request = lambda wanted, have: wanted  # type: ignore[method-assign]
    one.device.endpoint0.clamp_packet = lambda size, have: size  # type: ignore[method-assign]


def bulk_reads_on(one: Fuzz) -> None:
    """The short packet at the end of a transfer is sent in full, with the memory behind it."""
    device, bulk_in = one.device, one.device._bulk_in

    def padded() -> object:
        packet = bulk_in()
        if not isinstance(packet, bytes) or not packet:
            return packet
        return packet + device.ram[ANSWER_BYTES : ANSWER_BYTES + device.packet_bytes - len(packet)]

    device._bulk_in = padded  # type: ignore[method-assign,assignment]


def sync_echoes_more(one: Fuzz) -> None:
    """The answer to ``SYNC`` goes on with what stands in memory behind the eight bytes: a key."""
    firmware = one.dongle.firmware
    take = firmware._take

    def longer(frame: Frame) -> None:
        if frame.type == frames.SYNC and len(frame.payload) < 8:
            firmware._say(frames.SYNC, 0, frame.payload + firmware.account.device.agreement[:16])
        else:
            take(frame)

    firmware._take = longer  # type: ignore[method-assign]


def identification_tells(one: Fuzz, secret: Callable[[Fuzz], bytes]) -> None:
    """The identification, on endpoint 0, has one member too many."""
    told = one.dongle.identify()
    one.dongle.identify = lambda: cbor.encode({**cbor.decode(told), 4: secret(one)})  # type: ignore[method-assign]


def status_tells(one: Fuzz, secret: Callable[[Fuzz], bytes]) -> None:
    """A sealed answer, to any program, has a secret in place of the firmware's name."""
    perform = one.dongle.firmware._perform
    one.dongle.firmware._perform = lambda plain, number: perform(plain, number) + secret(one)  # type: ignore[method-assign]


def digest(one: Fuzz) -> bytes:
    """Part of what the PIN is compared with."""
    pin = one.dongle.firmware.account.device.pin
    assert pin is not None
    return pin[1][8:24]


LEAKS: dict[str, Callable[[Fuzz], object]] = {
    "endpoint 0 sends as much as it is asked for": clamps_skipped,
    "bulk IN sends whole packets": bulk_reads_on,
    "SYNC is answered at length": sync_echoes_more,
    "the identification holds half a key": lambda one: identification_tells(
        one, lambda one: one.dongle.firmware.account.device.identity[:16]
    ),
    "the identification holds the account": lambda one: identification_tells(
        one, lambda one: next(iter(one.dongle.firmware.account.current().holdings))
    ),
    "answers hold the end of a key": lambda one: status_tells(
        one, lambda one: one.dongle.firmware.account.device.identity[-9:]
    ),
    "answers hold the PIN's digest": lambda one: status_tells(one, digest),
    "answers hold the PIN": lambda one: status_tells(one, lambda _: b"a-pin-of-some-length"),
    "answers hold the license": lambda one: status_tells(
        one, lambda one: next(iter(one.dongle.firmware.account.current().holdings))
    ),
}


@pytest.mark.parametrize("leak", LEAKS)
def test_a_device_that_leaks_is_caught(leak: str) -> None:
    """One deliberate fault each: else the test above might hold because it cannot fail."""
    with pytest.raises(LeakError):
        fuzz(20_000, 7, tamper=LEAKS[leak])


def test_a_device_that_lets_itself_be_changed_without_the_pin_is_caught() -> None:
    def open_to_all(one: Fuzz) -> None:
        firmware, greet = one.dongle.firmware, one.dongle.firmware._greet

        def noted(frame: Frame) -> None:
            greet(frame)
            with firmware.account.transaction() as tx:
                tx.apply(Note("greeted", frame.payload[-32:].hex()))

        firmware._greet = noted  # type: ignore[method-assign]

    with pytest.raises(AssertionError, match="the account was changed without the PIN"):
        fuzz(3_000, 7, tamper=open_to_all)
