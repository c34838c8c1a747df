# SPDX-License-Identifier: Apache-2.0
"""What is on a simulated platter, and the atoms of change of which a power cut keeps some and drops others."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

SECTOR = 512
_ZERO = bytes(SECTOR)


class Content:
    """Bytes of a file, sector by sector, without those of zeros; copies share the sectors until one is written."""

    def __init__(self, size: int = 0) -> None:
        self.size = size
        self.sectors: dict[int, bytes] = {}
        self._shared = False
        self._digest = b""

    def copy(self) -> Content:
        copied = Content(self.size)
        copied.sectors = self.sectors
        copied._digest = self._digest
        copied._shared = self._shared = True
        return copied

    def grow(self, size: int) -> None:
        """Make it at least so large."""
        if size > self.size:
            self.size = size
            self._digest = b""

    def read(self, size: int, offset: int) -> bytes:
        size = max(0, min(size, self.size - offset))
        if not size:
            return b""
        first, last = offset // SECTOR, (offset + size - 1) // SECTOR
        if last - first < 8:
            joined = b"".join([self.sectors.get(number, _ZERO) for number in range(first, last + 1)])
            start = offset - first * SECTOR
            return joined[start : start + size]
        whole = bytearray((last + 1 - first) * SECTOR)
        for number, data in self.sectors.items():
            if first <= number <= last:
                whole[(number - first) * SECTOR : (number - first + 1) * SECTOR] = data
        start = offset - first * SECTOR
        return bytes(whole[start : start + size])

    def write(self, offset: int, data: bytes) -> None:
        """Write within one sector."""
        if self._shared:
            self.sectors = dict(self.sectors)
            self._shared = False
        self._digest = b""
        number, start = divmod(offset, SECTOR)
        old = self.sectors.get(number, _ZERO)
        new = old[:start] + data + old[start + len(data) :]
        if new == _ZERO:
            self.sectors.pop(number, None)
        else:
            self.sectors[number] = new
        self.grow(offset + len(data))

    def digest(self) -> bytes:
        if not self._digest:
            self._digest = self._hash()
        return self._digest

    def _hash(self) -> bytes:
        written = [number.to_bytes(8, "big") + self.sectors[number] for number in sorted(self.sectors)]
        return sha256(self.size.to_bytes(8, "big") + b"".join(written)).digest()


@dataclass(frozen=True)
class DataAtom:
    """What of a write is kept or dropped as one: a sector's part, or (``data`` None) the growth to ``offset`` bytes."""

    order: int
    inode: int
    offset: int
    data: bytes | None
    write: int

    def apply(self, disk: Disk) -> None:
        content = disk.files[self.inode]
        if self.data is None:
            content.grow(self.offset)
        else:
            content.write(self.offset, self.data)


@dataclass(frozen=True)
class NameAtom:
    """A name that came to stand for an inode (``target``), one that went (``source``), or both at once: a renaming."""

    order: int
    folder: int
    source: str | None
    target: str | None
    inode: int

    def apply(self, disk: Disk) -> None:
        names = disk.folders[self.folder]
        if self.source is not None and (self.target is None or names.get(self.source) == self.inode):
            names.pop(self.source, None)
        if self.target is not None:
            names[self.target] = self.inode


Atom = DataAtom | NameAtom


@dataclass
class Disk:
    """What is on the platter: files and folders by inode; inode 0 is the root."""

    files: dict[int, Content]
    folders: dict[int, dict[str, int]]

    def copy(self) -> Disk:
        return Disk(
            {inode: content.copy() for inode, content in self.files.items()},
            {inode: dict(names) for inode, names in self.folders.items()},
        )

    def digest(self) -> bytes:
        """Identify what can be reached, however its inodes are numbered."""
        return self._digest(0)

    def _digest(self, inode: int) -> bytes:
        if inode in self.files:
            return self.files[inode].digest()
        hashed = sha256(b"folder")
        for name, child in sorted(self.folders[inode].items()):
            hashed.update(name.encode() + b"\0" + self._digest(child))
        return hashed.digest()
