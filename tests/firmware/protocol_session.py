# SPDX-License-Identifier: Apache-2.0
"""Records the session of ``docs/dongle-protocol.md``: with given ephemeral keys, so that a reader can follow each byte.

    PYTHONPATH=src:.:tests:tests/firmware python tests/firmware/protocol_session.py     prints the section

Signatures differ each time, so no test makes the page anew; `test_protocol_page` reads it as an implementer would.
"""

from __future__ import annotations

import textwrap
from typing import Any

from firmware_sim.dongle import SimulatedDongle
from firmware_sim.flash import Flash
from firmware_sim.platform import SimulatedBoard
from tallystick.clock import Reading
from tallystick.codec.signing import SoftwareKey
from tallystick.dongle import channel, frames
from tallystick.dongle.calls import encode_call

HOST = bytes(31) + b"\x11"
DEVICE = bytes(31) + b"\x22"


class Fixed:
    """Hands out the ephemeral keys of host and device in turn."""

    def __init__(self) -> None:
        self._scalars = [HOST, DEVICE]

    def generate(self) -> SoftwareKey:
        return SoftwareKey.from_p256_scalar(self._scalars.pop(0))

    def __getattr__(self, name: str) -> Any:
        return getattr(SoftwareKey, name)


def block(title: str, data: bytes) -> str:
    """One item of the recording."""
    return f"{title}\n\n```\n" + "\n".join(textwrap.wrap(data.hex(), 96)) + "\n```\n"


def record() -> str:
    """Run the session."""
    dongle = SimulatedDongle(SimulatedBoard(Flash(8), random=lambda size: bytes(range(size))), Reading(0, 0, ""))
    real, channel.SoftwareKey = channel.SoftwareKey, Fixed()  # type: ignore[misc, assignment] # ephemeral keys only
    try:
        hello = channel.Hello(lambda size: b"\xa0" * size)
        out = [block("host, the ephemeral secret", HOST), block("dongle, the ephemeral secret", DEVICE)]

        def say(title: str, data: bytes) -> bytes:
            dongle.receive(data)
            answer = dongle.transmit()
            out.extend((block(f"host to dongle: {title}", data), block("dongle to host", answer)))
            return answer

        say("`SYNC`", frames.encode(frames.SYNC, 0, b"\x01\x02\x03\x04\x05\x06\x07\x08"))
        answer = say("`HELLO`, transaction 1", frames.encode(frames.HELLO, 1, hello.message))
        (frame,) = frames.FrameReader().feed(answer)
        opened, _, _ = hello.finish(frame.payload)
    finally:
        channel.SoftwareKey = real  # type: ignore[misc]
    for number, (named, arguments) in enumerate([("status", ()), ("prove", (bytes(range(32)),))], 2):
        plain = encode_call(named, *arguments)
        out.append(block(f"call `{named}`, before it is sealed", plain))
        answer = say(f"the same, sealed, transaction {number}",
                     frames.encode(frames.MESSAGE, number, opened.seal(number, plain)))  # fmt: skip
        (frame,) = frames.FrameReader().feed(answer)
        out.append(block("the answer, opened", opened.open(number, frame.payload)))
    return "\n".join(out)


if __name__ == "__main__":
    print(record())
