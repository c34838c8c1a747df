# SPDX-License-Identifier: Apache-2.0
"""`SeatHost`: what a seat needs of the container that gave it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from tallystick.license.model import License
from tallystick.license.policy import Facts, Verdict

if TYPE_CHECKING:
    from tallystick.container.seat import Seat


class SeatHost(Protocol):
    """What a seat needs of its container."""

    def monotonic(self) -> float:
        """Seconds on the process's monotonic clock."""

    def decide(self, license_id: bytes, facts: Facts) -> tuple[Verdict, int]:
        """Evaluate now, starting usage periods; returns the verdict and the time used."""

    def proven_until(self) -> float:
        """Prove the container's key if the last proof is too old; returns the monotonic instant it holds to."""

    def consume(self, license_id: bytes, feature: str, units: int, key: bytes) -> int:
        """Use up units, durably; returns what is left, as a `Repeated` where the key was booked before."""

    def release(self, license_id: bytes, reservation_id: bytes, rest: int) -> None:
        """Give the rest of a reserved block back, where there is still something to give it back to."""

    def content_key(self, license_: License, key_id: str) -> bytes:
        """Open a content key of a license."""

    def leave(self, seat: Seat) -> None:
        """Forget a closed seat."""
