# SPDX-License-Identifier: Apache-2.0
"""A container's folder: small files that are read whole and replaced whole, safely and durably.

`Directory` is opened once, refuses a folder that someone else could tamper with, and does everything relative to
that open folder, so that nothing planted at a path can redirect it. `replace` is atomic: after a power cut the file
holds the old bytes or the new ones, and once it has returned, the new ones. All operating-system calls go through the
`Vfs` given to `Directory.open`; this module adds no other I/O.

    directory = Directory.open("/home/me/.local/share/tallystick/default", create=True)
    directory.replace("anchor", sealed)
    directory.read("anchor", limit=65536)      # None when there is no such file
"""

from __future__ import annotations

import errno
import os
from types import TracebackType
from typing import NoReturn, Self

from tallystick.container import store_folder
from tallystick.container.store_os import READ, Stat, Translated, Vfs, default_vfs, storage_error, write_all
from tallystick.errors import error

__all__ = ["Directory", "Vfs"]


class Directory:
    """One open folder, private to this user.

    Attributes:
        path: the absolute path it was opened by, for messages only.
        vfs: the operating system it uses.
        fd: the open folder; every name is looked up in it.
        read_only: whether `replace` and `remove` are refused.
    """

    __slots__ = ("fd", "path", "read_only", "vfs")

    def __init__(self, path: str, vfs: Vfs, fd: int, *, read_only: bool) -> None:
        """Take over an open descriptor; use `open`."""
        self.path = path
        self.vfs = vfs
        self.fd = fd
        self.read_only = read_only

    @classmethod
    def open(cls, path: str, vfs: Vfs | None = None, *, create: bool = False, read_only: bool = False) -> Directory:
        """Open a folder and refuse it unless only its owner, this user, can change it.

        Args:
            path: the folder; made absolute.
            vfs: the operating system; the real one if omitted.
            create: make the folder and missing parents, mode 0700, durably.
            read_only: look only: nothing is created, cleaned up or written, and a network file system is accepted.

        Returns:
            The open folder, free of leftovers of interrupted writes unless ``read_only``.

        Raises:
            NotFoundError: ``container_not_found``.
            StorageError: ``unsafe_path`` (a link, not a folder, another owner, writable for others),
                ``unsafe_filesystem``, ``no_permission``, ``no_space`` or ``io_error``.
        """
        vfs = default_vfs() if vfs is None else vfs
        if "\0" in path:
            raise error("unsafe_path", f"{path!r} is not a path")
        path = os.path.abspath(path)
        if create and not read_only:
            store_folder.make_folder(vfs, path)
        try:
            fd = vfs.open_dir(path)
        except FileNotFoundError as exc:
            raise error("container_not_found", f"there is no folder {path}", path=path) from exc
        except OSError as exc:
            raise storage_error(exc, f"cannot open {path} as a folder") from exc
        directory = cls(path, vfs, fd, read_only=read_only)
        try:
            store_folder.inspect_folder(vfs, fd, path, read_only=read_only)
            if not read_only:
                store_folder.clean(vfs, fd, directory._list())
        except BaseException:
            directory.close()
            raise
        return directory

    def read(self, name: str, limit: int) -> bytes | None:
        """Read a whole file.

        Args:
            name: a plain name in this folder.
            limit: the largest size accepted, in bytes.

        Returns:
            The contents, or None if there is no such file.

        Raises:
            StorageError: ``unsafe_path`` (a link, several links, a pipe, a device), ``no_permission`` or ``io_error``.
            FormatError: ``too_large``.
        """
        fd = self.open_file(name, READ)
        if fd is None:
            return None
        data = b""
        try:
            with Translated(f"cannot read {self.where(name)}"):
                while len(data) <= limit:
                    piece = self.vfs.pread(fd, limit + 1 - len(data), len(data))
                    if not piece:
                        return data
                    data += piece
        finally:
            self.vfs.close(fd)
        raise error("too_large", f"{self.where(name)} is larger than {limit} bytes", path=self.where(name))

    def open_file(self, name: str, flags: int) -> int | None:
        """Open a plain file of this folder; the caller closes the descriptor through ``vfs``.

        Args:
            name: a plain name in this folder.
            flags: `store_os.READ`, ``WRITE``, ``CREATE`` or ``CREATE_NEW``: none follows a link or waits for a pipe.

        Returns:
            The descriptor, or None if there is no such file and ``flags`` does not create it.

        Raises:
            StorageError: ``unsafe_path``, ``no_permission``, ``no_space`` or ``io_error``.
        """
        self._check_name(name)
        try:
            fd = self.vfs.open(name, flags, self.fd)
        except FileNotFoundError:
            return None
        except OSError as exc:
            if exc.errno in (errno.ENXIO, errno.ELOOP, errno.EISDIR, errno.EEXIST):
                self._refuse(name)
            raise storage_error(exc, f"cannot open {self.where(name)}") from exc
        try:
            with Translated(f"cannot examine {self.where(name)}"):
                self._require_plain(name, self.vfs.fstat(fd))
        except BaseException:
            self.vfs.close(fd)
            raise
        return fd

    def replace(self, name: str, data: bytes) -> None:
        """Replace or create a file, atomically and durably.

        Args:
            name: a plain name in this folder.
            data: the whole contents.

        Raises:
            StorageError: ``unsafe_path`` (something else stands at that name), ``no_space``, ``no_permission`` or
                ``io_error``; the file then holds the old contents or, if only the last step failed, the new ones.
            LockedError: ``read_only``.
        """
        self.publish(self.stage(name, data), name)

    def stage(self, name: str, data: bytes) -> tuple[str, int]:
        """Write a temporary file durably: the first half of `replace`, after which nothing has changed yet.

        Args:
            name: the name it is meant for.
            data: the whole contents.

        Returns:
            Its name and descriptor, for `publish`.

        Raises:
            StorageError: ``no_space``, ``no_permission``, ``unsafe_path`` or ``io_error``; the file is gone again.
            LockedError: ``read_only``.
        """
        self._require_writable(name)
        self.require_replaceable(name)
        with Translated(f"cannot write {self.where(name)}"):
            temp, fd = store_folder.create_temporary(self.vfs, self.fd, name)
            try:
                write_all(self.vfs, fd, data, 0)
                self.vfs.fsync(fd)
            except BaseException:
                store_folder.discard(self.vfs, self.fd, temp, fd)
                raise
        return temp, fd

    def publish(self, staged: tuple[str, int], name: str) -> None:
        """Give a staged file its name, durably: the second half of `replace`.

        Args:
            staged: what `stage` returned; used up.
            name: a plain name in this folder.

        Raises:
            StorageError: as `replace`; whether the file now has its name, and for how long, is not known.
        """
        temp, fd = staged
        try:
            with Translated(f"cannot write {self.where(name)}"):
                if self.vfs.rename_closed:
                    self.vfs.close(fd)
                    fd = -1
                try:
                    self.vfs.rename(temp, name, self.fd)
                except OSError:
                    store_folder.discard(self.vfs, self.fd, temp, -1)
                    raise
                self.vfs.fsync_dir(self.fd)
        finally:
            if fd >= 0:
                self.vfs.close(fd)

    def remove(self, name: str) -> None:
        """Remove a file durably; one that is not there is no error.

        Args:
            name: a plain name in this folder.

        Raises:
            StorageError: ``no_permission``, ``unsafe_path`` or ``io_error``.
            LockedError: ``read_only``.
        """
        self._check_name(name)
        self._require_writable(name)
        with Translated(f"cannot remove {self.where(name)}"):
            try:
                self.vfs.unlink(name, self.fd)
            except FileNotFoundError:
                return
            self.vfs.fsync_dir(self.fd)

    def names(self) -> list[str]:
        """Return the names in the folder, sorted, without leftovers of interrupted writes.

        Raises:
            StorageError: ``no_permission`` or ``io_error``.
        """
        return sorted(name for name in self._list() if store_folder.TEMPORARY not in name)

    def _list(self) -> list[str]:
        self._require_open()
        with Translated(f"cannot list {self.path}"):
            return self.vfs.listdir(self.fd)

    def require_replaceable(self, name: str) -> None:
        """Refuse to put a file where something other than a plain file stands, and leave that as it is.

        Args:
            name: a plain name in this folder.

        Raises:
            StorageError: ``unsafe_path``, ``no_permission`` or ``io_error``.
        """
        self._check_name(name)
        with Translated(f"cannot examine {self.where(name)}"):
            try:
                self._require_plain(name, self.vfs.stat(name, self.fd))
            except FileNotFoundError:
                return

    def where(self, name: str) -> str:
        """Return the path of a name, for messages."""
        return f"{self.path}{os.sep}{name}"

    def _require_plain(self, name: str, status: Stat) -> None:
        if status.kind != "file" or status.links > 1:  # no links: replaced by another process since it was opened
            self._refuse(name)

    def _refuse(self, name: str) -> NoReturn:
        where = self.where(name)
        raise error("unsafe_path", f"{where} is not a plain file with one name", path=where)

    def _require_open(self) -> None:
        if self.fd < 0:  # some calls take -1 for the current folder
            raise error("closed", f"{self.path} was closed", path=self.path)

    def _check_name(self, name: str) -> None:
        self._require_open()
        if not name or name in (".", "..") or "/" in name or os.sep in name or "\0" in name:
            raise error("unsafe_path", f"{name!r} is not a plain file name", path=self.path)

    def _require_writable(self, name: str) -> None:
        if self.read_only:
            raise error("read_only", f"{self.where(name)} was opened to be read only", path=self.where(name))

    def close(self) -> None:
        """Close the folder; closing again does nothing."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            self.vfs.close(fd)

    def __enter__(self) -> Self:
        """Return the open folder."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the folder."""
        self.close()
