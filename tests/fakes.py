# SPDX-License-Identifier: Apache-2.0
"""Stand-ins for the outside world that tests inject: time, here. ``from fakes import FakeClock``."""

from __future__ import annotations

from tallystick.clock import Reading

START = 1_798_761_600  # 2027-01-01T00:00Z, later than any release's BUILD_FLOOR that this version knows


class FakeClock:
    """A machine's clocks, moved by hand; implements `tallystick.clock.Clock`.

    Args:
        wall: seconds since 1970-01-01T00:00Z at the start.
        uptime: seconds since boot at the start.
    """

    def __init__(self, wall: float = START, uptime: float = 1_000) -> None:
        self.wall: float = wall
        self.uptime: float = uptime
        self.boots = 1
        self._monotonic: float = 5_000

    @property
    def boot_id(self) -> str:
        """Names this boot, in the form of the Linux kernel."""
        return f"00000000-0000-4000-8000-{self.boots:012x}"

    def read(self) -> Reading:
        """Look at the wall clock, the uptime and the boot id."""
        return Reading(int(self.wall), int(self.uptime), self.boot_id)

    def monotonic(self) -> float:
        """Seconds on the process's monotonic clock; suspend does not count, as on Linux."""
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Let time pass on every clock."""
        assert seconds >= 0, "time passes forward; a clock is set back by set_wall"
        self.wall += seconds
        self.uptime += seconds
        self._monotonic += seconds

    def suspend(self, seconds: float) -> None:
        """Sleep with the lid closed: wall and uptime go on, the monotonic clock does not."""
        self.wall += seconds
        self.uptime += seconds

    def set_wall(self, wall: float) -> None:
        """Set the wall clock, as its owner can; nothing else moves."""
        self.wall = wall

    def reboot(self, off_s: float = 0, wall: float | None = None) -> None:
        """Start the machine again.

        Args:
            off_s: seconds it was off.
            wall: what its clock says afterwards; the right time if omitted.
        """
        self.wall = self.wall + off_s if wall is None else wall
        self.uptime = 0
        self.boots += 1
