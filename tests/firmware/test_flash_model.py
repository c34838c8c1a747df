# SPDX-License-Identifier: Apache-2.0
"""Random use of the log, power cuts included, agrees with a model; and so it stays to the end of the flash's life.

A million steps: ``PYTHONPATH=src:tests:tests/firmware:. python tests/firmware/flash_campaign.py --steps 1000000``.
"""

from __future__ import annotations

import pytest
from flash_campaign import Campaign, wear_out


@pytest.mark.parametrize(
    ("seed", "pages", "page_bytes", "steps"),
    [(1, 8, 256, 6_000), (2, 6, 208, 6_000), (3, 8, 512, 5_000), (4, 16, 256, 3_000)],
)
def test_random_steps_agree_with_the_model(seed: int, pages: int, page_bytes: int, steps: int) -> None:
    campaign = Campaign(seed, pages, page_bytes)
    for _ in range(steps):
        campaign.step()
    assert campaign.interrupted > steps // 20
    assert campaign.during_recovery > steps // 1_000
    assert 0 < campaign.kept < campaign.interrupted


@pytest.mark.parametrize("seed", range(6))
def test_a_flash_is_used_to_its_end_without_losing_anything(seed: int) -> None:
    flash = wear_out(seed)
    assert max(flash.wear) <= flash.endurance
    assert sum(flash.wear) > 0.85 * flash.endurance * flash.pages


@pytest.mark.parametrize("seed", range(6))
def test_pages_that_fail_before_their_time_cost_room_but_no_data(seed: int) -> None:
    wear_out(seed, pages=12, spoil=0.003)


@pytest.mark.parametrize("seed", range(6))
def test_power_cuts_on_the_way_to_the_end_lose_nothing_either(seed: int) -> None:
    wear_out(seed, cuts=0.05)
