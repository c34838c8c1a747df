# SPDX-License-Identifier: Apache-2.0
"""What time it is, for a license: never locked out by a stupid clock, never younger than seen before.

`assess` is pure: persisted memory and one reading in, the time to use and the next memory out. Its rules:

1. *Floor.* The time used never lies below the highest time used before, the latest signed time, or the date this
   release was built. A clock set back, a board without a clock that boots in 1970, a restored virtual machine:
   time never goes back, and within one boot runs on with the machine's uptime (suspend included), which raises the
   floor: a reboot takes nothing back. While the clock is no more than 7 days behind, time runs at half the speed until
   the clock has caught up: perhaps it was ahead before and has just been set right, and nobody should pay for that
   for ever.
2. *Small steps are time.* A clock up to 7 days ahead of what is expected is believed and becomes the floor.
3. *A jump is quarantined.* More than 7 days ahead of what is expected, the clock is not believed and the expected time
   is used, so that one boot in 2045 expires nothing, until the jump is *confirmed*: by a later boot that began after
   the jump was seen, by 24 hours of uptime that agree, or by signed time. A machine that really was off for a month
   confirms itself; a board whose clock starts at the same wrong instant each time does not. A later boot confirms the
   jump it has outlived; what it is itself ahead of that by more than 7 days is the next jump, so a machine started
   every other week lags by one start and no more. A jump of more than 5 years is believed on signed time only, also
   at the very first look (against the date of this release).
4. *Signed time.* A message signed by the vendor raises the floor at once. Only a vendor's explicit reset lowers it.
5. Time zones and leap seconds play no part: everything is seconds since 1970-01-01T00:00Z as the system counts them.

The numbers 7 days and 24 hours are Tallystick's own: longer than a long weekend, shorter than any license's notice.
"""

from __future__ import annotations

import time
from typing import Final, Protocol

from tallystick.record import Record

BUILD_FLOOR: Final = 1_793_491_200  # 2026-11-01T00:00Z; no earlier time is real for this release
JUMP_S: Final = 7 * 86_400
IMPLAUSIBLE_S: Final = 5 * 366 * 86_400  # 5 years off and nobody contacted the vendor: rather a clock that lies
CONFIRM_UPTIME_S: Final = 24 * 3_600
BACK_TOLERANCE_S: Final = 300  # NTP and daylight-saving mistakes of minutes are not worth a warning


class Reading(Record):
    """One look at the machine's clocks.

    Attributes:
        wall: seconds since 1970-01-01T00:00Z.
        uptime: seconds since boot, suspend included (CLOCK_BOOTTIME where it exists).
        boot_id: names this boot; equal readings of it make uptimes comparable. Empty where unknown.
    """

    wall: int
    uptime: int
    boot_id: str = ""


class Clock(Protocol):
    """Where readings come from; injected, so that tests own time."""

    def read(self) -> Reading:
        """Look at the wall clock, the uptime and the boot id."""

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back, comparable only within this process."""


class SystemClock:
    """The machine's clocks (Linux, macOS, Windows)."""

    __slots__ = ("_boot_id",)

    def __init__(self) -> None:
        try:
            with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
                self._boot_id = file.read(36)
        except OSError:
            self._boot_id = ""

    def read(self) -> Reading:
        """Look at the wall clock, the uptime and the boot id."""
        source = getattr(time, "CLOCK_BOOTTIME", None)
        uptime = time.monotonic() if source is None else time.clock_gettime(source)
        return Reading(int(time.time()), int(uptime), self._boot_id)

    monotonic = staticmethod(time.monotonic)  # the builtin itself: `Seat.check` calls it each time


class ClockMemory(Record):
    """What a container remembers of time.

    Attributes:
        floor: the highest time accepted.
        certified: the latest time signed by a vendor; 0 if none.
        uptime, boot_id: of the reading at which the floor was last moved.
        jump: the wall time of an unconfirmed jump ahead; 0 if none.
        jump_uptime, jump_boot_id: of the reading that first showed the jump in its boot.
    """

    floor: int = 0
    certified: int = 0
    uptime: int = 0
    boot_id: str = ""
    jump: int = 0
    jump_uptime: int = 0
    jump_boot_id: str = ""


class Assessment(Record):
    """The time to use and why.

    Attributes:
        now: seconds since 1970; use this, never the wall clock.
        status: ``ok``, ``set_back``, ``unset`` (before this release was built) or ``quarantined`` (jump ahead).
        wall: the clock's own opinion, for messages.
        memory: what to remember; equal to the input where no time passed.
    """

    now: int
    status: str
    wall: int
    memory: ClockMemory

    @property
    def remedy(self) -> str:
        """What the user can do, empty for ``ok``."""
        return _REMEDIES[self.status]


_REMEDIES: Final = {
    "ok": "",
    "set_back": "Set the computer's clock right; licensed time goes on from the latest time seen.",
    "unset": "The computer's clock is not set; set it, or let it synchronize.",
    "quarantined": "The clock jumped ahead; if it is right, nothing needs doing (it is believed after a day or the "
    "next boot), else set it back. An update from the vendor settles it at once.",
}


def assess(memory: ClockMemory, reading: Reading) -> Assessment:
    """Decide what time it is.

    Args:
        memory: what the container remembered.
        reading: a look at the clocks now.

    Returns:
        The time to use, a status, and the memory to keep.
    """
    wall = reading.wall
    expected = _expected(memory, reading)
    if wall < expected:
        return _behind(memory, reading, expected)
    if wall - expected > JUMP_S:
        expected = max(expected, _confirmed(memory, reading, expected))
    if wall - expected <= (JUMP_S if memory.floor else IMPLAUSIBLE_S):
        return _believed(memory, reading)
    if not memory.jump or _another_boot(memory, reading) or not _same_jump(memory, reading):
        memory = memory.replace(jump=wall, jump_uptime=reading.uptime, jump_boot_id=reading.boot_id)
    return Assessment(expected, "quarantined", wall, _passed(memory, expected, reading))


def _believed(memory: ClockMemory, reading: Reading) -> Assessment:
    kept = ClockMemory(reading.wall, memory.certified, reading.uptime, reading.boot_id)
    return Assessment(reading.wall, "ok", reading.wall, kept)


def _behind(memory: ClockMemory, reading: Reading, expected: int) -> Assessment:
    """The clock is behind what uptime says: by a little, it may catch up; by more, uptime it is."""
    wall = reading.wall
    elapsed = _elapsed(memory.boot_id, memory.uptime, reading)
    near = expected - wall <= JUMP_S
    now = expected - (elapsed - elapsed // 2 if near else 0)
    if wall >= now:
        return _believed(memory, reading)
    if memory.jump and memory.jump_boot_id == reading.boot_id:  # the clock itself took its jump back
        memory = memory.replace(jump=0, jump_uptime=0, jump_boot_id="")
    status = "unset" if wall < BUILD_FLOOR else "ok" if now - wall <= BACK_TOLERANCE_S else "set_back"
    return Assessment(now, status, wall, _passed(memory, now, reading, elapsed % 2 if near else 0))


def certify(memory: ClockMemory, signed_at: int, reading: Reading) -> ClockMemory:
    """Take a vendor's signed time into account (rule 4).

    Args:
        memory: what the container remembered.
        signed_at: seconds since 1970, from a verified message.
        reading: a look at the clocks now.

    Returns:
        The memory with the floor raised to at least `signed_at`, and a jump settled that the signed time confirms.
    """
    certified = max(memory.certified, signed_at)
    expected = _expected(memory, reading)
    if 0 <= reading.wall - certified <= JUMP_S:
        return ClockMemory(max(expected, reading.wall), certified, reading.uptime, reading.boot_id)
    if certified > expected:
        return memory.replace(floor=certified, certified=certified, uptime=reading.uptime, boot_id=reading.boot_id)
    return _passed(memory, expected, reading).replace(certified=certified)


def reset(signed_at: int, reading: Reading) -> ClockMemory:
    """Start again from a vendor's signed time: the only way the floor goes down (a support case, see rule 4).

    Args:
        signed_at: seconds since 1970, from a verified message that orders the reset.
        reading: a look at the clocks now.

    Returns:
        A memory whose floor is the signed time.
    """
    return ClockMemory(signed_at, signed_at, reading.uptime, reading.boot_id)


def _expected(memory: ClockMemory, reading: Reading) -> int:
    """The time it is at least, whatever the wall clock says."""
    floor = max(memory.floor, memory.certified, BUILD_FLOOR)
    return floor + _elapsed(memory.boot_id, memory.uptime, reading)


def _passed(memory: ClockMemory, now: int, reading: Reading, unspent: int = 0) -> ClockMemory:
    """The memory with the floor at the time used; before any clock was believed there is nothing to remember."""
    if not memory.floor:
        return memory
    return memory.replace(floor=now, uptime=reading.uptime - unspent, boot_id=reading.boot_id)


def _elapsed(boot_id: str, uptime: int, reading: Reading) -> int:
    """Seconds that certainly passed since a remembered reading: the uptime's, within one boot, else none."""
    return max(0, reading.uptime - uptime) if boot_id and boot_id == reading.boot_id else 0


def _same_jump(memory: ClockMemory, reading: Reading) -> bool:
    """Whether the clock still tells the story of the quarantined jump: at least it, at most 7 days beyond."""
    ahead = reading.wall - (memory.jump + _elapsed(memory.jump_boot_id, memory.jump_uptime, reading))
    return -BACK_TOLERANCE_S <= ahead <= JUMP_S


def _another_boot(memory: ClockMemory, reading: Reading) -> bool:
    """Whether this is certainly another boot than the one that first showed the quarantined jump."""
    if memory.jump_boot_id and reading.boot_id:
        return memory.jump_boot_id != reading.boot_id
    return reading.uptime < memory.jump_uptime  # boots without names: only a smaller uptime proves it


def _confirmed(memory: ClockMemory, reading: Reading, expected: int) -> int:
    """The time that this reading confirms of the quarantined jump, 0 if none."""
    if not memory.jump or reading.wall - expected > IMPLAUSIBLE_S:
        return 0
    if _another_boot(memory, reading):
        booted_at = reading.wall - reading.uptime
        return memory.jump if booted_at > memory.jump else 0
    agreed = _same_jump(memory, reading) and reading.uptime - memory.jump_uptime >= CONFIRM_UPTIME_S
    return reading.wall if agreed else 0
