# SPDX-License-Identifier: Apache-2.0
"""One container's state in memory and on disk: load, transact, commit.

A `Session` owns the store and the anchor's position. `transaction` gives the current state under the store's lock;
commands applied to it become durable together when the block ends, or not at all:

    with session.transaction() as tx:
        left = tx.apply(Consume(...))
    release the effect

Commit protocols (design 7; the recovery table of P4 is in `container.committed`):

* Anchor without position: append to the journal; checkpoint when the journal is full or long, when the inventory
  changed (the clear header must name what is held) or when the command is too large for a record.
* Anchor with position (P4): write the new snapshot durably -> `Anchor.advance` -> release. On open, a written snapshot
  whose advance was interrupted is finished, never discarded after the counter moved.
* Anchor with a counter only (P2): the same, but two states could share a counter's value. Whoever loads a state
  therefore writes it once more at once, under the next value, and one process at a time has the container.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from tallystick.clock import Clock, Reading
from tallystick.container import commands as c
from tallystick.container.anchor import COUNTER, NOTHING, Anchor, Position
from tallystick.container.clear_header import clear_header
from tallystick.container.committed import committed, link
from tallystick.container.state import State
from tallystick.container.store import Slot, Store
from tallystick.container.store_lock import StoreLock, taken_alone
from tallystick.container.vfs import Directory
from tallystick.errors import error
from tallystick.license.model import License

GENESIS: Final = bytes(32)
_INVENTORY: Final = (c.AddVendor, c.Install, c.Deactivate, c.Accept, c.Return)
_MOVES: Final = (c.Install, c.Deactivate, c.Give, c.Accept, c.Return, c.TakeShares)  # imports and transfers
MAX_REPLAYED: Final = 512  # records: some 50 ms at the next open, against one snapshot in so many commits


class Transaction:
    """Commands applied to a state, not yet durable."""

    __slots__ = ("commands", "reading", "state")

    def __init__(self, state: State, reading: Reading) -> None:
        self.state = state
        self.reading = reading
        self.commands: list[c.Command] = []

    def apply(self, command: c.Command) -> Any:
        """Apply a command.

        Args:
            command: what is asked.

        Returns:
            The command's result.

        Raises:
            TallystickError: the ledger's refusal; the transaction is as before.
        """
        from tallystick.container.ledger import (
            apply,  # with the first command: an application that only asks needs none
        )

        state, result = apply(self.state, command, self.reading)
        if state is not self.state:
            self.state = state
            self.commands.append(command)
        return result


class Session:
    """The current state of one container.

    Args:
        store: its files; ``journal=False`` where the anchor has a position.
        anchor: its keys.
        clock: where readings come from.
        directory: the folder the store works in; closed with the session.
        lock_timeout_s: how long to wait for another process.
    """

    __slots__ = (
        "_alone", "_anchored", "_directory", "_follows", "_replayed", "_slot", "_state", "anchor", "clock",
        "lock_timeout_s", "store",
    )  # fmt: skip

    def __init__(
        self, store: Store, anchor: Anchor, clock: Clock, directory: Directory, lock_timeout_s: float = 10.0
    ) -> None:
        self._directory = directory
        self.store = store
        self.anchor = anchor
        self.clock = clock
        self.lock_timeout_s = lock_timeout_s
        memory = anchor.memory
        self._anchored = memory != NOTHING
        self._alone: StoreLock | None = None
        if memory == COUNTER:
            self._alone = taken_alone(directory, lock_timeout_s)
        self._state: State | None = None
        self._follows = False  # whether `_state` is what the store has told so far
        self._slot = Slot("", -1, GENESIS, b"", GENESIS)  # until the first load
        self._replayed = 0  # records in the journal, which whoever opens the container applies again

    @property
    def directory(self) -> Directory:
        """The folder it works in."""
        return self._directory

    def begin(self) -> State:
        """Write the first state of a new container. The caller holds the store's lock, so that two creations cannot
        meet.

        Raises:
            ContainerError: ``already_exists``.
            StorageError, BackendError.
        """
        if self.store.slots():
            raise error("already_exists", "a container is already there")
        from tallystick.container.ledger import create

        state = create(self.anchor.public_key.thumbprint, self.clock.read())
        position = self.anchor.position()
        counter, chain = (0, GENESIS) if position is None else (position.counter + 1, position.chain or GENESIS)
        self._checkpoint(state, counter, chain)
        return state

    def peek(self) -> State:
        """Return the newest state known, without looking at the files.

        Raises:
            UsageError: ``closed``.
        """
        if self._state is None:
            raise error("closed", "the container is not open")
        return self._state

    def current(self) -> State:
        """Return the state as it is on disk now.

        Raises:
            LockedError: ``tampered`` or ``rolled_back``.
            StorageError, BackendError, ContainerError (``busy``).
        """
        with self.store.lock(self.lock_timeout_s):
            return self._load()

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Change the state: everything applied in the block becomes durable together when it ends.

        Raises:
            TallystickError: from the block, nothing is changed; or from the commit.
        """
        with self.store.lock(self.lock_timeout_s):
            tx = Transaction(self._load(), self.clock.read())
            yield tx
            if tx.commands:
                self._commit(tx)

    def content_key(self, license_: License, key_id: str) -> bytes:
        """Open a content key of a license.

        Raises:
            NotLicensedError: ``feature_not_licensed``: the license holds no key of that id.
            FormatError, VerificationError, BackendError, ContainerError (``not_supported``).
        """
        from tallystick.codec.envelope import open_key

        sealed = license_.content_keys.get(key_id)
        if sealed is None:
            raise error("feature_not_licensed", f"{license_.product} holds no key for content {key_id!r}")
        return open_key(sealed, self.anchor.agree)

    def close(self) -> None:
        """Release files and keys."""
        self._state = None
        self.store.close()
        if self._alone is not None:
            self._alone.close()
        self.anchor.close()
        self._directory.close()

    def _load(self) -> State:
        follows = self._follows
        self._follows = False  # until this has ended well, what is known may be behind the store
        appended = self.store.refresh() if follows else None
        if appended is not None:
            state = replay(self.peek(), appended)
            self._replayed += len(appended)
        else:
            slots = self.store.slots()
            if not slots:
                raise error("container_not_found", "the folder holds no container")
            slot = committed(self.anchor, slots, self.store.damage)
            self.anchor.tidy()
            body, appended = self.store.load(slot)
            state = State.from_bytes(body)
            if state.container != self.anchor.public_key.thumbprint:
                raise error("tampered", "the state belongs to another container's keys")
            state = replay(state, appended)
            self._slot = slot
            self._replayed = len(appended)
            if self._alone is not None:
                self._checkpoint(state, slot.generation + 1, slot.digest)
        self._state = state
        self._follows = True
        return state

    def _commit(self, tx: Transaction) -> None:
        slot = self._slot
        self._follows = False  # whatever interrupts this: whether it became durable is decided by what is on disk
        body = b""
        if not self._anchored and not any(isinstance(command, _INVENTORY) for command in tx.commands):
            body = c.encode(tx.reading, tuple(tx.commands))
        if body and self._replayed < MAX_REPLAYED and self.store.fits(len(body)):
            self.store.append(body)
            self._replayed += 1
        else:
            # An anchor that meanwhile moved, for a copy of these files, refuses: two states never follow one.
            chained = self._anchored and self._alone is None
            moves = any(isinstance(command, _MOVES) for command in tx.commands)
            self._checkpoint(tx.state, slot.generation + 1, link(slot) if chained else slot.digest, fresh=moves)
        self._state = tx.state
        self._follows = True

    def _checkpoint(self, state: State, generation: int, prev: bytes, *, fresh: bool = False) -> None:
        mark = self.anchor.mark(fresh=fresh) if self._anchored else b""
        header = clear_header(state, mark)
        digest = self.store.checkpoint(generation, prev, header, state.to_bytes())
        if self._anchored:
            self.anchor.advance(Position(generation, prev if self._alone is None else None, mark), digest)
        self._slot = Slot("", generation, prev, header, digest)
        self._replayed = 0
        self._state = state
        self._follows = True


def replay(state: State, bodies: list[bytes]) -> State:
    """Apply journal records to the state they follow.

    Args:
        state: before them.
        bodies: as `commands.encode` wrote them, oldest first.

    Returns:
        The state after them.

    Raises:
        FormatError: as `commands.decode`.
        TallystickError: a refusal of the ledger: the records do not follow this state.
    """
    if not bodies:
        return state
    from tallystick.container.ledger import apply

    for body in bodies:
        reading, commands = c.decode(body)
        for command in commands:
            state, _ = apply(state, command, reading)
    return state
