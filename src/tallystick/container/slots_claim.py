# SPDX-License-Identifier: Apache-2.0
"""A slot held by this process, shared by all seats it checks out of one license in one mode through one container."""

from __future__ import annotations

import weakref
from _thread import allocate_lock
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from tallystick.errors import TallystickError, error
from tallystick.license.model import License

SeatsOf = Callable[[License], int | None]


class Holder(Protocol):
    """What a claim needs of a seat."""

    def expire(self, reason: TallystickError) -> None:
        """End every deadline at once."""


class Owner(Protocol):
    """What a claim needs of whoever took its slot."""

    guard: Guard

    def retake(self, claim: Claim) -> None:
        """Take a slot anew, for a forked child."""

    def release(self, claim: Claim, *, linger: bool = False) -> None:
        """Give the slot back; guarded."""

    def abandon(self, claim: Claim) -> None:
        """Let the slot go, without a word: there may be nobody left to hear one; guarded."""

    def pid(self) -> int:
        """Return the number of this process."""


class Guard:
    """A lock among threads that garbage collection may meet held: what it wants done waits until the lock is free."""

    __slots__ = ("_dropped", "_lock")

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._dropped: list[tuple[Claim, weakref.ref[Holder]]] = []

    def __enter__(self) -> None:
        """Take the lock."""
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give it back, then do what was put off."""
        self._lock.release()
        self._sweep()

    def dropped(self, claim: Claim, seat: weakref.ref[Holder]) -> None:
        """Note that a seat was forgotten without being closed, from any thread, at any moment."""
        self._dropped.append((claim, seat))
        self._sweep()

    def _sweep(self) -> None:
        while self._dropped and self._lock.acquire(blocking=False):
            try:
                if self._dropped:
                    claim, seat = self._dropped.pop()
                    claim.forget(seat)
            finally:
                self._lock.release()


class Claim:
    """A slot.

    Args:
        owner: who took it.
        license_: what it is a seat of.
        mode: in which way.
        seats: tells how many there are, should it be taken again.
    """

    __slots__ = ("_owner", "_pins", "_users", "counted", "fd", "license_", "mode", "pid", "seats", "settled", "since")

    def __init__(self, owner: Owner, license_: License, mode: str, seats: SeatsOf) -> None:
        self._owner = owner
        self._users: set[weakref.ref[Holder]] = set()
        self._pins = 0
        self.license_ = license_
        self.mode = mode
        self.seats = seats
        self.fd = -1
        self.since = 0
        self.pid = 0  # of the process that holds it; 0: nobody does
        self.counted: int | None = None  # how many seats there were when it was taken
        self.settled = False  # whether the account was seen to have it afterwards

    @property
    def used(self) -> bool:
        """Whether a seat stands on it, or is about to."""
        return bool(self._users) or self._pins > 0

    def pin(self) -> Claim:
        """Keep it until a seat joins; guarded."""
        self._pins += 1
        return self

    def unpin(self, seat: Holder | None = None) -> None:
        """Let a seat stand on what was pinned, or let go of it.

        Args:
            seat: held weakly; None if there is none after all.
        """
        with self._owner.guard:
            self._pins -= 1
            if seat is not None:
                self._users.add(weakref.ref(seat, self._dropped))
            elif not self.used:
                self._owner.release(self)

    def leave(self, seat: Holder, *, linger: bool) -> None:
        """Take a closed seat off; the last one gives the slot back.

        Args:
            seat: that joined.
            linger: keep it taken as long as the license wants.
        """
        user = weakref.ref(seat)
        with self._owner.guard:
            if user in self._users:
                self._users.discard(user)
                if not self.used:
                    self._owner.release(self, linger=linger)

    def forget(self, user: weakref.ref[Holder]) -> None:
        """Take a seat off that is no more; guarded."""
        self._users.discard(user)
        if not self.used:
            self._owner.abandon(self)

    def ensure(self) -> None:
        """Hold a slot in this process: a forked child takes one of its own with its first question, or is refused.

        Raises:
            NotLicensedError: ``seats_in_use``.
            UsageError: ``closed``.
            StorageError, ContainerError.
        """
        if self.pid != self._owner.pid():
            self._owner.retake(self)

    def forked(self, close: Callable[[int], None]) -> None:
        """Give up, in a forked child, what is the parent's.

        Args:
            close: closes the descriptor; the parent's lock stays.
        """
        fd, self.fd = self.fd, -1
        self.pid = 0
        self._pins = 0  # of threads that are not here
        if fd >= 0:
            close(fd)
        reason = error("closed", "a seat stays with the process that took it, and a forked child needs its own")
        for user in tuple(self._users):
            seat = user()
            if seat is not None:
                seat.expire(reason)

    def _dropped(self, seat: weakref.ref[Holder]) -> None:
        self._owner.guard.dropped(self, seat)
