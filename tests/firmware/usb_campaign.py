# SPDX-License-Identifier: Apache-2.0
"""Random packets against the USB device: endpoint 0 and bulk OUT, near what is valid and far from it.

The tests run 100,000 packets; for more: ``python tests/firmware/usb_campaign.py --packets 1000000 --seed 7``
(with ``PYTHONPATH=src:.``). No exception, no packet longer than the endpoint's, no poison of unused memory on the
wire, nothing left in memory afterwards, and the device still works.
"""

from __future__ import annotations

import argparse
import random

from echo import Echo, framed

from firmware_sim.usb_control import Handshake, Stage
from firmware_sim.usb_descriptors import PACKET_BYTES, Speed
from firmware_sim.usb_device import UsbDevice
from firmware_sim.usb_host import BulkIn, BulkOut, Status, enumerate_device, setup_packet

POISON = b"\xa5" * 2
"""One such byte is an accident, two in a row are not: nothing that is sent here holds the value."""


def clean(source: random.Random, size: int) -> bytes:
    """Random bytes without the poison."""
    return source.randbytes(size).replace(b"\xa5", b"\x00")


def random_setup(source: random.Random) -> bytes:
    """Requests near the table, and far from it."""
    kind = source.choice([0x80, 0x81, 0x82, 0x00, 0x01, 0x02, 0xC0, 0xC0, 0x40, source.randrange(256)])
    request = source.choice([0, 1, 3, 5, 6, 6, 8, 9, 10, 11, 0x20, source.randrange(256)])
    value = source.choice([0, 0, 1, 0x100, 0x200, 0x301, 0x302, 0x303, 0x600, 0x700, 0xF00, source.randrange(65536)])
    index = source.choice([0, 0, 7, 0x409, 0x01, 0x81, source.randrange(65536)])
    size = source.choice([0, 0, 1, 2, 9, 18, 64, 255, 4096, 65535, source.randrange(65536)])
    return setup_packet(kind, request, value, index, size)


def fuzz(speed: Speed, packets: int, seed: int) -> None:
    """Send that many packets, then see whether all is well.

    Raises:
        AssertionError: it is not.
    """
    source = random.Random(seed)
    most = PACKET_BYTES[speed]
    device = UsbDevice(Echo(), speed=speed)
    for number in range(packets):
        if number % 50 == 0:
            enumerate_device(device, 1 + number % 127)
        turn = source.random()
        if turn < 0.35:
            device.token_setup(random_setup(source))
        elif turn < 0.65:
            answer = device.token_in(source.choice([0, 0, 0, 1, 1, 2, 15]))
            assert isinstance(answer, Handshake) or (POISON not in answer and len(answer) <= most)
        elif turn < 0.98:
            packet = source.choice([b"", clean(source, source.randrange(2 * most)), framed(clean(source, 20))])
            device.token_out(source.choice([0, 1, 1, 1, 3]), packet)
        else:
            device.bus_reset()
    enumerate_device(device, 9)
    assert BulkOut(device, 1, data=framed(b"still here")).step()
    reading = BulkIn(device, 1, most)
    assert reading.step()
    assert (reading.status, bytes(reading.received)) == (Status.OK, b"still here")
    assert device.endpoint0.stage is Stage.IDLE
    assert set(device.ram) == {0xA5}, "nothing is left behind in memory"


def main() -> None:
    """Run as many as asked, at both speeds."""
    parser = argparse.ArgumentParser(description="Random packets against the simulated USB device.")
    parser.add_argument("--packets", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    speeds: tuple[Speed, Speed] = ("full", "high")
    for speed in speeds:
        fuzz(speed, asked.packets // 2, asked.seed)
        print(f"{speed} speed: {asked.packets // 2} packets, seed {asked.seed}: well")


if __name__ == "__main__":
    main()
