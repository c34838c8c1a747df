# SPDX-License-Identifier: Apache-2.0
"""Revision 0006: what is believed of YubiKeys and known of the containers in them."""

from __future__ import annotations

from typing import Final

from tallystick.authority.alembic_door import op
from tallystick.authority.sql import sa

revision: Final = "0006"
down_revision: Final = "0005"


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "piv_root",
        sa.Column("id", sa.LargeBinary, primary_key=True, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("der", sa.LargeBinary, nullable=False),
        sa.Column("added_at", sa.BigInteger, nullable=False),
        sa.CheckConstraint("kind IN ('root', 'intermediate', 'crl')", name="ck_piv_root_kind"),
    )
    op.create_table(
        "piv_key",
        sa.Column("container", sa.LargeBinary, primary_key=True, nullable=False),
        sa.Column("level", sa.BigInteger, nullable=False),
        sa.Column("serial_digest", sa.LargeBinary, nullable=False),
        sa.Column("serial", sa.BigInteger, nullable=True),
        *(
            sa.Column(name, sa.Text, nullable=False)
            for name in ("slot", "firmware", "pin_policy", "touch_policy", "form_factor")
        ),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("fips", "seen_at")),
        sa.CheckConstraint("level IN (0, 1, 2)", name="ck_piv_key_level"),
        sa.CheckConstraint("fips IN (0, 1)", name="ck_piv_key_fips"),
    )
