# SPDX-License-Identifier: Apache-2.0
"""A user with a home, and a user with a container."""

from __future__ import annotations

from pathlib import Path

import pytest
from desk import Desk
from office import Office


@pytest.fixture
def newcomer(tmp_path: Path) -> Desk:
    """Somebody without a container."""
    return Desk(tmp_path)


@pytest.fixture
def desk(newcomer: Desk) -> Desk:
    """Somebody with an empty container."""
    newcomer.ok("create")
    return newcomer


@pytest.fixture
def office(tmp_path: Path) -> Office:
    """An office that holds a license that may be lent and transferred, and a laptop."""
    return Office(tmp_path).stocked()
