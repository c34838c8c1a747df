# SPDX-License-Identifier: Apache-2.0
"""Re-proof: the container's key signs a fresh nonce, again and again, and seats live only as long as it does.

A removed or swapped device, or a container directory replaced by another, fails within one interval; a recording cannot
answer, because each proof has a nonce of its own.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Final

from tallystick.codec.keys import PublicKey
from tallystick.container.anchor import Anchor
from tallystick.container.seat import Seat
from tallystick.errors import TallystickError, error

DOMAIN: Final = b"tallystick proof of possession\x00"
NONCE_BYTES: Final = 32


def prove(anchor: Anchor, key: PublicKey, nonce: bytes) -> None:
    """Let an anchor prove that it owns a key.

    Args:
        anchor: of the container.
        key: identity key the container had when it was opened.
        nonce: 32 fresh random bytes.

    Raises:
        VerificationError: ``bad_signature``: the anchor signs with another key.
        BackendError: the device is gone.
    """
    if not key.verify_raw(DOMAIN + nonce, anchor.sign(DOMAIN + nonce)):
        raise error("bad_signature", "the container does not prove its key", "Reconnect the device it was opened on.")


class Renewer:
    """Renews the seats of one container before their deadlines pass, from a daemon thread once it is started.

    If the thread dies, deadlines pass and `Seat.check` decides on the caller's thread: it is never the thread that
    grants.

    Args:
        renew: called every `interval_s`; proves the key again.
        interval_s: seconds between renewals.
    """

    __slots__ = ("__weakref__", "_guard", "_interval_s", "_renew", "_seats", "_stop", "_thread")

    def __init__(self, renew: Callable[[], object], interval_s: float) -> None:
        self._renew = renew
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._guard = threading.Lock()  # a set that grows while another thread walks it raises
        self._seats: weakref.WeakSet[Seat] = weakref.WeakSet()

    @property
    def seats(self) -> tuple[Seat, ...]:
        """The seats held at this moment."""
        with self._guard:
            return tuple(self._seats)

    def add(self, seat: Seat) -> None:
        """Renew a seat from now on, at each `step`.

        Args:
            seat: held weakly.
        """
        with self._guard:
            self._seats.add(seat)

    def discard(self, seat: Seat) -> None:
        """Renew a seat no more."""
        with self._guard:
            self._seats.discard(seat)

    def start(self) -> None:
        """Call `step` from a thread of its own, every `interval_s`."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(
                target=_run, args=(weakref.ref(self), self._stop, self._interval_s), name="tallystick", daemon=True
            )
            self._thread.start()

    def step(self) -> None:
        """Renew once: prove, then every seat; where the proof fails, end every seat's deadlines."""
        try:
            self._renew()
        except TallystickError as reason:
            for seat in self.seats:
                seat.expire(reason)
            return
        for seat in self.seats:
            seat.renew()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()


def _run(owner: weakref.ref[Renewer], stop: threading.Event, interval_s: float) -> None:
    """Thread body: holds the renewer only while it works, so that it ends when the container is forgotten."""
    while not stop.wait(interval_s):
        renewer = owner()
        if renewer is None:
            return
        renewer.step()
        del renewer
