# SPDX-License-Identifier: Apache-2.0
"""The operating system as a container sees it: a few primitives, each one operation that a power cut can interrupt.

Everything a container reads, writes, locks, waits for or draws at random passes through one `Vfs` object given to its
constructor. Every method is one system call (or the closest a platform has), raises the plain `OSError` of that call
and decides nothing: safety of paths is the business of `vfs.Directory`, durability that of `store.Store`.
"""

from __future__ import annotations

import errno
import os
import stat as stat_bits
import sys
import time

from tallystick.container.store_mounts import mount_kind

try:
    import fcntl
except ImportError:  # Windows; `store_windows` replaces what needs it
    fcntl = None  # type: ignore[assignment]

READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
WRITE = READ | os.O_RDWR
CREATE = WRITE | os.O_CREAT
CREATE_NEW = CREATE | os.O_EXCL
_DIRECTORY = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
_ZEROS = bytes(65536)


class Stat:
    """What a container looks at in a file's status.

    Attributes:
        inode: the file's number on its device.
        device: ``st_dev`` of the file system.
        links: number of names.
        size: bytes.
        uid: the owner.
        permissions: mode bits, 0 to 0o7777.
        kind: ``file``, ``directory``, ``link`` or ``other``.
    """

    __slots__ = ("device", "inode", "kind", "links", "permissions", "size", "uid")

    def __init__(
        self, *, inode: int, device: int, links: int, size: int, uid: int, permissions: int, kind: str
    ) -> None:
        """Take the values as they are."""
        self.inode = inode
        self.device = device
        self.links = links
        self.size = size
        self.uid = uid
        self.permissions = permissions
        self.kind = kind


def _convert(status: os.stat_result) -> Stat:
    mode = status.st_mode
    kind = "other"
    if stat_bits.S_ISREG(mode):
        kind = "file"
    elif stat_bits.S_ISDIR(mode):
        kind = "directory"
    elif stat_bits.S_ISLNK(mode):
        kind = "link"
    return Stat(
        inode=status.st_ino, device=status.st_dev, links=status.st_nlink, size=status.st_size,
        uid=status.st_uid, permissions=stat_bits.S_IMODE(mode), kind=kind,
    )  # fmt: skip


class Vfs:
    """The real operating system; tests pass another object with the same methods."""

    __slots__ = ()
    rename_closed = False
    """Whether an open file cannot be renamed here (Windows)."""

    def open(self, name: str, flags: int, dir_fd: int | None = None) -> int:
        """Open a file; what is created gets mode 0600."""
        return os.open(name, flags, 0o600, dir_fd=dir_fd)

    def open_dir(self, path: str) -> int:
        """Open a folder, not a link to one."""
        return os.open(path, _DIRECTORY)

    def close(self, fd: int) -> None:
        """Close a descriptor."""
        os.close(fd)

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        """Read up to ``size`` bytes at ``offset``; fewer only at the end of the file."""
        return os.pread(fd, size, offset)

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        """Write at ``offset`` and return how many bytes were taken, perhaps fewer than given."""
        return os.pwrite(fd, data, offset)

    def preallocate(self, fd: int, size: int) -> None:
        """Fill a new file with ``size`` zero bytes in real blocks, so that overwriting them allocates nothing."""
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(fd, 0, size)
            except OSError as exc:
                if exc.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                    raise
        offset = 0
        while offset < size:  # written, not only reserved: the first overwrite of a reserved block changes metadata
            offset += self.pwrite(fd, _ZEROS[: size - offset], offset)

    def fsync(self, fd: int) -> None:
        """Make a file's contents and size durable."""
        if sys.platform == "darwin":  # a plain fsync stops at the drive's cache there
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
        else:
            os.fsync(fd)

    def fdatasync(self, fd: int) -> None:
        """Make a file's contents durable; times may lag."""
        if sys.platform == "linux":
            os.fdatasync(fd)
        else:
            self.fsync(fd)

    def fsync_dir(self, fd: int) -> None:
        """Make a folder's names durable."""
        self.fsync(fd)

    def rename(self, source: str, target: str, dir_fd: int) -> None:
        """Give a file another name in the same folder, replacing what has that name, atomically."""
        os.replace(source, target, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)

    def unlink(self, name: str, dir_fd: int) -> None:
        """Remove a name."""
        os.unlink(name, dir_fd=dir_fd)

    def mkdir(self, path: str) -> None:
        """Create a folder, mode 0700."""
        os.mkdir(path, 0o700)

    def rmdir(self, path: str) -> None:
        """Remove an empty folder."""
        os.rmdir(path)

    def stat(self, name: str, dir_fd: int | None = None) -> Stat:
        """Look at a name without following a symbolic link."""
        return _convert(os.stat(name, dir_fd=dir_fd, follow_symlinks=False))

    def fstat(self, fd: int) -> Stat:
        """Look at an open file."""
        return _convert(os.fstat(fd))

    def links(self, fd: int) -> int:
        """Return how many names an open file still has."""
        return os.fstat(fd).st_nlink

    def identity(self, name: str, dir_fd: int) -> tuple[int, int, int]:
        """Return what differs when the file of a name was replaced: inode, time of the last change in ns, size."""
        status = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
        return (status.st_ino, status.st_mtime_ns, status.st_size)

    def listdir(self, fd: int) -> list[str]:
        """Return the names in an open folder, in any order."""
        return os.listdir(fd)

    def flock(self, fd: int, *, exclusive: bool) -> bool:
        """Try to lock an open file without waiting; False when another holds it."""
        try:
            fcntl.flock(fd, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def unlock(self, fd: int) -> None:
        """Release a lock taken by `flock`."""
        fcntl.flock(fd, fcntl.LOCK_UN)

    def euid(self) -> int | None:
        """Return the effective user, or None on a platform where files have no numbered owner."""
        return os.geteuid()

    def pid(self) -> int:
        """Return the process id, by which a fork is noticed."""
        return os.getpid()

    def random(self, size: int) -> bytes:
        """Return ``size`` unpredictable bytes."""
        return os.urandom(size)

    def monotonic(self) -> float:
        """Return seconds on a clock that is never set."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def file_system(self, fd: int, path: str) -> str | None:
        """Return the kind of file system an open folder is on, or None where the platform does not tell."""
        device = os.fstat(fd).st_dev
        if os.major(device):
            return None  # a block device of this computer; only unnamed devices can be remote
        try:
            with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
                mountinfo = table.read()
        except OSError:
            return None
        return mount_kind(mountinfo, os.major(device), os.minor(device), os.path.realpath(path))
