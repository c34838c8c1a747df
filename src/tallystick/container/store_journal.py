# SPDX-License-Identifier: Apache-2.0
"""The journal's file: preallocated, appended to durably, read on where the last look ended.

``journal.<generation>`` is filled with zeros when it is created, so that an append overwrites blocks that exist and one
``fdatasync`` of that data is all its durability costs. The rules of its contents are `journal.Journal`'s.
"""

from __future__ import annotations

from tallystick.container.journal import NONCE, OVERHEAD, PREFIX, Journal
from tallystick.container.store_lock import APPENDING
from tallystick.container.store_os import CREATE_NEW, READ, WRITE, Translated, write_all
from tallystick.container.store_slot import Slot
from tallystick.container.store_writes import Writes
from tallystick.container.vfs import Directory
from tallystick.errors import error

SIZE = 256 * 1024
"""Bytes of a journal file."""
_NAME = "journal."
_DIGITS = 20  # of 2**64


def file_name(generation: int) -> str:
    """Return the name of a generation's journal."""
    return f"{_NAME}{generation}"


def generations(names: list[str]) -> list[int]:
    """Return the generations that have a journal among the names of a folder, in ascending order."""
    suffixes = [name.removeprefix(_NAME) for name in names if name.startswith(_NAME)]
    return sorted(int(text) for text in suffixes if text.isascii() and text.isdigit() and len(text) <= _DIGITS)


def require_unused(directory: Directory, newer_than: int) -> list[int]:
    """Refuse a folder that holds a journal in use without the snapshot it continues.

    Args:
        directory: the container's folder.
        newer_than: generation of the newest snapshot, or -1 if there is none.

    Returns:
        The generations that have a journal.

    Raises:
        LockedError: ``rolled_back``.
        StorageError: ``unsafe_path``, ``no_permission`` or ``io_error``.
    """
    found = generations(directory.names())
    for generation in found:
        if generation > newer_than and _is_used(directory, generation):
            message = f"{file_name(generation)} is in use, but the snapshot it continues is missing"
            raise error("rolled_back", message, generation=generation)
    return found


def _is_used(directory: Directory, generation: int) -> bool:
    """Tell whether a journal was ever appended to, without the key."""
    fd = directory.open_file(file_name(generation), READ)
    if fd is None:
        return False
    try:
        with Translated(f"cannot read {directory.where(file_name(generation))}"):
            return any(directory.vfs.pread(fd, PREFIX, 0))
    finally:
        directory.vfs.close(fd)


class JournalFile:
    """An open journal file and the tail up to which it was read.

    Attributes:
        journal: the records.
    """

    __slots__ = ("_directory", "_fd", "_reading", "_where", "journal")

    def __init__(self, directory: Directory, fd: int, journal: Journal) -> None:
        """Take over an open descriptor; use `create` or `open`."""
        self._directory = directory
        self._fd = fd
        self._where = directory.where(file_name(journal.generation))
        self._reading = Translated(f"cannot read {self._where}")
        self.journal = journal

    @classmethod
    def create(cls, directory: Directory, journal: Journal) -> JournalFile:
        """Create an empty journal, durably, in place of one that an interrupted attempt left.

        Args:
            directory: the container's folder.
            journal: the records, at their beginning.

        Returns:
            The open file.

        Raises:
            StorageError: ``no_space``, ``no_permission``, ``unsafe_path`` or ``io_error``; no file is left open.
        """
        name, vfs = file_name(journal.generation), directory.vfs
        directory.require_replaceable(name)
        with Translated(f"cannot create {directory.where(name)}"):
            try:
                vfs.unlink(name, directory.fd)
            except FileNotFoundError:
                pass
        fd = directory.open_file(name, CREATE_NEW)
        if fd is None:
            raise error("container_not_found", f"the folder {directory.path} was removed", path=directory.path)
        try:
            with Translated(f"cannot create {directory.where(name)}"):
                vfs.preallocate(fd, SIZE)
                vfs.fsync(fd)
                vfs.fsync_dir(directory.fd)
        except BaseException:
            vfs.close(fd)
            remove(directory, journal.generation)
            raise
        return cls(directory, fd, journal)

    @classmethod
    def open(cls, directory: Directory, key: bytes, slot: Slot) -> JournalFile:
        """Open the journal that continues a snapshot; nothing is read yet.

        Args:
            directory: the container's folder.
            key: the 32-byte state key.
            slot: the snapshot.

        Returns:
            The open file.

        Raises:
            LockedError: ``rolled_back``: the journal is missing; ``tampered``: it has another size.
            StorageError: ``unsafe_path``, ``no_permission`` or ``io_error``.
        """
        name = file_name(slot.generation)
        fd = directory.open_file(name, READ if directory.read_only else WRITE)
        if fd is None:
            message = f"{name}, which {slot.name} needs, is missing: a newer snapshot was removed or an older restored"
            raise error("rolled_back", message, generation=slot.generation)
        try:
            with Translated(f"cannot examine {directory.where(name)}"):
                size = directory.vfs.fstat(fd).size
            if size != SIZE:
                raise error("tampered", f"{name} has {size} bytes instead of {SIZE}", file=name)
            return cls(directory, fd, Journal(key, slot.generation, slot.digest))
        except BaseException:
            directory.vfs.close(fd)
            raise

    def read(self, *, whole: bool) -> tuple[list[bytes], int]:
        """Read the records after the tail.

        Args:
            whole: False to look only whether there is one; what an interrupted write leaves in memory begins with its
                size and number, but a power cut may have spared anything of it.

        Returns:
            The bodies, and how many bytes after the new tail a torn record takes, for `truncate`.

        Raises:
            LockedError: ``tampered``; nothing was written.
            StorageError: ``io_error``.
        """
        vfs, start = self._directory.vfs, self.journal.tail.end
        with self._reading:
            if not whole and not any(vfs.pread(self._fd, PREFIX, start)):
                return [], 0
            data = vfs.pread(self._fd, SIZE - start, start)
        return self.journal.read(data)

    def catch_up(self, writes: Writes, *, whole: bool = False) -> list[bytes]:
        """Read what others appended, and make the last of it durable if its writer may not have got that far.

        Args:
            writes: under a lock that is held.
            whole: see `read`.

        Returns:
            The bodies.

        Raises:
            LockedError: ``tampered``; nothing was written.
            StorageError: ``no_permission``, ``no_space`` or ``io_error``.
        """
        bodies, torn = self.read(whole=whole)
        if self._directory.read_only:
            return bodies
        if torn:
            writes.attempt(f"cannot truncate {self._where}", lambda: self.truncate(torn))
        if bodies and writes.interrupted_by() == APPENDING:
            writes.attempt(f"cannot write {self._where}", self.settle)
            writes.settle()
        return bodies

    def truncate(self, size: int) -> None:
        """Fill a torn record after the tail with zeros; durable with the next append, and needless if lost.

        Args:
            size: bytes to fill.

        Raises:
            OSError: this file must not be appended to again.
        """
        write_all(self._directory.vfs, self._fd, bytes(size), self.journal.tail.end)

    def fits(self, size: int) -> bool:
        """Tell whether a body of that many bytes can still be appended."""
        return self.journal.tail.end + size + OVERHEAD <= SIZE

    def append(self, body: bytes) -> None:
        """Append a record; durable when this returns.

        Args:
            body: as long as `fits` allows.

        Raises:
            OSError: nothing is known of the record; this file must not be appended to again.
        """
        vfs, journal = self._directory.vfs, self.journal
        record, tail = journal.seal(body, vfs.random(NONCE))
        write_all(vfs, self._fd, record, journal.tail.end)
        vfs.fdatasync(self._fd)
        journal.tail = tail

    def settle(self) -> None:
        """Make the last record durable after its writer died or failed; those before it are.

        It is written again, because a failed ``fsync`` may have left it in memory only and marked as written.

        Raises:
            OSError: this file must not be appended to again.
        """
        vfs, tail = self._directory.vfs, self.journal.tail
        write_all(vfs, self._fd, vfs.pread(self._fd, tail.end - tail.begin, tail.begin), tail.begin)
        vfs.fdatasync(self._fd)

    def close(self) -> None:
        """Close the file."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._directory.vfs.close(fd)


def remove(directory: Directory, generation: int) -> None:
    """Remove a journal that no snapshot needs; if that fails it is removed at a later `Store.load`.

    Args:
        directory: the container's folder.
        generation: which journal.
    """
    try:
        directory.vfs.unlink(file_name(generation), directory.fd)
    except OSError:
        return


def replay(directory: Directory, key: bytes, slot: Slot, writes: Writes) -> tuple[JournalFile, list[bytes]]:
    """Open the journal of the newest snapshot, read all of it, and remove the journals no snapshot needs.

    Args:
        directory: the container's folder.
        key: the 32-byte state key.
        slot: the newest snapshot.
        writes: under a lock that is held.

    Returns:
        The open file and the bodies in it.

    Raises:
        LockedError: ``rolled_back`` or ``tampered``; nothing was changed.
        StorageError: ``unsafe_path``, ``no_permission``, ``no_space`` or ``io_error``.
    """
    found = require_unused(directory, slot.generation)
    file = JournalFile.open(directory, key, slot)
    try:
        bodies = file.catch_up(writes, whole=True)
    except BaseException:
        file.close()
        raise
    if not directory.read_only:
        for generation in found:
            if generation != slot.generation:
                remove(directory, generation)
    return file, bodies
