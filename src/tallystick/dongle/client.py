# SPDX-License-Identifier: Apache-2.0
"""`DongleClient`: calls of one dongle through a secure channel that opens itself when it is needed.

The identity key met at the first handshake is the one expected for ever: another device in the same place, with the
same serial number, is told apart by its key.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from tallystick.codec.keys import PublicKey
from tallystick.dongle import frames
from tallystick.dongle.calls import decode_answer, encode_call
from tallystick.dongle.channel import Channel, Hello
from tallystick.dongle.link import Conversation, Link
from tallystick.errors import FormatError, TallystickError, error

OPENING_S: Final = 10.0
CLAIM_S: Final = 20.0  # longer than another program waits for a touch: no seat ends because of that
BUSY_S: Final = 16.0  # a dongle waits 15 seconds for a touch that another program asked for
_PAUSE_S: Final = 0.05


class DongleClient:
    """One dongle.

    Args:
        link: the pipe to it.
        monotonic: clock of the deadlines.
        random: source of nonces.
        pause: waits a moment while the dongle is busy with another program's call.
    """

    def __init__(
        self,
        link: Link,
        monotonic: Callable[[], float],
        random: Callable[[int], bytes],
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._monotonic = monotonic
        self._pause = pause
        self._conversation = Conversation(link, monotonic, random)
        self.link = link
        self._random = random
        self._channel: Channel | None = None
        self._claims = 0
        self._guard = threading.RLock()
        self._pin = ""
        self.identity: PublicKey | None = None
        self.certificate = b""

    @property
    def on_touch(self) -> Callable[[], None] | None:
        """Called once for each call that waits until somebody presses the dongle's button."""
        return self._conversation.on_touch

    @on_touch.setter
    def on_touch(self, told: Callable[[], None] | None) -> None:
        self._conversation.on_touch = told

    @contextmanager
    def held(self) -> Iterator[None]:
        """Have the dongle for this program, and for this thread, alone.

        Raises:
            ContainerError: ``busy``.
            BackendError: ``device_removed``.
        """
        with self._guard:
            if not self._claims:
                self.link.claim(OPENING_S if self.identity is None else CLAIM_S)
            self._claims += 1
            try:
                yield
            finally:
                self._claims -= 1
                if not self._claims:
                    self.link.release()

    def call(self, named: str, *arguments: Any) -> Any:
        """Ask the dongle.

        Args:
            named: a key of `calls.CALLS`.
            arguments: as that table says.

        Returns:
            The checked result.

        Raises:
            TallystickError: the dongle's refusal.
            VerificationError: ``bad_signature``, ``channel_broken``.
            BackendError: ``device_removed``, ``device_silent``, ``backend_failed``.
            ContainerError: ``busy``.
        """
        message = encode_call(named, *arguments)
        with self.held():
            for _ in range(2):
                channel = self._channel or self._opened()
                answer = self._exchange(channel, message)
                if answer is not None:
                    return _result(named, answer)
            raise error("channel_broken", "the dongle does not keep its channels")

    def unlock(self, pin: str) -> None:
        """Give the dongle its PIN, and again whenever a new channel is opened: after it was pulled out and put back.

        A PIN that was refused, for somebody has changed it, is never tried again: its tries are counted.

        Args:
            pin: the PIN.

        Raises:
            LockedError: ``pin_wrong``, ``pin_blocked``.
            TallystickError: as `call`.
        """
        self._pin = ""
        self.call("verify_pin", pin)
        self._pin = pin

    def close(self) -> None:
        """Let go of the dongle."""
        with self._guard:
            self._channel = None
            self._pin = ""
            self.link.close()

    def _exchange(self, channel: Channel, message: bytes) -> bytes | None:
        """Ask through a channel; None where the device forgot it, and so has not heard the question."""
        self._channel = None  # whatever interrupts this: what the other end counts is not known then
        end = self._monotonic() + BUSY_S
        while True:
            transaction = self._conversation.next_transaction()
            frame = self._conversation.ask(frames.MESSAGE, transaction, channel.seal(transaction, message))
            if frame.type != frames.ERROR:
                break
            if frame.payload == bytes((frames.NO_CHANNEL,)):
                return None
            if frame.payload != bytes((frames.BUSY,)) or self._monotonic() >= end:
                raise _refused(frame.payload)
            self._pause(_PAUSE_S)
        plain = channel.open(transaction, frame.payload)
        self._channel = channel
        return plain

    def _opened(self) -> Channel:
        """Open a channel, and give the PIN that opened the one before."""
        channel = self._handshake()
        if self._pin:
            answer = self._exchange(channel, encode_call("verify_pin", self._pin))
            if answer is None:
                raise error("channel_broken", "the dongle does not keep its channels")
            try:
                _result("verify_pin", answer)
            except TallystickError:
                self._pin = ""
                raise
        return channel

    def _handshake(self) -> Channel:
        hello = Hello(self._random)
        frame = self._conversation.ask(frames.HELLO, self._conversation.next_transaction(), hello.message)
        if frame.type == frames.ERROR:
            raise _refused(frame.payload)
        try:
            channel, identity, certificate = hello.finish(frame.payload)
        except FormatError as cause:
            raise error("backend_failed", "the dongle's answer to the handshake is not one") from cause
        if self.identity is not None and identity != self.identity:
            raise error("bad_signature", "another dongle answers", "Plug in the one the container was opened on.")
        self.identity, self.certificate = identity, certificate
        self._channel = channel
        return channel


def _result(named: str, answer: bytes) -> Any:
    try:
        result, refusal = decode_answer(named, answer)
    except FormatError as cause:
        raise error("backend_failed", f"the dongle's answer to {named!r} is not one") from cause
    if refusal is not None:
        raise refusal
    return result


def _refused(payload: bytes) -> Exception:
    if payload == bytes((frames.TOO_LONG,)):
        return error("too_large", "this dongle takes no message of that size")
    if payload == bytes((frames.BUSY,)):
        return error("busy", "the dongle waits for a touch that another program asked for")
    return error("backend_failed", f"the dongle refuses: {payload[:4].hex() or 'no reason'}")
