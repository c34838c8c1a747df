# SPDX-License-Identifier: Apache-2.0
"""What one container asks of another, inside a request: a loan or a transfer, of how much of what.

A request for one grant is a *pull*. With `count` above 1, or without naming a license, it is a *standing invitation*:
whoever holds it may give, each grant is one of the count.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tallystick.license.schema import MAX_TIME, MAX_UNITS, Field, Table, array, flag, mapping, name, octets, text, uint
from tallystick.record import Record

MAX_COUNT: Final = 1000
MAX_COUNTERS: Final = 257  # every feature's, and the license's own
AMOUNTS: Final = mapping(text(64), uint(MAX_UNITS), MAX_COUNTERS)


class Want(Record):
    """What is asked.

    Attributes:
        product: product id; empty for anything.
        license_id: of which license, where the asker knows.
        amounts: how much, by counter; empty leaves it to the giver.
        features: only these; None for all.
        duration: of a loan, in seconds; None where `transfer` or where the giver decides.
        transfer: for good.
        count: how many grants may answer.
        lender: thumbprint of the only container asked; None for any.
    """

    product: str = ""
    license_id: bytes | None = None
    amounts: Mapping[str, int] = {}
    features: tuple[str, ...] | None = None
    duration: int | None = None
    transfer: bool = False
    count: int = 1
    lender: bytes | None = None

    @classmethod
    def from_map(cls, claims: Mapping[int, Any]) -> Want:
        """Read the encoded form.

        Raises:
            FormatError: ``malformed`` or ``unsupported_version``.
        """
        return cls.of(WANT.read(claims))

    def to_map(self) -> dict[int, Any]:
        """Return the encoded form."""
        return WANT.write(self)


WANT: Final = Table(
    "want",
    Field("product", 1, name),
    Field("license_id", 2, octets(16, 16)),
    Field("amounts", 3, AMOUNTS),
    Field("features", 4, array(name, 256)),
    Field("duration", 5, uint(MAX_TIME)),
    Field("transfer", 6, flag),
    Field("count", 7, uint(MAX_COUNT)),
    Field("lender", 8, octets(32, 32)),
)
