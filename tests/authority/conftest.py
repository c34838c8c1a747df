# SPDX-License-Identifier: Apache-2.0
"""A shop on SQLite, and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shop import Shop
from fakes import FakeClock


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str | None:
    """The URL of an empty database; None for a SQLite file in the vendor's folder."""
    if request.param == "sqlite":
        return None
    url: str = request.getfixturevalue("postgres_database")
    return url


@pytest.fixture
def shop(tmp_path: Path, clock: FakeClock, database_url: str | None) -> Iterator[Shop]:
    """A vendor, on both databases."""
    made = Shop(tmp_path, clock, database_url)
    yield made
    made.office.close()


@pytest.fixture
def sqlite_shop(tmp_path: Path, clock: FakeClock) -> Iterator[Shop]:
    """A vendor on SQLite, for what does not depend on the database."""
    made = Shop(tmp_path, clock)
    yield made
    made.office.close()
