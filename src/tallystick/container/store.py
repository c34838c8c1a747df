# SPDX-License-Identifier: Apache-2.0
"""A container's state on disk: two snapshots and a journal, in a folder many processes share.

    store = Store(directory, key)
    with store.lock(timeout_s=5):
        slots = store.slots()                      # newest first; () in a new folder
        body, commands = store.load(slots[0])      # the snapshot and what was appended since
        store.append(command)                      # durable when it returns
    with store.lock(timeout_s=5):
        appended = store.refresh()                 # by other processes; None: load again
        store.checkpoint(generation + 1, prev, header, body)

What holds, after a power cut at any moment and any error of the operating system:

* `load` returns a state that was current before or after the interrupted call, and contains everything acknowledged.
* What `load` or `refresh` returned is durable, but in a read-only view: what a killed process left is completed first.
* A failed write or ``fsync`` is never tried again: the store refuses every later call until a new `Store` is made,
  which judges what is really there. Only a lack of space or permission before anything changed leaves it usable.
* Nothing that looks tampered with is repaired or removed.

A checkpoint makes ``journal.(g+1)`` and its name durable, then the snapshot, renamed onto the slot that is not current,
then removes ``journal.g``. A newest snapshot without its journal therefore means that a newer one was taken away.

Anchored containers (``journal=False``) keep state in snapshots alone and say which slot is current: the one given to
`load`; `checkpoint` replaces the other, damaged or not.
"""

from __future__ import annotations

from tallystick.codec.digest import sha256
from tallystick.container import store_slot
from tallystick.container.journal import BODY_LIMIT, NONCE, Journal
from tallystick.container.store_journal import JournalFile, remove, replay, require_unused
from tallystick.container.store_lock import APPENDING, REPLACING, Held, StoreLock
from tallystick.container.store_slot import NAMES, Identity, Image, Slot, identities, read_slots
from tallystick.container.store_writes import Writes
from tallystick.container.vfs import Directory
from tallystick.errors import TallystickError, error

__all__ = ["Slot", "Store"]

_KEY = 32


class Store:
    """The snapshots and journal of one container; all but `slots` must be called under `lock`."""

    def __init__(self, directory: Directory, key: bytes | None, *, journal: bool = True) -> None:
        """Prepare; nothing is read before the first call.

        Args:
            directory: the container's folder; stays the caller's to close.
            key: the 32-byte state key; None allows only `slots`, for a container whose key cannot be had.
            journal: False for an anchored container; `journaled` may be set until the first snapshot.

        Raises:
            UsageError: ``usage``: the key has another length.
        """
        if key is not None and len(key) != _KEY:
            raise error("usage", f"the state key must have {_KEY} bytes, not {len(key)}")
        self._directory = directory
        self._key = key
        self.journaled = journal
        self.damage: TallystickError | None = None  # of what `slots` left out
        self._lock = StoreLock(directory)
        self._writes = Writes(self._lock, read_only=directory.read_only)
        self._current: Slot | None = None
        self._file: JournalFile | None = None
        self._watched: tuple[str, ...] = NAMES  # the slot to be replaced next, then what others may replace first
        self._seen: tuple[Identity, ...] = ()
        self._shared = False  # whether another process was seen appending
        self._fresh = 0  # the session in which this object last knew everything
        self._images: tuple[int, tuple[Image, ...]] = (0, ())

    def lock(self, timeout_s: float = 10.0) -> Held:
        """Return a context in which this thread alone, of all processes, works on the container.

        A read-only directory is locked shared, and not at all where it has no lock file.

        Args:
            timeout_s: seconds to wait for another holder.

        Returns:
            The context; entering it raises ``busy``, ``usage`` (held by this thread already) or a storage error.
        """
        return Held(self._lock, timeout_s)

    def slots(self, *, skip_damaged: bool = False) -> tuple[Slot, ...]:
        """Read both snapshots as far as they can be known without the key.

        Args:
            skip_damaged: leave a damaged slot out instead of refusing, for a view of what can still be read.

        Returns:
            The slots, newest first; none in a new folder.

        Raises:
            LockedError: ``tampered``: one is damaged, and needed (`damage`); ``rolled_back``: gone but for a journal.
            FormatError: ``unsupported_version``.
            StorageError: ``unsafe_path``, ``no_permission``, ``no_space`` or ``io_error``.
        """
        self._writes.require_intact()
        images, self.damage = read_slots(self._directory, anchored=not self.journaled, skip_damaged=skip_damaged)
        if self.journaled and not images and not skip_damaged:
            require_unused(self._directory, -1)
        if self._lock.held and not skip_damaged:
            if images and self._writes.interrupted_by() == REPLACING:
                self._publish_again(images[0])
            self._images = (self._lock.session, images)
        return tuple(image.slot for image in images)

    def load(self, slot: Slot) -> tuple[bytes, list[bytes]]:
        """Open a snapshot and replay its journal.

        Args:
            slot: one that `slots` returned since the lock was taken: the newest, or for an anchored container the one
                its anchor names.

        Returns:
            The snapshot's body, and the bodies appended to it in order; durable, both.

        Raises:
            LockedError: ``tampered`` or ``rolled_back``; nothing was changed.
            UsageError: ``usage``: not under the lock, or another slot.
            StorageError: ``unsafe_path``, ``no_permission``, ``no_space`` or ``io_error``.
        """
        key = self._require_key()
        session, images = self._images
        image = next((image for image in images if image.slot == slot), None)
        if session != self._lock.session or image is None or (self.journaled and image is not images[0]):
            raise error("usage", "only a slot that `slots` returned under this lock, the newest, can be loaded")
        body = store_slot.unseal(key, image)
        file, bodies = replay(self._directory, key, slot, self._writes) if self.journaled else (None, [])
        self._adopt(slot, file)
        return body, bodies

    def refresh(self) -> list[bytes] | None:
        """Learn what other processes did since this store last looked.

        Returns:
            The bodies they appended, in order, durable; None if the snapshot was replaced, or none is loaded: then
            call `slots` and `load`.

        Raises:
            LockedError: ``tampered``.
            UsageError: ``usage``: not under the lock.
            StorageError: ``no_permission`` or ``io_error``.
        """
        self._require_key()
        if self._current is None:
            return None
        bodies: list[bytes] = []
        try:
            if self._writes.interrupted_by() == REPLACING or identities(self._directory, self._watched) != self._seen:
                self.forget()
                return None
            if self._file is not None:
                bodies = self._file.catch_up(self._writes)
                self._shared = self._shared or bool(bodies)
        except BaseException:  # the file may have been read on without the caller learning what it held
            self.forget()
            raise
        self._fresh = self._lock.session
        return bodies

    def forget(self) -> None:
        """Drop what is known, so that the next `refresh` returns None.

        For a caller that was interrupted between a call of this store and taking over its result.
        """
        file, self._file = self._file, None
        self._current = None
        self._fresh = 0
        if file is not None:
            file.close()

    def fits(self, size: int) -> bool:
        """Tell whether `append` has room for a body of that many bytes; if not, a `checkpoint` is due."""
        return self._file is not None and size <= BODY_LIMIT and self._file.fits(size)

    def append(self, body: bytes) -> None:
        """Append to the journal; durable when this returns.

        Args:
            body: at most `journal.BODY_LIMIT` bytes.

        Raises:
            ContainerError: ``full``: see `fits`; nothing was changed.
            LockedError: ``read_only``.
            UsageError: ``usage``: not under the lock, anchored, or without `load` or `refresh` since it was taken.
            StorageError: ``io_error``, ``no_space``: the record may be there or not, later calls are refused.
        """
        self._require_writable()
        file = self._file
        if file is None or self._fresh != self._lock.session:
            raise error("usage", "append needs a journal, and `load` or `refresh` under the same lock before it")
        if not self.fits(len(body)):
            raise error("full", f"the journal has no room for {len(body)} bytes more", size=len(body))
        self._writes.begin(APPENDING)
        self._writes.attempt("cannot append to the journal", lambda: file.append(body))
        if self._shared:  # otherwise the next process makes the last record durable once more, and this one is faster
            self._writes.settle()

    def checkpoint(self, generation: int, prev: bytes, header: bytes, body: bytes) -> bytes:
        """Replace the slot that is not current by a new snapshot, which becomes current with an empty journal.

        Args:
            generation: above the current one, < 2**64.
            prev: 32 bytes the caller chains snapshots by.
            header: at most 64 KiB, stored in the clear, authenticated.
            body: at most 16 MiB, sealed.

        Returns:
            The digest of the slot: SHA-256 of the whole file. It is durable.

        Raises:
            ContainerError: ``full``: header or body too large; nothing was changed.
            LockedError: ``read_only``.
            UsageError: ``usage``: without `load`, `refresh` or an empty `slots` under this lock, or a wrong argument.
            StorageError: ``no_space``, ``no_permission``, ``unsafe_path`` or ``io_error``: the store can be used on if
                nothing was changed yet, and refuses if that is not known.
        """
        key = self._require_writable()
        current = self._require_next(generation, prev)
        nonce = self._directory.vfs.random(NONCE)
        data = store_slot.seal(key=key, generation=generation, prev=prev, header=header, body=body, nonce=nonce)
        name = self._watched[0]
        slot = Slot(name, generation, prev, header, sha256(data))
        self._writes.begin(REPLACING)
        file, staged = self._prepare(key, slot, data)
        self._writes.attempt("cannot replace the snapshot", lambda: self._directory.publish(staged, name))
        self._adopt(slot, file)
        if file is not None and current is not None:
            remove(self._directory, current.generation)
        self._writes.settle()
        return slot.digest

    def _prepare(self, key: bytes, slot: Slot, data: bytes) -> tuple[JournalFile | None, tuple[str, int]]:
        """Make the new journal and the staged snapshot durable; nothing refers to them yet."""
        file: JournalFile | None = None
        try:
            if self.journaled:
                file = JournalFile.create(self._directory, Journal(key, slot.generation, slot.digest))
            return file, self._directory.stage(slot.name, data)
        except BaseException as exc:
            if file is not None:
                file.close()
                remove(self._directory, slot.generation)
            if isinstance(exc, TallystickError) and self._writes.judge(exc):
                self._writes.settle()
            raise

    def _require_next(self, generation: int, prev: bytes) -> Slot | None:
        """Return the current slot, or None if this is the first snapshot of a new folder."""
        current, (session, images) = self._current, self._images
        known = self._fresh if current else session
        if known != self._lock.session or (images and not current):
            raise error("usage", "`slots` and `load`, or `refresh`, under the same lock must come before a checkpoint")
        if not (current.generation if current else -1) < generation < 2**64 or len(prev) != _KEY:
            raise error("usage", "a generation above the current one and 32 bytes to chain to are needed")
        return current

    def _publish_again(self, image: Image) -> None:
        """Make the newest snapshot durable after its writer died or failed around the rename."""
        directory, name, what = self._directory, image.slot.name, "cannot settle the snapshot"
        try:
            staged = directory.stage(name, image.data)
        except TallystickError as exc:
            if not self._writes.judge(exc) or exc.code != "no_space":
                raise
            self._writes.attempt(what, lambda: directory.vfs.fsync_dir(directory.fd))
        else:
            self._writes.attempt(what, lambda: directory.publish(staged, name))
        self._writes.settle()

    def _adopt(self, slot: Slot, file: JournalFile | None) -> None:
        self.forget()
        self._file = file
        self._images = (0, ())
        order = NAMES if slot.name == NAMES[1] else NAMES[::-1]
        self._watched = order[:1] if file else order  # one with a journal is never replaced before the other was
        self._seen = identities(self._directory, self._watched)
        self._fresh = self._lock.session
        self._current = slot

    def _require_key(self) -> bytes:
        self._writes.require_intact()
        if self._key is None or not self._lock.held:
            raise error("usage", "the state key and `Store.lock` are needed for this")
        return self._key

    def _require_writable(self) -> bytes:
        if self._directory.read_only:
            raise error("read_only", f"{self._directory.path} was opened to be read only", path=self._directory.path)
        return self._require_key()

    def close(self) -> None:
        """Close what is open, but the directory; a lock that is held is released."""
        self.forget()
        self._lock.close()
