# SPDX-License-Identifier: Apache-2.0
"""Loans and transfers survive a power cut and an error at every operation, on both sides: as before, or as after; what
left a container is remembered there, so that a grant that exists was debited and a return that exists is gone.

CI explores a slice of it; ``python tests/crash/container_full.py`` explores all of it.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest
from containercases import Script
from explore import Report, explore, explore_errors
from lendingcases import LENDING
from simfs import Limits

Book = Callable[[Report], Report]

_JOURNAL = (Limits(exhaustive=5, samples=6, tears=6), 6)  # the journal's few small writes closely
_SNAPSHOT = (Limits(exhaustive=3, samples=4, tears=2), 32)  # snapshots here and there
_RARELY = (Limits(exhaustive=2, samples=2, tears=2), 96)
# What changes the clear header, and with it writes a snapshot; so does everything of an anchored container.
_WRITES_SNAPSHOT = ("take", "take-move", "give-back-part", "give-back", "recalled")
_ERRORS = {
    errno.EIO: ("give", "returned-at-once", "take", "give-back"),
    errno.ENOSPC: ("give", "take"),
    0: ("accepted",),
}


def _slice(script: Script) -> tuple[Limits, int]:
    kit, _, case = script.name.partition("-")
    if case == "borrow-use-return":
        return _RARELY
    return _SNAPSHOT if kit == "anchored" or case in _WRITES_SNAPSHOT else _JOURNAL


def _struck() -> list[tuple[Script, int]]:
    named = {script.name: script for script in LENDING}
    return [
        (named[f"{kit}-{name}"], code)
        for code, names in _ERRORS.items()
        for name in names
        for kit in ("file", "anchored")
    ]


def _id(value: Script | int) -> str:
    return value.name if isinstance(value, Script) else errno.errorcode.get(value, "short")


@pytest.mark.parametrize("script", LENDING, ids=lambda script: script.name)
def test_power_cut_leaves_before_or_after(script: Script, explored: Book) -> None:
    limits, every = _slice(script)
    report = explored(explore(*script.prepared(), limits=limits, every=every))
    assert report.deepest >= 1
    assert report.states > 5


@pytest.mark.parametrize(("script", "code"), _struck(), ids=_id)
def test_an_error_leaves_before_or_after(script: Script, code: int, explored: Book) -> None:
    limits = Limits(exhaustive=1, samples=1, tears=1)
    assert explored(explore_errors(*script.prepared(), errors=(code,), limits=limits)).cuts > 100
