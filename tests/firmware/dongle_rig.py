# SPDX-License-Identifier: Apache-2.0
"""A simulated dongle on a direct link, a vendor, and what they need to talk to each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fakes import FakeClock
from firmware_sim.dongle import DirectLink, SimulatedDongle
from firmware_sim.flash import Flash
from firmware_sim.platform import SimulatedBoard
from issuer import Issuer
from tallystick.dongle import frames
from tallystick.dongle.calls import decode_answer, encode_call
from tallystick.dongle.channel import Channel, Hello
from tallystick.dongle.container import DongleContainer
from tallystick.dongle.frames import Frame, FrameReader
from tallystick.dongle.opening import open_dongle
from tallystick.license.model import License


class Rig:
    """A dongle and whoever uses it.

    Attributes:
        dongle: the device.
        clock: of the computer it is plugged into.
        acme: a vendor.
    """

    def __init__(self, folder: Path, pages: int = 16, flash: Flash | None = None) -> None:
        self.folder = folder
        self.clock = FakeClock()
        self.acme = Issuer()
        self.dongle = SimulatedDongle(SimulatedBoard(flash or Flash(pages)), self.clock.read())
        self.link = DirectLink(self.dongle)

    def open(self, pin: str = "", **more: Any) -> DongleContainer:
        """Open the container, as a program would; with a PIN if there is one."""
        more["secrets"] = (lambda _: pin) if pin else None
        return open_dongle(
            "usb:", self.link, (self.acme.trust,), self.clock, folder=lambda _: str(self.folder / "seats"),
            background=False, **more,
        )  # fmt: skip

    def activate(self, container: DongleContainer, **terms: Any) -> License:
        """Have a license installed."""
        request = container.request(self.acme.trust, product="cad")
        made = self.acme.license(request, **terms)
        container.install(self.acme.answer(request, made))
        return made


class Wire:
    """The bare wire to a device: frames by hand.

    Args:
        dongle: the device.
    """

    def __init__(self, dongle: SimulatedDongle) -> None:
        self.dongle = dongle
        self.sent: list[bytes] = []
        self.transaction = 0

    def say(self, data: bytes) -> list[Frame]:
        """Send bytes and return what comes back."""
        self.sent.append(data)
        self.dongle.receive(data)
        return FrameReader().feed(self.dongle.transmit())

    def greet(self) -> Channel:
        """Open a channel."""
        hello = Hello(bytes)
        (answer,) = self.say(frames.encode(frames.HELLO, 1, hello.message))
        assert answer.type == frames.HELLO
        return hello.finish(answer.payload)[0]

    def ask(self, channel: Channel, named: str, *arguments: Any) -> Any:
        """Make a call; a refusal is returned, not raised."""
        return self.ask_plain(channel, encode_call(named, *arguments), named)

    def ask_plain(self, channel: Channel, message: bytes, named: str = "status") -> Any:
        """Send what need not be a call."""
        self.transaction += 1
        sealed = channel.seal(self.transaction, message)
        (answer,) = self.say(frames.encode(frames.MESSAGE, self.transaction, sealed))
        assert (answer.type, answer.transaction) == (frames.MESSAGE, self.transaction)
        result, refusal = decode_answer(named, channel.open(self.transaction, answer.payload))
        return result if refusal is None else refusal
