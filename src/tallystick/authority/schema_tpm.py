# SPDX-License-Identifier: Apache-2.0
"""The tables of what is believed of TPMs and known of the containers in them, and the vendor's settings.

An endorsement key identifies a computer for ever, so `attested` has only a digest of it that means nothing without the
vendor's pepper; its certificate is kept where the vendor's settings say so.
"""

from __future__ import annotations

from typing import Final

from tallystick.authority.columns import META, binary, number, pins, text
from tallystick.authority.sql import sa

TPM_ROOT: Final = pins("tpm_root")

TPM_ADVISORY: Final = sa.Table(
    "tpm_advisory",
    META,
    number("id", key=True),
    text("manufacturer"),
    text("from_version"),
    text("to_version"),
    number("max_level"),
    text("reason"),
    number("added_at"),
    sa.CheckConstraint("max_level IN (0, 1, 2)", name="ck_tpm_advisory_level"),
)

ATTESTED: Final = sa.Table(
    "attested",
    META,
    binary("container", key=True),
    number("level"),
    binary("ek_digest"),
    text("manufacturer"),
    text("model"),
    text("firmware"),
    number("counter"),
    binary("chain", null=True),
    number("clock"),
    number("resets"),
    number("restarts"),
    number("generation"),
    number("made_at"),
    number("seen_at"),
    binary("ek_certificate", null=True),
    number("rewound_at", null=True),
    text("reason"),
    sa.CheckConstraint("level IN (0, 1, 2, 3)", name="ck_attested_level"),
    sa.CheckConstraint("(rewound_at IS NULL) = (reason = '')", name="ck_attested_rewound"),
)

SETTING: Final = sa.Table("setting", META, text("name", key=True), text("value"))

RESYNC: Final = sa.Table(
    "resync",
    META,
    binary("container", key=True),
    binary("request", key=True),
    number("counter"),
    binary("digest"),
    number("granted_at"),
)
