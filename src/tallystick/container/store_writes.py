# SPDX-License-Identifier: Apache-2.0
"""How a store writes: what it is about to do is marked in the lock file, and what failed is never tried again.

The mark lets the next process complete what a killed one left in memory but not on disk. `APPENDING` makes whoever
finds a record it did not know write that record again; a process that is alone leaves it standing, so that an append
costs no more than its own write. `REPLACING` makes whoever finds it publish the snapshot again.

A failed ``fsync`` may have dropped the data and marked it as written, so that trying again would report success for
nothing. After such a failure every later call is refused until a new store judges what is really on the disk.
"""

from __future__ import annotations

from collections.abc import Callable

from tallystick.container.store_lock import APPENDING, REPLACING, SETTLED, StoreLock
from tallystick.container.store_os import storage_error
from tallystick.errors import TallystickError, error

_HARMLESS = frozenset({"no_space", "no_permission", "unsafe_path"})


class Writes:
    """The writes of one store, under its lock."""

    __slots__ = ("_failure", "_lock", "_mark", "_marks")

    def __init__(self, lock: StoreLock, *, read_only: bool) -> None:
        """Start without a failure.

        Args:
            lock: the container's lock.
            read_only: marks are neither read nor written.
        """
        self._failure: TallystickError | None = None
        self._lock = lock
        self._mark = SETTLED
        self._marks = not read_only

    def require_intact(self) -> None:
        """Refuse to go on after a failed write.

        Raises:
            StorageError: ``io_error``.
        """
        if self._failure is not None:
            message = f"an earlier write failed ({self._failure.message}); the container must be opened again"
            raise error("io_error", message) from self._failure

    def interrupted_by(self) -> int:
        """Return what the last writer may not have completed, `SETTLED` if it completed everything.

        Raises:
            StorageError: ``io_error``.
        """
        mark = self._lock.read_mark() if self._marks else SETTLED
        self._mark = mark if mark in (SETTLED, APPENDING) else REPLACING
        return self._mark

    def begin(self, mark: int) -> None:
        """Mark what is about to be done; `interrupted_by` must have been asked under the same lock.

        Args:
            mark: `APPENDING` or `REPLACING`.

        Raises:
            StorageError: ``no_space``, ``no_permission``: nothing was changed; ``io_error``.
        """
        if mark != self._mark:
            try:
                self._lock.write_mark(mark)
            except TallystickError as exc:
                self.judge(exc)
                raise
            self._mark = mark

    def settle(self) -> None:
        """Mark that everything is durable."""
        try:
            self._lock.write_mark(SETTLED)
        except TallystickError:  # it is durable all the same; the next holder makes sure once more
            return
        self._mark = SETTLED

    def attempt(self, what: str, write: Callable[[], None]) -> None:
        """Do what cannot be tried again: if it fails, every later call is refused.

        Args:
            what: what is being done, to begin the message.
            write: does it.

        Raises:
            StorageError: ``no_space``, ``no_permission`` or ``io_error``.
        """
        try:
            write()
        except OSError as exc:
            self._failure = storage_error(exc, what)
            raise self._failure from exc
        except TallystickError as exc:
            self._failure = exc
            raise

    def judge(self, exc: TallystickError) -> bool:
        """Take note of a failure met before anything changed.

        Args:
            exc: the failure.

        Returns:
            Whether it is only a lack of space or permission, after which the store can still be used.
        """
        if exc.code in _HARMLESS:
            return True
        self._failure = exc
        return False
