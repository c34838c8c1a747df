# SPDX-License-Identifier: Apache-2.0
"""Waiting for a seat, first come, first served.

A ticket is a file that its owner keeps locked while it waits: if the owner dies, the ticket counts no more. Only the
first tries for a seat; every other one looks at the ticket before its own, which costs one system call, until that is
gone.
"""

from __future__ import annotations

from typing import Final

from tallystick.container.slots_folder import SlotFolder
from tallystick.container.slots_survey import Survey, ticket_number

_SHORTEST_S: Final = 0.0005
_LONGEST_S: Final = 0.01  # for the first
_BEHIND_S: Final = 0.001  # for the second; four times as long for the third, and so on with the square of the place
_FAR_S: Final = 0.25  # for anybody


class Pace:
    """How long to pause before looking again: often for the first, rarely for those far behind."""

    __slots__ = ("_ahead", "_pause", "_since")

    def __init__(self) -> None:
        self._ahead = 0
        self._since = 0.0
        self._pause = 0.0

    def pause(self, ahead: int, now: float) -> float:
        """Return the seconds to pause.

        Args:
            ahead: how many come before.
            now: monotonic clock.
        """
        if not ahead:
            self._pause = _SHORTEST_S if self._ahead else min(max(2 * self._pause, _SHORTEST_S), _LONGEST_S)
            self._ahead = 0
            return self._pause
        if not self._ahead:
            self._ahead, self._since = ahead, now
        moved = self._ahead - ahead
        half = ahead * (now - self._since) / moved / 2 if moved > 0 else 2 * self._pause
        self._pause = min(max(half, _SHORTEST_S), _BEHIND_S * ahead**2, _FAR_S)
        return self._pause


class Ticket:
    """A place in the queue of one license.

    Args:
        folder: entered.
        survey: of the license.
        series: of the mode asked for.
        mark: who waits.
    """

    __slots__ = ("_before", "_fd", "_folder", "file", "number")

    def __init__(self, folder: SlotFolder, survey: Survey, series: str, mark: bytes) -> None:
        name = survey.next_ticket(series)
        self._folder = folder
        self._before = -1
        self._fd = -1
        self.number = ticket_number(name) or 0
        self.file = survey.file(name)
        fd = folder.take(self.file, new=True)
        if fd is not None:
            self._fd = fd
            folder.write(fd, mark)

    def follow(self, file: str) -> None:
        """Watch the ticket before this one; only inside.

        Args:
            file: its whole name; empty for nobody's.
        """
        self._let_go()
        fd = self._folder.open(file) if file else None
        self._before = -1 if fd is None else fd

    def is_next(self) -> bool:
        """Tell whether it is worth trying: nobody is known to come first. Needs no mutex."""
        if self._before >= 0:
            if self._folder.held(self._before):
                return False
            self._let_go()
        return True

    def ahead(self) -> int:
        """Count the tickets before this one, as far as names tell. Needs no mutex."""
        if self._before < 0:
            return 0
        numbers = [ticket_number(name) for name in self._folder.names(self.file.partition(".")[0])]
        return sum(number is not None and number < self.number for number in numbers)

    def close(self) -> None:
        """Leave the queue."""
        self._let_go()
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._folder.remove(self.file)  # first: a name whose lock is free may be somebody else's a moment later
            self._folder.free(fd)

    def forked(self) -> None:
        """Close, in a forked child, what is the parent's: the place in the queue stays with it."""
        for fd in (self._before, self._fd):
            if fd >= 0:
                self._folder.vfs.close(fd)
        self._before = self._fd = -1

    def _let_go(self) -> None:
        fd, self._before = self._before, -1
        if fd >= 0:
            self._folder.vfs.close(fd)
