# SPDX-License-Identifier: Apache-2.0
"""The database: durable, distrustful, migrated, and the last to say no."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from shop import Shop

from fakes import FakeClock
from made import Device
from tallystick.authority import database
from tallystick.authority.alembic_door import ScriptDirectory
from tallystick.authority.columns import META
from tallystick.authority.database import Database
from tallystick.authority.founding import Plan, found, upgrade
from tallystick.authority.issuing import issue
from tallystick.authority.office import Office
from tallystick.authority.schema import CONTAINER, ENTITLEMENT, LICENSE, REQUEST, REVISION, SLOT
from tallystick.authority.schema_meter import METER
from tallystick.authority.schema_piv import PIV_KEY, PIV_ROOT
from tallystick.authority.schema_tpm import ATTESTED, RESYNC, SETTING, TPM_ADVISORY, TPM_ROOT
from tallystick.errors import CODES, TallystickError


def test_sqlite_is_durable_and_distrustful(sqlite_shop: Shop) -> None:
    """R77."""
    names = ("journal_mode", "synchronous", "foreign_keys", "trusted_schema", "cell_size_check")

    def look(connection: sa.Connection) -> list[Any]:
        return [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names]

    full, on, off = 2, 1, 0
    assert sqlite_shop.office.database.read(look) == ["wal", full, on, off, on]


def test_postgresql_is_serializable(tmp_path: Path, clock: FakeClock, postgres_database: str) -> None:
    shop = Shop(tmp_path, clock, postgres_database)

    def level(connection: sa.Connection) -> Any:
        return connection.exec_driver_sql("SHOW transaction_isolation").scalar()

    assert shop.office.database.read(level) == "serializable"
    assert shop.office.database.write(level) == "serializable"
    shop.office.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database."""
    sqlite = request.param == "sqlite"
    made = Database(f"sqlite:///{tmp_path}/empty.db" if sqlite else request.getfixturevalue("postgres_database"))
    yield made
    made.close()


def test_migrations_make_from_nothing_what_the_code_expects(empty: Database) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    assert empty.revision() == ""
    assert (empty.upgrade(), empty.revision()) == ("", REVISION)
    assert empty.upgrade() == REVISION  # again: nothing to do

    def compare(connection: sa.Connection) -> Any:
        return compare_metadata(MigrationContext.configure(connection), META)

    assert empty.read(compare) == []


def test_the_newest_migration_is_the_schema_the_code_expects() -> None:
    script = ScriptDirectory(str(Path(database.__file__).with_name("migrations")))
    assert script.get_heads() == [REVISION]


def test_a_database_of_the_revision_before_is_brought_up_and_keeps_its_records(shop: Shop) -> None:
    sold = shop.entitle()
    tables = (ATTESTED, METER, PIV_KEY, PIV_ROOT, RESYNC, SETTING, TPM_ADVISORY, TPM_ROOT)
    with shop.office.database._engine.connect() as connection, connection.begin():
        for table in tables:
            connection.exec_driver_sql(f"DROP TABLE {table.name}")
        connection.exec_driver_sql("ALTER TABLE container DROP COLUMN last_ids")
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0003'")
    shop.office.close()
    with pytest.raises(TallystickError, match="0003"):
        shop.open()
    done = upgrade(shop.home)
    assert (done.before, done.after) == ("0003", REVISION)
    shop.office = shop.open()
    found = shop.office.database.read(lambda connection: sa.inspect(connection).get_table_names())
    assert {table.name for table in tables} <= set(found)
    device = Device()
    request = device.request(code=sold.code.reveal(), product="", quantity=1, accounts=())
    assert issue(shop.office, request.sign(device.identity)).kind == "update"


def test_containers_of_the_revision_before_are_kept_and_of_what_they_wrote_nothing_is_known(shop: Shop) -> None:
    device = Device()
    issue(shop.office, request_of(shop, device, 1, ()))
    before = shop.office.read(lambda work: work.one(CONTAINER, "container", thumbprint=device.thumbprint))
    assert before.last_ids == bytes([1]) * 8
    with shop.office.database._engine.connect() as connection, connection.begin():
        connection.exec_driver_sql("ALTER TABLE container DROP COLUMN last_ids")
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0006'")
    shop.office.close()
    done = upgrade(shop.home)
    assert (done.before, done.after) == ("0006", REVISION)
    shop.office = shop.open()
    after = shop.office.read(lambda work: work.one(CONTAINER, "container", thumbprint=device.thumbprint))
    assert after._mapping == {**before._mapping, "last_ids": None}
    shop.clock.advance(60)
    result = issue(shop.office, request_of(shop, device, 3, (bytes([2]) * 8, bytes([9]) * 8)))
    assert (result.kind, result.warnings) == ("update", ())
    after = shop.office.read(lambda work: work.one(CONTAINER, "container", thumbprint=device.thumbprint))
    assert after.last_ids == b"".join(bytes([number]) * 8 for number in (3, 2, 9))


def request_of(shop: Shop, device: Device, number: int, previous: tuple[bytes, ...]) -> bytes:
    """A request that names those before it."""
    code = shop.entitle().code.reveal()
    asked = device.request(code=code, product="", quantity=1, accounts=(), evidence={})
    now = {"created_at": int(shop.clock.wall), "generation": 9 + number}
    return asked.replace(request_id=bytes([number]) * 16, previous=previous, **now).sign(device.identity)


def test_a_container_is_rewound_for_a_reason_or_not_at_all(shop: Shop) -> None:
    values: dict[str, Any] = dict.fromkeys(ATTESTED.c.keys(), 0)
    values |= dict.fromkeys(("manufacturer", "model", "firmware", "reason"), "")
    values |= {"container": bytes(32), "ek_digest": bytes(32), "chain": None, "ek_certificate": None}
    shop.office.write(lambda work: work.insert(ATTESTED, **values | {"rewound_at": None}))
    assert violated(shop, ATTESTED.update().values(rewound_at=5)) == "not_conserved"
    assert violated(shop, ATTESTED.update().values(reason="x")) == "not_conserved"
    assert violated(shop, ATTESTED.update().values(level=4)) == "not_conserved"


def test_a_migration_that_fails_leaves_nothing_behind(empty: Database) -> None:
    engine = empty._engine
    with engine.connect() as connection, connection.begin():
        connection.exec_driver_sql("CREATE TABLE audit_head (x INTEGER)")  # the last table of the first revision
    with pytest.raises(TallystickError):
        empty.upgrade()
    with engine.connect() as connection:
        assert sorted(sa.inspect(connection).get_table_names()) == ["audit_head"]


@pytest.mark.parametrize("revision", ["0000", "9999"])
def test_another_schema_version_is_refused_and_named(shop: Shop, revision: str) -> None:
    with shop.office.database._engine.connect() as connection, connection.begin():
        connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{revision}'")
    with pytest.raises(TallystickError, match=revision) as refusal:
        shop.open()
    assert (refusal.value.code, refusal.value.remedy) == ("schema_version", CODES["schema_version"].remedy)
    with pytest.raises(TallystickError, match="newer") as refusal:
        upgrade(shop.home)
    assert refusal.value.code == "schema_version"


def test_an_upgrade_of_a_current_database_changes_nothing(shop: Shop) -> None:
    done = upgrade(shop.home)
    assert (done.before, done.after) == (REVISION, REVISION)


# ------------------------------------------------------------------------------------------------------- constraints


def violated(shop: Shop, statement: sa.Executable) -> str:
    """The code of what the database says to a statement."""
    with pytest.raises(TallystickError) as refusal:
        shop.office.write(lambda work: work.db.execute(statement))
    return refusal.value.code


def test_the_database_itself_refuses_to_sell_more_than_was_bought(shop: Shop) -> None:
    sold = shop.entitle(quantity=2)
    for taken in (3, -1):
        assert violated(shop, ENTITLEMENT.update().values(taken=taken)) == "not_conserved"
    assert violated(shop, ENTITLEMENT.update().values(quantity=0)) == "not_conserved"
    for _ in range(2):
        device = Device()
        asked = device.request(code=sold.code.reveal(), product="", quantity=1, accounts=())
        issue(shop.office, asked.sign(device.identity))
    assert violated(shop, LICENSE.update().values(slot=1)) == "not_conserved"  # two licenses, one slot
    thumbprint = Device().thumbprint
    assert violated(shop, LICENSE.update().values(container=thumbprint)) == "not_conserved"  # no such container
    assert violated(shop, LICENSE.update().values(freed_at=5)) == "not_conserved"  # by what?
    assert violated(shop, SLOT.delete()) == "not_conserved"


def test_the_database_itself_refuses_a_second_answer_to_a_request(shop: Shop) -> None:
    device = Device()
    issue(shop.office, device.request(code="", product="").sign(device.identity))
    copy = REQUEST.insert().from_select(REQUEST.c.keys(), sa.select(REQUEST))
    assert violated(shop, copy) == "not_conserved"


# ------------------------------------------------------------------------------------------------------------- trouble


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("", "usage"),
        ("nonsense", "usage"),
        ("mysql://x/y", "usage"),
        ("postgresql://host:port/x", "usage"),
        ("postgresql://nobody@/nowhere?host=/nonexistent", "io_error"),
        ("sqlite:////nonexistent/folder/vendor.db", "no_permission"),
    ],
)
def test_a_database_that_cannot_be_used_is_one_clear_refusal(tmp_path: Path, url: str, code: str) -> None:
    with pytest.raises(TallystickError) as refusal:
        found(tmp_path / "v", Plan("acme", database_url=url))
    assert refusal.value.code == code
    assert not (tmp_path / "v" / "database.url").exists()


def test_a_password_in_a_url_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(TallystickError) as refusal:
        found(tmp_path / "v", Plan("acme", database_url="postgresql://u:hunter2@/x?host=/nonexistent"))
    assert "hunter2" not in f"{refusal.value} {refusal.value.remedy} {refusal.value.details}"


def test_a_file_that_is_no_database_is_one_clear_refusal(sqlite_shop: Shop) -> None:
    sqlite_shop.office.close()
    for name in ("vendor.db-wal", "vendor.db-shm"):
        (sqlite_shop.home / name).unlink(missing_ok=True)
    (sqlite_shop.home / "vendor.db").write_bytes(b"not a database" * 1000)
    with pytest.raises(TallystickError) as refusal:
        sqlite_shop.open()
    assert refusal.value.code == "io_error"


def test_a_writer_waits_for_the_lock_and_gives_up_with_a_name(
    sqlite_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_S", 0.05)
    with sqlite_shop.open() as impatient:
        engine = sqlite_shop.office.database._engine
        with engine.connect().execution_options(tallystick_mode="write") as connection, connection.begin():
            with pytest.raises(TallystickError) as refusal:
                impatient.write(lambda work: work.new_id())
    assert refusal.value.code == "busy"


def test_what_collided_is_tried_again_and_then_given_up(sqlite_shop: Shop) -> None:
    class CollisionError(Exception):
        sqlstate = "40001"

    pauses: list[float] = []
    calls: list[int] = []
    tried = Database(sqlite_shop.office.home.database_url(), pause=pauses.append)

    def collide(times: int) -> Any:
        def work(_connection: sa.Connection) -> str:
            calls.append(1)
            if len(calls) <= times:
                raise sa.exc.OperationalError("x", {}, CollisionError("could not serialize"))
            return "done"

        return work

    assert tried.write(collide(3)) == "done"
    assert len(pauses) == 3
    calls.clear()
    with pytest.raises(TallystickError):
        tried.write(collide(1000))
    assert len(calls) == database.ATTEMPTS
    tried.close()


# --------------------------------------------------------------------------------------------------------- the folder


def test_everything_in_the_folder_is_its_owners_alone(sqlite_shop: Shop) -> None:
    for path in (sqlite_shop.home, *sqlite_shop.home.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode & 0o077 == 0, (path, oct(mode))
    assert {"vendor.db", "pepper", "root.key", "keys"} <= {path.name for path in sqlite_shop.home.iterdir()}


@pytest.mark.parametrize("name", ["pepper", "keys/license-1.p8", "vendor.db"])
def test_a_secret_that_others_may_read_is_not_used(sqlite_shop: Shop, name: str) -> None:
    (sqlite_shop.home / name).chmod(0o644)
    with pytest.raises(TallystickError) as refusal, sqlite_shop.open() as office:
        office.unlock("license")
    assert (refusal.value.code, "chmod go= " in refusal.value.remedy) == ("unsafe_path", True)


def test_without_its_pepper_a_vendor_does_not_open(sqlite_shop: Shop) -> None:
    pepper = sqlite_shop.home / "pepper"
    pepper.write_bytes(bytes(32))
    with pytest.raises(TallystickError, match="not this vendor's") as refusal:
        sqlite_shop.open()
    assert refusal.value.code == "key_missing"
    pepper.unlink()
    with pytest.raises(TallystickError) as refusal:
        sqlite_shop.open()
    assert refusal.value.code == "key_missing"


def test_a_folder_without_a_vendor_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(TallystickError) as refusal:
        Office.open(tmp_path / "nothing")
    assert (refusal.value.code, "init" in refusal.value.remedy) == ("record_not_found", True)


# ------------------------------------------------------------------------------------------------------------ founding


def test_a_second_vendor_does_not_move_in(shop: Shop) -> None:
    with pytest.raises(TallystickError, match="acme lives in") as refusal:
        found(shop.home, Plan("rival"))
    assert refusal.value.code == "record_exists"
    with shop.open() as office:
        assert office.vendor == "acme"


@pytest.mark.parametrize("name", ["", "a b", "ä", "x" * 65, "a/b"])
def test_a_vendors_name_looks_the_same_everywhere(tmp_path: Path, name: str) -> None:
    with pytest.raises(TallystickError) as refusal:
        found(tmp_path / "v", Plan(name))
    assert refusal.value.code == "usage"
    assert not (tmp_path / "v").exists()


def test_an_interrupted_founding_is_finished_by_repeating_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tallystick.authority import audit

    def cut(*_: object) -> None:
        raise OSError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(audit, "start", cut)
        with pytest.raises(OSError, match="power cut"):
            found(tmp_path / "v", Plan("acme"))
    root = (tmp_path / "v" / "root.key").read_bytes()
    with pytest.raises(TallystickError):
        Office.open(tmp_path / "v")
    made = found(tmp_path / "v", Plan("acme"))
    assert (tmp_path / "v" / "root.key").read_bytes() == root
    with Office.open(tmp_path / "v") as office:
        assert office.trust.to_text() == made.trust


def test_a_folder_belongs_to_one_database(tmp_path: Path, postgres_database: str) -> None:
    home = tmp_path / "v"
    found(home, Plan("acme", database_url=postgres_database))
    assert (home / "database.url").stat().st_mode & 0o777 == 0o600
    assert not (home / "vendor.db").exists()
    with pytest.raises(TallystickError, match="another database"):
        found(home, Plan("acme", database_url=f"sqlite:///{tmp_path}/x.db"))


def test_a_damaged_file_of_the_database_is_one_clear_refusal(sqlite_shop: Shop) -> None:
    sqlite_shop.office.close()
    path = sqlite_shop.home / "database.url"
    path.touch(0o600)
    path.write_bytes(b"postgre\xff\xfe")
    with pytest.raises(TallystickError) as refusal:
        sqlite_shop.open()
    assert refusal.value.code == "usage"
