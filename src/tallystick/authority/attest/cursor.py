# SPDX-License-Identifier: Apache-2.0
"""Reading and writing the TPM's byte strings: big-endian numbers and sized buffers (TPM 2.0 Library, Part 2).

Every length is checked against the bytes that are left, and against the largest the structure allows, before it is
used; whatever does not fit is ``malformed``.
"""

from __future__ import annotations

from typing import NoReturn

from tallystick.errors import error


def malformed(what: str) -> NoReturn:
    """Refuse bytes.

    Raises:
        FormatError: ``malformed``, always.
    """
    raise error("malformed", f"not a structure of a TPM: {what}")


class Cursor:
    """Walks over bytes from front to back.

    Args:
        data: bytes nobody vouches for.
    """

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int) -> bytes:
        """Take that many bytes.

        Raises:
            FormatError: ``malformed`` where fewer are left.
        """
        end = self._at + size
        if end > len(self._data):
            malformed("it ends early")
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def number(self, size: int) -> int:
        """Take an unsigned number of that many bytes.

        Raises:
            FormatError: ``malformed`` where fewer are left.
        """
        return int.from_bytes(self.take(size), "big")

    def sized(self, limit: int) -> bytes:
        """Take a buffer that begins with its size (TPM2B).

        Args:
            limit: the largest size allowed.

        Raises:
            FormatError: ``malformed`` where it is larger, or larger than what is left.
        """
        size = self.number(2)
        if size > limit:
            malformed("a part is too large")
        return self.take(size)

    def end(self) -> None:
        """Insist that nothing is left.

        Raises:
            FormatError: ``malformed``.
        """
        if self._at != len(self._data):
            malformed("bytes after its end")


def sized(data: bytes) -> bytes:
    """Write a buffer that begins with its size (TPM2B)."""
    return len(data).to_bytes(2, "big") + data
