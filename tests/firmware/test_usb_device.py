# SPDX-License-Identifier: Apache-2.0
"""The device on the wire: its descriptors read by the tables of the specifications, endpoint 0, packets, fuzz."""

from __future__ import annotations

import struct
import uuid
from typing import Any

import pytest
from echo import IDENTIFICATION, Echo, framed
from usb_campaign import POISON, fuzz

from firmware_sim.usb_control import ANSWER_BYTES, ControlEndpoint, Handshake
from firmware_sim.usb_descriptors import Identity, Speed, warning
from firmware_sim.usb_device import UsbDevice
from firmware_sim.usb_host import BulkIn, BulkOut, Control, Status, enumerate_device, finish, setup_packet
from tallystick.errors import UsageError

SPEEDS = pytest.mark.parametrize(("speed", "mps"), [("full", 64), ("high", 512)])
FUZZ_PACKETS = 100_000


def ready(speed: Speed = "high", function: Echo | None = None) -> UsbDevice:
    device = UsbDevice(function or Echo(), speed=speed)
    enumerate_device(device, 5)
    return device


def control(device: UsbDevice, kind: int, request: int, value: int = 0, index: int = 0, size: int = 0) -> bytes:
    return finish(Control(device, setup_packet(kind, request, value, index, size), size))


def descriptor(device: UsbDevice, kind: int, index: int = 0, language: int = 0, size: int = 4096) -> bytes:
    return control(device, 0x80, 6, kind << 8 | index, language, size)


def stalls(device: UsbDevice, *request: int) -> bool:
    transfer = Control(device, setup_packet(*request), request[4] if len(request) > 4 else 0)
    assert transfer.step()
    return transfer.status is Status.STALLED


def fields(layout: str, names: str, raw: bytes) -> dict[str, Any]:
    """Little-endian fields, all of the bytes."""
    assert struct.calcsize("<" + layout) == len(raw)
    return dict(zip(names.split(), struct.unpack("<" + layout, raw), strict=True))


# -------------------------------------------------------------------------------------------------------- descriptors


@SPEEDS
def test_device_descriptor_is_table_9_8_of_usb_2(speed: Speed, mps: int) -> None:
    found = fields(
        "BBHBBBBHHHBBBB",
        "bLength bDescriptorType bcdUSB bDeviceClass bDeviceSubClass bDeviceProtocol bMaxPacketSize0 idVendor "
        "idProduct bcdDevice iManufacturer iProduct iSerialNumber bNumConfigurations",
        descriptor(ready(speed), 1),
    )
    assert found["bLength"] == 18
    assert found["bDescriptorType"] == 1
    assert found["bcdUSB"] >= 0x0201, "hosts ask for a BOS from 2.01 on"
    assert (found["bDeviceClass"], found["bDeviceSubClass"], found["bDeviceProtocol"]) == (0, 0, 0)
    assert found["bMaxPacketSize0"] == 64, "the only size at high speed (section 5.5.3), a valid one at full speed"
    assert (found["idVendor"], found["idProduct"]) == (0x1209, 0x0001)
    assert len({found["iManufacturer"], found["iProduct"], found["iSerialNumber"]} - {0}) == 3
    assert found["bNumConfigurations"] == 1


def split(raw: bytes) -> list[bytes]:
    """The descriptors of a configuration, one after the other."""
    found = []
    while raw:
        assert 2 <= raw[0] <= len(raw)
        found.append(raw[: raw[0]])
        raw = raw[raw[0] :]
    return found


def check_configuration(raw: bytes, kind: int, mps: int) -> None:
    """Tables 9-10, 9-12 and 9-13 of USB 2.0."""
    configuration, interface, *endpoints = split(raw)
    head = fields(
        "BBHBBBBB",
        "bLength bDescriptorType wTotalLength bNumInterfaces bConfigurationValue iConfiguration bmAttributes bMaxPower",
        configuration,
    )
    assert (head["bLength"], head["bDescriptorType"], head["wTotalLength"]) == (9, kind, len(raw))
    assert (head["bNumInterfaces"], head["bConfigurationValue"]) == (1, 1)
    assert head["bmAttributes"] & 0x9F == 0x80, "bit 7 is one, bits 4 to 0 are zero"
    assert 2 * head["bMaxPower"] <= 100, "milliamperes: one unit load"
    found = fields(
        "BBBBBBBBB",
        "bLength bDescriptorType bInterfaceNumber bAlternateSetting bNumEndpoints bInterfaceClass bInterfaceSubClass "
        "bInterfaceProtocol iInterface",
        interface,
    )
    assert (found["bLength"], found["bDescriptorType"]) == (9, 4)
    assert (found["bInterfaceNumber"], found["bAlternateSetting"], found["bNumEndpoints"]) == (0, 0, 2)
    assert found["bInterfaceClass"] == 0xFF, "the vendor's own: no operating system binds a driver of its own (R45)"
    names = "bLength bDescriptorType bEndpointAddress bmAttributes wMaxPacketSize bInterval"
    both = [fields("BBBBHB", names, each) for each in endpoints]
    assert [each["bEndpointAddress"] for each in both] == [0x01, 0x81]
    for each in both:
        assert (each["bLength"], each["bDescriptorType"], each["bmAttributes"]) == (7, 5, 2), "bulk"
        assert each["wMaxPacketSize"] == mps, "section 5.8.3"


@SPEEDS
def test_configuration_has_one_vendor_interface_with_a_bulk_endpoint_each_way(speed: Speed, mps: int) -> None:
    check_configuration(descriptor(ready(speed), 2), 2, mps)


def test_a_high_speed_device_says_what_it_would_be_at_full_speed() -> None:
    device = ready("high")
    found = fields(  # USB 2.0 table 9-9
        "BBHBBBBBB",
        "bLength bDescriptorType bcdUSB bDeviceClass bDeviceSubClass bDeviceProtocol bMaxPacketSize0 "
        "bNumConfigurations bReserved",
        descriptor(device, 6),
    )
    assert (found["bLength"], found["bDescriptorType"], found["bNumConfigurations"], found["bReserved"]) == (
        10,
        6,
        1,
        0,
    )
    check_configuration(descriptor(device, 7), 7, 64)


def test_a_full_speed_device_refuses_the_qualifier_and_the_other_speed() -> None:
    device = ready("full")
    assert stalls(device, 0x80, 6, 0x0600, 0, 10)
    assert stalls(device, 0x80, 6, 0x0700, 0, 64)


@SPEEDS
def test_strings_are_utf_16_in_english_and_the_serial_is_the_function_s(speed: Speed, mps: int) -> None:
    device = ready(speed, Echo("TS-4F7K-0001"))
    assert descriptor(device, 3) == b"\x04\x03\x09\x04"  # table 9-15
    indexes = descriptor(device, 1)[14:17]
    texts = []
    for index in indexes:
        raw = descriptor(device, 3, index, 0x0409)
        assert (raw[0], raw[1]) == (len(raw), 3)  # table 9-16
        texts.append(raw[2:].decode("utf-16-le"))
    assert texts[2] == "TS-4F7K-0001"
    assert all(text.isprintable() and 0 < len(text) <= 126 for text in texts)
    assert stalls(device, 0x80, 6, 0x0300 | 4, 0x0409, 255), "no such string"
    assert stalls(device, 0x80, 6, 0x0300 | indexes[0], 0x0407, 255), "no such language"
    assert stalls(device, 0x80, 6, 0x03EE, 0, 18), "the Microsoft OS 1.0 string is not ours"


def test_bos_holds_the_microsoft_platform_capability() -> None:
    device = ready()
    raw = descriptor(device, 15)
    head = fields("BBHB", "bLength bDescriptorType wTotalLength bNumDeviceCaps", raw[:5])  # USB 3.2 table 9-12
    assert head == {"bLength": 5, "bDescriptorType": 15, "wTotalLength": len(raw), "bNumDeviceCaps": 1}
    found = fields(  # Microsoft OS 2.0 descriptors, table 4
        "BBBB16sIHBB",
        "bLength bDescriptorType bDevCapabilityType bReserved uuid dwWindowsVersion wLength bMS_VendorCode "
        "bAltEnumCode",
        raw[5:],
    )
    assert (found["bLength"], found["bDescriptorType"], found["bDevCapabilityType"], found["bReserved"]) == (
        28,
        16,
        5,
        0,
    )
    assert uuid.UUID(bytes_le=found["uuid"]) == uuid.UUID("D8DD60DF-4589-4CC7-9CD2-659D9E648A9F")
    assert found["dwWindowsVersion"] == 0x06030000, "Windows 8.1 and later"
    assert found["bMS_VendorCode"] == 0x20
    assert found["bAltEnumCode"] == 0
    assert found["wLength"] == len(control(device, 0xC0, found["bMS_VendorCode"], 0, 7, 4096))


def test_microsoft_os_2_descriptor_set_binds_winusb_and_names_an_interface_guid() -> None:
    raw = control(ready(), 0xC0, 0x20, 0, 7, 4096)
    head = fields("HHIH", "wLength wDescriptorType dwWindowsVersion wTotalLength", raw[:10])  # table 10: the set header
    assert head == {"wLength": 10, "wDescriptorType": 0, "dwWindowsVersion": 0x06030000, "wTotalLength": len(raw)}
    compatible = fields("HH8s8s", "wLength wDescriptorType CompatibleID SubCompatibleID", raw[10:30])  # table 13
    assert (compatible["wLength"], compatible["wDescriptorType"]) == (20, 3)
    assert (compatible["CompatibleID"], compatible["SubCompatibleID"]) == (b"WINUSB\0\0", bytes(8))
    registry = raw[30:]  # tables 14 and 15: a registry property
    length, kind, data_type, name_length = struct.unpack_from("<HHHH", registry)
    assert (length, kind, data_type) == (len(registry), 4, 7), "REG_MULTI_SZ"
    name = registry[8 : 8 + name_length].decode("utf-16-le")
    (data_length,) = struct.unpack_from("<H", registry, 8 + name_length)
    data = registry[10 + name_length :]
    assert name == "DeviceInterfaceGUIDs\0"
    assert data_length == len(data)
    guid = data.decode("utf-16-le")
    assert guid.endswith("\0\0")
    assert guid[0] + guid[-3] == "{}"
    uuid.UUID(guid.rstrip("\0"))


def test_identification_is_a_vendor_request_and_exact() -> None:
    device = ready()
    assert control(device, 0xC0, 0x01, 0, 0, 255) == IDENTIFICATION
    for request in (
        (0xC0, 1, 1, 0, 64),
        (0xC0, 1, 0, 1, 64),
        (0xC1, 1, 0, 0, 64),
        (0x40, 1, 0, 0, 0),
        (0xC0, 2, 0, 0, 64),
    ):
        assert stalls(device, *request)
    assert stalls(device, 0xC0, 0x20, 0, 6, 64), "another index of the Microsoft request"


def test_the_testing_identifiers_carry_a_warning_and_others_do_not() -> None:
    assert "private testing only" in (warning(0x1209, 0x0001) or "")
    assert warning(0x1209, 0x7A11) is None
    raw = descriptor(UsbDevice(Echo(), vid=0xABCD, pid=0x1234), 1)
    assert raw[8:12] == b"\xcd\xab\x34\x12"


@pytest.mark.parametrize(
    "bad",
    [
        Identity(serial=""),
        Identity(serial="S" * 127),
        Identity(serial="S", vid=0x10000),
        Identity(serial="S", pid=-1),
        Identity(serial="S", speed="low"),  # type: ignore[arg-type]
    ],
)
def test_an_identity_that_does_not_fit_is_refused(bad: Identity) -> None:
    with pytest.raises(UsageError):
        UsbDevice(Echo(), identity=bad)


# --------------------------------------------------------------------------------------------------------- endpoint 0


def test_states_go_from_default_over_address_to_configured() -> None:
    device = UsbDevice(Echo())
    device.bus_reset()
    assert device.token_in(1) is Handshake.SILENCE, "an unconfigured device has no bulk endpoints"
    assert stalls(device, 0x00, 9, 1), "not before an address"
    assert stalls(device, 0x80, 8, 0, 0, 1)
    control(device, 0x00, 5, 17)
    assert device.address == 17
    assert control(device, 0x80, 8, 0, 0, 1) == b"\0"
    assert stalls(device, 0x81, 10, 0, 0, 1), "no interface before a configuration"
    control(device, 0x00, 9, 1)
    assert control(device, 0x80, 8, 0, 0, 1) == b"\1"
    assert control(device, 0x81, 10, 0, 0, 1) == b"\0"
    assert device.token_in(1) is Handshake.NAK
    assert stalls(device, 0x00, 9, 2), "no such configuration"
    assert stalls(device, 0x00, 5, 128), "no such address"
    control(device, 0x00, 9, 0)
    assert device.token_in(1) is Handshake.SILENCE


def test_an_address_counts_only_after_the_status_stage() -> None:
    device = UsbDevice(Echo())
    device.bus_reset()
    device.token_setup(setup_packet(0, 5, 9))
    assert device.address == 0
    assert device.token_in(0) == b""
    assert device.address == 9
    device.token_setup(setup_packet(0, 5, 33))
    device.token_setup(setup_packet(0x80, 8, 0, 0, 0))  # the host changed its mind
    assert device.token_in(0) == b""
    assert device.address == 9


def test_halts_are_set_reported_and_cleared_by_request() -> None:
    device = ready()
    for endpoint in (0x01, 0x81):
        assert control(device, 0x82, 0, 0, endpoint, 2) == b"\0\0"
        control(device, 0x02, 3, 0, endpoint)
        assert control(device, 0x82, 0, 0, endpoint, 2) == b"\1\0"
    assert device.token_in(1) is Handshake.STALL
    assert device.token_out(1, b"x") is Handshake.STALL
    control(device, 0x02, 1, 0, 0x81)
    assert device.token_in(1) is Handshake.NAK
    control(device, 0x01, 11)
    assert device.token_out(1, b"x") is Handshake.ACK, "choosing the setting clears halts"
    for endpoint in (0x02, 0x82, 0x11, 0x0101):
        assert stalls(device, 0x02, 3, 0, endpoint)
    assert control(device, 0x82, 0, 0, 0, 2) == b"\0\0"
    assert stalls(device, 0x02, 3, 0, 0), "endpoint 0 is never halted"
    assert stalls(device, 0x00, 3, 1), "no remote wakeup"


def test_every_unknown_request_stalls_and_the_next_one_is_served() -> None:
    device = ready()
    known = {(0x80, 0), (0x81, 0), (0x82, 0), (0x80, 6), (0x80, 8), (0x81, 10), (0xC0, 1), (0xC0, 0x20)}
    acting = {(0x02, 1), (0x02, 3), (0x00, 5), (0x00, 9), (0x01, 11)}
    for kind in range(256):
        for request in range(256):
            if (kind, request) in known | acting:
                continue
            size = 2 if kind & 0x80 else 0
            device.token_setup(setup_packet(kind, request, 0, 0, size))
            assert device.token_in(0) is Handshake.STALL
            assert device.token_out(0, b"") is Handshake.STALL
    assert descriptor(device, 1)[0] == 18


def test_a_data_stage_toward_the_device_is_never_taken() -> None:
    device = ready()
    for kind, request, index in ((0x00, 5, 0), (0x00, 9, 0), (0x02, 3, 0x81), (0x40, 1, 0), (0x00, 7, 0)):
        device.token_setup(setup_packet(kind, request, 1, index, 8))
        assert device.token_out(0, bytes(8)) is Handshake.STALL
    assert (device.address, device.halted) == (5, set())


@pytest.mark.parametrize("size", [0, 1, 2, 8, 9, 17, 18, 19, 63, 64, 65, 127, 128, 129, 1024, 4096, 65535])
def test_an_answer_is_never_longer_than_asked_and_ends_with_a_short_packet(size: int) -> None:
    class Long(Echo):
        def identify(self) -> bytes:
            return bytes(range(128))

    device = ready(function=Long())
    device.token_setup(setup_packet(0xC0, 1, 0, 0, size))
    packets = []
    if size:
        while isinstance(packet := device.token_in(0), bytes):
            packets.append(packet)
        assert packet is Handshake.STALL, "a host that reads on is refused"
        assert b"".join(packets) == bytes(range(128))[:size]
        full, rest = divmod(min(size, 128), 64)
        assert len(packets) == full + (rest > 0 or size > 128), "an empty packet only where the host expects more"
        assert device.token_out(0, b"") is Handshake.ACK
    else:
        assert device.token_in(0) == b"", "no data stage: the status stage follows"
    assert device.token_in(0) is Handshake.NAK


def test_a_host_may_end_the_data_stage_early_and_a_new_setup_abandons_the_old() -> None:
    device = ready()
    device.token_setup(setup_packet(0xC0, 0x20, 0, 7, 4096))
    first = device.token_in(0)
    assert isinstance(first, bytes)
    assert len(first) == 64
    assert device.token_out(0, b"") is Handshake.ACK
    assert device.token_in(0) is Handshake.NAK
    device.token_setup(setup_packet(0xC0, 0x20, 0, 7, 4096))
    device.token_in(0)
    assert descriptor(device, 1)[:2] == b"\x12\x01"


def test_setup_packets_of_another_size_are_ignored() -> None:
    device = ready()
    for size in (0, 7, 9, 64):
        assert device.token_setup(bytes(size)) is Handshake.SILENCE


def test_an_identification_too_long_for_the_buffer_is_refused_or_stalled() -> None:
    class Growing(Echo):
        size = ANSWER_BYTES

        def identify(self) -> bytes:
            return bytes(self.size)

    function = Growing()
    device = ready(function=function)
    assert len(control(device, 0xC0, 1, 0, 0, 65535)) == ANSWER_BYTES
    function.size += 1
    assert stalls(device, 0xC0, 1, 0, 0, 65535)
    with pytest.raises(UsageError):
        UsbDevice(function)


# ------------------------------------------------------------------------------------------------------- bulk packets


def write(device: UsbDevice, data: bytes, *, end: bool = False) -> Status | None:
    transfer = BulkOut(device, 1, data=data, end=end)
    transfer.step()
    return transfer.status


def read(device: UsbDevice, size: int) -> tuple[Status | None, bytes]:
    transfer = BulkIn(device, 1, size)
    transfer.step()
    return transfer.status, bytes(transfer.received)


@SPEEDS
@pytest.mark.parametrize("packets", [0, 1, 2, 5])
@pytest.mark.parametrize("more", [-1, 0, 1])
def test_messages_around_multiples_of_the_packet_size_travel_both_ways(
    speed: Speed, mps: int, packets: int, more: int
) -> None:
    size = packets * mps + more
    if size <= 0:
        return
    device = ready(speed)
    data = bytes(n % 251 for n in range(size))
    assert write(device, framed(data)) is Status.OK
    assert read(device, 8192) == (Status.OK, data)
    assert write(device, framed(data)[:4] + data, end=True) is Status.OK
    sizes = []
    while isinstance(packet := device.token_in(1), bytes):
        sizes.append(len(packet))
    full, rest = divmod(size, mps)
    assert sizes == [mps] * full + [rest], "the last packet is short, or empty after a full one"
    assert packet is Handshake.NAK


@SPEEDS
def test_a_read_of_the_exact_size_leaves_the_empty_packet_for_the_next(speed: Speed, mps: int) -> None:
    device = ready(speed)
    write(device, framed(bytes(2 * mps)))
    assert read(device, 2 * mps) == (Status.OK, bytes(2 * mps))
    assert read(device, 2 * mps) == (Status.OK, b"")
    assert read(device, mps) == (None, b"")


@SPEEDS
def test_a_packet_larger_than_the_room_is_an_overflow(speed: Speed, mps: int) -> None:
    device = ready(speed)
    write(device, framed(bytes(mps + 10)))
    assert read(device, mps + 5) == (Status.OVERFLOW, bytes(mps + 5))
    write(device, framed(b"next"))
    assert read(device, mps) == (Status.OK, b"next")


@SPEEDS
def test_a_packet_out_larger_than_the_endpoint_s_is_not_taken(speed: Speed, mps: int) -> None:
    function = Echo()
    device = ready(speed, function)
    assert device.token_out(1, bytes(mps + 1)) is Handshake.SILENCE
    assert function.received == b""
    assert device.token_out(2, b"x") is Handshake.SILENCE
    assert device.token_in(2) is Handshake.SILENCE


@SPEEDS
def test_a_transfer_out_of_full_packets_ends_with_an_empty_one_only_where_asked(speed: Speed, mps: int) -> None:
    class Counting(UsbDevice):
        def token_out(self, endpoint: int, data: bytes) -> Handshake:
            if endpoint:
                sizes.append(len(data))
            return super().token_out(endpoint, data)

    sizes: list[int] = []
    device = Counting(Echo(), speed=speed)
    enumerate_device(device, 2)
    for size, end, expected in (
        (2 * mps, False, [mps, mps]),
        (2 * mps, True, [mps, mps, 0]),
        (mps + 1, True, [mps, 1]),
        (0, False, [0]),
    ):
        sizes.clear()
        assert write(device, bytes(size), end=end) is Status.OK
        assert sizes == expected


def test_short_transfers_are_errors_only_where_the_host_says_so() -> None:
    device = ready()
    for strict, status in ((False, Status.OK), (True, Status.SHORT)):
        write(device, framed(b"abc"))
        transfer = BulkIn(device, 1, 64)
        transfer.strict = strict
        assert transfer.step()
        assert transfer.status is status


def test_a_bus_reset_drops_half_a_message_and_what_waits() -> None:
    function = Echo()
    device = ready(function=function)
    write(device, framed(bytes(700)))
    device.token_in(1)
    write(device, framed(b"half")[:6])
    resets = function.resets
    enumerate_device(device, 6)
    assert function.resets > resets
    assert device.token_in(1) is Handshake.NAK
    write(device, framed(b"whole"))
    assert read(device, 512) == (Status.OK, b"whole")


def test_a_device_that_is_out_answers_nothing() -> None:
    device = ready()
    device.unplug()
    assert device.token_setup(setup_packet(0x80, 6, 0x100, 0, 18)) is Handshake.SILENCE
    assert device.token_in(0) is Handshake.SILENCE
    assert write(device, b"x") is Status.GONE
    assert read(device, 64)[0] is Status.GONE
    device.plug()
    enumerate_device(device, 3)
    assert write(device, b"x") is Status.OK


class OnBusPower(Echo):
    """Dies of one command, and lives from being plugged in to being pulled out."""

    plugged = True
    boots = True

    def receive(self, data: bytes) -> None:
        self.plugged = data != b"die"
        if self.plugged:
            super().receive(data)

    def plug(self) -> None:
        self.plugged = self.boots

    def unplug(self) -> None:
        self.plugged = False


def test_a_firmware_on_bus_power_lives_and_dies_with_the_cable() -> None:
    function = OnBusPower()
    device = ready(function=function)
    assert write(device, b"die") is Status.GONE, "a firmware that lost its power takes the device with it"
    assert not device.connected
    assert read(device, 64)[0] is Status.GONE
    device.plug()
    enumerate_device(device, 4)
    assert write(device, framed(b"alive")) is Status.OK
    assert read(device, 64) == (Status.OK, b"alive")
    device.unplug()
    assert not function.plugged
    function.boots = False
    device.plug()
    assert not device.connected, "a firmware that does not start is not on the bus"
    assert not UsbDevice(function).connected


# --------------------------------------------------------------------------------------------------------------- fuzz


@SPEEDS
def test_fuzz_no_packet_crashes_the_device_and_no_poison_leaves_it(speed: Speed, mps: int) -> None:
    fuzz(speed, FUZZ_PACKETS // 2, seed=0x2011 + mps)


class Glitched(ControlEndpoint):
    """An attacker's voltage glitch skips comparisons."""

    skipped: frozenset[str] = frozenset()

    def clamp_request(self, wanted: int, have: int) -> int:
        return wanted if "request" in self.skipped else super().clamp_request(wanted, have)

    def clamp_packet(self, size: int, have: int) -> int:
        return size if "packet" in self.skipped else super().clamp_packet(size, have)


@pytest.mark.parametrize(
    ("skipped", "leaks"),
    [(set(), False), ({"request"}, False), ({"packet"}, False), ({"request", "packet"}, True)],
)
def test_one_skipped_comparison_leaks_nothing_and_two_would(skipped: set[str], leaks: bool) -> None:
    device = ready()
    device.endpoint0 = glitched = Glitched(device.ram, device.control, lambda: None)
    glitched.skipped = frozenset(skipped)
    leaked = False
    for value, index, size in ((0x100, 0, 65535), (0x303, 0x409, 255), (0x200, 0, 4096)):
        device.token_setup(setup_packet(0x80, 6, value, index, size))
        for _ in range(200):
            answer = device.token_in(0)
            leaked |= isinstance(answer, bytes) and POISON in answer
    assert leaked is leaks, "the last case shows that this test would see a leak"
