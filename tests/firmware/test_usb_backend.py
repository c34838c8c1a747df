# SPDX-License-Identifier: Apache-2.0
"""pyusb over simulated devices: the same behavior in process and over USB/IP, at both speeds."""

from __future__ import annotations

import array
import errno
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import usb.core
import usb.util
from echo import IDENTIFICATION, Echo, framed
from hypothesis import given
from hypothesis import strategies as st
from usb_rig import RIGS, Rig

from firmware_sim.faults import FaultyDevice
from firmware_sim.usb_backend import InProcessBackend
from firmware_sim.usb_configuration import parse
from firmware_sim.usb_descriptors import CONFIGURATION, configuration
from firmware_sim.usb_device import UsbDevice


@pytest.fixture(
    params=[(rig, speed) for rig in RIGS for speed in ("full", "high")], ids=lambda p: f"{p[0].name}-{p[1]}"
)
def setting(request: pytest.FixtureRequest) -> Iterator[tuple[Rig, UsbDevice]]:
    kind, speed = request.param
    device = UsbDevice(Echo("TS-0001"), speed=speed)
    rig = kind(device)
    yield rig, device
    rig.close()


def find(rig: Rig, **wanted: Any) -> Any:
    return usb.core.find(backend=rig.backend, **(wanted or {"idVendor": 0x1209}))


def echo(dev: Any, data: bytes, size: int = 8192) -> bytes:
    message = framed(data)
    assert dev.write(0x01, message) == len(message)
    return bytes(dev.read(0x81, size))


def failure(act: Callable[[], object]) -> int | None:
    try:
        act()
    except usb.core.USBError as why:
        number: int | None = why.errno
        return number
    return None


def test_a_device_is_found_by_its_numbers_with_strings_speed_and_descriptors(setting: tuple[Rig, UsbDevice]) -> None:
    rig, device = setting
    assert find(rig, idVendor=0x1209, idProduct=0x0002) is None
    dev = find(rig, idVendor=0x1209, idProduct=0x0001)
    assert (dev.serial_number, dev.manufacturer, dev.product) == ("TS-0001", "Tallystick", "Tallystick license dongle")
    assert dev.langids == (0x0409,)
    assert dev.speed == {"full": 2, "high": 3}[device.identity.speed]
    assert dev.get_active_configuration().bConfigurationValue == 1
    interface = dev[0][(0, 0)]
    assert interface.bInterfaceClass == 0xFF
    sizes = [(each.bEndpointAddress, each.wMaxPacketSize) for each in interface]
    assert sizes == [(0x01, device.packet_bytes), (0x81, device.packet_bytes)]
    assert "Vendor Specific" in str(dev)


@pytest.mark.parametrize("more", [-1, 0, 1])
@pytest.mark.parametrize("packets", [1, 2, 7])
def test_messages_around_multiples_of_the_packet_size_come_back(
    setting: tuple[Rig, UsbDevice], packets: int, more: int
) -> None:
    rig, device = setting
    dev = find(rig)
    answer = bytes(n % 253 for n in range(packets * device.packet_bytes + more))
    assert echo(dev, answer) == answer
    command = answer[4:]  # with its length before it, the transfer OUT is the multiple
    assert echo(dev, command) == command


def test_a_read_of_the_exact_size_leaves_the_empty_packet(setting: tuple[Rig, UsbDevice]) -> None:
    rig, device = setting
    dev = find(rig)
    assert len(echo(dev, bytes(2 * device.packet_bytes), 2 * device.packet_bytes)) == 2 * device.packet_bytes
    assert len(dev.read(0x81, device.packet_bytes)) == 0
    assert echo(dev, b"in step") == b"in step"


def test_control_transfers_reach_endpoint_0(setting: tuple[Rig, UsbDevice]) -> None:
    dev = find(setting[0])
    assert bytes(dev.ctrl_transfer(0xC0, 0x01, 0, 0, 64)) == IDENTIFICATION
    assert bytes(dev.ctrl_transfer(0xC0, 0x01, 0, 0, 3)) == IDENTIFICATION[:3]
    buffer = array.array("B", bytes(64))
    assert dev.ctrl_transfer(0xC0, 0x01, 0, 0, buffer) == len(IDENTIFICATION)
    assert buffer.tobytes()[: len(IDENTIFICATION)] == IDENTIFICATION
    assert (
        len(dev.ctrl_transfer(0xC0, 0x20, 0, 7, 4096))
        == struct.unpack("<H", dev.ctrl_transfer(0xC0, 0x20, 0, 7, 10)[8:10].tobytes())[0]
    )
    assert dev.ctrl_transfer(0x02, 3, 0, 0x81, None) == 0
    assert failure(lambda: dev.ctrl_transfer(0xC0, 0x99, 0, 0, 8)) == errno.EPIPE
    assert failure(lambda: dev.ctrl_transfer(0x40, 0x01, 0, 0, b"data")) == errno.EPIPE
    dev.clear_halt(0x81)
    assert echo(dev, b"works on") == b"works on"


def test_a_read_with_nothing_waiting_times_out_and_the_link_works_on(setting: tuple[Rig, UsbDevice]) -> None:
    rig, _ = setting
    dev = find(rig)
    with pytest.raises(usb.core.USBTimeoutError) as caught:
        dev.read(0x81, 512, 30)
    assert caught.value.errno == errno.ETIMEDOUT
    assert echo(dev, b"again") == b"again"
    if isinstance(rig.backend, InProcessBackend):
        assert rig.backend.waited == 30


def test_part_of_a_transfer_before_the_timeout_is_returned_in_process_as_libusb_does() -> None:
    device = FaultyDevice(Echo(), speed="full")
    dev = usb.core.find(backend=InProcessBackend([device]))
    dev.write(0x01, framed(bytes(200)))
    device.arm("nak-in", after=2)
    assert len(dev.read(0x81, 512, 50)) == 128
    device.disarm()
    assert len(dev.read(0x81, 512, 50)) == 200 - 128


def test_a_halted_endpoint_is_a_pipe_error_until_cleared(setting: tuple[Rig, UsbDevice]) -> None:
    rig, _ = setting
    dev = find(rig)
    for endpoint in (0x01, 0x81):
        dev.ctrl_transfer(0x02, 3, 0, endpoint, None)
    assert failure(lambda: dev.write(0x01, b"x")) == errno.EPIPE
    assert failure(lambda: dev.read(0x81, 64)) == errno.EPIPE
    dev.clear_halt(0x01)
    dev.clear_halt(0x81)
    assert echo(dev, b"cleared") == b"cleared"


def test_a_buffer_too_small_is_an_overflow(setting: tuple[Rig, UsbDevice]) -> None:
    rig, device = setting
    dev = find(rig)
    dev.write(0x01, framed(bytes(device.packet_bytes - 1)))
    assert failure(lambda: dev.read(0x81, device.packet_bytes - 2)) == errno.EOVERFLOW
    assert echo(dev, b"next") == b"next"


def test_unplugged_means_no_such_device_and_replugged_is_another_one(setting: tuple[Rig, UsbDevice]) -> None:
    rig, device = setting
    dev = find(rig)
    assert echo(dev, b"before") == b"before"
    rig.unplug(device)
    assert failure(lambda: dev.write(0x01, b"x")) == errno.ENODEV
    assert failure(lambda: dev.read(0x81, 64)) == errno.ENODEV
    assert failure(lambda: dev.ctrl_transfer(0xC0, 1, 0, 0, 8)) == errno.ENODEV
    assert find(rig) is None
    usb.util.dispose_resources(dev)
    rig.plug(device)
    assert failure(lambda: dev.write(0x01, b"x")) == errno.ENODEV, "the old one stays gone"
    again = find(rig)
    assert again.address != dev.address
    assert echo(again, b"after") == b"after"


def test_two_programs_cannot_claim_one_interface(setting: tuple[Rig, UsbDevice]) -> None:
    rig, _ = setting
    one, two = find(rig), find(rig)
    usb.util.claim_interface(one, 0)
    assert failure(lambda: usb.util.claim_interface(two, 0)) == errno.EBUSY
    assert failure(lambda: two.write(0x01, b"x")) == errno.EBUSY
    assert failure(lambda: usb.util.claim_interface(one, 3)) == errno.ENOENT
    usb.util.release_interface(one, 0)
    assert echo(two, b"my turn") == b"my turn"
    usb.util.dispose_resources(two)
    assert echo(one, b"and mine") == b"and mine"


def test_configuring_and_resetting_start_afresh(setting: tuple[Rig, UsbDevice]) -> None:
    rig, _ = setting
    dev = find(rig)
    dev.write(0x01, framed(b"a stale message")[:9])
    usb.util.dispose_resources(dev)
    dev.set_configuration()
    assert echo(dev, b"one") == b"one"
    dev.write(0x01, b"\0\0")
    dev.reset()
    assert echo(dev, b"two") == b"two"
    dev.set_interface_altsetting(0, 0)
    assert echo(dev, b"three") == b"three"
    assert not dev.is_kernel_driver_active(0)


def test_several_devices_are_told_apart_by_serial(setting: tuple[Rig, UsbDevice]) -> None:
    rig, _ = setting
    rig.plug(UsbDevice(Echo("TS-0002")))
    rig.plug(UsbDevice(Echo("TS-0003"), vid=0xABCD))
    found = {dev.serial_number: dev for dev in usb.core.find(find_all=True, backend=rig.backend)}
    assert set(found) == {"TS-0001", "TS-0002", "TS-0003"}
    assert len({dev.address for dev in found.values()}) == 3
    for serial, dev in found.items():
        assert echo(dev, serial.encode()) == serial.encode()


def test_a_device_nobody_may_open_is_listed_and_refused() -> None:
    backend = InProcessBackend()
    backend.plug(UsbDevice(Echo()), accessible=False)
    dev = usb.core.find(backend=backend)
    assert failure(lambda: dev.write(0x01, b"x")) == errno.EACCES


def test_time_passes_only_while_the_host_waits_and_the_firmware_may_use_it() -> None:
    function = Echo()
    device = UsbDevice(function)
    passed: list[float] = []
    backend = InProcessBackend([device], elapse=passed.append)
    dev = usb.core.find(backend=backend)
    ticks = iter(range(1, 1000))

    def poll() -> bool:
        if next(ticks) == 40:
            function.waiting.append(b"touched")
        return True

    device.poll_hook = poll
    assert bytes(dev.read(0x81, 64, 500)) == b"touched"
    assert backend.waited == 40
    assert sum(passed) == pytest.approx(0.040)
    with pytest.raises(usb.core.USBTimeoutError):
        dev.read(0x81, 64, 500)
    assert backend.waited == 540


def test_a_device_whose_firmware_lost_its_power_is_gone_until_it_is_put_in_again() -> None:
    class OnBusPower(Echo):
        plugged = True

        def plug(self) -> None:
            self.plugged = True

        def unplug(self) -> None:
            self.plugged = False

    function = OnBusPower()
    device = UsbDevice(function)
    backend = InProcessBackend([device])
    dev = usb.core.find(backend=backend)
    assert echo(dev, b"before") == b"before"
    function.plugged = False
    assert usb.core.find(backend=backend) is None
    assert failure(lambda: dev.write(0x01, b"x")) == errno.ENODEV
    function.plugged = True
    assert usb.core.find(backend=backend) is None, "nobody has put it in"
    backend.plug(device)
    assert echo(usb.core.find(backend=backend), b"after") == b"after"


def test_a_device_the_system_cannot_enumerate_is_not_listed() -> None:
    device = FaultyDevice(Echo())
    device.arm("control-silent")
    backend = InProcessBackend([device])
    assert usb.core.find(backend=backend) is None
    assert len(backend.refused) == 1
    device.disarm()
    assert backend.plug(device) is not None
    assert echo(usb.core.find(backend=backend), b"now") == b"now"


# ------------------------------------------------------------------------------------------- descriptors, as libusb has


def test_a_configuration_is_read_field_by_field() -> None:
    found = parse(configuration(CONFIGURATION, 64))
    assert (found.wTotalLength, found.bNumInterfaces, found.bMaxPower) == (32, 1, 50)
    assert [endpoint.bEndpointAddress for endpoint in found.interfaces[0][0].endpoints] == [0x01, 0x81]


@given(st.binary(max_size=300))
def test_hostile_configurations_are_read_or_refused(raw: bytes) -> None:
    for candidate in (raw, b"\x09\x02\xff\xff\x01\x01\x00\x80\x32" + raw):
        try:
            found = parse(candidate)
        except ValueError:
            continue
        assert found.bNumInterfaces == len(found.interfaces) <= 32
        for settings in found.interfaces:
            for each in settings:
                assert each.bNumEndpoints == len(each.endpoints) <= 30


@pytest.mark.parametrize(
    "body",
    [
        b"".join(struct.pack("<9B", 9, 4, n, 0, 0, 3, 0, 0, 0) for n in range(33)),
        b"".join(struct.pack("<9B", 9, 4, 0, n, 0, 3, 0, 0, 0) for n in range(129)),
        struct.pack("<9B", 9, 4, 0, 0, 31, 3, 0, 0, 0) + struct.pack("<BBBBHB", 7, 5, 1, 2, 64, 0) * 31,
    ],
)
def test_more_of_anything_than_libusb_takes_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match="too many"):
        parse(b"\x09\x02\xff\xff\x01\x01\x00\x80\x32" + body)
