# SPDX-License-Identifier: Apache-2.0
"""Local seats: how many programs of this computer use a license at once.

Each program holds a slot of its own, a file that it keeps locked (`slots_folder`), so that the kernel frees the seat of
a killed program at once and a restart of the computer leaves none. A container's folder belongs to one user: seats are
counted among that user's programs, since no others can open it.

Locks are taken in this order: the store's, the guard among threads, the folder's mutex. The account is never read under
the mutex, so that whoever changes it may count seats meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tallystick.clock import Clock
from tallystick.container.slots_claim import Claim, Guard, SeatsOf
from tallystick.container.slots_folder import SlotFolder
from tallystick.container.slots_fork import tell_when_forked
from tallystick.container.slots_listing import in_use, listed
from tallystick.container.slots_queue import Pace, Ticket
from tallystick.container.slots_record import MODE_OF, SERIES, Mark, SeatHolder, this_process
from tallystick.container.slots_survey import EXCLUSIVE, LINGER_KEPT, NO_QUEUE, TICKETS, Survey
from tallystick.container.vfs import Directory
from tallystick.errors import StorageError, TallystickError, error
from tallystick.license.model import License


class Slots:
    """The local seats of one container, as one handle of it takes and sees them.

    Args:
        directory: the container's folder.
        clock: for waiting, lingering and what is shown.
    """

    __slots__ = ("__weakref__", "_claims", "_clock", "_closed", "_folder", "_me", "_tickets", "_told", "_vfs", "guard")

    def __init__(self, directory: Directory, clock: Clock) -> None:
        self.guard = Guard()
        self._vfs = directory.vfs
        self._folder = SlotFolder(directory)
        self._clock = clock
        self._claims: dict[tuple[bytes, str], Claim] = {}
        self._tickets: set[Ticket] = set()
        self._me = Mark()
        self._closed = False
        self._told = False  # whether the hook for forks knows of this

    def pid(self) -> int:
        """Return the number of this process."""
        return self._vfs.pid()

    def take(self, licenses: Sequence[License], mode: str, seats: SeatsOf, wait: float) -> Claim:
        """Take a slot of the first license that has one free.

        Args:
            licenses: any of them will do; the first is preferred.
            mode: a key of `slots_record.MODES`.
            seats: tells how many seats a license has here; asked before each attempt.
            wait: seconds to queue at most.

        Returns:
            The claim, pinned; it may be held by this process already.

        Raises:
            NotLicensedError: ``seats_in_use``.
            StorageError, ContainerError.
        """
        tickets: dict[bytes, Ticket] = {}
        start = self._clock.monotonic()
        pace = Pace()
        try:
            while True:
                for license_ in licenses if self._claims else ():
                    claim = self._shared(license_, mode)
                    if claim is not None:
                        return claim
                for license_ in licenses:
                    claim = self._attempt(license_, mode, seats, tickets, queue=wait > 0)
                    if claim is not None:
                        return claim
                now = self._clock.monotonic()
                if now >= start + wait:
                    break
                ahead = min([ticket.ahead() for ticket in tickets.values()], default=0)
                self._vfs.sleep(min(pace.pause(ahead, now), start + wait - now))
        finally:
            for ticket in tickets.values():
                self._tickets.discard(ticket)
                ticket.close()
        raise self._refusal(licenses, mode, seats)

    def _attempt(
        self, license_: License, mode: str, seats: SeatsOf, tickets: dict[bytes, Ticket], *, queue: bool
    ) -> Claim | None:
        key = license_.license_id
        ticket = tickets.get(key)
        if ticket is not None and not ticket.is_next():
            return None
        available = seats(license_)
        with self.guard:
            claim = self._shared_already(license_, mode)
            if claim is not None:
                return claim
            claim = self._claims.get((license_.part, mode)) or Claim(self, license_, mode, seats)  # a child's: unheld
            if self._occupied(claim, available, tickets if queue else None):
                return claim.pin()
        return None

    def _shared(self, license_: License, mode: str) -> Claim | None:
        with self.guard:
            return self._shared_already(license_, mode)

    def _shared_already(self, license_: License, mode: str) -> Claim | None:
        """Find what this process holds of a part already: who is alone with it may use it in any mode; guarded."""
        for held in (mode, MODE_OF[EXCLUSIVE]):
            claim = self._claims.get((license_.part, held))
            if claim is not None and claim.pid == self._vfs.pid():
                return claim.pin()
        return None

    def _occupied(self, claim: Claim, available: int | None, tickets: dict[bytes, Ticket] | None) -> bool:
        try:
            return self._occupy(claim, available, tickets)
        except StorageError as reason:
            if available is not None or SERIES[claim.mode] == EXCLUSIVE or reason.code == "unsafe_path":
                raise
        claim.pid = self._vfs.pid()  # where nothing is counted nobody is turned away because of a full disk
        return True

    def _occupy(self, claim: Claim, available: int | None, tickets: dict[bytes, Ticket] | None) -> bool:
        """Take a slot for a claim, if one may be taken, or a place in the queue; guarded.

        Args:
            claim: not held.
            available: how many seats there are; None for any number.
            tickets: by license id, for one that waits; None for one that does not.
        """
        if self._closed:
            raise error("closed", "the container is closed")
        license_, series = claim.license_, SERIES[claim.mode]
        pid, reading = self._vfs.pid(), self._clock.read()
        with self._folder as folder:
            survey = Survey(folder, license_.license_id.hex(), _part(license_), pid, reading)
            taken, before = None, ""
            if tickets is None:
                queue = survey.queue(available) if survey.every(TICKETS) else NO_QUEUE
                taken = survey.admit(series, available, queue)
            else:
                ticket = tickets.get(license_.license_id)
                before = survey.ticket_before(None if ticket is None else ticket.number)
                if not before:
                    taken = survey.admit(series, available, NO_QUEUE)
                if taken is None:
                    if ticket is None:
                        ticket = Ticket(folder, survey, series, self._mark(pid, reading.wall))
                        tickets[license_.license_id] = ticket
                        self._tickets.add(ticket)
                    ticket.follow(before)
            if taken is not None:
                claim.fd, claim.counted, claim.since = taken[1], available, reading.wall
                folder.write(claim.fd, self._mark(pid, reading.wall))
        if not self._told:
            tell_when_forked(self)
            self._told = True
        if taken is not None:
            claim.pid = pid
            self._claims[license_.part, claim.mode] = claim
        return taken is not None

    def _mark(self, pid: int, since: int) -> bytes:
        if self._me.pid != pid:
            self._me = this_process(pid, self._vfs.euid())
        return self._me.replace(since=since).to_bytes()

    def retake(self, claim: Claim) -> None:
        """Take a slot anew, in a forked child.

        Raises:
            NotLicensedError: ``seats_in_use``.
            UsageError: ``closed``.
            StorageError, ContainerError.
        """
        available = claim.seats(claim.license_)
        with self.guard:
            if claim.pid == self._vfs.pid() or self._occupied(claim, available, None):
                return
        raise self._refusal([claim.license_], claim.mode, claim.seats)

    def release(self, claim: Claim, *, linger: bool = False) -> None:
        """Give a slot back; guarded.

        Args:
            claim: nobody stands on it any more.
            linger: keep it taken as long as the license wants.
        """
        linger_s = claim.license_.terms.linger
        if claim.pid == self._vfs.pid() and claim.fd >= 0:
            if linger and linger_s and SERIES[claim.mode] in LINGER_KEPT:
                mark = self._me.replace(since=claim.since).lingering(linger_s, self._clock.read())
                self._folder.write(claim.fd, mark.to_bytes())
            self._folder.unlock(claim.fd)  # at once, even where a child has a copy of the descriptor for a moment
        self.abandon(claim)

    def abandon(self, claim: Claim) -> None:
        """Let a slot go; guarded.

        Args:
            claim: nobody stands on it any more.
        """
        key = (claim.license_.part, claim.mode)
        if self._claims.get(key) is claim:
            del self._claims[key]
        fd, claim.fd, claim.pid = claim.fd, -1, 0
        if fd >= 0:
            self._vfs.close(fd)

    # -- looking

    def taken(self, license_id: bytes) -> int:
        """Count the seats of a license that are in use now; may be called with the store's lock held."""
        return self._count(license_id.hex())

    def taken_of(self, license_: License) -> int:
        """Count the seats in use of one part of a license."""
        return self._count(license_.license_id.hex(), _part(license_))

    def _count(self, license_: str, part: str | None = None) -> int:
        with self.guard:
            if not self._folder.exists():
                return 0
            with self._folder as folder:
                survey = Survey(folder, license_, part or "", 0, self._clock.read())
                return survey.seats_taken(everywhere=part is None)

    def holders(self, held: Mapping[bytes, tuple[str, str]]) -> tuple[SeatHolder, ...]:
        """List who holds seats of licenses, and who waits for one.

        Args:
            held: vendor and product by license id.
        """
        with self.guard:
            if not held or not self._folder.exists():
                return ()
            with self._folder as folder:
                return listed(folder, held, self._clock.read())

    def _refusal(self, licenses: Sequence[License], mode: str, seats: SeatsOf) -> TallystickError:
        known = self.holders({one.license_id: (one.vendor, one.product) for one in licenses})
        counts = [seats(one) for one in licenses]
        return in_use(licenses[0].product, mode, None if None in counts else sum(filter(None, counts)), known)

    # -- ending

    def forked(self) -> None:
        """Leave, in a forked child, the locks to the parent. Another thread may have held the guard: it is not here."""
        self.guard = Guard()
        for ticket in tuple(self._tickets):
            ticket.forked()
        self._tickets = set()
        for claim in tuple(self._claims.values()):
            claim.forked(self._vfs.close)
        self._folder.close()

    def close(self) -> None:
        """Give back what is still held, and close the files."""
        with self.guard:
            self._closed = True
            for claim in tuple(self._claims.values()):
                self.release(claim)
            self._folder.close()


def _part(license_: License) -> str:
    return "" if license_.part == license_.license_id else license_.part.hex()
