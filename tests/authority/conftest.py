# SPDX-License-Identifier: Apache-2.0
"""A shop on SQLite, and on PostgreSQL."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from shop import Shop

from fakes import FakeClock


@pytest.fixture(scope="session")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vendor made once; most tests start from a copy of its folder."""
    folder = tmp_path_factory.mktemp("founded")
    made = Shop(folder, FakeClock())
    made.office.close()
    return made.home


@pytest.fixture
def sqlite_shop(tmp_path: Path, clock: FakeClock, founded: Path) -> Iterator[Shop]:
    """A vendor on SQLite."""
    shutil.copytree(founded, tmp_path / "vendor")
    made = Shop(tmp_path, clock)
    yield made
    made.office.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def shop(request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock) -> Iterator[Shop]:
    """A vendor on either database, for what the database has a part in."""
    if request.param == "sqlite":
        yield request.getfixturevalue("sqlite_shop")
        return
    made = Shop(tmp_path, clock, request.getfixturevalue("postgres_database"))
    yield made
    made.office.close()
