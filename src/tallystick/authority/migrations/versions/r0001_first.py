# SPDX-License-Identifier: Apache-2.0
"""Revision 0001: the first schema."""

from __future__ import annotations

from typing import Any, Final

from tallystick.authority.alembic_door import context, op
from tallystick.authority.sql import sa

revision: Final = "0001"
down_revision: Final = None

_ACTIVE: Final = sa.text("freed_at IS NULL")

# The log is added to, never changed. Whoever owns the database can drop the triggers: the hash chain is what proves.
_APPEND_ONLY: Final = {
    "sqlite": (
        "CREATE TRIGGER audit_log_{action} BEFORE {action} ON audit_log "
        "BEGIN SELECT RAISE(ABORT, 'the audit log is only added to'); END",
    ),
    "postgresql": (
        "CREATE OR REPLACE FUNCTION audit_log_refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'the audit log is only added to'; END $$",
        "CREATE TRIGGER audit_log_{action} BEFORE {action} ON audit_log "
        "FOR EACH ROW EXECUTE FUNCTION audit_log_refuse()",
    ),
}


def _bytes(name: str, *more: sa.schema.SchemaItem, key: bool = False, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.LargeBinary, *more, primary_key=key, nullable=null)


def _text(name: str, *more: sa.schema.SchemaItem, key: bool = False, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Text, *more, primary_key=key, nullable=null)


def _number(name: str, *more: sa.schema.SchemaItem, key: bool = False, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger, *more, primary_key=key, nullable=null, autoincrement=False)


def upgrade() -> None:
    """Create every table."""
    _vendor()
    _catalog()
    _sold()
    _issued()
    _exchanged()
    _audit()


def _vendor() -> None:
    op.create_table(
        "vendor",
        _number("id", key=True),
        _text("name"),
        _bytes("root"),
        _bytes("pepper_check"),
        _bytes("keyset"),
        _number("keyset_seq"),
        _number("created_at"),
        sa.CheckConstraint("id = 1", name="ck_vendor_one"),
    )
    op.create_table(
        "signing_key",
        _bytes("thumbprint", key=True),
        _text("use"),
        _bytes("public"),
        _text("uri"),
        _text("state"),
        _number("created_at"),
        _number("not_after", null=True),
        sa.CheckConstraint("state IN ('active', 'retired', 'revoked')", name="ck_signing_key_state"),
        sa.CheckConstraint("use IN ('license', 'status', 'time', 'receipt')", name="ck_signing_key_use"),
    )
    _unique_where("uq_signing_key_active", "signing_key", ["use"], sa.text("state = 'active'"))


def _catalog() -> None:
    op.create_table("product", _text("id", key=True), _text("title"), _number("created_at"))
    op.create_table(
        "feature",
        _text("product", sa.ForeignKey("product.id"), key=True),
        _text("name", key=True),
        _number("created_at"),
    )
    op.create_table(
        "content_key",
        _text("product", sa.ForeignKey("product.id"), key=True),
        _text("name", key=True),
        _text("feature"),
        _bytes("sealed"),
        _number("created_at"),
    )
    op.create_table(
        "template",
        _text("name", key=True),
        _text("product", sa.ForeignKey("product.id")),
        _bytes("offer"),
        _number("created_at"),
    )


def _sold() -> None:
    op.create_table(
        "entitlement",
        _text("id", key=True),
        _text("product", sa.ForeignKey("product.id")),
        _text("template"),
        _bytes("offer"),
        _number("quantity"),
        _number("taken"),
        _text("customer"),
        _text("licensee"),
        _text("reference"),
        _number("selector"),
        _bytes("verifier"),
        _number("status"),
        _text("reason"),
        _number("created_at"),
        sa.CheckConstraint("quantity > 0", name="ck_entitlement_quantity"),
        sa.CheckConstraint("taken >= 0 AND taken <= quantity", name="ck_entitlement_taken"),
        sa.CheckConstraint("status IN (0, 1, 2)", name="ck_entitlement_status"),
    )
    op.create_index("uq_entitlement_selector", "entitlement", ["selector"], unique=True)
    op.create_table(
        "slot",
        _text("entitlement", sa.ForeignKey("entitlement.id"), key=True),
        _number("number", key=True),
        _bytes("offer"),
        _text("used"),
        _text("first_use"),
        sa.CheckConstraint("number >= 1", name="ck_slot_number"),
    )


def _issued() -> None:
    op.create_table(
        "container",
        _bytes("thumbprint", key=True),
        _bytes("identity"),
        _bytes("agreement", null=True),
        _text("backend"),
        _number("level"),
        _text("software"),
        _text("variables"),
        _number("generation"),
        _number("reported_at"),
        _number("first_seen"),
        _number("last_seen"),
    )
    op.create_table(
        "license",
        _bytes("id", key=True),
        _text("entitlement"),
        _number("slot"),
        _bytes("container", sa.ForeignKey("container.thumbprint")),
        _number("ordinal"),
        _bytes("offer"),
        _number("seq"),
        _bytes("message"),
        _bytes("agreement", null=True),
        _number("status"),
        _text("reason"),
        _number("issued_at"),
        _number("installed_at", null=True),
        _text("used"),
        _text("first_use"),
        _number("freed_at", null=True),
        _text("freed_by"),
        sa.ForeignKeyConstraint(["entitlement", "slot"], ["slot.entitlement", "slot.number"]),
        sa.CheckConstraint("status IN (0, 1, 2)", name="ck_license_status"),
        sa.CheckConstraint("freed_by IN ('', 'receipt', 'release')", name="ck_license_freed_by"),
        sa.CheckConstraint("(freed_at IS NULL) = (freed_by = '')", name="ck_license_freed"),
    )
    _unique_where("uq_license_slot", "license", ["entitlement", "slot"], _ACTIVE)
    _unique_where("uq_license_container", "license", ["entitlement", "container", "ordinal"], _ACTIVE)
    op.create_index("ix_license_container", "license", ["container"])


def _exchanged() -> None:
    op.create_table(
        "outbox",
        _bytes("id", key=True),
        _bytes("container"),
        _text("kind"),
        _bytes("body"),
        _text("content"),
        _number("sent_at"),
        sa.CheckConstraint("kind IN ('update', 'refusal')", name="ck_outbox_kind"),
    )
    op.create_index("ix_outbox_container", "outbox", ["container"])
    op.create_table(
        "request",
        _bytes("container", key=True),
        _bytes("id", key=True),
        _bytes("digest"),
        _number("action"),
        _text("entitlement"),
        _bytes("answer", sa.ForeignKey("outbox.id")),
        _number("received_at"),
    )
    op.create_table(
        "receipt",
        _bytes("container", sa.ForeignKey("container.thumbprint"), key=True),
        _bytes("id", key=True),
        _bytes("body"),
        _number("purpose"),
        _text("content"),
        _number("received_at"),
    )
    op.create_table(
        "repair_case",
        _text("id", key=True),
        _bytes("digest"),
        _bytes("container"),
        _text("reason"),
        _bytes("body"),
        _number("reported_at"),
        sa.UniqueConstraint("digest", name="uq_repair_case_digest"),
    )


def _audit() -> None:
    op.create_table(
        "audit_log",
        _number("seq", key=True),
        _number("at"),
        _text("actor"),
        _text("action"),
        _text("subject"),
        _text("payload"),
        _bytes("previous"),
        _bytes("hash"),
    )
    op.create_table(
        "audit_head",
        _number("id", key=True),
        _number("length"),
        _bytes("hash"),
        sa.CheckConstraint("id = 1", name="ck_audit_head_one"),
    )
    for statement in _APPEND_ONLY.get(context.get_context().dialect.name, ()):
        for action in ("UPDATE", "DELETE"):
            op.execute(statement.format(action=action))


def _unique_where(name: str, table: str, columns: list[str], where: sa.TextClause) -> None:
    op.create_index(name, table, columns, unique=True, sqlite_where=where, postgresql_where=where)
