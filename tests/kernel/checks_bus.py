# SPDX-License-Identifier: Apache-2.0
"""In the guest: the bus as libusb meets it, the same for every dongle: at high and at full speed, and for the gadget.

What holds for the gadget, the kernel's own implementation of a device, holds for our simulation, and the reverse.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import usb.core
from guest_people import as_user
from guest_raw import QUIET_MS, Raw
from initramfs import SEAT

from firmware_sim import usb_descriptors as descriptors
from tallystick.codec import cbor

if TYPE_CHECKING:
    from guest import Check, Guest

ON_USBIP = {"at_high_speed": "1-1", "at_full_speed": "1-2"}


def its_descriptors_are_the_dongles(guest: Guest, serial: str) -> Any:
    with Raw(serial) as raw:
        texts = [usb.util.get_string(raw.device, index) for index in (1, 2)]
        assert texts == ["Tallystick", "Tallystick license dongle"]
        expected = descriptors.configuration(descriptors.CONFIGURATION, raw.packet)
        found = bytes(raw.device.ctrl_transfer(0x80, 6, 0x0200, 0, 255))
        # addresses of endpoints are a controller's own business
        assert [found[:20], found[21:27], found[28:]] == [expected[:20], expected[21:27], expected[28:]]
        assert found[20] < 0x80 < found[27]
        return {"packet": raw.packet, "out": raw.out, "in": raw.back}


def it_tells_who_it_is_on_endpoint_0(guest: Guest, serial: str) -> Any:
    with Raw(serial) as raw:
        said = bytes(raw.device.ctrl_transfer(0xC0, descriptors.IDENTIFY, 0, 0, 255))
        assert cbor.decode(said)[3] == serial
        assert bytes(raw.device.ctrl_transfer(0xC0, descriptors.IDENTIFY, 0, 0, 5)) == said[:5]
        request = (0xC0, descriptors.MS_VENDOR_CODE, 0, descriptors.MS_SET_INDEX, 512)
        assert bytes(raw.device.ctrl_transfer(*request)) == descriptors.ms_os_20()
        return cbor.decode(said)[2]


def a_request_it_does_not_know_is_stalled(guest: Guest, serial: str) -> Any:
    with Raw(serial) as raw:
        for request in ((0xC0, 0x99, 0, 0, 4), (0x40, 0x99, 0, 0, b""), (0xC0, descriptors.IDENTIFY, 1, 0, 4)):
            assert raw.fails(partial(raw.device.ctrl_transfer, *request)) == errno.EPIPE
        raw.echo()


def silence_times_out_and_does_no_harm(guest: Guest, serial: str) -> Any:
    with Raw(serial) as raw:
        begun = time.monotonic()
        assert raw.fails(lambda: raw.receive(timeout=QUIET_MS)) == errno.ETIMEDOUT
        took = time.monotonic() - begun
        raw.echo()
        return round(took, 3)


def a_transfer_of_whole_packets_needs_no_empty_one(guest: Guest, serial: str) -> Any:
    with Raw(serial) as raw:
        raw.echo(raw.packet // 16)
        raw.echo(4 * raw.packet // 16)
        raw.send(b"")
        raw.echo()


def a_halted_endpoint_stalls_until_it_is_cleared(guest: Guest, serial: str) -> Any:
    with Raw(serial) as raw:
        for endpoint, use in ((raw.back, raw.receive), (raw.out, raw.echo)):
            raw.device.ctrl_transfer(0x02, 3, 0, endpoint)
            assert raw.fails(use) == errno.EPIPE
            assert bytes(raw.device.ctrl_transfer(0x82, 0, 0, endpoint, 2)) == b"\1\0"
            raw.device.clear_halt(endpoint)
            raw.drain()
            raw.echo()


def too_small_a_buffer_overflows_and_the_place_is_found_again(guest: Guest, serial: str) -> Any:
    with Raw(serial) as raw:
        from tallystick.dongle import frames

        raw.send(frames.encode(frames.SYNC, 0, bytes(8)))
        assert raw.fails(lambda: raw.receive(size=8)) == errno.EOVERFLOW
        rest = raw.drain()
        raw.echo()
        return len(rest)


def a_second_program_finds_it_busy(guest: Guest, serial: str) -> Any:
    with Raw(serial) as raw:

        def second() -> int:
            other = Raw(serial)
            return other.fails(other.__enter__)

        assert as_user(SEAT, second) == errno.EBUSY
        raw.echo()


ALL = (
    its_descriptors_are_the_dongles,
    it_tells_who_it_is_on_endpoint_0,
    a_request_it_does_not_know_is_stalled,
    silence_times_out_and_does_no_harm,
    a_transfer_of_whole_packets_needs_no_empty_one,
    a_halted_endpoint_stalls_until_it_is_cleared,
    too_small_a_buffer_overflows_and_the_place_is_found_again,
    a_second_program_finds_it_busy,
)


def named(check: Callable[[Guest, str], Any], label: str, busid: str) -> Check:
    """A check for one of the dongles, under a name of its own."""

    def one(guest: Guest) -> Any:
        return check(guest, guest.serials[busid])

    one.__name__ = f"{check.__name__}_{label}"
    return one


CHECKS = tuple(named(check, label, busid) for label, busid in ON_USBIP.items() for check in ALL)
