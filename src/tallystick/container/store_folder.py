# SPDX-License-Identifier: Apache-2.0
"""What must be true of a folder before a container's files may live in it, and its temporary files; for `vfs` only."""

from __future__ import annotations

import errno
import os

from tallystick.container.store_mounts import is_network
from tallystick.container.store_os import CREATE_NEW, READ, Vfs, storage_error
from tallystick.errors import error

TEMPORARY = ".tmp-"
"""Part of the name of every temporary file, and of no other."""


def inspect_folder(vfs: Vfs, fd: int, path: str, *, read_only: bool) -> None:
    """Refuse a folder another user could tamper with, or whose file system cannot lock.

    Args:
        vfs: the operating system.
        fd: the open folder.
        path: its absolute path, for messages.
        read_only: nothing will be written, so that the file system does not matter.

    Raises:
        StorageError: ``unsafe_path``, ``unsafe_filesystem``, ``no_permission`` or ``io_error``.
    """
    try:
        status = vfs.fstat(fd)
        kind = None if read_only else vfs.file_system(fd, path)
    except OSError as exc:
        raise storage_error(exc, f"cannot examine {path}") from exc
    euid = vfs.euid()
    if euid is not None and status.uid != euid:
        message = f"{path} belongs to user {status.uid}, not to user {euid} who runs this"
        raise error("unsafe_path", message, f"Run as user {status.uid}, or use another folder.", path=path)
    if euid is not None and status.permissions & 0o022:
        message = f"{path} can be written by others (mode {status.permissions:04o})"
        raise error("unsafe_path", message, f"Run: chmod 0700 {path!r}", path=path)
    if kind is not None and is_network(kind):
        raise error("unsafe_filesystem", f"{path} is on a network file system ({kind})", path=path, kind=kind)


def make_folder(vfs: Vfs, path: str) -> None:
    """Make a folder and its missing parents durably; one that is there already is left as it is.

    Args:
        vfs: the operating system.
        path: the absolute path.

    Raises:
        StorageError: ``no_permission``, ``no_space``, ``unsafe_path`` or ``io_error``.
    """
    missing = []
    here = path
    while True:
        try:
            vfs.stat(here)
            break
        except FileNotFoundError:
            missing.append(here)
            here = os.path.dirname(here)
        except OSError as exc:
            raise storage_error(exc, f"cannot examine {here}") from exc
    try:
        # The deepest folder that exists may come from an attempt killed just before it was made durable.
        _sync(vfs, os.path.dirname(here), required=False)
        for folder in reversed(missing):
            try:
                vfs.mkdir(folder)
            except FileExistsError:  # another process makes the same container
                pass
            _sync(vfs, os.path.dirname(folder), required=True)
    except OSError as exc:
        raise storage_error(exc, f"cannot create {path}") from exc


def remove_folder(vfs: Vfs, path: str) -> bool:
    """Remove a folder durably, if it is empty.

    Args:
        vfs: the operating system.
        path: the absolute path.

    Returns:
        Whether it is gone; not while something is in it.

    Raises:
        StorageError: ``no_permission``, ``unsafe_path`` or ``io_error``.
    """
    try:
        vfs.rmdir(path)
        _sync(vfs, os.path.dirname(path), required=False)
    except FileNotFoundError:
        return True
    except OSError as exc:
        if exc.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise storage_error(exc, f"cannot remove {path}") from exc
    return True


def _sync(vfs: Vfs, path: str, *, required: bool) -> None:
    try:
        fd = vfs.open_dir(os.path.join(path, "."))  # a parent may well be a link
    except PermissionError:
        if required:
            raise
        return
    try:
        vfs.fsync_dir(fd)
    finally:
        vfs.close(fd)


def create_temporary(vfs: Vfs, folder: int, name: str) -> tuple[str, int]:
    """Create a temporary file locked by this process, so that no other process takes it for a leftover.

    Args:
        vfs: the operating system.
        folder: the open folder.
        name: the file it is meant to replace.

    Returns:
        Its name and descriptor.

    Raises:
        OSError: it cannot be created or locked; none is left.
    """
    while True:
        temp = f".{name}{TEMPORARY}{vfs.random(6).hex()}"
        fd = vfs.open(temp, CREATE_NEW, folder)
        try:
            if vfs.flock(fd, exclusive=True) and vfs.links(fd):
                return temp, fd
        except BaseException:
            discard(vfs, folder, temp, fd)
            raise
        vfs.close(fd)  # another process cleaned up in the moment before the lock: once more


def discard(vfs: Vfs, folder: int, temp: str, fd: int) -> None:
    """Remove a temporary file after a failure that is to be reported, not this one.

    Args:
        vfs: the operating system.
        folder: the open folder.
        temp: its name.
        fd: its descriptor, or -1 if closed already.
    """
    try:
        if fd >= 0:
            vfs.close(fd)
        vfs.unlink(temp, folder)
    except OSError:  # renamed after all, or removed at the next open
        return


def clean(vfs: Vfs, fd: int, names: list[str]) -> None:
    """Remove what interrupted writes left; a writer that is alive holds a lock on its temporary file.

    Args:
        vfs: the operating system.
        fd: the open folder.
        names: what is in it.
    """
    for name in names:
        if TEMPORARY not in name:
            continue
        try:
            temp = vfs.open(name, READ, fd)
        except OSError:  # gone meanwhile, or a planted link: never followed, never in the way
            continue
        try:
            if vfs.fstat(temp).kind == "file" and vfs.flock(temp, exclusive=True):
                vfs.unlink(name, fd)
        except OSError:  # on a full or read-only disk the leftover stays; it is ignored everywhere
            continue
        finally:
            vfs.close(temp)
