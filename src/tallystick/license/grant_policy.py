# SPDX-License-Identifier: Apache-2.0
"""Whether and how a license may be lent or transferred: terms of the license, and of the container's administrator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from tallystick.license.schema import MAX_TIME, MAX_UNITS, Field, Table, array, octets, uint
from tallystick.record import Record

if TYPE_CHECKING:
    from tallystick.license.model import License

MAX_LEVEL: Final = 3
SEATS: Final = "*seats"  # the counter of seats; no feature can have this name: "*" is not a name symbol
MAX_DEPTH: Final = 4  # grants in a row; then an issuer must be asked
TOLERANCE_S: Final = (
    300  # the clocks of two computers; the receiver stops so much early, the giver waits so much longer
)
# What a grant policy may allow, besides the grant itself.
MAY_RETURN, MAY_RECALL, MAY_EXTEND, MAY_PULL, MAY_PUSH = 1, 2, 4, 8, 16
MAY_ALL: Final = 31


class GrantPolicy(Record):
    """Whether and how a license may be lent, or transferred.

    Attributes:
        allowed: sum of ``MAY_...`` bits; the policy's presence allows the grant itself.
        max_duration: longest loan in seconds; None for a transfer, or no limit.
        max_depth: how many times a granted part may be granted on; 0 = by the first container only.
        min_level: lowest assurance level of the receiver.
        low_water: seats (or units, where there are no seats) that always stay with the giver.
        max_per_receiver: most seats or units one receiver may hold.
        receivers: thumbprints of the only receivers; empty for any.
    """

    allowed: int = 0
    max_duration: int | None = None
    max_depth: int = 0
    min_level: int = 0
    low_water: int = 0
    max_per_receiver: int | None = None
    receivers: tuple[bytes, ...] = ()

    @classmethod
    def from_map(cls, claims: Mapping[int, Any]) -> GrantPolicy:
        """Read the encoded form.

        Raises:
            FormatError: ``malformed`` or ``unsupported_version``.
        """
        return cls.of(GRANT_POLICY.read(claims))

    def to_map(self) -> dict[int, Any]:
        """Return the encoded form."""
        return GRANT_POLICY.write(self)


GRANT_POLICY: Final = Table(
    "grant policy",
    Field("allowed", 1, uint(MAY_ALL), True),
    Field("max_duration", 2, uint(MAX_TIME)),
    Field("max_depth", 3, uint(15)),
    Field("min_level", 4, uint(MAX_LEVEL)),
    Field("low_water", 5, uint(MAX_UNITS)),
    Field("max_per_receiver", 6, uint(MAX_UNITS)),
    Field("receivers", 7, array(octets(32, 32), 64)),
)


def policy_of(license_: License, ends: int | None) -> GrantPolicy | None:
    """Return the terms that govern a loan (``ends``) or a transfer (None).

    A license whose units a TPM counts stays where that TPM is: what a giver says of them is not what was counted.
    """
    if license_.meter is not None:
        return None
    return license_.terms.transfer if ends is None else license_.terms.lend


def held(license_: License, counter: str) -> int | None:
    """Tell how much of a counter a license gives; None where it has no such counter.

    A license without a number of seats counts as one: to give that one away is to give the right to run.
    """
    if counter == SEATS:
        return 1 if license_.terms.seats is None else license_.terms.seats
    counted: Any = license_.features.get(counter) if counter else license_.terms
    return None if counted is None else counted.units
