# SPDX-License-Identifier: Apache-2.0
"""A token that was set back, by a backup of an HSM or by somebody with its PIN, beside files that were not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from modules_rig import SoftHsm
from shop import Shop
from token_owner import Owner, apart

from fakes import FakeClock
from tallystick.errors import TallystickError


@pytest.fixture(params=["", "ratchet=yes"])
def owner(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Owner]:
    """Somebody with a license."""
    shop = Shop(tmp_path / "shop", FakeClock(wall=int(time.time())))
    made = Owner(apart(SoftHsm(tmp_path / "hsm"), tmp_path), tmp_path / "c", shop, request.param)
    made.create()
    made.activate(shop.entitle().code.reveal())
    yield made
    shop.office.close()


def test_the_vendor_lets_it_go_on_with_the_files(owner: Owner) -> None:
    before = owner.marks()
    assert [owner.consume(), owner.consume()] == [999, 998]
    owner.put_marks(before)
    with pytest.raises(TallystickError, match="the anchor was set back") as caught:
        owner.consume()
    assert caught.value.code == "tampered"
    assert "--repair" in caught.value.remedy
    owner.repair()
    assert owner.consume() == 997
    assert len(owner.marks()) == 1
