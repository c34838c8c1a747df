# SPDX-License-Identifier: Apache-2.0
"""The fault switchboard: every profile does what it says, shows on both ways to the device, and can be switched off."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from typing import Any

import pytest
import usb.core
import usb.util
from echo import Echo, framed
from usb_rig import RIGS, InProcessRig, Rig, UsbIpRig

from firmware_sim.faults import PROFILES, FaultyDevice
from firmware_sim.usb_backend import InProcessBackend
from firmware_sim.usb_descriptors import Speed
from firmware_sim.usb_device import State, UsbDevice
from tallystick.errors import UsageError

ENUMERATION = sorted(name for name, profile in PROFILES.items() if profile.point in {"descriptor", "identify"})
CONTROL = sorted(name for name, profile in PROFILES.items() if profile.point in {"in0", "setup"})
TALK = sorted(set(PROFILES) - set(ENUMERATION) - set(CONTROL))


def frame(transaction: int, payload: bytes, kind: int = 1, flags: int = 0) -> bytes:
    """A frame as docs/dongle-protocol.md has it."""
    head = struct.pack(">BBHHB", 0x54, kind, transaction, len(payload), flags)
    return head + bytes((~sum(head) & 0xFF,)) + payload


def result(act: Callable[[], Any]) -> object:
    """What came back, or the number of the error; anything else than an error of pyusb fails the test."""
    try:
        return act()
    except usb.core.USBError as why:
        return why.errno


def read(dev: Any, timeout: int, size: int = 4096) -> object:
    return result(lambda: bytes(dev.read(0x81, size, timeout)))


REPLIES = [frame(1, b"first reply" + bytes(90)), frame(2, b"second reply" + bytes(700))]


def converse(dev: Any, idle: int, patience: int = 5000) -> list[object]:
    """Listen, ask twice, listen again.

    Args:
        dev: the device.
        idle: milliseconds to wait for what should not come.
        patience: milliseconds to wait for what should.
    """

    def write(data: bytes) -> object:
        return result(lambda: dev.write(0x01, data, patience))

    said = [read(dev, idle)]
    for reply in REPLIES:  # the request is a frame with the same transaction; the echo needs its length before it
        said += [write(framed(reply)), read(dev, patience)]
    return [*said, read(dev, idle)]


GOOD = [errno.ETIMEDOUT, 4 + len(REPLIES[0]), REPLIES[0], 4 + len(REPLIES[1]), REPLIES[1], errno.ETIMEDOUT]


def test_there_are_at_least_thirty_and_each_says_what_it_does() -> None:
    assert len(PROFILES) >= 30
    assert len({profile.summary for profile in PROFILES.values()}) >= 30
    points = {"descriptor", "identify", "setup", "in0", "in", "out", "packet", "request", "reply", "idle"}
    assert {profile.point for profile in PROFILES.values()} == points
    with pytest.raises(UsageError):
        FaultyDevice(Echo()).arm("no-such-fault")


@pytest.mark.parametrize("speed", ["full", "high"])
def test_with_nothing_armed_it_is_a_good_device(speed: Speed) -> None:
    for device in (UsbDevice(Echo(), speed=speed), FaultyDevice(Echo(), speed=speed)):
        assert converse(usb.core.find(backend=InProcessBackend([device])), 50, 50) == GOOD


def recovered(rig: Rig, device: FaultyDevice, dev: Any) -> None:
    """Switch the fault off; the device, or after a replug its successor, works."""
    device.disarm()
    if device.state is State.CONFIGURED and device.connected:
        result(dev.reset)
        usb.util.dispose_resources(dev)
    else:  # out, or fallen back: USB/IP has no way to reset a port
        usb.util.dispose_resources(dev)
        rig.unplug(device)
        rig.plug(device)
        dev = usb.core.find(backend=rig.backend)
    assert converse(dev, 10) == GOOD


@pytest.mark.parametrize("name", TALK)
@pytest.mark.parametrize("speed", ["full", "high"])
@pytest.mark.parametrize("kind", RIGS, ids=lambda kind: kind.name)
def test_a_fault_of_the_link_shows_as_bytes_or_an_error_number_and_goes_away(
    kind: type[InProcessRig] | type[UsbIpRig], speed: Speed, name: str
) -> None:
    device = FaultyDevice(Echo(), speed=speed)
    rig = kind(device)
    dev = usb.core.find(backend=rig.backend)
    assert dev.serial_number == "TS-ECHO0001"
    device.arm(name)
    said = converse(dev, 200, 200) if rig.virtual_time else converse(dev, 10, 10)
    assert said != GOOD or (name == "keep-alive" and not rig.virtual_time), "10 ms are too short for it to show"
    assert device.fired
    recovered(rig, device, dev)
    rig.close()


EXPECTED: dict[str, object] = {  # what the first reply, asked for at once, becomes
    "stall-in": errno.EPIPE,
    "nak-in": errno.ETIMEDOUT,
    "silent-in": errno.EIO,
    "zero-length": b"",
    "babble": errno.EOVERFLOW,
    "full-packets": bytes(4096),
    "unplug-in": errno.ENODEV,
    "reboot-in": errno.EIO,
    "deaf": errno.ETIMEDOUT,
    "amnesia": errno.ETIMEDOUT,
    "mute": errno.ETIMEDOUT,
    "slow": errno.ETIMEDOUT,
    "truncated": REPLIES[0][:-1],
    "half": REPLIES[0][: len(REPLIES[0]) // 2],
    "header-only": REPLIES[0][:8],
    "trailing": REPLIES[0] + bytes(5),
    "byte-by-byte": REPLIES[0][:1],
    "doubled": REPLIES[0],
    "late": errno.ETIMEDOUT,
    "wrong-transaction": frame(2, REPLIES[0][8:]),
    "old-transaction": frame(0, REPLIES[0][8:]),
    "wrong-magic": b"\x44" + REPLIES[0][1:],
    "unknown-type": frame(1, REPLIES[0][8:], kind=0xEE),
    "host-type": frame(1, REPLIES[0][8:], kind=0x05),
    "unknown-flags": frame(1, REPLIES[0][8:], flags=0xF0),
    "unfinished": frame(1, REPLIES[0][8:], flags=0x01),
    "length-high": b"\x54\x01\x00\x01\xff\xff\x00\xab" + REPLIES[0][8:],
    "length-low": b"\x54\x01\x00\x01\x00\x00\x00\xa9" + REPLIES[0][8:],
    "corrupt-check": REPLIES[0][:7] + bytes((REPLIES[0][7] ^ 0x10,)) + REPLIES[0][8:],
    "corrupt-payload": REPLIES[0][:8] + bytes((REPLIES[0][8] ^ 0x10,)) + REPLIES[0][9:],
    "corrupt-end": REPLIES[0][:-1] + b"\x10",
}


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_fault_does_exactly_what_it_says(name: str) -> None:
    device = FaultyDevice(Echo())
    dev = usb.core.find(backend=InProcessBackend([device]))
    device.arm(name)
    dev.write(0x01, framed(REPLIES[0]))
    assert read(dev, 200) == EXPECTED[name]


@pytest.mark.parametrize(("name", "number"), [("stall-out", errno.EPIPE), ("nak-out", errno.ETIMEDOUT),
                                              ("silent-out", errno.EIO), ("unplug-out", errno.ENODEV)])  # fmt: skip
def test_a_fault_of_bulk_out_meets_the_write(name: str, number: int) -> None:
    device = FaultyDevice(Echo())
    dev = usb.core.find(backend=InProcessBackend([device]))
    device.arm(name)
    assert result(lambda: dev.write(0x01, framed(b"x"), 100)) == number


def test_old_replies_are_said_again() -> None:
    for name, expected in (("replay-first", [b"a", b"a", b"a"]), ("replay-last", [b"a", b"a", b"b"])):
        device = FaultyDevice(Echo())
        dev = usb.core.find(backend=InProcessBackend([device]))
        device.arm(name)
        said = []
        for text in (b"a", b"b", b"c"):
            dev.write(0x01, framed(text))
            said.append(bytes(dev.read(0x81, 64)))
        assert said == expected


def test_the_slow_and_the_keep_alive_take_virtual_time() -> None:
    device = FaultyDevice(Echo())
    backend = InProcessBackend([device])
    dev = usb.core.find(backend=backend)
    device.arm("slow")
    dev.write(0x01, framed(b"take your time"))
    assert read(dev, 5000) == b"take your time"
    assert backend.waited == 1500
    device.arm("keep-alive")
    dev.write(0x01, framed(REPLIES[0]))
    assert read(dev, 5000) == REPLIES[0]
    dev.write(0x01, frame(0x0A0B, b""))
    before = backend.waited
    assert [read(dev, 5000) for _ in range(3)] == [frame(0x0A0B, b"\x01", kind=3)] * 3
    assert backend.waited - before == 300


def test_occasions_before_and_after_the_fault_are_good() -> None:
    device = FaultyDevice(Echo())
    dev = usb.core.find(backend=InProcessBackend([device]))
    device.arm("corrupt-check", after=2, times=3)
    good = []
    for number in range(8):
        dev.write(0x01, framed(frame(number, b"x")))
        good.append(read(dev, 50) == frame(number, b"x"))
    assert good == [True, True, False, False, False, True, True, True]
    assert device.fired == 3


def test_a_halt_that_happened_once_is_cleared_for_good() -> None:
    device = FaultyDevice(Echo())
    dev = usb.core.find(backend=InProcessBackend([device]))
    device.arm("stall-in", times=1)
    dev.write(0x01, framed(b"x"))
    assert read(dev, 50) == errno.EPIPE
    dev.clear_halt(0x81)
    assert read(dev, 50) == b"x"


@pytest.mark.parametrize("name", ["unplug-in", "unplug-out", "reboot-in", "reboot-out"])
@pytest.mark.parametrize("speed", ["full", "high"])
def test_the_device_may_vanish_at_each_packet_of_a_conversation(speed: Speed, name: str) -> None:
    vanished = 0
    for after in range(200):
        device = FaultyDevice(Echo(), speed=speed)
        rig = InProcessRig(device)
        dev = usb.core.find(backend=rig.backend)
        device.arm(name, after=after, times=1)
        said = converse(dev, 20, 20)
        if not device.fired:
            assert said == GOOD
            break
        assert {errno.ENODEV, errno.EIO} & {each for each in said if isinstance(each, int)}
        vanished += 1
        recovered(rig, device, dev)
    assert vanished >= (3 if speed == "high" else 14), "one for each packet"
    assert after < 199


# -------------------------------------------------------------------------------------------------------- enumeration


def survey(backend: Any) -> object:
    """Everything a host reads of a device before it talks to it."""
    dev = usb.core.find(backend=backend, idVendor=0x1209)
    if dev is None:
        return None

    def text(index: int) -> object:
        try:
            return usb.util.get_string(dev, index)
        except UnicodeDecodeError:  # pyusb does not shield its callers from that
            return "not text"
        except ValueError:  # nor from this
            return "no strings"

    def interfaces() -> list[tuple[int, ...]]:
        return [
            (each.bInterfaceClass, each.bNumEndpoints, *(end.wMaxPacketSize for end in each)) for each in dev[0]
        ] + [(dev[0].wTotalLength,)]

    def control(*request: int) -> object:
        return result(lambda: bytes(dev.ctrl_transfer(*request, 50)))

    texts = [result(lambda: text(1)), result(lambda: text(2)), result(lambda: text(3))]
    return [*texts, result(interfaces), control(0xC0, 1, 0, 0, 4096), control(0x80, 6, 0x0F00, 0, 255)]


@pytest.mark.parametrize("name", ENUMERATION)
@pytest.mark.parametrize("kind", RIGS, ids=lambda kind: kind.name)
def test_a_fault_of_enumeration_shows_and_goes_away(kind: type[InProcessRig] | type[UsbIpRig], name: str) -> None:
    good = InProcessRig(UsbDevice(Echo()))
    device = FaultyDevice(Echo())
    device.arm(name)
    rig = kind(device)
    assert survey(rig.backend) != survey(good.backend)
    assert device.fired
    device.disarm()
    rig.unplug(device)
    rig.plug(device)
    assert survey(rig.backend) == survey(good.backend)
    rig.close()


def test_what_the_hostile_descriptors_look_like() -> None:
    def seen(name: str) -> Any:
        device = FaultyDevice(Echo())
        device.arm(name)
        return survey(InProcessBackend([device]))

    assert seen("interfaces-255")[3] == errno.EIO, "libusb takes no more than 32"
    assert len(seen("interfaces-30")[3]) == 31
    assert seen("keyboard")[3][1][0] == 3
    assert seen("mass-storage")[3][1][0] == 8
    assert seen("no-endpoints")[3][0] == (0xFF, 0)
    assert seen("packet-size-7")[3][0] == (0xFF, 2, 7, 7)
    assert seen("short-device") is None, "no operating system would list it"
    assert seen("string-escape")[2] == "TS-\x1b[2J\x1b]0;x\x07\r\n"
    assert seen("string-path")[2] == "../../../etc/passwd"
    assert seen("string-surrogate")[2] == "not text"
    assert seen("string-nothing")[2] is None, "pyusb's error has no number then"
    assert seen("string-long")[2] == "W" * 126
    assert seen("string-stall")[2] == "no strings"
    assert len(seen("identify-huge")[4]) == 4096
    assert seen("no-bos")[5] == errno.EPIPE


@pytest.mark.parametrize("name", CONTROL)
def test_a_fault_of_endpoint_0_meets_control_requests_and_leaves_the_others(name: str) -> None:
    device = FaultyDevice(Echo())
    rig = InProcessRig(device)
    dev = usb.core.find(backend=rig.backend)
    assert converse(dev, 50, 50) == GOOD
    device.arm(name)
    number = {"control-nak": errno.ETIMEDOUT, "control-stall": errno.EPIPE, "control-silent": errno.EIO}[name]
    assert result(lambda: dev.ctrl_transfer(0xC0, 1, 0, 0, 64, 50)) == number
    assert converse(dev, 50, 50) == GOOD
    recovered(rig, device, dev)
