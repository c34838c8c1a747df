# SPDX-License-Identifier: Apache-2.0
"""A conversation with a dongle over any pipe of bytes: one question, one answer, within a deadline.

The device is not trusted (rule R40): frames and messages have bounds, an answer must repeat its question's transaction,
what comes late is dropped, and whoever keeps silent or loses the place ends in a typed error after which the next
question begins with ``SYNC``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, Protocol

from tallystick.dongle import frames
from tallystick.dongle.frames import Frame, FrameReader
from tallystick.errors import FormatError, TallystickError, error

SILENCE_S: Final = 2.0  # longest time without a frame
WORK_S: Final = 30.0  # longest time a device may go on saying that it works or waits for a touch
_MAX_LATE: Final = 64  # frames of earlier questions before the place counts as lost


class Link(Protocol):
    """The pipe. Its methods raise ``device_removed`` where the device is gone, and ``backend_failed``."""

    def claim(self, timeout_s: float) -> None:
        """Have the device for this program alone, until `release`; raises ``busy``."""

    def release(self) -> None:
        """Let other programs have it."""

    def write(self, data: bytes) -> None:
        """Send bytes."""

    def read(self, timeout_s: float) -> bytes:
        """Return what has arrived; empty if nothing did in time."""

    def close(self) -> None:
        """Let go of the device. Closing twice is allowed."""


class Conversation:
    """Questions and answers over a link.

    Args:
        link: the pipe.
        monotonic: clock of the deadlines.
        random: source of the bytes of ``SYNC``.

    Attributes:
        on_touch: called once for each question whose answer waits until somebody presses the device's button.
    """

    __slots__ = ("_lost", "_monotonic", "_random", "_reader", "_transaction", "_waits", "link", "on_touch")

    def __init__(self, link: Link, monotonic: Callable[[], float], random: Callable[[int], bytes]) -> None:
        self.link = link
        self._monotonic = monotonic
        self._random = random
        self._waits = False  # the device said that it waits for a touch
        self.on_touch: Callable[[], None] | None = None
        self._reader = FrameReader()
        self._transaction = 0
        self._lost = True  # what another program left in the pipe is not known

    def next_transaction(self) -> int:
        """Number the next question."""
        self._transaction = (self._transaction + 1) & 0xFFFF
        return self._transaction

    def lose(self) -> None:
        """Begin the next question with ``SYNC``."""
        self._lost = True

    def ask(self, kind: int, transaction: int, payload: bytes) -> Frame:
        """Send a message and wait for its answer.

        Args:
            kind: ``MESSAGE`` or ``HELLO``.
            transaction: from `next_transaction`.
            payload: the message.

        Returns:
            The answer: of the same kind, or an ``ERROR``.

        Raises:
            BackendError: ``device_removed``, ``device_silent`` or ``backend_failed``.
            FormatError: ``too_large``.
        """
        data = frames.encode(kind, transaction, payload)
        taken = self._waits = False
        try:
            if self._lost:
                self._synchronize()
            self._lost = True
            self.link.write(data)
            taken = True
            answer = self._wait(kind, transaction)
        except BaseException as reason:  # interrupted, too: what nobody waits for any more shall not be done
            known = isinstance(reason, TallystickError) and reason.code != "device_silent"
            if taken and (self._waits or not known):
                self._cancel(transaction)
            if isinstance(reason, FormatError):
                raise error("backend_failed", "the dongle sends bytes that are no answer") from reason
            raise
        self._lost = False
        return answer

    def _wait(self, kind: int, transaction: int) -> Frame:
        late = 0
        for frame in self._frames(self._monotonic() + WORK_S):
            if frame.transaction != transaction or frame.type == frames.SYNC:
                late += 1
                if late > _MAX_LATE:
                    raise error("backend_failed", "the dongle answers other questions than the one asked")
            elif frame.type in (kind, frames.ERROR):
                return frame
            elif frame.type != frames.WAIT:
                raise error("backend_failed", "the dongle sends a frame that is no answer")
            elif frame.payload == bytes((frames.TOUCH,)) and not self._waits:
                self._waits = True
                if self.on_touch is not None:
                    self.on_touch()
        raise error("device_silent", "the dongle did not answer in time")

    def _synchronize(self) -> None:
        """Find the place again: drop everything up to the device's echo of fresh bytes."""
        self._reader.reset()
        challenge = self._random(frames.SYNC_BYTES)
        self.link.write(frames.encode(frames.SYNC, 0, challenge))
        window = bytearray()
        wanted = frames.encode(frames.SYNC, 0, challenge)
        begun = self._monotonic()
        dropped = 0
        while (left := begun + SILENCE_S - self._monotonic()) > 0:
            data = self.link.read(left)
            if not data:
                break
            window += data
            at = window.find(wanted)
            if at >= 0:
                if len(window) > at + len(wanted):
                    raise error("backend_failed", "the dongle goes on talking when it should be still")
                return
            dropped += max(0, len(window) - len(wanted))
            del window[: max(0, len(window) - len(wanted))]
            if dropped > 2 * frames.MAX_MESSAGE:
                break
        raise error("device_silent", "the dongle does not find the place again", "Unplug it and plug it in again.")

    def _frames(self, end: float) -> Iterator[Frame]:
        """Yield messages until the device is silent for too long, or `end` has come."""
        while (now := self._monotonic()) < end:
            data = self.link.read(min(SILENCE_S, end - now))
            if not data:
                return
            yield from self._reader.feed(data)

    def _cancel(self, transaction: int) -> None:
        try:
            self.link.write(frames.encode(frames.CANCEL, transaction))
        except TallystickError:  # it is as silent as it was
            return
