# SPDX-License-Identifier: Apache-2.0
"""Revision 0007: how the ids of each container's last messages begin."""

from __future__ import annotations

from typing import Final

from tallystick.authority.alembic_door import op
from tallystick.authority.sql import sa

revision: Final = "0007"
down_revision: Final = "0006"


def upgrade() -> None:
    """Add the column; of containers on the books nothing is known until they write again."""
    op.add_column("container", sa.Column("last_ids", sa.LargeBinary, nullable=True))
