# SPDX-License-Identifier: Apache-2.0
"""The table of meters: counters of TPMs that count the units of licenses.

``seen_at`` says when ``value`` was certified; `CLOSED` once the vendor gave the meter up as lost.
"""

from __future__ import annotations

from typing import Final

from tallystick.authority.columns import META, binary, number
from tallystick.authority.sql import sa

CLOSED: Final = 0

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
