# SPDX-License-Identifier: Apache-2.0
"""One database, one transaction for each use case: SERIALIZABLE on PostgreSQL, ``BEGIN IMMEDIATE`` on SQLite.

Writers queue for one lock from the start of their transaction, so that what a use case reads first is still true when
it writes (rule R76): SQLite's write lock, or on PostgreSQL a lock of the audit log's head, taken before the snapshot.
What still collides is tried again. SQLite runs durable and distrustful (rule R77): WAL with synchronous=FULL, because
an acknowledged license that a power cut takes back would be sold twice.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from tallystick.authority.schema import REVISION
from tallystick.authority.sql import sa
from tallystick.errors import TallystickError, error

_T = TypeVar("_T")

ATTEMPTS: Final = 20
BUSY_S: Final = 30.0  # how long a writer queues before it gives up
_PAUSE_S: Final = 0.05
_PRAGMAS: Final = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA trusted_schema=OFF",
    "PRAGMA cell_size_check=ON",
)
_MODE: Final = "tallystick_mode"
_READ, _WRITE, _FOUND = "read", "write", "found"
_AGAIN: Final = frozenset(("40001", "40P01"))  # PostgreSQL: serialization failure, deadlock
_BUSY: Final = "55P03"  # PostgreSQL: lock not available
_DRIVERS: Final = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}


class Database:
    """A database and how to work in it.

    Args:
        url: SQLAlchemy URL; ``sqlite:////abs/path`` or ``postgresql://user@host/name``.
        pause: waits so many seconds between attempts.

    Raises:
        UsageError: ``usage`` for a URL that is none.
        BackendUnavailableError: the driver is missing; names the extra.
    """

    def __init__(self, url: str, pause: Callable[[float], None] = time.sleep) -> None:
        self._engine = _engine(url)
        self._pause = pause
        self._statements: dict[tuple[str, tuple[str, ...], tuple[str, ...]], Any] = {}

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    @property
    def kind(self) -> str:
        """``sqlite`` or ``postgresql``."""
        return self._engine.dialect.name

    def read(self, work: Callable[[sa.Connection], _T]) -> _T:
        """Run a function that only reads, on one consistent view.

        Args:
            work: given the connection.

        Returns:
            What it returns.

        Raises:
            StorageError, ContainerError: the database refuses; see `_translated`.
        """
        return self._run(work, _READ)

    def write(self, work: Callable[[sa.Connection], _T]) -> _T:
        """Run a function in one transaction: all of it or nothing, again if it collided with another.

        Args:
            work: given the connection; may be called more than once.

        Returns:
            What it returned in the attempt that was committed.

        Raises:
            StorageError, ContainerError: the database refuses; see `_translated`.
        """
        return self._run(work, _WRITE)

    def statement(self, table: sa.Table, keys: tuple[str, ...] = (), values: tuple[str, ...] = ()) -> Any:
        """Return a statement, built once: building one takes longer than running it.

        Args:
            table: on which it works.
            keys: columns that name rows, given as ``is_NAME`` when it runs.
            values: columns to change.

        Returns:
            An insert without keys, an update with values, else a select.
        """
        name = (table.name, keys, values)
        if name not in self._statements:
            named = [table.c[key] == sa.bindparam(f"is_{key}") for key in keys]
            if not keys:
                self._statements[name] = table.insert()
            elif values:
                changed: dict[str, Any] = {value: sa.bindparam(value) for value in values}
                self._statements[name] = table.update().where(*named).values(changed)
            else:
                self._statements[name] = sa.select(table).where(*named)
        return self._statements[name]

    def revision(self) -> str:
        """Return the revision of the schema; empty where there is none.

        Raises:
            StorageError: the database cannot be read.
        """

        def look(connection: sa.Connection) -> str:
            if not sa.inspect(connection).has_table("alembic_version"):
                return ""
            return str(connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() or "")

        return self.read(look)

    def check_revision(self) -> None:
        """Refuse a database of another schema version.

        Raises:
            AuthorityError: ``record_not_found`` for an empty one, ``schema_version``.
            StorageError: the database cannot be read.
        """
        found = self.revision()
        if not found:
            raise error("record_not_found", "this database holds no vendor yet", "Make one: `tally vendor init NAME`.")
        if found != REVISION:
            raise error(
                "schema_version", f"the database has schema {found}; this version of Tallystick needs {REVISION}"
            )

    def upgrade(self) -> str:
        """Bring the schema to the newest revision, from whichever it has, in one transaction.

        Returns:
            The revision it had, empty for a new database.

        Raises:
            AuthorityError: ``schema_version`` for a database newer than this version of Tallystick.
            StorageError: the database refuses.
        """
        before = self.revision()
        if before != REVISION:
            self._run(lambda connection: _migrate(connection, before), _FOUND)
        return before

    def _run(self, work: Callable[[sa.Connection], _T], mode: str) -> _T:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with self._engine.connect() as connection:
                    connection.execution_options(**{_MODE: mode})
                    with connection.begin():
                        return work(connection)
            except sa.exc.DBAPIError as cause:
                if attempt == ATTEMPTS or getattr(cause.orig, "sqlstate", None) not in _AGAIN:
                    raise _translated(cause) from cause
            self._pause(random.uniform(0, _PAUSE_S * attempt))  # noqa: S311 - so that two that collided do not again
        raise AssertionError("the last attempt returns or raises")


def _engine(url: str) -> sa.Engine:
    scheme, colon, rest = url.partition(":")
    try:
        made = sa.make_url(_DRIVERS.get(scheme, scheme) + colon + rest)
        if made.get_backend_name() == "sqlite":
            engine = sa.create_engine(made, connect_args={"timeout": BUSY_S})
            sa.event.listen(engine, "connect", _prepare_sqlite)
            sa.event.listen(engine, "begin", _begin_sqlite)
            return engine
        if made.get_backend_name() != "postgresql":
            raise error("usage", f"{made.get_backend_name()} databases are not supported", "Use SQLite or PostgreSQL.")
        engine = sa.create_engine(made, isolation_level="SERIALIZABLE", pool_pre_ping=True)
    except (sa.exc.ArgumentError, ValueError) as cause:  # the latter for a port that is no number
        remedy = "Use for example postgresql://user@host/database."
        raise error("usage", "the database URL is not understood", remedy) from cause
    except ImportError as cause:
        raise error(
            "backend_unavailable",
            f"PostgreSQL needs the extra 'postgres' ({cause.name} is missing)",
            "Install it: pip install 'tallystick[postgres]'",
            extra="postgres",
        ) from cause
    sa.event.listen(engine, "begin", _begin_postgresql)
    return engine


def _prepare_sqlite(connection: Any, _: object) -> None:
    connection.isolation_level = None  # no implicit BEGIN by the driver: `_begin_sqlite` says which
    for pragma in _PRAGMAS:
        connection.execute(pragma).close()


def _begin_sqlite(connection: sa.Connection) -> None:
    mode = connection.get_execution_options().get(_MODE, _READ)
    connection.exec_driver_sql("BEGIN" if mode == _READ else "BEGIN IMMEDIATE")


def _begin_postgresql(connection: sa.Connection) -> None:
    if connection.get_execution_options().get(_MODE, _READ) == _WRITE:
        # LOCK comes before the first query, hence before the snapshot: who waited sees what the others committed.
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{BUSY_S:.0f}s'")
        connection.exec_driver_sql("LOCK TABLE audit_head IN EXCLUSIVE MODE")


def _migrate(connection: sa.Connection, before: str) -> None:
    from tallystick.authority.alembic_door import Config, EnvironmentContext, ScriptDirectory

    script = ScriptDirectory(str(Path(__file__).with_name("migrations")))
    known = {revision.revision for revision in script.walk_revisions()}
    if before and before not in known:
        raise error(
            "schema_version", f"the database has schema {before}, made by a newer version", "Update Tallystick."
        )
    config = Config()
    config.attributes["connection"] = connection

    def steps(revision: Any, _: Any) -> Any:
        return script._upgrade_revs("head", revision)  # what `alembic upgrade head` runs

    with EnvironmentContext(config, script, fn=steps, destination_rev="head"):
        script.run_env()


def _translated(cause: sa.exc.DBAPIError) -> TallystickError:
    """Name what the database refuses. Its own words may quote values: only their first line is shown."""
    state = getattr(cause.orig, "sqlstate", None)
    text = (str(cause.orig).splitlines() or [""])[0][:200]
    if state == _BUSY or "database is locked" in text:
        return error("busy", "the database is busy")
    if isinstance(cause, sa.exc.IntegrityError):
        return error("not_conserved", f"the database refused to break its own rules: {text}")
    if "disk is full" in text or state == "53100":
        return error("no_space", "no space left for the database")
    if "readonly" in text or "unable to open" in text or state in ("42501", "28000", "28P01"):
        return error("no_permission", f"the database refuses: {text}", "Check its owner, mode or password.")
    return error("io_error", f"the database failed: {text}", "Check that it is there and running, then repeat.")
