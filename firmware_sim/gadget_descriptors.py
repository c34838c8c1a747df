# SPDX-License-Identifier: Apache-2.0
"""What FunctionFS is told about the dongle's interface, made of the descriptors of `usb_descriptors`.

Formats: the Linux kernel's ``include/uapi/linux/usb/functionfs.h``. Numbers are little-endian.

The kernel answers for the device and its configuration; of Microsoft's descriptors it knows version 1.0 only, which
binds WinUSB as well. Version 2.0 is answered to whoever asks for it, but the kernel puts no pointer to it into a BOS.
"""

from __future__ import annotations

import struct
from typing import Final

from firmware_sim import usb_descriptors as descriptors

MS_VENDOR_CODE_1: Final = 0x21
"""bRequest by which Windows reads version 1.0; 0x20 is version 2.0's."""

_DESCRIPTORS, _STRINGS = 3, 2
_FULL, _HIGH, _MICROSOFT, _ALL_REQUESTS, _UNCONFIGURED_TOO = 1, 2, 8, 64, 128
_COMPATIBLE, _PROPERTIES = 4, 5
_ONE_STRING: Final = 1  # the kernel cannot do lists of strings (REG_MULTI_SZ)
_HEAD: Final = 9  # bytes of a configuration before its first interface
VERSIONS: Final = (0x0100, 0x0001)
"""Of the Microsoft descriptors: as specified, and as kernels before 6.4 would have it."""


def interface(version: int = VERSIONS[0]) -> bytes:
    """The interface and its endpoints at both speeds, and what Microsoft wants to know of it.

    Args:
        version: one of `VERSIONS`.
    """
    full, high = [
        descriptors.configuration(descriptors.CONFIGURATION, descriptors.PACKET_BYTES[speed])[_HEAD:]
        for speed in ("full", "high")
    ]
    microsoft = (_compatible(version), _properties(version))
    counts = struct.pack("<III", _pieces(full), _pieces(high), len(microsoft))
    body = counts + full + high + b"".join(microsoft)
    flags = _FULL | _HIGH | _MICROSOFT | _ALL_REQUESTS | _UNCONFIGURED_TOO
    return struct.pack("<III", _DESCRIPTORS, 12 + len(body), flags) + body


def strings() -> bytes:
    """No strings: the interface has none, the device's are the kernel's business."""
    return struct.pack("<IIII", _STRINGS, 16, 0, 0)


def _pieces(data: bytes) -> int:
    """How many descriptors there are in a row of them."""
    count = at = 0
    while at < len(data):
        at += data[at]
        count += 1
    return count


def _head(version: int, kind: int, size: int) -> bytes:
    return struct.pack("<BIHH", 0, 11 + size, version, kind)


def _compatible(version: int) -> bytes:
    """Interface 0 is for WinUSB."""
    body = struct.pack("<BB8s8s6x", 0, 1, b"WINUSB", b"")
    return _head(version, _COMPATIBLE, len(body)) + struct.pack("<BB", 1, 0) + body


def _properties(version: int) -> bytes:
    """The interface GUID by which programs find the device; in bytes here, the kernel makes UTF-16 of it."""
    name = b"DeviceInterfaceGUID\0"
    value = descriptors.INTERFACE_GUID.encode() + b"\0"
    body = struct.pack("<IH", _ONE_STRING, len(name)) + name + struct.pack("<I", len(value)) + value
    body = struct.pack("<I", 4 + len(body)) + body
    return _head(version, _PROPERTIES, len(body)) + struct.pack("<H", 1) + body
