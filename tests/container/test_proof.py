# SPDX-License-Identifier: Apache-2.0
"""Re-proof: a fresh nonce each time, and a thread that renews seats and is never what grants them."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from typing import Any

import pytest

from tallystick.codec.keys import PublicKey
from tallystick.codec.signing import SoftwareKey
from tallystick.container.anchor import Anchor
from tallystick.container.proof import Renewer, prove
from tallystick.errors import TallystickError, error


class KeyAnchor(Anchor):
    """An anchor with a key and nothing else.

    Attributes:
        seen: the messages it signed.
    """

    def __init__(self, key: SoftwareKey) -> None:
        self.key = key
        self.seen: list[bytes] = []

    @property
    def public_key(self) -> PublicKey:
        return self.key.public_key

    @property
    def agreement_key(self) -> None:
        return None

    def _sign(self, message: bytes) -> bytes:
        self.seen.append(message)
        return self.key.sign(message)

    def _seal(self, secret: bytes) -> bytes:
        raise NotImplementedError

    def _unseal(self, sealed: bytes) -> bytes:
        raise RuntimeError("a defect of a library")


def test_a_proof_is_a_signature_of_a_fresh_nonce_in_a_domain_of_its_own() -> None:
    anchor = KeyAnchor(SoftwareKey.generate())
    prove(anchor, anchor.public_key, bytes(32))
    prove(anchor, anchor.public_key, b"\1" * 32)
    assert anchor.seen[0] != anchor.seen[1]
    assert all(message.startswith(b"tallystick proof of possession\x00") for message in anchor.seen)


def test_a_recorded_answer_proves_nothing() -> None:
    anchor = KeyAnchor(SoftwareKey.generate())
    public, recorded = anchor.public_key, anchor.key.sign(b"tallystick proof of possession\x00" + bytes(32))

    class Recorder(KeyAnchor):
        def _sign(self, message: bytes) -> bytes:
            return recorded

    prove(Recorder(anchor.key), public, bytes(32))
    with pytest.raises(TallystickError) as caught:
        prove(Recorder(anchor.key), public, b"\1" * 32)
    assert caught.value.code == "bad_signature"


def test_what_an_anchor_lacks_it_says() -> None:
    anchor = KeyAnchor(SoftwareKey.generate())
    assert anchor.position() is None
    assert anchor.evidence(bytes(32)) == {}
    anchor.close()
    with pytest.raises(TallystickError) as caught:
        anchor.agree(bytes(65))
    assert caught.value.code == "not_supported"
    with pytest.raises(TallystickError) as caught:
        anchor.unseal(b"")
    assert caught.value.code == "backend_failed"
    assert isinstance(caught.value.__cause__, RuntimeError)


class Sitter:
    """What the renewer knows of a seat."""

    def __init__(self) -> None:
        self.renewed = threading.Event()
        self.ended: TallystickError | None = None

    def renew(self) -> None:
        self.renewed.set()

    def expire(self, reason: TallystickError) -> None:
        self.ended = reason


def test_a_step_renews_every_seat_or_ends_every_seat() -> None:
    fail = False

    def renew() -> None:
        if fail:
            raise error("backend_failed", "gone")

    renewer, seats = Renewer(renew, 60), [Sitter(), Sitter()]
    for seat in seats:
        renewer.add(seat)  # type: ignore[arg-type] # all it needs
    renewer.step()
    assert all(seat.renewed.is_set() and seat.ended is None for seat in seats)
    fail = True
    renewer.discard(seats[1])  # type: ignore[arg-type] # as above
    renewer.step()
    assert seats[0].ended is not None
    assert seats[1].ended is None


def test_the_thread_renews_and_stops() -> None:
    steps, seat = threading.Semaphore(0), Sitter()
    renewer = Renewer(steps.release, 0.001)
    renewer.add(seat)  # type: ignore[arg-type] # as above
    renewer.start()
    thread: Any = renewer._thread
    renewer.start()
    assert renewer._thread is thread, "one thread is enough"
    assert steps.acquire(timeout=60)
    assert seat.renewed.wait(60)
    renewer.stop()
    thread.join(60)
    assert not thread.is_alive()


def test_a_forgotten_renewer_ends_its_thread() -> None:
    renewer = Renewer(lambda: None, 0.001)
    renewer.start()
    thread: Any = renewer._thread
    gone = weakref.ref(renewer)
    del renewer
    deadline = time.monotonic() + 60
    while gone() is not None and time.monotonic() < deadline:
        gc.collect()
    thread.join(60)
    assert not thread.is_alive()
