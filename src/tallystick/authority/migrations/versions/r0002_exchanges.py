# SPDX-License-Identifier: Apache-2.0
"""Revision 0002: loans and transfers between containers, as they report them."""

from __future__ import annotations

from typing import Final

from tallystick.authority.alembic_door import op
from tallystick.authority.sql import sa

revision: Final = "0002"
down_revision: Final = "0001"


def upgrade() -> None:
    """Create the table of exchanges."""
    op.create_table(
        "exchange",
        sa.Column("container", sa.LargeBinary, primary_key=True, nullable=False),
        sa.Column("xid", sa.LargeBinary, primary_key=True, nullable=False),
        sa.Column("license", sa.LargeBinary, nullable=False),
        sa.Column("peer", sa.LargeBinary, nullable=False),
        sa.Column("outgoing", sa.BigInteger, nullable=False),
        sa.Column("transfer", sa.BigInteger, nullable=False),
        sa.Column("amounts", sa.Text, nullable=False),
        sa.Column("returned", sa.Text, nullable=False),
        sa.Column("used", sa.Text, nullable=False),
        sa.Column("said_at", sa.BigInteger, nullable=False),
        sa.CheckConstraint("outgoing IN (0, 1) AND transfer IN (0, 1)", name="ck_exchange_flags"),
    )
    op.create_index("ix_exchange_license", "exchange", ["license"])
