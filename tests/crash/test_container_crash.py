# SPDX-License-Identifier: Apache-2.0
"""A container survives a power cut and an error at every operation of everything that changes it: as before, or as after.

CI explores a slice; ``PYTHONPATH=src:tests:tests/crash python tests/crash/container_full.py`` explores all of it.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest
from containercases import SCRIPTS, Script
from explore import Report, explore, explore_errors
from simfs import Limits

Book = Callable[[Report], Report]

_SLICE = Limits(exhaustive=4, samples=6, tears=4)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_power_cut_leaves_before_or_after(script: Script, explored: Book) -> None:
    report = explored(explore(*script.prepared(), limits=_SLICE, every=24))
    assert report.states > 10


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, 0], ids=["EIO", "ENOSPC", "short"])
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_an_error_leaves_before_or_after(script: Script, code: int, explored: Book) -> None:
    limits = Limits(exhaustive=1, samples=1, tears=1)
    explored(explore_errors(*script.prepared(), errors=(code,), limits=limits))
