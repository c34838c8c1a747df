# SPDX-License-Identifier: Apache-2.0
"""A store under test: what it may hold after any accident, told by an account that cannot be wrong.

The state is a list of words: the snapshot's body is the words so far, each journal record is one more. An operation
acknowledges a word once the store has said it is durable. `check` then demands: the words are those the script would
have written so far, all acknowledged ones are there, none twice, and the store can still be worked with.
"""

from __future__ import annotations

from collections.abc import Callable

from explore import Acknowledge, Check, Operation, Setup
from simfs import SimVfs

from tallystick.container.store import Slot, Store
from tallystick.container.vfs import Directory
from tallystick.errors import TallystickError

PATH = "/home/me/container"
KEY = bytes(range(32))
PREV = bytes(32)
HEADER = b"TS-TEST"

Make = Callable[[Directory], Store]
Step = Callable[["Account"], None]


def make_store(directory: Directory) -> Store:
    """Build the store as a container does."""
    return Store(directory, KEY)


class Account:
    """A store and the words in it.

    Attributes:
        words: what it holds, as this process knows.
    """

    def __init__(self, vfs: SimVfs, acknowledge: Acknowledge, make: Make = make_store, *, create: bool = False) -> None:
        self.directory = Directory.open(PATH, vfs, create=create)
        self.store = make(self.directory)
        self.acknowledge = acknowledge
        self.words: list[str] = []
        self.slot: Slot | None = None
        self.load()

    def load(self) -> None:
        """Read everything anew."""
        with self.store.lock(1):
            self._load()

    def _load(self) -> None:
        slots = self.store.slots()
        self.words, self.slot = [], None
        if slots:
            body, commands = self.store.load(slots[0])
            assert slots[0].header == HEADER
            self.slot = slots[0]
            self.words = body.decode().split() + [word.decode().strip() for word in commands]

    def sync(self) -> None:
        """Learn what others did; the lock must be held."""
        appended = self.store.refresh()
        if appended is None:
            self._load()
        else:
            self.words += [word.decode().strip() for word in appended]

    def append(self, word: str, size: int = 0) -> None:
        """Append a word, padded to a size; by a snapshot where the journal has no room."""
        data = word.encode().ljust(size)
        with self.store.lock(1):
            self.sync()
            if self.store.fits(len(data)):
                self.store.append(data)
            else:
                self.snapshot([*self.words, word])
        self.words.append(word)
        self.acknowledge(word)

    def checkpoint(self, word: str = "") -> None:
        """Write a snapshot, with one more word if given."""
        with self.store.lock(1):
            self.sync()
            words = self.words + [word] * bool(word)
            self.snapshot(words)
        self.words = words
        if word:
            self.acknowledge(word)

    def snapshot(self, words: list[str]) -> None:
        """Write these words; the lock must be held."""
        generation = 1 if self.slot is None else self.slot.generation + 1
        self.store.checkpoint(generation, PREV, HEADER, " ".join(words).encode())
        self.slot = self.store.slots()[0]

    def create(self, word: str) -> None:
        """Write the first snapshot."""
        with self.store.lock(1):
            self.store.slots()
            self.snapshot([word])
        self.words = [word]
        self.acknowledge(word)


def prepared(*steps: Step) -> Setup:
    """Return a setup that creates a store with the word ``made`` and goes through the steps."""

    def setup(vfs: SimVfs) -> None:
        vfs.mkdir("/home")
        account = Account(vfs, lambda _: None, create=True)
        account.create("made")
        for step in steps:
            step(account)
        account.store.close()

    return setup


def empty(vfs: SimVfs) -> None:
    """Set up a computer without a container."""
    vfs.mkdir("/home")


def operation(*steps: Step, make: Make = make_store, create: bool = False) -> Operation:
    """Return an operation that opens the store and goes through the steps."""

    def run(vfs: SimVfs, acknowledge: Acknowledge) -> None:
        account = Account(vfs, acknowledge, make, create=create)
        for step in steps:
            step(account)
        account.store.close()
        account.directory.close()

    return run


def append(word: str, size: int = 0) -> Step:
    """Return the step that appends a word."""
    return lambda account: account.append(word, size)


def checkpoint(word: str = "") -> Step:
    """Return the step that writes a snapshot."""
    return lambda account: account.checkpoint(word)


def create(word: str) -> Step:
    """Return the step that writes the first snapshot."""

    def step(account: Account) -> None:
        if not account.words:
            account.create(word)

    return step


PROBE = "probe"


def check(
    before: list[str], script: list[str], *, make: Make = make_store, optional: bool = False, gaps: bool = False
) -> Check:
    """Return a check that the store holds ``before`` and then a beginning of ``script`` that lacks nothing
    acknowledged.

    Each check appends a probe, which later checks must find if it was acknowledged.

    Args:
        before: the words the setup left.
        script: the words the operation adds, in order.
        make: builds the store.
        optional: the container may be missing as long as nothing was acknowledged.
        gaps: words of the script may be missing before others: it was written by several processes.
    """

    def run(vfs: SimVfs, acknowledged: tuple[str, ...], acknowledge: Acknowledge) -> None:
        try:
            account = Account(vfs, acknowledge, make)
        except TallystickError as exc:
            if optional and exc.code == "container_not_found" and not acknowledged:
                return
            raise
        words = [word for word in account.words if not word.startswith(PROBE)]
        probes = [word for word in account.words if word.startswith(PROBE)]
        if not words and optional and not acknowledged:
            return
        added = words[len(before) :]
        assert words[: len(before)] == before, f"found {account.words}"
        assert added == [word for word in script if word in added], f"not in order or twice: {account.words}"
        assert gaps or added == script[: len(added)], f"not a beginning of the script: {account.words}"
        assert set(acknowledged) <= set(account.words), f"lost {set(acknowledged) - set(account.words)}"
        assert len(set(probes)) == len(probes)
        account.append(f"{PROBE}{len(probes)}")
        account.store.close()
        account.directory.close()

    return run
