# SPDX-License-Identifier: Apache-2.0
"""The tables. Instants are seconds since 1970; ids and keys are byte strings; ``json`` columns hold canonical JSON
text.

What must never be violated stands in the database, not only in the code: an entitlement never has more activations
taken than bought, a slot has at most one active license, a container at most one active license for each ordinal of an
entitlement, a request of a container one answer. A template's or an entitlement's *offer* is the encoded
`offers.Offer`.

Migrations make the tables; these descriptions of them do not. Conditions of indexes are therefore named for SQLite
alone: to name them for PostgreSQL here would load its dialect into every process that never talks to one. What is known
of TPMs stands in `schema_tpm` and `schema_meter`, of YubiKeys in `schema_piv`.
"""

from __future__ import annotations

from typing import Final

from tallystick.authority.columns import META, binary, number, text
from tallystick.authority.sql import sa

REVISION: Final = "0007"  # of the newest migration; checked against the database each time it is opened

_ACTIVE: Final = sa.text("freed_at IS NULL")

VENDOR: Final = sa.Table(
    "vendor",
    META,
    number("id", key=True),
    text("name"),
    binary("root"),
    binary("pepper_check"),
    binary("keyset"),
    number("keyset_seq"),
    number("created_at"),
    sa.CheckConstraint("id = 1", name="ck_vendor_one"),
)

SIGNING_KEY: Final = sa.Table(
    "signing_key",
    META,
    binary("thumbprint", key=True),
    text("use"),
    binary("public"),
    text("uri"),
    text("state"),
    number("created_at"),
    number("not_after", null=True),
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
    text("name", key=True),
    binary("public"),
    number("level"),
    number("added_at"),
    sa.CheckConstraint("level IN (2, 3)", name="ck_factory_level"),
)

PRODUCT: Final = sa.Table("product", META, text("id", key=True), text("title"), number("created_at"))

FEATURE: Final = sa.Table(
    "feature",
    META,
    text("product", sa.ForeignKey("product.id"), key=True),
    text("name", key=True),
    number("created_at"),
)

CONTENT_KEY: Final = sa.Table(
    "content_key",
    META,
    text("product", sa.ForeignKey("product.id"), key=True),
    text("name", key=True),
    text("feature"),
    binary("sealed"),
    number("created_at"),
)

TEMPLATE: Final = sa.Table(
    "template",
    META,
    text("name", key=True),
    text("product", sa.ForeignKey("product.id")),
    binary("offer"),
    number("created_at"),
)

ENTITLEMENT: Final = sa.Table(
    "entitlement",
    META,
    text("id", key=True),
    text("product", sa.ForeignKey("product.id")),
    text("template"),
    binary("offer"),
    number("quantity"),
    number("taken"),
    text("customer"),
    text("licensee"),
    text("reference"),
    number("selector"),
    binary("verifier"),
    number("status"),
    text("reason"),
    number("created_at"),
    sa.CheckConstraint("quantity > 0", name="ck_entitlement_quantity"),
    sa.CheckConstraint("taken >= 0 AND taken <= quantity", name="ck_entitlement_taken"),
    sa.CheckConstraint("status IN (0, 1, 2)", name="ck_entitlement_status"),
    sa.Index("uq_entitlement_selector", "selector", unique=True),
)

SLOT: Final = sa.Table(
    "slot",
    META,
    text("entitlement", sa.ForeignKey("entitlement.id"), key=True),
    number("number", key=True),
    binary("offer"),
    text("used"),
    text("first_use"),
    sa.CheckConstraint("number >= 1", name="ck_slot_number"),
)

CONTAINER: Final = sa.Table(
    "container",
    META,
    binary("thumbprint", key=True),
    binary("identity"),
    binary("agreement", null=True),
    text("backend"),
    number("level"),
    text("software"),
    text("variables"),
    number("generation"),
    number("reported_at"),
    number("first_seen"),
    number("last_seen"),
    binary("last_ids", null=True),
)

LICENSE: Final = sa.Table(
    "license",
    META,
    binary("id", key=True),
    text("entitlement"),
    number("slot"),
    binary("container", sa.ForeignKey("container.thumbprint")),
    number("ordinal"),
    binary("offer"),
    number("seq"),
    binary("message"),
    binary("agreement", null=True),
    number("status"),
    text("reason"),
    number("issued_at"),
    number("installed_at", null=True),
    text("used"),
    text("first_use"),
    number("freed_at", null=True),
    text("freed_by"),
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
    binary("id", key=True),
    binary("container"),
    text("kind"),
    binary("body"),
    text("content"),
    number("sent_at"),
    sa.CheckConstraint("kind IN ('update', 'refusal')", name="ck_outbox_kind"),
    sa.Index("ix_outbox_container", "container"),
)

REQUEST: Final = sa.Table(
    "request",
    META,
    binary("container", key=True),
    binary("id", key=True),
    binary("digest"),
    number("action"),
    text("entitlement"),
    binary("answer", sa.ForeignKey("outbox.id")),
    number("received_at"),
)

RECEIPT: Final = sa.Table(
    "receipt",
    META,
    binary("container", sa.ForeignKey("container.thumbprint"), key=True),
    binary("id", key=True),
    binary("body"),
    number("purpose"),
    text("content"),
    number("received_at"),
)

REPAIR_CASE: Final = sa.Table(
    "repair_case",
    META,
    text("id", key=True),
    binary("digest"),
    binary("container"),
    text("reason"),
    binary("body"),
    number("reported_at"),
    sa.UniqueConstraint("digest", name="uq_repair_case_digest"),
)

EXCHANGE: Final = sa.Table(
    "exchange",
    META,
    binary("container", key=True),
    binary("xid", key=True),
    binary("license"),
    binary("peer"),
    number("outgoing"),
    number("transfer"),
    text("amounts"),
    text("returned"),
    text("used"),
    number("said_at"),
    sa.CheckConstraint("outgoing IN (0, 1) AND transfer IN (0, 1)", name="ck_exchange_flags"),
    sa.Index("ix_exchange_license", "license"),
)

AUDIT_LOG: Final = sa.Table(
    "audit_log",
    META,
    number("seq", key=True),
    number("at"),
    text("actor"),
    text("action"),
    text("subject"),
    text("payload"),
    binary("previous"),
    binary("hash"),
)

AUDIT_HEAD: Final = sa.Table(
    "audit_head",
    META,
    number("id", key=True),
    number("length"),
    binary("hash"),
    sa.CheckConstraint("id = 1", name="ck_audit_head_one"),
)
