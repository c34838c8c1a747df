# SPDX-License-Identifier: Apache-2.0
"""The kinds of columns there are: byte strings, texts and whole numbers, never null unless said. One metadata.

A table that two subjects have alike is described here, too.
"""

from __future__ import annotations

from typing import Final

from tallystick.authority.sql import sa

META: Final = sa.MetaData()


def binary(name: str, *more: sa.schema.SchemaItem, key: bool = False, null: bool = False) -> sa.Column[bytes]:
    """Describe a column of byte strings."""
    return sa.Column(name, sa.LargeBinary, *more, primary_key=key, nullable=null)


def text(name: str, *more: sa.schema.SchemaItem, key: bool = False, null: bool = False) -> sa.Column[str]:
    """Describe a column of texts."""
    return sa.Column(name, sa.Text, *more, primary_key=key, nullable=null)


def number(name: str, *more: sa.schema.SchemaItem, key: bool = False, null: bool = False) -> sa.Column[int]:
    """Describe a column of integers of 64 bits."""
    return sa.Column(name, sa.BigInteger, *more, primary_key=key, nullable=null, autoincrement=False)


def pins(name: str) -> sa.Table:
    """Describe a table of certificates and revocation lists that a vendor believes."""
    kinds = sa.CheckConstraint("kind IN ('root', 'intermediate', 'crl')", name=f"ck_{name}_kind")
    return sa.Table(
        name, META, binary("id", key=True), text("kind"), text("subject"), binary("der"), number("added_at"), kinds
    )
