# SPDX-License-Identifier: Apache-2.0
"""The operating system primitives where files are found by path and locked by range: Windows.

There is no descriptor of a folder there: a number stands for its path. What protects a container's files from other
users is the access control list they inherit from the user's profile, not an owner and a mode. A folder's names are
made durable by the file system's own log; ``FlushFileBuffers`` makes contents durable. Nothing here is needed, or
imported, on other systems.
"""

from __future__ import annotations

import errno
import os
from _thread import allocate_lock

from tallystick.container.store_posix import Stat, Vfs

try:
    import msvcrt
except ImportError:  # other systems, where this module is only read
    msvcrt = None  # type: ignore[assignment]

_FIRST = 1 << 24  # above any real descriptor
_LOCKED_BYTE = 1 << 30  # a locked range cannot be read by others: far behind the file's one byte


class WindowsVfs(Vfs):
    """Files by path; locks by ``LockFile``."""

    __slots__ = ("_folders", "_mutex")
    rename_closed = True

    def __init__(self) -> None:
        """Start without open folders."""
        self._folders: dict[int, str] = {}
        self._mutex = allocate_lock()

    def _path(self, name: str, dir_fd: int | None) -> str:
        return name if dir_fd is None else os.path.join(self._folders[dir_fd], name)

    def open(self, name: str, flags: int, dir_fd: int | None = None) -> int:
        """Open a file, as bytes; links and junctions are refused."""
        path = self._path(name, dir_fd)
        if os.path.islink(path):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        return os.open(path, flags | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOINHERIT", 0), 0o600)

    def open_dir(self, path: str) -> int:
        """Remember the path of a folder, not a link to one."""
        if not os.path.exists(path):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        if os.path.islink(path) or not os.path.isdir(path):
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        with self._mutex:
            fd = max(self._folders, default=_FIRST) + 1
            self._folders[fd] = path
        return fd

    def close(self, fd: int) -> None:
        """Close a descriptor or forget a folder."""
        if self._folders.pop(fd, None) is None:
            os.close(fd)

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        """Read at an offset; the position is shared, so that threads take turns."""
        with self._mutex:
            os.lseek(fd, offset, os.SEEK_SET)
            return os.read(fd, size)

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        """Write at an offset; the position is shared, so that threads take turns."""
        with self._mutex:
            os.lseek(fd, offset, os.SEEK_SET)
            return os.write(fd, data)

    def fsync_dir(self, fd: int) -> None:
        """Nothing to do: NTFS logs names, and a folder cannot be flushed."""

    def rename(self, source: str, target: str, dir_fd: int) -> None:
        """Rename within a folder, replacing."""
        os.replace(self._path(source, dir_fd), self._path(target, dir_fd))

    def unlink(self, name: str, dir_fd: int) -> None:
        """Remove a name."""
        os.unlink(self._path(name, dir_fd))

    def stat(self, name: str, dir_fd: int | None = None) -> Stat:
        """Look at a name without following a link."""
        return super().stat(self._path(name, dir_fd))

    def fstat(self, fd: int) -> Stat:
        """Look at an open file or folder."""
        return super().stat(self._folders[fd]) if fd in self._folders else super().fstat(fd)

    def identity(self, name: str, dir_fd: int) -> tuple[int, int, int]:
        """Return what differs when the file of a name was replaced."""
        status = os.stat(self._path(name, dir_fd), follow_symlinks=False)
        return (status.st_ino, status.st_mtime_ns, status.st_size)

    def listdir(self, fd: int) -> list[str]:
        """Return the names in a folder."""
        return os.listdir(self._folders[fd])

    def flock(self, fd: int, *, exclusive: bool) -> bool:
        """Lock one byte behind the contents; there are only exclusive locks."""
        with self._mutex:
            os.lseek(fd, _LOCKED_BYTE, os.SEEK_SET)
            try:
                msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
            except OSError as exc:
                if exc.errno in (errno.EACCES, errno.EDEADLK):
                    return False
                raise
        return True

    def unlock(self, fd: int) -> None:
        """Release the byte."""
        with self._mutex:
            os.lseek(fd, _LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)  # type: ignore[attr-defined]

    def euid(self) -> int | None:
        """There is no numbered owner."""
        return None

    def file_system(self, fd: int, path: str) -> str | None:
        """Tell a network path by its two backslashes."""
        return "cifs" if path.startswith("\\\\") and not path.startswith("\\\\?\\") else None
