# SPDX-License-Identifier: Apache-2.0
"""The firmware: bytes in, bytes out, with the account in between. What USB calls it with is `usb_device.Function`.

It keeps a few channels, one for each program that talks to it, and drops the one not used for longest when another
program comes. It answers one message at a time. Whatever arrives, it neither stops nor tells more than a code: a bad
frame loses the place (``ERROR``), a bad seal closes the channel, a bad call is refused inside it.

A call that needs a touch waits (`Waiting`): `poll` performs it when the button is pressed, and refuses it when nobody
does. Meanwhile every other call is turned away as busy; whoever drops the wait drops the call, with nothing done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from firmware_sim.account import Account
from firmware_sim.flash_log import FlashLog
from firmware_sim.pin import Pin
from firmware_sim.platform import Platform
from firmware_sim.services import Services
from firmware_sim.touch import TOUCH_MS, TouchNeeded, Waiting
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
MAX_UNREAD: Final = 2 * frames.MAX_MESSAGE
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
        self._waiting: Waiting | None = None

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
        self._waiting = None

    def receive(self, data: bytes) -> None:
        """Take bytes in.

        Args:
            data: in order, cut anywhere.
        """
        self._give_up()
        if len(self._out) > MAX_UNREAD:  # a host that asks and never listens loses its place, and the device no memory
            self._out.clear()
            self._reader.reset()
            self._say(frames.ERROR, 0, bytes((frames.LOST_PLACE,)))
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

    def poll(self) -> bool:
        """Go on with a call that waits for a touch.

        Returns:
            Whether there is one, or was until now.
        """
        waiting = self._waiting
        if waiting is None:
            return False
        self._give_up()
        if self._waiting is not None and self._platform.touched():
            self._waiting = None
            with self._account.gate.pressed():
                self._reply(waiting.transaction, waiting.channel, self._perform(waiting.call, waiting.channel))
        elif self._waiting is not None and waiting.due(self._platform.ticks()):
            self._ask_for_touch(waiting)
        return True

    # -- inside

    def _give_up(self) -> None:
        """Refuse a call that has waited for too long."""
        waiting = self._waiting
        if waiting is not None and self._platform.ticks() - waiting.since >= TOUCH_MS:
            self._waiting = None
            refusal = error("touch_needed", f"nobody pressed the dongle's button within {TOUCH_MS // 1000} seconds")
            self._reply(waiting.transaction, waiting.channel, encode_refusal(refusal))

    def _ask_for_touch(self, waiting: Waiting) -> None:
        waiting.told = self._platform.ticks()
        self._platform.blink()
        if not self._out:  # a host that does not listen is not told more and more
            self._say(frames.WAIT, waiting.transaction, bytes((frames.TOUCH,)))

    def _say(self, kind: int, transaction: int, payload: bytes) -> None:
        self._out += frames.encode(kind, transaction, payload)

    def _take(self, frame: Frame) -> None:
        if frame.type == frames.SYNC:
            self._out.clear()
            self._waiting = None  # whoever asked does not listen any more
            self._say(frames.SYNC, 0, frame.payload[: frames.SYNC_BYTES])
        elif frame.type == frames.HELLO:
            self._greet(frame)
        elif frame.type == frames.MESSAGE:
            self._answer(frame)
        elif frame.type == frames.CANCEL:
            self._cancel(frame.transaction)
        else:
            self._say(frames.ERROR, frame.transaction, bytes((frames.REFUSED,)))

    def _cancel(self, transaction: int) -> None:
        """Drop the call that waits; any other was answered already, for one thing is done at a time."""
        if self._waiting is not None and self._waiting.transaction == transaction:
            self._waiting = None
            self._say(frames.ERROR, transaction, bytes((frames.CANCELLED,)))

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
        number = -1
        try:
            number = number_of(frame.payload)
            channel = self._channels.get(number)
            if channel is None:
                raise error("channel_broken", "no such channel")
            plain = channel.open(frame.transaction, frame.payload)
        except TallystickError:  # whoever tried to speak on it has closed it
            self._close(number)
            self._say(frames.ERROR, frame.transaction, bytes((frames.NO_CHANNEL,)))
            return
        self._channels[number] = self._channels.pop(number)  # the one used last stands last
        if self._waiting is not None:
            self._say(frames.ERROR, frame.transaction, bytes((frames.BUSY,)))
            return
        try:
            answer = self._perform(plain, number)
        except TouchNeeded:
            self._waiting = Waiting(frame.transaction, number, plain, self._platform.ticks())
            self._platform.listen()
            self._ask_for_touch(self._waiting)
            return
        self._reply(frame.transaction, number, answer)

    def _reply(self, transaction: int, number: int, answer: bytes) -> None:
        self._say(frames.MESSAGE, transaction, self._channels[number].seal(transaction, answer))

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
        self._channels.pop(number, None)
        self._unlocked.discard(number)
        if self._waiting is not None and self._waiting.channel == number:
            self._say(frames.ERROR, self._waiting.transaction, bytes((frames.NO_CHANNEL,)))
            self._waiting = None

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

    def _chip(self, _: int) -> list[Any]:
        return [self._platform.chip_id, self._platform.locked, self._platform.kind]

    def _certify(self, _: int, certificate: bytes) -> None:
        self._account.certify(certificate)


_OWN: Final[Mapping[str, Callable[..., Any]]] = {
    "status": Firmware._status,
    "verify_pin": Firmware._verify_pin,
    "change_pin": Firmware._change_pin,
    "unblock_pin": Firmware._unblock_pin,
    "change_puk": Firmware._change_puk,
    "identify": Firmware._identify,
    "chip": Firmware._chip,
    "certify": Firmware._certify,
}
