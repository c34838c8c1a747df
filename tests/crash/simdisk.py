# SPDX-License-Identifier: Apache-2.0
"""What a power cut may leave: files and folders in memory, on disk, and all that lies between the two.

`SimFs` keeps for every file what is durable, what is in memory, and the writes between the two; for every folder the
same of its names. Of everything since the last sync of a file or folder, a power cut may leave (`SimFs.crashes`):

* each 512-byte sector of each write kept or dropped on its own, in any combination; the file's size likewise;
* each creation, renaming and removal of a name kept or dropped, also a renaming whose file's contents were dropped;
* a write of at most 4 KiB torn at any byte;
* all combinations of up to 8 such atoms, otherwise every prefix and a fixed sample.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256

from simplatter import SECTOR, Atom, Content, DataAtom, Disk, NameAtom

SMALL_WRITE = 4096
_ALLOCATION = 32768  # preallocated zeros are all alike: coarser atoms lose nothing but sizes in between


@dataclass
class File:
    """A file: in memory, on disk, and the writes of the one that the other lacks."""

    inode: int
    cache: Content = field(default_factory=Content)
    disk: Content = field(default_factory=Content)
    pending: list[DataAtom] = field(default_factory=list)
    links: int = 0
    modified: int = 0


@dataclass
class Folder:
    """A folder, likewise."""

    inode: int
    cache: dict[str, int] = field(default_factory=dict)
    disk: dict[str, int] = field(default_factory=dict)
    pending: list[NameAtom] = field(default_factory=list)


@dataclass(frozen=True)
class Limits:
    """How many of the possible disks are looked at for each cut.

    Attributes:
        exhaustive: up to so many atoms all combinations are.
        samples: so many random combinations beyond that.
        tears: so many places, evenly spread, at which a small write is torn within a sector.
    """

    exhaustive: int = 8
    samples: int = 256
    tears: int = 4096


class SimFs:
    """The machine: its disk, its memory, and the processes' locks."""

    def __init__(self, disk: Disk | None = None) -> None:
        disk = Disk({}, {0: {}}) if disk is None else disk
        self.files = {inode: File(inode, content.copy(), content.copy()) for inode, content in disk.files.items()}
        self.folders = {inode: Folder(inode, dict(names), dict(names)) for inode, names in disk.folders.items()}
        for folder in self.folders.values():
            for inode in folder.cache.values():
                if inode in self.files:
                    self.files[inode].links += 1
        self.order = 0
        self.processes = 0
        self.locks: dict[int, set[tuple[object, int]]] = {}
        self.exclusive: set[int] = set()
        self.next_inode = 1 + max([*self.files, *self.folders])
        self.lose_names = False

    def tick(self) -> int:
        self.order += 1
        return self.order

    def new_inode(self) -> int:
        self.next_inode += 1
        return self.next_inode

    def lookup(self, path: str) -> int:
        inode = 0
        for part in path.split("/"):
            if part in ("", "."):
                continue
            if inode not in self.folders:
                raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
            if part not in self.folders[inode].cache:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            inode = self.folders[inode].cache[part]
        return inode

    def write(self, file: File, offset: int, data: bytes) -> None:
        write = self.tick()
        end = offset + len(data)
        if end > file.disk.size:  # size and data reach the disk apart
            file.pending.append(DataAtom(write, file.inode, end, None, write))
        at = offset
        while at < end:
            stop = min(end, (at // SECTOR + 1) * SECTOR)
            part = data[at - offset : stop - offset]
            file.cache.write(at, part)
            file.pending.append(DataAtom(write, file.inode, at, part, write))
            at = stop
        file.modified = write

    def allocate(self, file: File, size: int) -> None:
        order = self.tick()
        for end in range(_ALLOCATION, size + 1, _ALLOCATION):
            file.pending.append(DataAtom(order, file.inode, end, None, order))
        file.cache.grow(size)
        file.modified = order

    def name(self, folder: Folder, source: str | None, target: str | None, inode: int) -> None:
        folder.pending.append(NameAtom(self.tick(), folder.inode, source, target, inode))
        if source is not None:
            del folder.cache[source]
        if target is not None:
            old = folder.cache.get(target)
            if old in self.files:
                self.files[old].links -= 1
            folder.cache[target] = inode

    def disk(self) -> Disk:
        """Return what is durable."""
        return Disk(
            {inode: file.disk.copy() for inode, file in self.files.items()},
            {inode: dict(folder.disk) for inode, folder in self.folders.items()},
        )

    def fingerprint(self) -> bytes:
        """Identify what is durable by inode, also what no durable name leads to yet."""
        hashed = sha256()
        for inode, file in sorted(self.files.items()):
            hashed.update(inode.to_bytes(8, "big") + file.disk.digest())
        for inode, folder in sorted(self.folders.items()):
            hashed.update(repr((inode, sorted(folder.disk.items()))).encode())
        return hashed.digest()

    def pending(self) -> list[Atom]:
        atoms: list[Atom] = [atom for file in self.files.values() for atom in file.pending]
        atoms += [atom for folder in self.folders.values() for atom in folder.pending]
        return sorted(atoms, key=lambda atom: atom.order)

    def sync_file(self, file: File) -> None:
        disk = Disk({file.inode: file.disk}, {})
        for atom in file.pending:
            atom.apply(disk)
        file.pending.clear()

    def sync_folder(self, folder: Folder) -> None:
        disk = Disk({}, {folder.inode: folder.disk})
        for atom in folder.pending:
            atom.apply(disk)
        folder.pending.clear()

    def sync(self) -> None:
        """Make everything durable."""
        for file in self.files.values():
            self.sync_file(file)
        for folder in self.folders.values():
            self.sync_folder(folder)

    def crashes(self, limits: Limits) -> Iterator[tuple[bytes, Disk]]:
        """Yield every different disk a power cut at this moment may leave, with its digest."""
        atoms = self.pending()
        base = self.disk()
        seen: set[bytes] = set()
        for chosen in _choices(atoms, limits):
            disk = base.copy()
            for atom in chosen:
                atom.apply(disk)
            digest = disk.digest()
            if digest not in seen:
                seen.add(digest)
                yield digest, disk


def _choices(atoms: list[Atom], limits: Limits) -> Iterator[list[Atom]]:
    count = len(atoms)
    if count <= limits.exhaustive:
        for mask in range(1 << count):
            yield [atom for number, atom in enumerate(atoms) if mask >> number & 1]
    else:
        for length in range(count + 1):
            yield atoms[:length]
        rng = random.Random(count)  # a fixed sample, not a secret
        for _ in range(limits.samples):
            share = rng.choice((0.1, 0.5, 0.9))
            yield [atom for atom in atoms if rng.random() < share]
    yield from _tears(atoms, limits)


def _tears(atoms: list[Atom], limits: Limits) -> Iterator[list[Atom]]:
    """Keep everything but one small write, and of that one the first bytes."""
    for write in sorted({atom.write for atom in atoms if isinstance(atom, DataAtom) and atom.data is not None}):
        torn = [atom for atom in atoms if isinstance(atom, DataAtom) and atom.write == write and atom.data is not None]
        size = sum(len(atom.data or b"") for atom in torn)
        if size > SMALL_WRITE:
            continue
        others = [atom for atom in atoms if atom not in torn]
        step = max(1, size // limits.tears)
        for keep in range(1, size, step):
            kept: list[Atom] = []
            left = keep
            for atom in torn:
                data = (atom.data or b"")[:left]
                left -= len(data)
                if data:
                    kept.append(DataAtom(atom.order, atom.inode, atom.offset, data, atom.write))
            yield sorted([*others, *kept], key=lambda atom: atom.order)
