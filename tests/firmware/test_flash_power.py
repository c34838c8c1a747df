# SPDX-License-Identifier: Apache-2.0
"""The power fails at every flash operation, every way that matters, and again while the log recovers.

The same on 64 pages of 4 KiB: ``PYTHONPATH=src:tests:tests/firmware:. python tests/firmware/flash_campaign.py --cuts``.
"""

from __future__ import annotations

import pytest
from flash_cuts import COARSE, FINE, LONG, Script, explore, scattered, scripts

PAGES, PAGE_BYTES = 8, 256
SCRIPTS = list(scripts(PAGES, PAGE_BYTES))
SHORT = [script for script in SCRIPTS if script.name not in LONG]


@pytest.mark.parametrize("script", SHORT, ids=lambda script: script.name)
def test_every_single_bit_at_every_operation_leaves_before_or_after(script: Script) -> None:
    report = explore(script, FINE, ())
    assert report.cuts > 100
    assert report.recoveries == report.states > 50


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_a_second_cut_during_recovery_changes_nothing(script: Script) -> None:
    report = explore(script, COARSE[:3] if script.name in LONG else COARSE, COARSE[1:3])
    assert report.recoveries == report.states > 5
    assert report.again > report.states


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_words_of_an_interrupted_program_may_come_in_any_order(script: Script) -> None:
    report = explore(script, tuple(map(scattered, range(2))), (scattered(7),), shuffled=True)
    assert report.recoveries == report.states > 0
