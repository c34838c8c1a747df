# SPDX-License-Identifier: Apache-2.0
"""The tables. Instants are seconds since 1970; ids and keys are byte strings; ``json`` columns hold canonical JSON
text.

What must never be violated stands in the database, not only in the code: an entitlement never has more activations
taken than bought, a slot has at most one active license, a container at most one active license for each ordinal of an
entitlement, a request of a container one answer. A template's or an entitlement's *offer* is the encoded
`offers.Offer`.

Migrations make the tables; these descriptions of them do not. Conditions of indexes are therefore named for SQLite
alone: to name them for PostgreSQL here would load its dialect into every process that never talks to one.
"""

from __future__ import annotations

from typing import Final

from tallystick.authority.sql import sa

REVISION: Final = "0003"  # of the newest migration; checked against the database each time it is opened

META: Final = sa.MetaData()
_ACTIVE: Final = sa.text("freed_at IS NULL")


def _bytes(name: str, *more: sa.schema.SchemaItem, key: bool = False, null: bool = False) -> sa.Column[bytes]:
    return sa.Column(name, sa.LargeBinary, *more, primary_key=key, nullable=null)


def _text(name: str, *more: sa.schema.SchemaItem, key: bool = False, null: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text, *more, primary_key=key, nullable=null)


def _number(name: str, *more: sa.schema.SchemaItem, key: bool = False, null: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, *more, primary_key=key, nullable=null, autoincrement=False)


VENDOR: Final = sa.Table(
    "vendor",
    META,
    _number("id", key=True),
    _text("name"),
    _bytes("root"),
    _bytes("pepper_check"),
    _bytes("keyset"),
    _number("keyset_seq"),
    _number("created_at"),
    sa.CheckConstraint("id = 1", name="ck_vendor_one"),
)

SIGNING_KEY: Final = sa.Table(
    "signing_key",
    META,
    _bytes("thumbprint", key=True),
    _text("use"),
    _bytes("public"),
    _text("uri"),
    _text("state"),
    _number("created_at"),
    _number("not_after", null=True),
    sa.CheckConstraint("state IN ('active', 'retired', 'revoked')", name="ck_signing_key_state"),
    sa.CheckConstraint("use IN ('license', 'status', 'time', 'receipt')", name="ck_signing_key_use"),
    sa.Index(
        "uq_signing_key_active",
        "use",
        unique=True,
        sqlite_where=sa.text("state = 'active'"),
    ),
)

FACTORY: Final = sa.Table(
    "factory",
    META,
    _text("name", key=True),
    _bytes("public"),
    _number("level"),
    _number("added_at"),
    sa.CheckConstraint("level IN (2, 3)", name="ck_factory_level"),
)

PRODUCT: Final = sa.Table("product", META, _text("id", key=True), _text("title"), _number("created_at"))

FEATURE: Final = sa.Table(
    "feature",
    META,
    _text("product", sa.ForeignKey("product.id"), key=True),
    _text("name", key=True),
    _number("created_at"),
)

CONTENT_KEY: Final = sa.Table(
    "content_key",
    META,
    _text("product", sa.ForeignKey("product.id"), key=True),
    _text("name", key=True),
    _text("feature"),
    _bytes("sealed"),
    _number("created_at"),
)

TEMPLATE: Final = sa.Table(
    "template",
    META,
    _text("name", key=True),
    _text("product", sa.ForeignKey("product.id")),
    _bytes("offer"),
    _number("created_at"),
)

ENTITLEMENT: Final = sa.Table(
    "entitlement",
    META,
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
    sa.Index("uq_entitlement_selector", "selector", unique=True),
)

SLOT: Final = sa.Table(
    "slot",
    META,
    _text("entitlement", sa.ForeignKey("entitlement.id"), key=True),
    _number("number", key=True),
    _bytes("offer"),
    _text("used"),
    _text("first_use"),
    sa.CheckConstraint("number >= 1", name="ck_slot_number"),
)

CONTAINER: Final = sa.Table(
    "container",
    META,
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

LICENSE: Final = sa.Table(
    "license",
    META,
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
    sa.Index("uq_license_slot", "entitlement", "slot", unique=True, sqlite_where=_ACTIVE),
    sa.Index(
        "uq_license_container",
        "entitlement",
        "container",
        "ordinal",
        unique=True,
        sqlite_where=_ACTIVE,
    ),
    sa.Index("ix_license_container", "container"),
)

OUTBOX: Final = sa.Table(
    "outbox",
    META,
    _bytes("id", key=True),
    _bytes("container"),
    _text("kind"),
    _bytes("body"),
    _text("content"),
    _number("sent_at"),
    sa.CheckConstraint("kind IN ('update', 'refusal')", name="ck_outbox_kind"),
    sa.Index("ix_outbox_container", "container"),
)

REQUEST: Final = sa.Table(
    "request",
    META,
    _bytes("container", key=True),
    _bytes("id", key=True),
    _bytes("digest"),
    _number("action"),
    _text("entitlement"),
    _bytes("answer", sa.ForeignKey("outbox.id")),
    _number("received_at"),
)

RECEIPT: Final = sa.Table(
    "receipt",
    META,
    _bytes("container", sa.ForeignKey("container.thumbprint"), key=True),
    _bytes("id", key=True),
    _bytes("body"),
    _number("purpose"),
    _text("content"),
    _number("received_at"),
)

REPAIR_CASE: Final = sa.Table(
    "repair_case",
    META,
    _text("id", key=True),
    _bytes("digest"),
    _bytes("container"),
    _text("reason"),
    _bytes("body"),
    _number("reported_at"),
    sa.UniqueConstraint("digest", name="uq_repair_case_digest"),
)

EXCHANGE: Final = sa.Table(
    "exchange",
    META,
    _bytes("container", key=True),
    _bytes("xid", key=True),
    _bytes("license"),
    _bytes("peer"),
    _number("outgoing"),
    _number("transfer"),
    _text("amounts"),
    _text("returned"),
    _text("used"),
    _number("said_at"),
    sa.CheckConstraint("outgoing IN (0, 1) AND transfer IN (0, 1)", name="ck_exchange_flags"),
    sa.Index("ix_exchange_license", "license"),
)

AUDIT_LOG: Final = sa.Table(
    "audit_log",
    META,
    _number("seq", key=True),
    _number("at"),
    _text("actor"),
    _text("action"),
    _text("subject"),
    _text("payload"),
    _bytes("previous"),
    _bytes("hash"),
)

AUDIT_HEAD: Final = sa.Table(
    "audit_head",
    META,
    _number("id", key=True),
    _number("length"),
    _bytes("hash"),
    sa.CheckConstraint("id = 1", name="ck_audit_head_one"),
)
