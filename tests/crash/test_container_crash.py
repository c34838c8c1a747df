# SPDX-License-Identifier: Apache-2.0
"""A container survives a power cut and an error at every operation of everything that changes it: as before, or as
after.

CI explores a slice of it; ``python tests/crash/container_full.py`` explores all of it and takes hours.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest
from containercases import SCRIPTS, Script
from explore import Report, explore, explore_errors
from simfs import Limits

Book = Callable[[Report], Report]

# How much of a script CI looks at: the journal's few small writes closely, the snapshots' many combinations here and
# there.
_CLOSELY = (Limits(exhaustive=6, samples=8, tears=8), 4)
_HERE_AND_THERE = (Limits(exhaustive=4, samples=6, tears=4), 16)
_RARELY = (Limits(exhaustive=3, samples=4, tears=3), 48)
_SLICES = {
    **{script.name: _HERE_AND_THERE for script in SCRIPTS},
    **{
        f"file-{name}": _CLOSELY
        for name in ("request", "refresh-request", "refusal", "cancel", "consume", "reserve-release", "first-use",
                     "note", "observe", "drift", "journal-full")
    },
    **dict.fromkeys(("file-create", "file-mixed", "anchored-mixed"), _RARELY),
}  # fmt: skip
_ERRORS = {
    errno.EIO: ("create", "install", "consume", "reserve-release", "deactivate", "refusal"),
    errno.ENOSPC: ("create", "consume", "deactivate"),
    0: ("cancel", "consume", "note"),
}


def _struck() -> list[tuple[Script, int]]:
    named = {script.name: script for script in SCRIPTS}
    kits = ("file", "anchored")
    return [(named[f"{kit}-{name}"], code) for code, names in _ERRORS.items() for name in names for kit in kits]


def _id(value: Script | int) -> str:
    return value.name if isinstance(value, Script) else errno.errorcode.get(value, "short")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_power_cut_leaves_before_or_after(script: Script, explored: Book) -> None:
    limits, every = _SLICES[script.name]
    report = explored(explore(*script.prepared(), limits=limits, every=every))
    assert report.deepest >= 1
    assert report.states > 5


@pytest.mark.parametrize(("script", "code"), _struck(), ids=_id)
def test_an_error_leaves_before_or_after(script: Script, code: int, explored: Book) -> None:
    limits = Limits(exhaustive=1, samples=1, tears=1)
    assert explored(explore_errors(*script.prepared(), errors=(code,), limits=limits)).cuts > 100
