# SPDX-License-Identifier: Apache-2.0
"""Which slots of one license are taken, and whether one more may be: looked at and decided under the folder's mutex.

A file of a slot is *taken* while another process or handle has it locked, or while it lingers for another process: one
that ended may come back to its own seat. Looking costs a few system calls for each file, so that nothing is looked at
that the decision does not need: as long as there are no more files than seats, one more program has room.
"""

from __future__ import annotations

from typing import Final

from tallystick.clock import Reading
from tallystick.container.slots_folder import SlotFolder
from tallystick.container.slots_record import Mark
from tallystick.record import Record

USERS, STATION, EXCLUSIVE, UNLIMITED, TICKETS = "u", "s", "x", "n", "t"
_SERIES: Final = (USERS, STATION, EXCLUSIVE, UNLIMITED)
LINGER_KEPT: Final = (USERS, STATION, EXCLUSIVE)  # a program that takes no seat leaves none taken


class Queue(Record):
    """Who comes before somebody that does not wait.

    Attributes:
        waiting: how many; no more are counted than there are seats.
        exclusive: whether somebody waits to have the license to itself.
    """

    waiting: int = 0
    exclusive: bool = False


NO_QUEUE: Final = Queue()


class Survey:
    """One look at a license's slots.

    Args:
        folder: entered.
        license_: license id in hexadecimal.
        part: which part of it the seat is to stand on: empty for the container's own, else the grant's id in
            hexadecimal. A part has seats of its own; who is alone with the license is so with all of it.
        pid: of this process.
        reading: of the clocks, now.
    """

    __slots__ = ("_folder", "_known", "_license", "_names", "_part", "_pid", "_reading")

    def __init__(self, folder: SlotFolder, license_: str, part: str, pid: int, reading: Reading) -> None:
        self._folder = folder
        self._license = license_
        self._part = f"{part}." if part else ""
        self._pid = pid
        self._reading = reading
        self._known: dict[str, Mark | None] = {}
        self._names: dict[tuple[str, str], list[str]] = {}
        for name in folder.names(license_):
            part, dot, slot = name.rpartition(".")
            if _is_slot(slot):
                self._names.setdefault((part + dot, slot[0]), []).append(name)

    def file(self, name: str) -> str:
        """The whole name of a file."""
        return f"{self._license}.{name}"

    def names(self, series: str) -> list[str]:
        """The files of a series, for the part in question."""
        return self._names.get((self._part, series), [])

    def every(self, *series: str) -> list[str]:
        """The files of some series, of all parts."""
        return [name for one in series for (_, of), names in self._names.items() if of == one for name in names]

    def mark(self, name: str) -> Mark | None:
        """Who has a slot: locked, or lingering; None where nobody does."""
        if name not in self._known:
            self._known[name] = self._look(name)
        return self._known[name]

    def _look(self, name: str) -> Mark | None:
        fd = self._folder.open(self.file(name))
        if fd is None:
            return None
        try:
            held, mark = self._folder.held(fd), self._folder.read(fd)
        finally:
            self._folder.vfs.close(fd)
        if held:
            return mark.replace(until=0)
        return mark if mark.until and mark.lingers(self._reading) else None

    def seats_taken(self, *, everywhere: bool) -> int:
        """How many seats are in use: each program of the user limit, the station once, the exclusive one.

        Args:
            everywhere: of all parts, not only of the one in question.
        """
        taken = 0
        for (part, series), names in self._names.items():
            if series in LINGER_KEPT and (everywhere or part == self._part):
                marked = sum(self.mark(name) is not None for name in names)
                taken += marked > 0 if series == STATION else marked
        return taken

    def admit(self, series: str, seats: int | None, queue: Queue) -> tuple[str, int] | None:
        """Take a slot if one may be taken.

        Args:
            series: of the mode asked for.
            seats: how many there are; None for any number.
            queue: who comes first.

        Returns:
            The file's name and its locked descriptor; None where there is no room.
        """
        if queue.exclusive or (seats is not None and seats <= 0):
            return None
        rivals = _SERIES if series == EXCLUSIVE else (EXCLUSIVE,)
        if any(self._taken(name) for name in self.every(*rivals)):
            return None
        if series == EXCLUSIVE:
            return None if queue.waiting else self._take(EXCLUSIVE, 1)
        if series == UNLIMITED or seats is None:
            return self._take(series, None)
        if series == STATION and any(self._taken(name) for name in self.names(STATION)):
            return self._take(STATION, None)
        return self._take_counted(series, seats - queue.waiting)

    def _take_counted(self, series: str, seats: int) -> tuple[str, int] | None:
        others = len(self.names(USERS)) + bool(self.names(STATION))
        if others >= seats:  # more files than seats is no proof: count those that are taken
            others = sum(self._taken(name) for name in self.names(USERS))
            others += any(self._taken(name) for name in self.names(STATION))
            if others >= seats:
                return None
        return self._take(series, None)

    def _take(self, series: str, most: int | None) -> tuple[str, int] | None:
        """Lock a free file of a series, the one this process is likely to have had first; else make one."""
        names = self.names(series)
        at = self._pid % len(names) if names else 0
        for name in names[at:] + names[:at]:
            if self._known.get(name) is not None and self._taken(name):
                continue
            fd = self._folder.take(self.file(name))
            if fd is None:
                continue
            if self._folder.may_linger(fd):
                mark = self._folder.read(fd)
                if mark.pid != self._pid and mark.lingers(self._reading):
                    self._folder.free(fd)
                    continue
            return name, fd
        if most is not None and len(names) >= most:
            return None
        number = 0
        while f"{self._part}{series}{number}" in names:
            number += 1
        name = f"{self._part}{series}{number}"
        fd = self._folder.take(self.file(name), new=True)
        return None if fd is None else (name, fd)

    def _taken(self, name: str) -> bool:
        mark = self.mark(name)
        return mark is not None and not (mark.until and mark.pid == self._pid)

    def queue(self, seats: int | None) -> Queue:
        """Look who waits, as far as it matters to one that does not.

        Args:
            seats: how many there are; None for any number.
        """
        tickets = self.every(TICKETS)
        if any(self._alive(name) for name in tickets if name.endswith(EXCLUSIVE)):
            return Queue(exclusive=True)
        waiting = 0
        for name in tickets:
            if waiting >= (seats or 0):
                break
            waiting += not name.endswith(EXCLUSIVE) and self._alive(name)
        return Queue(waiting)

    def ticket_before(self, number: int | None) -> str:
        """Find the ticket that comes right before another.

        Args:
            number: of that one; None for one yet to be drawn.

        Returns:
            The whole name of its file; empty for the first. Tickets on the way whose owners are gone are removed.
        """
        tickets = [(ticket_number(name) or 0, name) for name in self.every(TICKETS)]
        for other, name in sorted(tickets, reverse=True):
            if (number is None or other < number) and self._alive(name):
                return self.file(name)
        return ""

    def _alive(self, name: str) -> bool:
        fd = self._folder.open(self.file(name))
        if fd is None:
            return False
        try:
            if self._folder.held(fd):
                return True
        finally:
            self._folder.vfs.close(fd)
        self._folder.remove(self.file(name))
        return False

    def next_ticket(self, series: str) -> str:
        """Name a ticket behind all others."""
        last = max((ticket_number(name) or 0 for name in self.every(TICKETS)), default=0)
        return f"{TICKETS}{last + 1}{series}"


def ticket_number(name: str) -> int | None:
    """Return the number of a ticket's name, ``t7u``; None where it is none."""
    digits = name[1:-1]
    return int(digits) if name[:1] == TICKETS and _plain(digits) else None


def _is_slot(name: str) -> bool:
    return _plain(name[1:]) if name[:1] in _SERIES else name[-1:] in _SERIES and ticket_number(name) is not None


def _plain(digits: str) -> bool:
    return digits.isascii() and digits.isdigit() and len(digits) < 12
