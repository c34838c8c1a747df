# SPDX-License-Identifier: Apache-2.0
"""Names and their keys on one line, to be pinned; and factories, whom a vendor pins for itself and its containers."""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from typing import Any, Final, Self

from tallystick.codec.keys import PublicKey
from tallystick.errors import FormatError, VerificationError, error
from tallystick.license.schema import Field, Table, name, nested, one_of
from tallystick.record import Record

FACTORY_PREFIX: Final = "tallyfactory"
KEY_STAYS, ACCOUNT_STAYS = 2, 3  # assurance levels, see docs/threat-model.md


def pin_text(prefix: str, named: str, key: PublicKey) -> str:
    """Write a name and its key on one line, to be pinned.

    Args:
        prefix: says what is pinned.
        named: the name.
        key: the key.

    Returns:
        ``PREFIX:NAME:BASE64URL``.
    """
    encoded = binascii.b2a_base64(key.cose, newline=False).decode().rstrip("=")
    return f"{prefix}:{named}:{encoded.replace('+', '-').replace('/', '_')}"


def read_pin(prefix: str, line: str, what: str, whose: str) -> tuple[str, PublicKey]:
    """Read a line of `pin_text`.

    Args:
        prefix: what must be pinned.
        line: the line, white space around it ignored.
        what: it is called.
        whose: it is, for the remedy.

    Returns:
        The name and the key.

    Raises:
        UsageError: ``usage`` where the line is not that.
    """
    match line.strip().split(":"):
        case [found, named, encoded] if found == prefix:
            pass
        case _:
            raise error("usage", f"not a {what}", f"It is one line, `{prefix}:NAME:...`, from the {whose}.")
    try:
        padded = encoded.replace("-", "+").replace("_", "/") + "=" * (-len(encoded) % 4)
        raw = binascii.a2b_base64(padded, strict_mode=True)
        return name(named), PublicKey.from_cose(raw)
    except (ValueError, FormatError, VerificationError) as cause:
        raise error("usage", f"the {what} is damaged", "Copy the whole line again.") from cause


class Factory(Record):
    """A pinned factory of devices.

    Attributes:
        name: of the factory; its certificates carry it as `iss`.
        key: its public key.
    """

    name: str
    key: PublicKey

    @classmethod
    def from_text(cls, line: str) -> Self:
        """Read the line that pins a factory.

        Args:
            line: ``tallyfactory:NAME:BASE64URL``, white space around it ignored.

        Returns:
            The factory.

        Raises:
            UsageError: ``usage`` where the line is not that.
        """
        return cls(*read_pin(FACTORY_PREFIX, line, "factory text", "factory"))

    def to_text(self) -> str:
        """Return the line that pins it."""
        return pin_text(FACTORY_PREFIX, self.name, self.key)


class Believed(Record):
    """A factory in a key set: its vendor's containers believe it so far.

    Attributes:
        name, key: the factory's.
        level: KEY_STAYS or ACCOUNT_STAYS, the highest level its certificates prove.
    """

    name: str
    key: PublicKey
    level: int

    def to_map(self) -> dict[int, Any]:
        """Return the encoded form."""
        return BELIEVED.write(self)


BELIEVED: Final = Table(
    "factory",
    Field("name", 1, name, True),
    Field("key", 2, nested(PublicKey.from_cose), True),
    Field("level", 3, one_of(KEY_STAYS, ACCOUNT_STAYS), True),
)


def believed(claims: Mapping[int, Any]) -> Believed:
    """Read the encoded form.

    Raises:
        FormatError: ``malformed``, ``unsupported_version``.
        VerificationError: ``bad_key``.
    """
    return Believed(**BELIEVED.read(claims))
