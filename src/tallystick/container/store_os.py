# SPDX-License-Identifier: Apache-2.0
"""The operating system a container runs on: which primitives, and what their errors mean.

The primitives themselves are in `store_posix` and, for Windows, `store_windows`; everyone else takes them from here.
"""

from __future__ import annotations

import errno
import os
import sys
from types import TracebackType

from tallystick.container.store_posix import CREATE, CREATE_NEW, READ, WRITE, Stat, Vfs
from tallystick.errors import TallystickError, error

__all__ = [
    "CREATE",
    "CREATE_NEW",
    "READ",
    "WRITE",
    "Stat",
    "Translated",
    "Vfs",
    "default_vfs",
    "storage_error",
    "write_all",
]


def default_vfs() -> Vfs:
    """Return the operating system this process runs on."""
    if sys.platform == "win32":
        from tallystick.container.store_windows import WindowsVfs

        return WindowsVfs()
    return Vfs()


def write_all(vfs: Vfs, fd: int, data: bytes, offset: int) -> None:
    """Write all of ``data``, however little the system takes at a time.

    Args:
        vfs: the operating system.
        fd: an open file.
        data: the bytes.
        offset: where the first one goes.

    Raises:
        OSError: of the write that failed; some of the bytes may have been written.
    """
    written = vfs.pwrite(fd, data, offset)
    while written < len(data):
        taken = vfs.pwrite(fd, data[written:], offset + written)
        if taken <= 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        written += taken


def storage_error(exc: OSError, what: str) -> TallystickError:
    """Translate an operating-system error into the project's own.

    Args:
        exc: the original.
        what: what was being done, with the path, to begin the message.

    Returns:
        The error to raise ``from exc``: ``no_space``, ``no_permission``, ``unsafe_path`` or ``io_error``.
    """
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        code = "no_space"
    elif exc.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        code = "no_permission"
    elif exc.errno in (errno.ELOOP, errno.ENOTDIR):
        code = "unsafe_path"
    else:
        code = "io_error"
    return error(code, f"{what}: {os.strerror(exc.errno) if exc.errno else exc}", errno=exc.errno)


class Translated:
    """Context in which an `OSError` becomes the project's own error, as `storage_error` does."""

    __slots__ = ("_what",)

    def __init__(self, what: str) -> None:
        """Remember what is being done, with the path, to begin the message."""
        self._what = what

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Raise the translated error."""
        if isinstance(exc, OSError):
            raise storage_error(exc, self._what) from exc
