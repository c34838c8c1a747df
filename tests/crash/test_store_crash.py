# SPDX-License-Identifier: Apache-2.0
"""The store survives a power cut, a kill and an error at every operation, with the state before or after and no
other."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cases import CASES, KILLS, Case, KillCase
from explore import Report, explore, explore_errors, explore_kills
from simfs import Limits

Book = Callable[[Report], Report]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_power_cut_leaves_before_or_after(case: Case, explored: Book) -> None:
    report = explored(explore(case.setup, case.operation, case.check, limits=case.quick, every=case.every))
    assert report.deepest == 2
    assert report.states > 20
