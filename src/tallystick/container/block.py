# SPDX-License-Identifier: Apache-2.0
"""A block of units that one process debited ahead and serves from memory."""

from __future__ import annotations

import os
from _thread import allocate_lock


class Block:
    """Units debited ahead, served from memory only; a crash forfeits them, an orderly close gives the rest back.

    Args:
        reservation_id: 16 bytes.
        counter: which counter was debited.
        rest: how many units.
    """

    __slots__ = ("_lock", "_pid", "_rest", "counter", "reservation_id")

    def __init__(self, reservation_id: bytes, counter: str, rest: int) -> None:
        self.reservation_id = reservation_id
        self.counter = counter
        self._rest = rest
        self._lock = allocate_lock()
        self._pid = os.getpid()  # a child made by fork has a copy of these units, and must not serve them again

    def take(self, units: int) -> int | None:
        """Serve units.

        Args:
            units: how many, above 0.

        Returns:
            The rest, or None where this block does not serve them.
        """
        if os.getpid() != self._pid or units <= 0:
            return None
        with self._lock:
            if units > self._rest:
                return None
            self._rest -= units
            return self._rest

    def drain(self) -> int | None:
        """Take what is left, to be given back; None where that is another process's business."""
        if os.getpid() != self._pid:
            return None
        with self._lock:
            rest, self._rest = self._rest, 0
            return rest
