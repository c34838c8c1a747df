# SPDX-License-Identifier: Apache-2.0
"""The table of meters: counters of TPMs that count the units of licenses."""

from __future__ import annotations

from typing import Final

from tallystick.authority.columns import META, binary, number
from tallystick.authority.sql import sa

METER: Final = sa.Table(
    "meter",
    META,
    binary("license", key=True),
    binary("container"),
    binary("key"),
    binary("counter"),
    number("ceiling"),
    number("granted"),
    number("value"),
    number("seen_at"),
    sa.UniqueConstraint("counter", name="uq_meter_counter"),
)
