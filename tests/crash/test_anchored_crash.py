# SPDX-License-Identifier: Apache-2.0
"""An anchored container over the store: snapshot first, then counter, then chain; recovered by that protocol's table.

The anchor is a counter and a chain that survive every power cut, as a TPM's do. What it did is kept with what was
acknowledged, so that each explored disk is opened with the anchor of that moment. The protocol proper belongs to the
sealed container; here only the store is on trial: both slots stay readable, the one not current is the one replaced,
and a snapshot is durable before the anchor moves.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

import pytest
from explore import Acknowledge, Check, Operation, Report, explore, explore_errors, explore_kills
from simfs import Limits, SimVfs
from storecases import HEADER, KEY, PATH

from tallystick.container.store import Slot, Store
from tallystick.container.vfs import Directory

_FIRST = 7  # a hardware counter does not begin at zero


def _chain(old: bytes, digest: bytes) -> bytes:
    return sha256(old + digest).digest()


class Anchored:
    """A store, its anchor, and the words in it."""

    def __init__(self, vfs: SimVfs, history: list[str], acknowledge: Acknowledge) -> None:
        self.history = history
        self._acknowledge = acknowledge
        self.store = Store(Directory.open(PATH, vfs, create=True), KEY, journal=False)
        self.words: list[str] = []
        with self.store.lock(1):
            self._recover(self.store.slots())

    def note(self, event: str) -> None:
        self.history.append(event)
        self._acknowledge(event)

    @property
    def counter(self) -> int:
        return _FIRST + self.history.count("increment")

    @property
    def chain(self) -> bytes:
        extends = [event.removeprefix("extend ") for event in self.history if event.startswith("extend ")]
        chain = bytes(32)
        for digest in extends:
            chain = _chain(chain, bytes.fromhex(digest))
        return chain

    def _recover(self, slots: tuple[Slot, ...]) -> None:
        n, e = self.counter, self.chain
        if not slots:
            assert n == _FIRST, "both slots are gone"
            return
        for slot in slots:
            if slot.generation == n and _chain(slot.prev, slot.digest) == e:
                self._use(slot)
                return
        for slot in slots:
            if slot.prev == e and slot.generation in (n, n + 1):
                if slot.generation == n + 1:
                    self.note("increment")
                self.note(f"extend {slot.digest.hex()}")
                self._use(slot)
                return
        raise AssertionError(f"locked out: counter {n}, slots {[slot.generation for slot in slots]}")

    def _use(self, slot: Slot) -> None:
        body, journal = self.store.load(slot)
        assert journal == []
        self.words = body.decode().split()

    def commit(self, word: str) -> None:
        with self.store.lock(1):
            if self.store.refresh() is None:
                self._recover(self.store.slots())
            words = [*self.words, word]
            digest = self.store.checkpoint(self.counter + 1, self.chain, HEADER, " ".join(words).encode())
            self.note("increment")
            self.note(f"extend {digest.hex()}")
        self.words = words
        self.note(word)


def _script(*words: str) -> Operation:
    def run(vfs: SimVfs, acknowledge: Acknowledge) -> None:
        anchored = Anchored(vfs, list(_SETUP), acknowledge)
        for word in words:
            anchored.commit(word)

    return run


_SETUP: list[str] = []


def _empty(vfs: SimVfs) -> None:
    vfs.mkdir("/home")
    _SETUP.clear()


def _setup(*words: str) -> Callable[[SimVfs], None]:
    def run(vfs: SimVfs) -> None:
        _empty(vfs)
        anchored = Anchored(vfs, _SETUP, lambda _: None)
        for word in words:
            anchored.commit(word)

    return run


def _check(script: list[str]) -> Check:
    def run(vfs: SimVfs, acknowledged: tuple[str, ...], acknowledge: Acknowledge) -> None:
        anchored = Anchored(vfs, [*_SETUP, *acknowledged], acknowledge)
        words = [word for word in anchored.words if not word.startswith("probe")]
        assert words == script[: len(words)]
        said = {event for event in acknowledged if event in script or event.startswith("probe")}
        assert said <= set(anchored.words), f"lost {said - set(anchored.words)}"
        anchored.commit(f"probe{len(anchored.words)}")

    return run


_CASES = [
    pytest.param(_setup("a"), ["a"], ["b", "c"], id="commits"),
    pytest.param(_setup("a", "b"), ["a", "b"], ["c"], id="commit"),
    pytest.param(_empty, [], ["a", "b"], id="create"),
]


@pytest.mark.parametrize(("setup", "before", "words"), _CASES)
def test_power_cut_never_locks_out_nor_rolls_back(
    setup: Callable[[SimVfs], None], before: list[str], words: list[str], explored: Callable[[Report], Report]
) -> None:
    check = _check([*before, *words])
    assert explored(explore(setup, _script(*words), check, limits=Limits(samples=32, tears=8))).states > 20


@pytest.mark.parametrize(("setup", "before", "words"), _CASES)
def test_kill_never_locks_out_nor_rolls_back(
    setup: Callable[[SimVfs], None], before: list[str], words: list[str], explored: Callable[[Report], Report]
) -> None:
    base = [*before, *words]

    def recover_and_commit(vfs: SimVfs, acknowledge: Acknowledge) -> None:
        anchored = Anchored(vfs, [*_SETUP, *_killed], acknowledge)
        anchored.commit("probe")

    _killed: list[str] = []

    def killed(vfs: SimVfs, acknowledge: Acknowledge) -> None:
        _killed.clear()

        def both(event: str) -> None:
            _killed.append(event)
            acknowledge(event)

        _script(*words)(vfs, both)

    run = explore_kills(setup, killed, recover_and_commit, _check(base), limits=Limits(samples=32, tears=8))
    assert explored(run).states > 20


@pytest.mark.parametrize(("setup", "before", "words"), _CASES)
def test_error_never_locks_out_nor_rolls_back(
    setup: Callable[[SimVfs], None], before: list[str], words: list[str], explored: Callable[[Report], Report]
) -> None:
    assert explored(explore_errors(setup, _script(*words), _check([*before, *words]))).states > 10
