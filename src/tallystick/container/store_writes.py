# SPDX-License-Identifier: Apache-2.0
"""How a store writes: what it is about to do is noted in the lock file, and what failed is never tried again.

A failed ``fsync`` may have dropped the data and marked it as written, so that trying again would report success for
nothing. After such a failure every later call is refused until a new store judges what is really on the disk.
"""

from __future__ import annotations

from collections.abc import Callable

from tallystick.container.store_lock import APPENDING, REPLACING, SETTLED, StoreLock
from tallystick.container.store_os import Translated
from tallystick.errors import TallystickError, error

_HARMLESS = frozenset({"no_space", "no_permission", "unsafe_path"})


class Writes:
    """The writes of one store, under its lock."""

    __slots__ = ("_failure", "_lock", "_marks")

    def __init__(self, lock: StoreLock, *, read_only: bool) -> None:
        """Start without a failure.

        Args:
            lock: the container's lock.
            read_only: marks are neither read nor written.
        """
        self._failure: TallystickError | None = None
        self._lock = lock
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
        """Return what the last writer was doing when it died or failed, `SETTLED` if nothing.

        Raises:
            StorageError: ``io_error``.
        """
        mark = self._lock.read_mark() if self._marks else SETTLED
        return mark if mark in (SETTLED, APPENDING) else REPLACING

    def begin(self, mark: int) -> None:
        """Note what is about to be done.

        Args:
            mark: `APPENDING` or `REPLACING`.

        Raises:
            StorageError: ``no_space``, ``no_permission``: nothing was changed; ``io_error``.
        """
        try:
            self._lock.write_mark(mark)
        except TallystickError as exc:
            self.judge(exc)
            raise

    def settle(self) -> None:
        """Note that everything is durable."""
        try:
            self._lock.write_mark(SETTLED)
        except TallystickError:  # it is durable all the same; the next holder makes sure once more
            return

    def attempt(self, what: str, write: Callable[[], None]) -> None:
        """Do what cannot be tried again: if it fails, every later call is refused.

        Args:
            what: what is being done, to begin the message.
            write: does it.

        Raises:
            StorageError: ``no_space``, ``no_permission`` or ``io_error``.
        """
        try:
            with Translated(what):
                write()
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
