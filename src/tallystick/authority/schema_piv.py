# SPDX-License-Identifier: Apache-2.0
"""The tables of what is believed of YubiKeys and known of the containers in them.

A serial number identifies a token, and with it a person, for ever: `piv_key` has a digest of it that means nothing
without the vendor's pepper, and the number itself only where the vendor's settings say so.
"""

from __future__ import annotations

from typing import Final

from tallystick.authority.columns import META, binary, number, pins, text
from tallystick.authority.sql import sa

PIV_ROOT: Final = pins("piv_root")

PIV_KEY: Final = sa.Table(
    "piv_key",
    META,
    binary("container", key=True),
    number("level"),
    binary("serial_digest"),
    number("serial", null=True),
    text("slot"),
    text("firmware"),
    text("pin_policy"),
    text("touch_policy"),
    text("form_factor"),
    number("fips"),
    number("seen_at"),
    sa.CheckConstraint("level IN (0, 1, 2)", name="ck_piv_key_level"),
    sa.CheckConstraint("fips IN (0, 1)", name="ck_piv_key_fips"),
)
