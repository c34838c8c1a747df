# SPDX-License-Identifier: Apache-2.0
"""Drivers that cut the power, kill the process or fail an operation at every place, and check what is left.

They take functions of a `SimVfs`, so that anything that does its I/O through a `Vfs` can be explored: a `Directory`, a
`Store`, a whole container.

* `explore`: cut the power at every operation, open each possible disk, and cut again during that, to any depth;
* `explore_kills`: kill the process at every operation, let another go on, cut the power anywhere in that;
* `explore_errors`: fail every operation once, or all from there on, with each error.

All of them are deterministic and never open one disk twice.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass

from simfs import Disk, Fault, Limits, PowerCut, SimFs, SimVfs
from simplatter import Atom

from tallystick.errors import TallystickError

Acknowledge = Callable[[str], None]
Setup = Callable[[SimVfs], None]
Operation = Callable[[SimVfs, Acknowledge], None]
Check = Callable[[SimVfs, tuple[str, ...], Acknowledge], None]


@dataclass
class Report:
    """What a driver went through.

    Attributes:
        cuts: moments at which the power was cut, the process killed or an operation failed.
        states: different disks opened and checked, each with what had been acknowledged.
        deepest: the largest number of cuts in a row.
    """

    cuts: int = 0
    states: int = 0
    deepest: int = 0


class _Explorer:
    def __init__(self, check: Check, limits: Limits, depth: int, every: int) -> None:
        self.check = check
        self.limits = limits
        self.depth = depth
        self.every = every
        self.report = Report()
        self.seen: dict[tuple[bytes, tuple[str, ...]], int] = {}
        self.moments: set[tuple[bytes, tuple[Atom, ...], tuple[str, ...], int]] = set()

    def cut(self, fs: SimFs, acknowledged: tuple[str, ...], level: int, story: str) -> None:
        """Cut the power now and visit every disk that may be left."""
        self.report.cuts += 1
        self.report.deepest = max(self.report.deepest, level)
        moment = (fs.fingerprint(), tuple(fs.pending()), acknowledged, level)
        if moment in self.moments:  # another error, or another cut, that left the very same
            return
        self.moments.add(moment)
        for digest, disk in fs.crashes(self.limits):
            self.visit(digest, disk, acknowledged, level, story)

    def visit(self, digest: bytes, disk: Disk, acknowledged: tuple[str, ...], level: int, story: str) -> None:
        key = (digest, acknowledged)
        left = self.depth - level
        known = self.seen.get(key, -1)
        if known >= left:
            return
        self.seen[key] = left
        if known < 0:
            self.report.states += 1
        mutations, _ = self._check(SimFs(disk), acknowledged, level, 0, story)
        deeper = self.depth > level and (self.every == 1 or digest[0] % self.every == 0)
        for at in range(1, mutations + 2 if deeper else 1):
            fs = SimFs(disk)
            _, now = self._check(fs, acknowledged, level, at, story)
            self.cut(fs, now, level + 1, f"{story}; cut before change {at} of opening that")

    def _check(
        self, fs: SimFs, acknowledged: tuple[str, ...], level: int, cut_at: int, story: str
    ) -> tuple[int, tuple[str, ...]]:
        vfs = SimVfs(fs, seed=f"check {level}", cut_at=cut_at)
        more: list[str] = []
        try:
            self.check(vfs, acknowledged, more.append)
        except PowerCut:
            assert cut_at, story
        except (AssertionError, TallystickError) as exc:
            names = {name for folder in fs.folders.values() for name in folder.cache}
            raise AssertionError(f"{story}: {exc!r}; acknowledged {acknowledged}; files {sorted(names)}") from exc
        return vfs.mutations, acknowledged + tuple(more)


def _prepared(setup: Setup) -> Disk:
    fs = SimFs()
    setup(SimVfs(fs, seed="setup"))
    fs.sync()
    return fs.disk()


def explore(
    setup: Setup, operation: Operation, check: Check, *, depth: int = 2, limits: Limits | None = None, every: int = 1
) -> Report:
    """Cut the power before every change of an operation and after the last, and check all that may be left.

    Args:
        setup: builds the state before, which is made durable.
        operation: does the work and calls its second argument with each effect it may rely on from then on.
        check: opens what is left, asserts that it is before or after and lacks nothing acknowledged, may go on working
            and acknowledge more; cut as well, down to ``depth``.
        depth: cuts in a row.
        limits: see `Limits`.
        every: follow only each so-manieth disk deeper, chosen by its digest.

    Returns:
        What was covered.

    Raises:
        AssertionError: a check failed; the message says after which cut.
    """
    base = _prepared(setup)
    explorer = _Explorer(check, limits or Limits(), depth, every)
    total = _count(base, operation)
    for at in range(1, total + 2):
        fs = SimFs(base)
        acknowledged = _run(SimVfs(fs, seed="run", cut_at=at), operation, cut=at <= total)
        explorer.cut(fs, acknowledged, 1, f"cut before change {at} of {total}")
    return explorer.report


def explore_kills(
    setup: Setup, operation: Operation, then: Operation, check: Check, *, limits: Limits | None = None, step: int = 1
) -> Report:
    """Kill a process before every change, let another one work on, and cut the power anywhere in that.

    Args:
        setup: builds the state before, which is made durable.
        operation: is killed; what it acknowledged counts.
        then: what the next process does, in the memory the killed one left.
        check: as for `explore`.
        limits: see `Limits`.
        step: cut the second process only at each so-manieth change, and always at its end.

    Returns:
        What was covered.

    Raises:
        AssertionError: a check failed; the message says after which kill and cut.
    """
    base = _prepared(setup)
    explorer = _Explorer(check, limits or Limits(), 1, 1)
    total = _count(base, operation)
    for at in range(1, total + 2):
        second = 0
        while True:
            fs = SimFs(base)
            killed = SimVfs(fs, seed="run", cut_at=at)
            acknowledged = _run(killed, operation, cut=at <= total)
            killed.kill()
            next_one = SimVfs(fs, seed="then", cut_at=second)
            acknowledged += _run(next_one, then, cut=bool(second))
            explorer.cut(fs, acknowledged, 1, f"killed before change {at}, next one cut before change {second}")
            if not second:
                last = next_one.mutations
            second += step
            if second > last:
                break
    return explorer.report


ERRORS = (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EINTR, 0)
"""The errors `explore_errors` injects; 0 is a write that takes half of the data."""


def explore_errors(
    setup: Setup,
    operation: Operation,
    check: Check,
    *,
    errors: tuple[int, ...] = ERRORS,
    only: frozenset[str] = frozenset(),
    lose_names: bool = False,
    limits: Limits | None = None,
) -> Report:
    """Let every operation of a run fail, once and from there on, until the run meets no failure any more.

    After each run, another process checks what is in memory and works on, and the power is cut after that, and also
    without it.

    Args:
        setup: builds the state before, which is made durable.
        operation: may raise `TallystickError` and nothing else.
        check: as for `explore`.
        errors: codes to inject.
        only: names of the operations that may fail, all if empty.
        lose_names: a failed ``fsync_dir`` loses the names for good, as a failed ``fsync`` does the data.
        limits: see `Limits`.

    Returns:
        What was covered.

    Raises:
        AssertionError: a check failed, or a foreign exception came out.
    """
    base = _prepared(setup)
    explorer = _Explorer(check, limits or Limits(samples=32, tears=8), 1, 1)
    for code in errors:
        for forever in (False, True):
            at = 0
            while True:
                at += 1
                fs = SimFs(base)
                fs.lose_names = lose_names
                vfs = SimVfs(fs, seed="run", fault=Fault(at, code, forever, only))
                story = f"{errno.errorcode.get(code, 'short write')} at operation {at}{' and on' * forever}"
                acknowledged = _suffer(vfs, operation, story)
                if at > vfs.counted:
                    break
                explorer.cut(fs, acknowledged, 1, story)
                vfs.kill()
                _, acknowledged = explorer._check(fs, acknowledged, 1, 0, f"{story}, next process")
                explorer.cut(fs, acknowledged, 1, f"{story}, next process, cut")
    return explorer.report


def _suffer(vfs: SimVfs, operation: Operation, story: str) -> tuple[str, ...]:
    acknowledged: list[str] = []
    try:
        operation(vfs, acknowledged.append)
    except TallystickError as exc:
        assert vfs.struck, f"{story}: {exc!r} though nothing failed"
    except OSError as exc:
        raise AssertionError(f"{story}: a bare {exc!r} came out") from exc
    return tuple(acknowledged)


def _count(base: Disk, operation: Operation) -> int:
    vfs = SimVfs(SimFs(base), seed="run")
    _run(vfs, operation, cut=False)
    return vfs.mutations


def _run(vfs: SimVfs, operation: Operation, *, cut: bool) -> tuple[str, ...]:
    acknowledged: list[str] = []
    try:
        operation(vfs, acknowledged.append)
        assert not cut, "the cut did not happen: the operation is not deterministic"
    except PowerCut:
        assert cut
    return tuple(acknowledged)
