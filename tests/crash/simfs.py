# SPDX-License-Identifier: Apache-2.0
"""A POSIX file system in memory that can lose power, for anything that does its I/O through a `Vfs`.

`SimVfs` is one process on a `simdisk.SimFs`: an object with the methods of `tallystick.container.vfs.Vfs`. ``fsync``
and ``fdatasync`` make a file's writes durable, ``fsync_dir`` a folder's names, and neither does the other's work. A
failed ``fsync`` drops the writes but leaves them readable until the power is cut, as the Linux page cache does.
`explore` has the drivers that cut the power, kill and fail everywhere.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from hashlib import sha256

from simdisk import File, Folder, Limits, SimFs
from simplatter import Disk

from tallystick.container.store_os import Stat, Vfs

__all__ = ["Disk", "Fault", "Limits", "PowerCut", "SimFs", "SimVfs"]

UID = 1000


class PowerCut(BaseException):
    """Raised by every operation from the cut on; not an `Exception`, so that no handler goes on as if nothing were."""


@dataclass(frozen=True)
class Fault:
    """An error to inject.

    Attributes:
        at: number of the operation that fails, from 1.
        code: the errno; 0 for a write that takes only half of the data.
        forever: whether all later operations of that kind fail too.
        only: names of the operations that count, all fallible ones if empty.
    """

    at: int
    code: int
    forever: bool = False
    only: frozenset[str] = frozenset()


class SimVfs(Vfs):
    """One process on a `SimFs`.

    Attributes:
        mutations: operations so far that changed something; a cut before each of them is a different moment.
        calls: names of the operations so far that can fail.
    """

    def __init__(self, fs: SimFs, *, seed: str = "", cut_at: int = 0, fault: Fault | None = None) -> None:
        fs.processes += 1
        self.fs = fs
        self.mutations = 0
        self.calls: list[str] = []
        self.struck = 0
        self._cut_at = cut_at
        self._fault = fault
        self._seed = seed
        self._drawn = 0
        self._dead = False
        self._clock = 0.0
        self._pid = fs.processes
        self._open: dict[int, int] = {}

    def kill(self) -> None:
        """End the process: its locks go, what it wrote stays in memory."""
        for fd in list(self._open):
            self._release(fd)
        self._open.clear()
        self._dead = True

    @property
    def counted(self) -> int:
        """How many operations so far the fault could have struck."""
        only = self._fault.only if self._fault else frozenset()
        return len([name for name in self.calls if name in only]) if only else len(self.calls)

    def _enter(self, call: str, *, mutates: bool) -> bool:
        """Count an operation; cut the power or raise the fault that is due; True for a short write."""
        if self._dead:
            raise PowerCut
        if mutates:
            self.mutations += 1
            if self.mutations == self._cut_at:
                self._dead = True
                raise PowerCut
        self.calls.append(call)
        fault = self._fault
        if fault is None or (fault.only and call not in fault.only):
            return False
        counted = self.counted
        if counted != fault.at and not (fault.forever and counted > fault.at):
            return False
        if fault.code:
            self.struck += 1
            raise OSError(fault.code, os.strerror(fault.code), call)
        self.struck += call == "pwrite"
        return call == "pwrite"

    def _file(self, fd: int) -> File:
        return self.fs.files[self._open[fd]]

    def _folder(self, fd: int | None) -> Folder:
        if fd is None or self._open[fd] not in self.fs.folders:
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        return self.fs.folders[self._open[fd]]

    def _add(self, inode: int) -> int:
        fd = 3
        while fd in self._open:
            fd += 1
        self._open[fd] = inode
        return fd

    def open(self, name: str, flags: int, dir_fd: int | None = None) -> int:
        folder = self._folder(dir_fd)
        creates = bool(flags & os.O_CREAT) and name not in folder.cache
        self._enter("open", mutates=creates)
        if name in folder.cache:
            if flags & os.O_EXCL:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
            return self._add(folder.cache[name])
        if not creates:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        inode = self.fs.new_inode()
        self.fs.files[inode] = File(inode, links=1, modified=self.fs.tick())
        self.fs.name(folder, None, name, inode)
        return self._add(inode)

    def open_dir(self, path: str) -> int:
        self._enter("open_dir", mutates=False)
        inode = self.fs.lookup(path)
        if inode not in self.fs.folders:
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        return self._add(inode)

    def close(self, fd: int) -> None:
        if self._dead:
            return
        self._release(fd)
        del self._open[fd]

    def _release(self, fd: int) -> None:
        inode = self._open[fd]
        holders = self.fs.locks.get(inode, set())
        if (self, fd) in holders:
            holders.discard((self, fd))
            self.fs.exclusive.discard(inode)

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        self._enter("pread", mutates=False)
        return self._file(fd).cache.read(size, offset)

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        if self._enter("pwrite", mutates=True):
            data = data[: len(data) // 2]
        self.fs.write(self._file(fd), offset, bytes(data))
        return len(data)

    def preallocate(self, fd: int, size: int) -> None:
        self._enter("preallocate", mutates=True)
        self.fs.allocate(self._file(fd), size)

    def fsync(self, fd: int) -> None:
        self._sync("fsync", fd)

    def fdatasync(self, fd: int) -> None:
        self._sync("fdatasync", fd)

    def _sync(self, call: str, fd: int) -> None:
        file = self._file(fd) if not self._dead else None
        try:
            self._enter(call, mutates=True)
        except OSError:
            assert file is not None
            file.pending.clear()  # marked as written though it was not
            raise
        assert file is not None
        self.fs.sync_file(file)

    def fsync_dir(self, fd: int) -> None:
        folder = self._folder(fd) if not self._dead else None
        try:
            self._enter("fsync_dir", mutates=True)
        except OSError:
            if self.fs.lose_names and folder is not None:
                folder.pending.clear()
            raise
        assert folder is not None
        self.fs.sync_folder(folder)

    def rename(self, source: str, target: str, dir_fd: int) -> None:
        self._enter("rename", mutates=True)
        folder = self._folder(dir_fd)
        if source not in folder.cache:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), source)
        self.fs.name(folder, source, target, folder.cache[source])

    def unlink(self, name: str, dir_fd: int) -> None:
        folder = self._folder(dir_fd) if not self._dead else None
        self._enter("unlink", mutates=folder is not None and name in folder.cache)
        assert folder is not None
        if name not in folder.cache:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        inode = folder.cache[name]
        self.fs.files[inode].links -= 1
        self.fs.name(folder, name, None, inode)

    def mkdir(self, path: str) -> None:
        self._enter("mkdir", mutates=True)
        parent, _, name = path.rpartition("/")
        folder = self.fs.folders[self.fs.lookup(parent)]
        if name in folder.cache:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        inode = self.fs.new_inode()
        self.fs.folders[inode] = Folder(inode)
        self.fs.name(folder, None, name, inode)

    def rmdir(self, path: str) -> None:
        self._enter("rmdir", mutates=True)
        parent, _, name = path.rpartition("/")
        folder = self.fs.folders[self.fs.lookup(parent)]
        if name not in folder.cache:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        inode = folder.cache[name]
        if self.fs.folders[inode].cache:
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), path)
        self.fs.name(folder, name, None, inode)

    def stat(self, name: str, dir_fd: int | None = None) -> Stat:
        self._enter("stat", mutates=False)
        if dir_fd is None:
            return self._status(self.fs.lookup(name))
        folder = self._folder(dir_fd)
        if name not in folder.cache:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        return self._status(folder.cache[name])

    def fstat(self, fd: int) -> Stat:
        self._enter("fstat", mutates=False)
        return self._status(self._open[fd])

    def links(self, fd: int) -> int:
        self._enter("fstat", mutates=False)
        return self._file(fd).links

    def identity(self, name: str, dir_fd: int) -> tuple[int, int, int]:
        self._enter("stat", mutates=False)
        folder = self._folder(dir_fd)
        if name not in folder.cache:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        file = self.fs.files[folder.cache[name]]
        return (file.inode, file.modified, file.cache.size)

    def _status(self, inode: int) -> Stat:
        if inode in self.fs.folders:
            return Stat(
                inode=inode, device=1, links=2, size=0, uid=UID, permissions=0o700, kind="directory"
            )  # fmt: skip
        file = self.fs.files[inode]
        return Stat(
            inode=inode, device=1, links=file.links, size=file.cache.size, uid=UID,
            permissions=0o600, kind="file",
        )  # fmt: skip

    def listdir(self, fd: int) -> list[str]:
        self._enter("listdir", mutates=False)
        return list(self._folder(fd).cache)

    def flock(self, fd: int, *, exclusive: bool) -> bool:
        self._enter("flock", mutates=False)
        inode = self._open[fd]
        holders = self.fs.locks.setdefault(inode, set())
        others = holders - {(self, fd)}
        if others and (exclusive or inode in self.fs.exclusive):
            return False
        holders.add((self, fd))
        if exclusive:
            self.fs.exclusive.add(inode)
        return True

    def unlock(self, fd: int) -> None:
        self._enter("unlock", mutates=False)
        self._release(fd)

    def euid(self) -> int | None:
        return UID

    def pid(self) -> int:
        return self._pid

    def random(self, size: int) -> bytes:
        self._drawn += 1
        return sha256(f"{self._seed}/{self._drawn}".encode()).digest()[:size]

    def monotonic(self) -> float:
        return self._clock

    def sleep(self, seconds: float) -> None:
        self._clock += seconds

    def file_system(self, fd: int, path: str) -> str | None:
        return None
