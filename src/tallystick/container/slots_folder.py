# SPDX-License-Identifier: Apache-2.0
"""The folder ``seats`` of a container: one small file for each slot, taken as long as it is locked.

    lock                     the mutex under which slots and tickets are looked at and taken; held for moments
    LICENSE.u0 LICENSE.u1    programs that take a seat each      LICENSE.x0   the one that has the license to itself
    LICENSE.s0 ...           programs that share the station's   LICENSE.n0   programs that take none
    LICENSE.t7u              the seventh in the queue, waiting for a slot of the series u
    LICENSE.GRANT.u0 ...     the same for seats that came with a grant

LICENSE is the license id in hexadecimal, GRANT the exchange id. The kernel lets go of a lock when its process ends,
however it ends. Files are made when needed and never written durably: the folder may be removed while no program runs.
"""

from __future__ import annotations

import os
from types import TracebackType
from typing import Final

from tallystick.container.slots_record import MAX_MARK, Mark, may_linger
from tallystick.container.store_lock import StoreLock
from tallystick.container.store_os import CREATE, CREATE_NEW, WRITE, Translated, write_all
from tallystick.container.vfs import Directory
from tallystick.errors import NotFoundError, StorageError, error

FOLDER: Final = "seats"
_TIMEOUT_S: Final = 10.0


class SlotFolder:
    """The slots' files of one container. Use it as a context manager: inside, this thread alone looks and takes.

    Args:
        parent: the container's folder.
    """

    __slots__ = ("_directory", "_lock", "_parent", "vfs")

    def __init__(self, parent: Directory) -> None:
        self.vfs = parent.vfs
        self._parent = parent
        self._directory: Directory | None = None
        self._lock: StoreLock | None = None

    @property
    def path(self) -> str:
        """Where it is."""
        return os.path.join(self._parent.path, FOLDER)

    def exists(self) -> bool:
        """Tell whether any program ever took a seat here."""
        return self._directory is not None or FOLDER in self._parent.names()

    def __enter__(self) -> SlotFolder:
        """Take the mutex.

        Raises:
            StorageError: ``unsafe_path``, ``no_permission``, ``no_space`` or ``io_error``, with what can be done.
            ContainerError: ``busy``.
        """
        try:
            try:
                (self._lock or self._open()).acquire(_TIMEOUT_S)
            except NotFoundError:  # removed while nobody held a seat; this handle is older than that
                self.close()
                self._open().acquire(_TIMEOUT_S)
        except StorageError as reason:
            raise self.translated(reason) from reason
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the mutex back."""
        if self._lock is not None:
            self._lock.release()
        if isinstance(exc, StorageError):
            raise self.translated(exc) from exc

    def translated(self, reason: StorageError) -> Exception:
        """Say of a storage error what it means for seats; once."""
        if "seats" in reason.details:
            return reason
        remedy = f"Let this user read and write {self.path}; the folder may be removed while no program runs."
        return error(reason.code, f"seats cannot be counted: {reason.message}", remedy, seats=self.path)

    def names(self, license_: str) -> list[str]:
        """Return the names of a license's files, without the license."""
        directory, prefix = self._opened(), f"{license_}."
        at = len(prefix)
        with Translated(f"cannot list {self.path}"):
            return [name[at:] for name in self.vfs.listdir(directory.fd) if name.startswith(prefix)]

    def take(self, name: str, *, new: bool = False) -> int | None:
        """Lock a file, making it where it is missing.

        Args:
            name: with the license.
            new: it must not be there yet.

        Returns:
            The descriptor, or None where another holds it.
        """
        fd = self._opened().open_file(name, CREATE_NEW if new else CREATE)
        if fd is None:
            raise error("container_not_found", f"the folder {self.path} was removed", path=self.path)
        taken = False
        try:
            with Translated(f"cannot lock {self.path}{os.sep}{name}"):
                taken = self.vfs.flock(fd, exclusive=True)
        finally:
            if not taken:
                self.vfs.close(fd)
        return fd if taken else None

    def open(self, name: str) -> int | None:
        """Open a file that is there; None where it is not."""
        return self._opened().open_file(name, WRITE)

    def held(self, fd: int) -> bool:
        """Tell whether another process or handle holds the lock of an open file; it is left unlocked."""
        with Translated(f"cannot lock a file in {self.path}"):
            if not self.vfs.flock(fd, exclusive=True):
                return True
            self.vfs.unlock(fd)
        return False

    def read(self, fd: int) -> Mark:
        """Read a slot's mark; an unreadable one is nobody's."""
        try:
            return Mark.from_bytes(self.vfs.pread(fd, MAX_MARK, 0))
        except OSError:
            return Mark()

    def may_linger(self, fd: int) -> bool:
        """Tell whether a slot's mark may keep it taken, without reading all of it."""
        try:
            return may_linger(self.vfs.pread(fd, 1, 0))
        except OSError:
            return False

    def write(self, fd: int, mark: bytes) -> None:
        """Write a slot's mark, as far as the disk allows: the lock is what counts."""
        try:
            write_all(self.vfs, fd, mark, 0)
        except OSError:
            return

    def unlock(self, fd: int) -> None:
        """Unlock a file that is about to be closed."""
        try:
            self.vfs.unlock(fd)
        except OSError:  # closing releases it as well
            return

    def free(self, fd: int) -> None:
        """Unlock and close a file."""
        self.unlock(fd)
        self.vfs.close(fd)

    def remove(self, name: str) -> None:
        """Remove a file as far as the system allows; nobody relies on it."""
        try:
            self.vfs.unlink(name, self._opened().fd)
        except OSError:
            return

    def close(self) -> None:
        """Close the folder and its mutex; it opens again when it is entered."""
        directory, lock, self._directory, self._lock = self._directory, self._lock, None, None
        if lock is not None:
            lock.close()
        if directory is not None:
            directory.close()

    def _opened(self) -> Directory:
        if self._directory is None:
            raise error("closed", "the folder of the seats is not open")
        return self._directory

    def _open(self) -> StoreLock:
        try:
            directory = Directory.open(self.path, self.vfs)
        except NotFoundError:
            directory = Directory.open(self.path, self.vfs, create=True)
        self._directory = directory
        self._lock = StoreLock(directory)
        return self._lock
