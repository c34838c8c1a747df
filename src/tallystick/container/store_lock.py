# SPDX-License-Identifier: Apache-2.0
"""The container's lock: one thread of one process at a time, released by the kernel when its holder dies.

The file ``lock`` is locked with ``flock`` and never replaced. Its one byte says what a holder began to write: who finds
it set must suspect that the writer died there, or met an error, and that what can be read may not be durable yet
(`store_writes` tells what is done then). The byte itself needs no durability: after a power cut everything that can be
read is durable anyway.

A holder that takes the lock again at once would starve those who wait, where a commit takes as long as in a TPM. So who
has waited for a while writes a second byte, and a holder that had the lock for long looks at it and gives way.
"""

from __future__ import annotations

import errno
from _thread import allocate_lock, get_ident
from types import TracebackType

from tallystick.container.store_os import CREATE, READ, Translated
from tallystick.container.vfs import Directory
from tallystick.errors import error

LOCK = "lock"
ALONE = "alone"
SETTLED = 0
APPENDING = 1
REPLACING = 2
_WANTED = b"\x01"  # the second byte
_SHORTEST_WAIT = 0.00005
_LONGEST_WAIT = 0.01
_LONGEST_TIMEOUT = 1e6


class StoreLock:
    """The lock of one container, for the threads of this process and against all other processes.

    Attributes:
        session: differs for each time the lock was taken.
    """

    __slots__ = (
        "_directory",
        "_examining",
        "_fd",
        "_holder",
        "_mutex",
        "_name",
        "_pid",
        "_since",
        "_slow",
        "_vfs",
        "session",
    )

    def __init__(self, directory: Directory, name: str = LOCK) -> None:
        """Prepare; nothing is opened before `acquire`.

        Args:
            directory: the container's folder; if it is read-only, the lock is shared and may be missing.
            name: of the file.
        """
        self._name = name
        self._directory = directory
        self._fd = -1
        self._vfs = directory.vfs
        self._examining = Translated(f"cannot examine {directory.where(name)}")
        self._mutex = allocate_lock()
        self._pid = directory.vfs.pid()
        self._holder = 0  # a thread's number is never 0
        self._since = 0.0
        self._slow = False  # whether it was held for long
        self.session = 0

    def acquire(self, timeout_s: float) -> None:
        """Take the lock.

        Args:
            timeout_s: seconds to wait for another holder, >= 0.

        Raises:
            ContainerError: ``busy``.
            UsageError: ``usage``: this thread holds it already.
            StorageError: the lock file cannot be used.
        """
        pid = self._vfs.pid()
        if pid != self._pid:  # a lock is shared with the parent until the file is opened again
            self._mutex = allocate_lock()
            self._holder = 0
            self._pid = pid
            self._close_file()
        elif self._holder == get_ident():
            raise error("usage", "the container's lock is held by this thread already")
        started = 0.0
        if not self._mutex.acquire(blocking=False):
            started = self._vfs.monotonic()
            if timeout_s <= 0 or not self._mutex.acquire(timeout=min(timeout_s, _LONGEST_TIMEOUT)):
                raise self._busy(timeout_s)
        try:
            if self._slow:
                self._give_way()
            if not (self._fd >= 0 and self._try_lock() and self._is_in_place()):
                self._wait_for_file((started or self._vfs.monotonic()) + timeout_s, timeout_s)
        except BaseException:
            self._mutex.release()
            raise
        self._holder = get_ident()
        self._since = self._vfs.monotonic()
        self.session += 1

    def _give_way(self) -> None:
        """Let others have the lock first who have waited for it: they look every `_LONGEST_WAIT`."""
        self._slow = False
        try:
            if self._fd < 0 or self._vfs.pread(self._fd, 1, 1) != _WANTED:
                return
            self._vfs.pwrite(self._fd, bytes(1), 1)
        except OSError:  # a courtesy: what is wrong with the file is told when it is used
            return
        self._vfs.sleep(2 * _LONGEST_WAIT)

    def _want(self) -> None:
        """Let a holder that has the lock for long know that somebody waits."""
        if not self._directory.read_only:
            try:
                self._vfs.pwrite(self._fd, _WANTED, 1)
            except OSError:  # as in `_give_way`
                return

    def _wait_for_file(self, deadline: float, timeout_s: float) -> None:
        pause = _SHORTEST_WAIT
        while self._fd >= 0 or self._open_file():
            if self._try_lock():
                if self._is_in_place():
                    return
                self._close_file()  # someone removed the file: what stands there now is another lock
                if self._vfs.monotonic() < deadline:
                    continue
            now = self._vfs.monotonic()
            if now >= deadline:
                raise self._busy(timeout_s)
            if pause == _LONGEST_WAIT:
                self._want()
            self._vfs.sleep(min(pause, deadline - now))
            pause = min(2 * pause, _LONGEST_WAIT)

    def _open_file(self) -> bool:
        """Open the lock file; False if it is missing where nothing may be created."""
        directory = self._directory
        fd = directory.open_file(self._name, READ if directory.read_only else CREATE)
        if fd is None:
            if directory.read_only:
                return False
            raise error("container_not_found", f"the folder {directory.path} was removed", path=directory.path)
        self._fd = fd
        return True

    def _try_lock(self) -> bool:
        directory = self._directory
        try:
            return self._vfs.flock(self._fd, exclusive=not directory.read_only)
        except OSError as exc:
            if exc.errno in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
                message = f"the file system of {directory.path} cannot lock files"
                raise error("unsafe_filesystem", message, path=directory.path) from exc
            with Translated(f"cannot lock {directory.where(self._name)}"):
                raise

    def _is_in_place(self) -> bool:
        with self._examining:
            return self._vfs.links(self._fd) > 0

    def _busy(self, timeout_s: float) -> Exception:
        message = f"another process or thread has held {self._directory.where(self._name)} for {timeout_s:g} s"
        return error("busy", message, path=self._directory.path)

    def release(self) -> None:
        """Give the lock back; in a child forked while its parent held the lock, leave it to the parent."""
        if not self.held:
            return
        self._holder = 0
        self._slow = self._vfs.monotonic() - self._since > _LONGEST_WAIT
        try:
            if self._fd >= 0:
                self._vfs.unlock(self._fd)
        except OSError:  # closing releases it as well
            self._close_file()
        finally:
            self._mutex.release()

    @property
    def held(self) -> bool:
        """Whether this thread of this process holds the lock."""
        return self._holder == get_ident() and self._pid == self._vfs.pid()

    def read_mark(self) -> int:
        """Return what the last holder was doing: `SETTLED`, `APPENDING` or `REPLACING`.

        Raises:
            StorageError: ``io_error``.
        """
        if self._fd < 0:
            return SETTLED
        with self._examining:
            mark = self._vfs.pread(self._fd, 1, 0)
        return mark[0] if mark else SETTLED

    def write_mark(self, mark: int) -> None:
        """Note what this holder is doing.

        Args:
            mark: `SETTLED`, `APPENDING` or `REPLACING`.

        Raises:
            StorageError: ``no_space``, ``no_permission`` or ``io_error``.
        """
        with Translated(f"cannot write {self._directory.where(self._name)}"):
            self._vfs.pwrite(self._fd, bytes([mark]), 0)

    def close(self) -> None:
        """Close the file, which also releases the lock."""
        self.release()
        self._close_file()

    def _close_file(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._vfs.close(fd)


def taken_alone(directory: Directory, timeout_s: float) -> StoreLock:
    """Take the lock of the one process that may have a container open under protocol P2.

    Args:
        directory: the container's folder.
        timeout_s: seconds to wait for another holder.

    Returns:
        The lock, held until it is closed.

    Raises:
        ContainerError: ``busy``.
        StorageError: as `StoreLock.acquire`.
    """
    lock = StoreLock(directory, ALONE)
    try:
        lock.acquire(timeout_s)
    except BaseException:
        lock.close()
        raise
    return lock


class Held:
    """Context in which a `StoreLock` is held."""

    __slots__ = ("_lock", "_timeout_s")

    def __init__(self, lock: StoreLock, timeout_s: float) -> None:
        """Prepare.

        Args:
            lock: the lock.
            timeout_s: seconds to wait for another holder.
        """
        self._lock = lock
        self._timeout_s = timeout_s

    def __enter__(self) -> None:
        """Take the lock; raises what `StoreLock.acquire` raises."""
        self._lock.acquire(self._timeout_s)

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the lock back."""
        self._lock.release()
