# SPDX-License-Identifier: Apache-2.0
"""The kinds of columns there are: byte strings, texts and whole numbers, never null unless said. One metadata."""

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
