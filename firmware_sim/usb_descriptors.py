# SPDX-License-Identifier: Apache-2.0
"""What the dongle says about itself over USB: one table of constant bytes, made once.

`table` maps (wValue, wIndex) of GET_DESCRIPTOR to the bytes of the answer; what is not in it, the device refuses.
One configuration, one interface of the vendor class 0xFF, one bulk endpoint each way: nothing an operating system
would bind a driver of its own to. Windows binds WinUSB by itself because of the platform capability in the BOS
and the Microsoft OS 2.0 descriptor set it points to.

Sources: USB 2.0 chapter 9 (tables 9-8 to 9-16), USB 3.2 section 9.6.2 (BOS, which USB 2.0 devices may have),
Microsoft OS 2.0 Descriptors Specification (tables 4, 10, 13, 14, 15). All fields are little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal
from uuid import UUID

from firmware_sim.usb_control import PACKET_BYTES as PACKET_BYTES_0
from tallystick.errors import error

Speed = Literal["full", "high"]

DEVICE, CONFIGURATION, STRING, INTERFACE, ENDPOINT, QUALIFIER, OTHER_SPEED, BOS, CAPABILITY = (
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    15,
    16,
)
"""Values of bDescriptorType."""

BULK_OUT: Final = 0x01
BULK_IN: Final = 0x81
PACKET_BYTES: Final[Mapping[Speed, int]] = {"full": 64, "high": 512}
"""Bytes in one bulk packet, by speed (USB 2.0 section 5.8.3)."""
CONFIGURED: Final = 1
"""bConfigurationValue of the only configuration."""

IDENTIFY: Final = 0x01
"""bRequest of the vendor request that returns `Function.identify()`."""
MS_VENDOR_CODE: Final = 0x20
"""bRequest of the vendor request that returns the Microsoft OS 2.0 descriptor set."""
MS_SET_INDEX: Final = 0x07
"""wIndex of that request."""

TEST_IDS: Final = (0x1209, 0x0001)
"""The default VID:PID: of pid.codes, for private testing only, never to be redistributed, sold or manufactured."""

ENGLISH: Final = 0x0409
_MS_PLATFORM: Final = UUID("d8dd60df-4589-4cc7-9cd2-659d9e648a9f")
INTERFACE_GUID: Final = "{5B4B0A2C-9E1D-4E6B-8F5B-6C2E3A71D0F4}"
_WINDOWS_8_1: Final = 0x06030000
_MOST_UNITS: Final = 126


@dataclass(frozen=True)
class Identity:
    """Who the device says it is; a host takes all of it for a hint, the key in the device is the identity."""

    serial: str
    vid: int = TEST_IDS[0]
    pid: int = TEST_IDS[1]
    speed: Speed = "high"
    release: int = 0x0100
    manufacturer: str = "Tallystick"
    product: str = "Tallystick license dongle"

    @property
    def packet_bytes(self) -> int:
        """Bytes in one bulk packet."""
        return PACKET_BYTES[self.speed]


def warning(vid: int, pid: int) -> str | None:
    """What to tell whoever starts a device with these identifiers; None when there is nothing to tell."""
    if (vid, pid) != TEST_IDS:
        return None
    return (
        f"USB {vid:04x}:{pid:04x} is for private testing only: a device that is redistributed, sold or manufactured "
        "must use identifiers of its own."
    )


def table(identity: Identity) -> dict[tuple[int, int], bytes]:
    """Every descriptor, by (wValue, wIndex) of the request that reads it.

    Args:
        identity: identifiers, strings and speed.

    Raises:
        UsageError: ``usage``: a string is empty or longer than 126 UTF-16 units, or the speed or a number is not valid.
    """
    if identity.speed not in PACKET_BYTES:
        raise error("usage", f"the speed is full or high, not {identity.speed!r}")
    if not all(0 <= number <= 0xFFFF for number in (identity.vid, identity.pid, identity.release)):
        raise error("usage", "VID, PID and release are 16-bit numbers")
    entries = {
        (DEVICE << 8, 0): _device(identity),
        (CONFIGURATION << 8, 0): configuration(CONFIGURATION, identity.packet_bytes),
        (BOS << 8, 0): bos(),
        (STRING << 8, 0): struct.pack("<BBH", 4, STRING, ENGLISH),
    }
    for index, text in enumerate((identity.manufacturer, identity.product, identity.serial), 1):
        entries[STRING << 8 | index, ENGLISH] = string(text)
    if identity.speed == "high":  # a device that knows one speed only must refuse these two (USB 2.0 section 9.6.2)
        entries[QUALIFIER << 8, 0] = struct.pack("<BBHBBBBBB", 10, QUALIFIER, 0x0200, 0, 0, 0, PACKET_BYTES_0, 1, 0)
        entries[OTHER_SPEED << 8, 0] = configuration(OTHER_SPEED, PACKET_BYTES["full"])
    return entries


def _device(identity: Identity) -> bytes:
    # bcdUSB 2.1: from 2.01 on hosts ask for the BOS. Class 0: the interface says its class.
    fields = (0x0210, 0, 0, 0, PACKET_BYTES_0, identity.vid, identity.pid, identity.release, 1, 2, 3, 1)
    return struct.pack("<BBHBBBBHHHBBBB", 18, DEVICE, *fields)


def configuration(kind: int, packet_bytes: int) -> bytes:
    """The configuration with its interface and endpoints, as CONFIGURATION or OTHER_SPEED."""
    interface = struct.pack("<9B", 9, INTERFACE, 0, 0, 2, 0xFF, 0, 0, 0)
    endpoints = b"".join(
        struct.pack("<BBBBHB", 7, ENDPOINT, address, 2, packet_bytes, 0) for address in (BULK_OUT, BULK_IN)
    )
    body = interface + endpoints
    # attributes: powered by the bus, no remote wakeup; at most 100 mA
    return struct.pack("<BBHBBBBB", 9, kind, 9 + len(body), 1, CONFIGURED, 0, 0x80, 50) + body


def string(text: str) -> bytes:
    """A string descriptor.

    Raises:
        UsageError: ``usage``: empty, or longer than 126 UTF-16 units.
    """
    encoded = text.encode("utf-16-le")
    if not 0 < len(encoded) <= 2 * _MOST_UNITS:
        raise error("usage", f"a USB string has 1 to {_MOST_UNITS} UTF-16 units")
    return bytes((2 + len(encoded), STRING)) + encoded


def bos() -> bytes:
    """The binary device object store: one platform capability, Microsoft OS 2.0."""
    found = struct.pack("<IHBB", _WINDOWS_8_1, len(ms_os_20()), MS_VENDOR_CODE, 0)
    capability = struct.pack("<BBBB", 28, CAPABILITY, 5, 0) + _MS_PLATFORM.bytes_le + found
    return struct.pack("<BBHB", 5, BOS, 5 + len(capability), 1) + capability


def ms_os_20() -> bytes:
    """The Microsoft OS 2.0 descriptor set: bind WinUSB, and the interface GUID programs find the device by."""
    compatible = struct.pack("<HH8s8s", 20, 3, b"WINUSB", b"")
    name = "DeviceInterfaceGUIDs\0".encode("utf-16-le")
    data = f"{INTERFACE_GUID}\0\0".encode("utf-16-le")  # REG_MULTI_SZ: a list of strings, ended by an empty one
    registry = struct.pack("<HHHH", 10 + len(name) + len(data), 4, 7, len(name)) + name
    registry += struct.pack("<H", len(data)) + data
    return struct.pack("<HHIH", 10, 0, _WINDOWS_8_1, 10 + len(compatible) + len(registry)) + compatible + registry
