# SPDX-License-Identifier: Apache-2.0
"""Revision 0004: what is believed of TPMs and known of the containers in them; the vendor's settings."""

from __future__ import annotations

from typing import Any, Final

from tallystick.authority.alembic_door import op
from tallystick.authority.sql import sa

revision: Final = "0004"
down_revision: Final = "0003"


def _bytes(name: str, key: bool = False, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.LargeBinary, primary_key=key, nullable=null)


def _text(name: str, key: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Text, primary_key=key, nullable=False)


def _number(name: str, key: bool = False, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger, primary_key=key, nullable=null, autoincrement=False)


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "tpm_root",
        _bytes("id", key=True),
        _text("kind"),
        _text("subject"),
        _bytes("der"),
        _number("added_at"),
        sa.CheckConstraint("kind IN ('root', 'intermediate', 'crl')", name="ck_tpm_root_kind"),
    )
    op.create_table(
        "tpm_advisory",
        _number("id", key=True),
        _text("manufacturer"),
        _text("from_version"),
        _text("to_version"),
        _number("max_level"),
        _text("reason"),
        _number("added_at"),
        sa.CheckConstraint("max_level IN (0, 1, 2)", name="ck_tpm_advisory_level"),
    )
    _attested()
    op.create_table("setting", _text("name", key=True), _text("value"))
    op.create_table(
        "resync",
        _bytes("container", key=True),
        _bytes("request", key=True),
        _number("counter"),
        _bytes("digest"),
        _number("granted_at"),
    )


def _attested() -> None:
    op.create_table(
        "attested",
        _bytes("container", key=True),
        _number("level"),
        _bytes("ek_digest"),
        _text("manufacturer"),
        _text("model"),
        _text("firmware"),
        _number("counter"),
        _bytes("chain", null=True),
        _number("clock"),
        _number("resets"),
        _number("restarts"),
        _number("generation"),
        _number("made_at"),
        _number("seen_at"),
        _bytes("ek_certificate", null=True),
        _number("rewound_at", null=True),
        _text("reason"),
        sa.CheckConstraint("level IN (0, 1, 2, 3)", name="ck_attested_level"),
        sa.CheckConstraint("(rewound_at IS NULL) = (reason = '')", name="ck_attested_rewound"),
    )
