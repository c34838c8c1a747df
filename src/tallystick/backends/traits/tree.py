# SPDX-License-Identifier: Apache-2.0
"""Bounded, fearless reads of the small files in which Linux describes a computer.

Everything is looked up below one root folder, ``/`` on a real system.
"""

from __future__ import annotations

import os
from typing import Final

_LIMIT: Final = 65536  # bytes; the first processor of /proc/cpuinfo and any mountinfo of sane size
_ABSENT: Final = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


class Tree:
    """The file system as the readers see it.

    Args:
        root: the folder that stands for ``/``.
    """

    __slots__ = ("root",)

    def __init__(self, root: str = "/") -> None:
        self.root = os.path.abspath(root)

    def path(self, name: str) -> str:
        """Return where a path like ``/proc/cpuinfo`` is found."""
        return os.path.join(self.root, name.lstrip("/"))

    def text(self, name: str) -> str | None:
        """Read the beginning of a text file.

        Args:
            name: a path from ``/``.

        Returns:
            At most 64 KiB without blanks and zero bytes around it; empty if there is no such file, None if it exists
            and cannot be read.
        """
        try:
            # A pipe planted in place of a file must not stop an application from starting.
            fd = os.open(self.path(name), os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
            try:
                data = b""
                while len(data) < _LIMIT and (piece := os.read(fd, _LIMIT - len(data))):
                    data += piece
            finally:
                os.close(fd)
        except _ABSENT:
            return ""
        except OSError:
            return None
        return data.decode("utf-8", "replace").strip(" \t\r\n\0")

    def exists(self, name: str) -> bool:
        """Tell whether something stands at a path, as far as this user can see."""
        return os.path.lexists(self.path(name))

    def names(self, name: str) -> list[str] | None:
        """List a folder.

        Args:
            name: a path from ``/``.

        Returns:
            Its names, sorted; empty if there is no such folder, None if it cannot be read.
        """
        try:
            return sorted(os.listdir(self.path(name)))
        except _ABSENT:
            return []
        except OSError:
            return None

    def link(self, name: str) -> str:
        """Follow one link; enough for /sys and /dev, and a tenth of the price of resolving the whole path.

        Args:
            name: a path from ``/``.

        Returns:
            The path from ``/`` it leads to; itself where there is no link.
        """
        try:
            target = os.readlink(self.path(name))
        except OSError:
            return name
        return os.path.normpath(os.path.join(os.path.dirname(name), target))
