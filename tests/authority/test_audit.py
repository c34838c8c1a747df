# SPDX-License-Identifier: Apache-2.0
"""Tampering with any row of the audit log is found, and the first bad row is named (rule R79)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sqlalchemy as sa
from shop import Shop

from tallystick.authority.audit import GENESIS, AuditHead, rows, verify
from tallystick.authority.catalog import add_product
from tallystick.authority.schema import AUDIT_HEAD, AUDIT_LOG
from tallystick.errors import TallystickError


def written(shop: Shop, total: int = 9) -> AuditHead:
    """A log of so many rows."""
    present = head(shop).count
    for number in range(present, total):
        add_product(shop.office, f"p{number}")
    return head(shop)


def head(shop: Shop, noted: AuditHead | None = None) -> AuditHead:
    """Verify."""
    return shop.office.read(lambda work: verify(work.db, noted))


def tamper(shop: Shop, *statements: str | sa.Executable) -> None:
    """Change the database as its owner can, past the triggers."""
    engine = shop.office.database._engine
    with engine.connect() as connection, connection.begin():
        if engine.dialect.name == "sqlite":
            for action in ("UPDATE", "DELETE"):
                connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS audit_log_{action}")
        else:
            connection.exec_driver_sql("ALTER TABLE audit_log DISABLE TRIGGER ALL")
        for statement in statements:
            connection.execute(sa.text(statement) if isinstance(statement, str) else statement)


def broken_at(shop: Shop, noted: AuditHead | None = None) -> object:
    """The row that verification names."""
    with pytest.raises(TallystickError) as refusal:
        head(shop, noted)
    assert refusal.value.code == "audit_broken"
    assert f"row {refusal.value.details['row']}" in refusal.value.message
    return refusal.value.details["row"]


def test_a_new_vendors_log_is_whole(shop: Shop) -> None:
    found = written(shop)
    assert found.count == 9
    assert AuditHead.from_text(found.to_text()) == found
    assert head(shop, found) == found


@pytest.mark.parametrize("column", ["at", "actor", "action", "subject", "payload", "previous", "hash"])
@pytest.mark.parametrize("row", [1, 5, 9])
def test_a_changed_value_is_found_at_its_row(sqlite_shop: Shop, row: int, column: str) -> None:
    written(sqlite_shop)
    new: object = {"at": 1, "previous": bytes(range(32)), "hash": bytes(range(32))}.get(column, "x")
    tamper(sqlite_shop, AUDIT_LOG.update().where(AUDIT_LOG.c.seq == row).values({column: new}))
    assert broken_at(sqlite_shop) == row


@pytest.mark.parametrize("row", [1, 5, 9])
def test_a_deleted_row_is_found_the_last_one_too(shop: Shop, row: int) -> None:
    written(shop)
    tamper(shop, f"DELETE FROM audit_log WHERE seq = {row}")
    assert broken_at(shop) == row


def test_a_deleted_row_with_the_others_moved_up_is_found(sqlite_shop: Shop) -> None:
    written(sqlite_shop)
    moves = [f"UPDATE audit_log SET seq = {row - 1} WHERE seq = {row}" for row in range(5, 10)]
    tamper(sqlite_shop, "DELETE FROM audit_log WHERE seq = 4", *moves, "UPDATE audit_head SET length = 8")
    assert broken_at(sqlite_shop) == 4


def test_rows_in_another_order_are_found(sqlite_shop: Shop) -> None:
    written(sqlite_shop)
    tamper(
        sqlite_shop,
        "UPDATE audit_log SET seq = 100 WHERE seq = 4",
        "UPDATE audit_log SET seq = 4 WHERE seq = 5",
        "UPDATE audit_log SET seq = 5 WHERE seq = 100",
    )
    assert broken_at(sqlite_shop) == 4


def test_an_added_row_is_found(sqlite_shop: Shop) -> None:
    written(sqlite_shop)
    copy = "SELECT 10, at, actor, action, subject, payload, hash, hash FROM audit_log WHERE seq = 9"
    tamper(sqlite_shop, f"INSERT INTO audit_log {copy}")
    assert broken_at(sqlite_shop) == 10


def test_a_changed_row_with_its_hash_made_fit_is_found_where_the_chain_breaks(sqlite_shop: Shop) -> None:
    from tallystick.authority import audit

    written(sqlite_shop)
    row = sqlite_shop.office.read(lambda work: rows(work.db))[4]
    before = sqlite_shop.office.read(lambda work: rows(work.db))[3].hash
    forged = audit._digest(row.seq, row.at, "nobody", row.action, row.subject, row.payload, before)
    tamper(sqlite_shop, AUDIT_LOG.update().where(AUDIT_LOG.c.seq == 5).values(actor="nobody", hash=forged))
    assert broken_at(sqlite_shop) == 6


@pytest.mark.parametrize(
    ("forge", "row"),
    [
        (lambda: AUDIT_HEAD.update().values(length=8), 9),
        (lambda: AUDIT_HEAD.update().values(length=11), 10),
        (lambda: AUDIT_HEAD.update().values(hash=GENESIS), 9),
        (AUDIT_HEAD.delete, 9),
    ],
)
def test_a_changed_head_is_found(sqlite_shop: Shop, forge: Callable[[], sa.Executable], row: int) -> None:
    written(sqlite_shop)
    tamper(sqlite_shop, forge())
    with pytest.raises(TallystickError) as refusal:
        head(sqlite_shop)
    assert (refusal.value.code, refusal.value.details["row"]) == ("audit_broken", row)


def test_a_log_rewritten_as_a_whole_does_not_match_a_head_noted_elsewhere(sqlite_shop: Shop) -> None:
    from tallystick.authority import audit

    noted = written(sqlite_shop)
    forged, previous = [], GENESIS
    for row in sqlite_shop.office.read(lambda work: rows(work.db)):
        digest = audit._digest(row.seq, row.at, "nobody", row.action, row.subject, row.payload, previous)
        values = {"actor": "nobody", "previous": previous, "hash": digest}
        forged.append(AUDIT_LOG.update().where(AUDIT_LOG.c.seq == row.seq).values(**values))
        previous = digest
    tamper(sqlite_shop, *forged, AUDIT_HEAD.update().values(hash=previous))
    assert head(sqlite_shop).count == 9  # by itself it looks whole
    assert broken_at(sqlite_shop, noted) == 9
    assert broken_at(sqlite_shop, AuditHead(12, noted.hash)) == 10


def test_a_log_that_grew_still_matches_an_older_head(shop: Shop) -> None:
    noted = written(shop)
    written(shop, 12)
    assert head(shop, noted).count == 12


@pytest.mark.parametrize("statement", ["UPDATE audit_log SET actor = 'x'", "DELETE FROM audit_log"])
def test_the_database_itself_refuses_to_change_the_log(shop: Shop, statement: str) -> None:
    written(shop)
    with pytest.raises(TallystickError):
        shop.office.write(lambda work: work.db.exec_driver_sql(statement))
    assert head(shop).count == 9


def test_a_use_case_that_fails_leaves_no_line(shop: Shop) -> None:
    before = written(shop)
    with pytest.raises(TallystickError):
        add_product(shop.office, "cad")
    assert head(shop) == before


def test_the_log_of_one_record_is_read_newest_last(sqlite_shop: Shop) -> None:
    shop = sqlite_shop
    sold = shop.entitle()
    written(shop, 20)
    found = shop.office.read(lambda work: rows(work.db, sold.entitlement.id))
    assert [row.action for row in found] == ["entitlement.add"]
    assert [row.seq for row in shop.office.read(lambda work: rows(work.db, limit=3))] == [18, 19, 20]


@pytest.mark.parametrize("text", ["", "5", "5:", "x:00", "-1:" + "00" * 32, "5:" + "00" * 31])
def test_what_is_no_head_is_refused(text: str) -> None:
    with pytest.raises(TallystickError) as refusal:
        AuditHead.from_text(text)
    assert refusal.value.code == "usage"
