# SPDX-License-Identifier: Apache-2.0
"""A configuration descriptor as the host's USB library reads it: hostile bytes in, plain records out.

The limits are those of libusb: at most 32 interfaces, 128 alternate settings of each, 30 endpoints of one setting; a
descriptor shorter than its kind, or longer than what is left, ends the reading with what was found until then.
"""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Final, NamedTuple

from firmware_sim.usb_descriptors import CONFIGURATION, ENDPOINT, INTERFACE

MOST_INTERFACES: Final = 32
_MOST_SETTINGS: Final = 128
_MOST_ENDPOINTS: Final = 30


class Fields(NamedTuple):
    """The fixed fields of one kind of descriptor."""

    layout: str
    names: tuple[str, ...]


DEVICE_FIELDS: Final = Fields(
    "<BBHBBBBHHHBBBB",
    (
        *("bLength", "bDescriptorType", "bcdUSB", "bDeviceClass", "bDeviceSubClass", "bDeviceProtocol"),
        *("bMaxPacketSize0", "idVendor", "idProduct", "bcdDevice", "iManufacturer", "iProduct", "iSerialNumber"),
        "bNumConfigurations",
    ),
)
_CONFIGURATION: Final = Fields(
    "<BBHBBBBB",
    (
        *("bLength", "bDescriptorType", "wTotalLength", "bNumInterfaces", "bConfigurationValue", "iConfiguration"),
        *("bmAttributes", "bMaxPower"),
    ),
)
_INTERFACE: Final = Fields(
    "<9B",
    (
        *("bLength", "bDescriptorType", "bInterfaceNumber", "bAlternateSetting", "bNumEndpoints"),
        *("bInterfaceClass", "bInterfaceSubClass", "bInterfaceProtocol", "iInterface"),
    ),
)
_ENDPOINT: Final = Fields(
    "<BBBBHB", ("bLength", "bDescriptorType", "bEndpointAddress", "bmAttributes", "wMaxPacketSize", "bInterval")
)


def record(fields: Fields, raw: bytes) -> SimpleNamespace:
    """One descriptor's fields, under the names of the specification."""
    values = struct.unpack_from(fields.layout, raw)
    return SimpleNamespace(**dict(zip(fields.names, values, strict=True)), extra_descriptors=[])


def parse(raw: bytes) -> SimpleNamespace:
    """A configuration: its fields, and ``interfaces``, a list of lists of alternate settings with ``endpoints``.

    Raises:
        ValueError: not a configuration, or it names more of something than a library takes.
    """
    if len(raw) < 9 or raw[0] < 9 or raw[1] != CONFIGURATION:
        raise ValueError("not a configuration descriptor")
    found = record(_CONFIGURATION, raw)
    if found.bNumInterfaces > MOST_INTERFACES:
        raise ValueError(f"{found.bNumInterfaces} interfaces")
    settings: dict[int, list[SimpleNamespace]] = {}
    setting: SimpleNamespace | None = None
    at = raw[0]
    while at + 2 <= len(raw) and 2 <= raw[at] <= len(raw) - at:
        size, kind = raw[at], raw[at + 1]
        piece = raw[at : at + size]
        at += size
        if kind == INTERFACE and size >= 9:
            setting = record(_INTERFACE, piece)
            setting.endpoints = []
            settings.setdefault(setting.bInterfaceNumber, []).append(setting)
            if len(settings) > MOST_INTERFACES or len(settings[setting.bInterfaceNumber]) > _MOST_SETTINGS:
                raise ValueError("too many interfaces")
        elif kind == ENDPOINT and size >= 7 and setting is not None:
            endpoint = record(_ENDPOINT, piece)
            endpoint.bRefresh = endpoint.bSynchAddress = 0
            setting.endpoints.append(endpoint)
            if len(setting.endpoints) > _MOST_ENDPOINTS:
                raise ValueError("too many endpoints")
        elif kind in {INTERFACE, ENDPOINT}:
            break
        else:
            (found if setting is None else setting).extra_descriptors.extend(piece)
    for group in settings.values():
        for each in group:
            each.bNumEndpoints = len(each.endpoints)  # the library goes by what is there
    found.bNumInterfaces = len(settings)
    found.interfaces = list(settings.values())
    return found
