# SPDX-License-Identifier: Apache-2.0
"""The firmware: bytes in, bytes out, with the account in between. What USB calls it with is `usb_device.Function`.

It keeps a few channels, one for each program that talks to it, and drops the one not used for longest when another
program comes. It answers one message at a time. Whatever arrives, it neither stops nor tells more than a code: a bad
frame loses the place (``ERROR``), a bad seal closes the channel, a bad call is refused inside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from firmware_sim.account import Account
from firmware_sim.flash_log import FlashLog
from firmware_sim.pin import Pin
from firmware_sim.platform import Platform
from firmware_sim.services import Services
from tallystick.clock import Reading
from tallystick.codec import cbor
from tallystick.codec.ident import container_id
from tallystick.dongle import frames
from tallystick.dongle.calls import decode_call, encode_refusal, encode_result
from tallystick.dongle.channel import Channel, answer_hello, number_of
from tallystick.dongle.frames import Frame, FrameReader
from tallystick.errors import FormatError, TallystickError, error
from tallystick.version import __version__

CHANNELS: Final = 4
_NEVER: Final = Reading(0, 0, "")
NAME: Final = f"tallystick-sim {__version__}"


class Firmware:
    """One device, switched on.

    Args:
        platform: the board.
        made: when the factory switched it on for the first time; of no account where the flash is not empty.
    """

    def __init__(self, platform: Platform, made: Reading = _NEVER) -> None:
        self._platform = platform
        self._account = Account(FlashLog.open(platform.flash), platform.random, made)
        self._pin = Pin(self._account, platform.random)
        self._services = Services(self._account, platform.kind, platform.random)
        self._reader = FrameReader()
        self._out = bytearray()
        self._channels: dict[int, Channel] = {}
        self._unlocked: set[int] = set()
        self._last = int.from_bytes(platform.random(2))

    @property
    def serial(self) -> str:
        """The container's printed identity."""
        return container_id(self._account.anchor.public_key.thumbprint)

    @property
    def account(self) -> Account:
        """What it keeps."""
        return self._account

    def identify(self) -> bytes:
        """Tell what anybody may know: the protocol's version, the kind of device and its container id."""
        return cbor.encode({1: 1, 2: NAME, 3: self.serial})

    def refresh(self) -> None:
        """Read the flash again: another simulator of the same image has written it."""
        self._account.load(FlashLog.open(self._platform.flash), self._platform.random)

    def reset(self) -> None:
        """Take note that the host is gone: half a message is dropped, and all channels."""
        self._reader.reset()
        self._out.clear()
        self._channels.clear()
        self._unlocked.clear()

    def receive(self, data: bytes) -> None:
        """Take bytes in.

        Args:
            data: in order, cut anywhere.
        """
        try:
            for frame in self._reader.feed(data):
                self._take(frame)
        except FormatError as reason:
            code = frames.TOO_LONG if reason.code == "too_large" else frames.LOST_PLACE
            self._say(frames.ERROR, 0, bytes((code,)))

    def transmit(self) -> bytes:
        """Return what waits to be sent."""
        data = bytes(self._out)
        self._out.clear()
        return data

    # -- inside

    def _say(self, kind: int, transaction: int, payload: bytes) -> None:
        self._out += frames.encode(kind, transaction, payload)

    def _take(self, frame: Frame) -> None:
        if frame.type == frames.SYNC:
            self._out.clear()
            self._say(frames.SYNC, 0, frame.payload[: frames.SYNC_BYTES])
        elif frame.type == frames.HELLO:
            self._greet(frame)
        elif frame.type == frames.MESSAGE:
            self._answer(frame)
        elif frame.type != frames.CANCEL:  # what is cancelled was answered already: one thing is done at a time
            self._say(frames.ERROR, frame.transaction, bytes((frames.REFUSED,)))

    def _greet(self, frame: Frame) -> None:
        number = self._last = (self._last + 1) & 0xFFFF
        anchor = self._account.anchor
        try:
            answer, channel = answer_hello(
                frame.payload, number, anchor.public_key, self._account.device.certificate, anchor.sign,
                self._platform.random,
            )  # fmt: skip
        except TallystickError:
            self._say(frames.ERROR, frame.transaction, bytes((frames.REFUSED,)))
            return
        if len(self._channels) >= CHANNELS:
            self._close(next(iter(self._channels)))
        self._channels[number] = channel
        self._say(frames.HELLO, frame.transaction, answer)

    def _answer(self, frame: Frame) -> None:
        try:
            number = number_of(frame.payload)
            channel = self._channels.pop(number, None)
            if channel is None:
                raise error("channel_broken", "no such channel")
            plain = channel.open(frame.transaction, frame.payload)
        except TallystickError:  # popped: whoever tried to speak on it has closed it
            self._say(frames.ERROR, frame.transaction, bytes((frames.NO_CHANNEL,)))
            return
        self._channels[number] = channel  # the one used last stands last
        answer = self._perform(plain, number)
        self._say(frames.MESSAGE, frame.transaction, channel.seal(frame.transaction, answer))

    def _perform(self, plain: bytes, number: int) -> bytes:
        try:
            named, call, arguments = decode_call(plain)
            if not call.open and self._pin.tries is not None and number not in self._unlocked:
                raise error("pin_needed", "the dongle asks for its PIN")
            own = _OWN.get(named)
            if own is not None:
                return encode_result(own(self, number, *arguments))
            return encode_result(self._services.perform(named, arguments, number))
        except TallystickError as refusal:
            return encode_refusal(refusal)

    def _close(self, number: int) -> None:
        del self._channels[number]
        self._unlocked.discard(number)

    def _status(self, number: int) -> list[Any]:
        account = self._account
        agreement = account.anchor.agreement_key
        tries = self._pin.tries
        return [
            account.current().generation, b"" if agreement is None else agreement.cose,
            int(account.log.lifetime_left * 1000), tries, tries is None or number in self._unlocked,
            frames.MAX_MESSAGE, NAME,
        ]  # fmt: skip

    def _verify_pin(self, number: int, pin: str) -> None:
        self._pin.verify(pin)
        self._unlocked.add(number)

    def _change_pin(self, number: int, old: str, new: str) -> None:
        self._pin.change(old, new)
        self._unlocked = {number}

    def _unblock_pin(self, number: int, puk: str, new: str) -> None:
        self._pin.unblock(puk, new)
        self._unlocked = {number}

    def _change_puk(self, _: int, old: str, new: str) -> None:
        self._pin.change_puk(old, new)

    def _identify(self, _: int) -> None:
        self._platform.blink()


_OWN: Final[Mapping[str, Callable[..., Any]]] = {
    "status": Firmware._status,
    "verify_pin": Firmware._verify_pin,
    "change_pin": Firmware._change_pin,
    "unblock_pin": Firmware._unblock_pin,
    "change_puk": Firmware._change_puk,
    "identify": Firmware._identify,
}
