# SPDX-License-Identifier: Apache-2.0
"""A shop on SQLite, and on PostgreSQL: made once on each, copied for every test."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from shop import Shop
from vendor_shell import Shell

from fakes import FakeClock

_MODEL = "tallystick_model"


@pytest.fixture(scope="session")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a vendor on SQLite."""
    made = Shop(tmp_path_factory.mktemp("founded"), FakeClock())
    made.office.close()
    return made.home


@pytest.fixture(scope="session")
def founded_on_postgres(tmp_path_factory: pytest.TempPathFactory, postgres_url: str) -> Path:
    """The folder of a vendor on PostgreSQL, whose database other databases are copied from."""
    execute(postgres_url, f"CREATE DATABASE {_MODEL}")
    url = postgres_url.replace("/postgres?", f"/{_MODEL}?")
    made = Shop(tmp_path_factory.mktemp("founded-on-postgres"), FakeClock(), url)
    made.office.close()
    return made.home


def execute(server: str, statement: str) -> None:
    """Run a statement of the server itself."""
    import psycopg

    with psycopg.connect(server.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(statement.encode())


@pytest.fixture
def sqlite_shop(tmp_path: Path, clock: FakeClock, founded: Path) -> Iterator[Shop]:
    """A vendor on SQLite."""
    shutil.copytree(founded, tmp_path / "vendor")
    made = Shop(tmp_path, clock)
    yield made
    made.office.close()


@pytest.fixture
def postgres_shop(tmp_path: Path, clock: FakeClock, founded_on_postgres: Path, postgres_url: str) -> Iterator[Shop]:
    """A vendor on PostgreSQL."""
    name = f"t{secrets.token_hex(8)}"
    execute(postgres_url, f"CREATE DATABASE {name} TEMPLATE {_MODEL}")
    shutil.copytree(founded_on_postgres, tmp_path / "vendor")
    url = postgres_url.replace("/postgres?", f"/{name}?")
    (tmp_path / "vendor" / "database.url").write_text(url, encoding="ascii")
    made = Shop(tmp_path, clock)
    yield made
    made.office.close()
    execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgres"])
def shop(request: pytest.FixtureRequest) -> Shop:
    """A vendor on either database, for what the database has a part in."""
    made: Shop = request.getfixturevalue(f"{request.param}_shop")
    return made


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    """An empty folder with its own home."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("TALLY_CONTAINER", f"file:{tmp_path / 'container'}")
    return Shell(tmp_path, capsys)
