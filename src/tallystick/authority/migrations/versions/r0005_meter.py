# SPDX-License-Identifier: Apache-2.0
"""Revision 0005: counters of TPMs that count the units of licenses."""

from __future__ import annotations

from typing import Final

from tallystick.authority.alembic_door import op
from tallystick.authority.sql import sa

revision: Final = "0005"
down_revision: Final = "0004"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "meter",
        sa.Column("license", sa.LargeBinary, primary_key=True, nullable=False),
        *(sa.Column(name, sa.LargeBinary, nullable=False) for name in ("container", "key", "counter")),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("ceiling", "granted", "value", "seen_at")),
        sa.UniqueConstraint("counter", name="uq_meter_counter"),
    )
