# SPDX-License-Identifier: Apache-2.0
"""Revision 0003: factories of devices whose certificates the vendor believes."""

from __future__ import annotations

from typing import Final

from tallystick.authority.alembic_door import op
from tallystick.authority.sql import sa

revision: Final = "0003"
down_revision: Final = "0002"


def upgrade() -> None:
    """Create the table of factories."""
    op.create_table(
        "factory",
        sa.Column("name", sa.Text, primary_key=True, nullable=False),
        sa.Column("public", sa.LargeBinary, nullable=False),
        sa.Column("level", sa.BigInteger, nullable=False),
        sa.Column("added_at", sa.BigInteger, nullable=False),
        sa.CheckConstraint("level IN (2, 3)", name="ck_factory_level"),
    )
