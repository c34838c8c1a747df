# SPDX-License-Identifier: Apache-2.0
"""Who holds a seat: what stands in a slot's file, and what is shown of it.

A slot is taken as long as its file is locked. What the file says is for people, and may be anything: it is read
strictly, bounded, and believed for nothing but a linger time, which only keeps a seat of the same user from others of
the same user.
"""

from __future__ import annotations

import os
import sys
from typing import Final

from tallystick.clock import Reading
from tallystick.errors import error
from tallystick.license.dates import show
from tallystick.license.model import EXCLUSIVE, NO_LIMIT, STATION_SHARE, USER_LIMIT
from tallystick.record import Record

MODES: Final = {
    "user-limit": USER_LIMIT, "station-share": STATION_SHARE, "exclusive": EXCLUSIVE, "no-limit": NO_LIMIT,
}  # fmt: skip
SERIES: Final = {"user-limit": "u", "station-share": "s", "exclusive": "x", "no-limit": "n"}
MODE_OF: Final = {series: mode for mode, series in SERIES.items()}
RUNNING, LINGERING, WAITING = "running", "lingering", "waiting"
MAX_MARK: Final = 512
_HEAD: Final = " tallystick seat 1"
_RUNS, _LINGERS = "-", "+"  # the first byte tells, so that taking a slot needs no more of what stands there
_LINES: Final = 9
_MAX_TEXT: Final = 64
_MAX_DIGITS: Final = 12
_SAME_BOOT_S: Final = 5  # where boots have no names: how far two reckonings of one boot's instant may lie apart


class SeatHolder(Record):
    """A program that holds a seat, keeps one a little longer, or waits for one.

    Attributes:
        license_id: of the license.
        vendor, product: whose and what.
        mode: ``user-limit``, ``station-share``, ``exclusive`` or ``no-limit``.
        pid: its process id; 0 where it cannot be told.
        user: whose process.
        program: its name.
        since: when it took the seat, or began to wait; seconds since 1970.
        state: ``running``; ``lingering``: it ended, and the license keeps the seat taken; ``waiting``.
        until: when a lingering seat becomes free; seconds since 1970.
    """

    license_id: bytes
    vendor: str
    product: str
    mode: str
    pid: int = 0
    user: str = ""
    program: str = ""
    since: int = 0
    state: str = RUNNING
    until: int | None = None

    def plain(self) -> dict[str, object]:
        """Return all fields by name, for programs."""
        return {name: getattr(self, name) for name in type(self).fields}

    def __str__(self) -> str:
        """Name it for a message."""
        pid = f"pid {self.pid}" if self.pid else "pid unknown"
        parts = [pid] + ([f"user {self.user}"] if self.user else [])
        if self.state == LINGERING and self.until is not None:
            parts.append(f"ended, keeps its seat until {show(self.until)}")
        elif self.since:
            parts.append(f"{'waiting ' if self.state == WAITING else ''}since {show(self.since)}")
        return f"{self.program or 'a program'} ({', '.join(parts)})"


class Mark(Record):
    """What the file of a slot says.

    Attributes:
        pid: of the process that took it last.
        user: number of its user, or the name where users have no numbers.
        program: its name.
        since: wall time it was taken.
        until: uptime to which it stays taken though nobody holds it; 0: it does not.
        closed: uptime and wall time minus uptime (`booted`) when it was given up.
        boot_id: of the boot that is meant.
    """

    pid: int = 0
    user: str = ""
    program: str = ""
    since: int = 0
    until: int = 0
    closed: int = 0
    booted: int = 0
    boot_id: str = ""

    def to_bytes(self) -> bytes:
        """Write it; bytes behind the end mean nothing."""
        return (
            f"{_LINGERS if self.until else _RUNS}{_HEAD}\n{self.pid}\n{self.user}\n{self.program}\n{self.since}\n"
            f"{self.until}\n{self.closed}\n{self.booted}\n{self.boot_id}\n"
        ).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Mark:
        """Read it; whatever is not one is an empty mark."""
        lines = data.decode("utf-8", "replace").split("\n")
        if lines[0][1:] != _HEAD or len(lines) < _LINES:
            return NOBODY
        pid, since, until, closed, booted = (_number(lines[at]) for at in (1, 4, 5, 6, 7))
        until = until if lines[0][0] == _LINGERS else 0
        return cls(pid, printable(lines[2]), printable(lines[3]), since, until, closed, booted, printable(lines[8]))

    def lingering(self, linger_s: int, reading: Reading) -> Mark:
        """Return what is left behind by a program that ends in order.

        Args:
            linger_s: seconds the seat stays taken.
            reading: of the clocks, now.
        """
        booted = max(0, reading.wall - reading.uptime)
        return self.replace(
            until=reading.uptime + linger_s, closed=reading.uptime, booted=booted, boot_id=reading.boot_id
        )

    def lingers(self, reading: Reading) -> bool:
        """Tell whether it is still taken though nobody holds it; never after another boot."""
        if not self.closed <= reading.uptime < self.until or self.boot_id != reading.boot_id:
            return False
        return bool(self.boot_id) or abs(reading.wall - reading.uptime - self.booted) <= _SAME_BOOT_S


NOBODY: Final = Mark()


def this_process(pid: int, euid: int | None) -> Mark:
    """Describe the running process.

    Args:
        pid: its number.
        euid: its user's number; None where users have none.

    Returns:
        A mark without times.
    """
    words = getattr(sys, "argv", None) or [""]
    program = os.path.basename(words[0])
    if program in ("", "-c", "-"):
        program = os.path.basename(sys.executable or "")
    return Mark(pid, login() if euid is None else str(euid), printable(program))


def login() -> str:
    """Name the user where users have no numbers; empty where that cannot be told."""
    try:
        return printable(os.getlogin())
    except OSError:
        return ""


def user_name(user: str) -> str:
    """Name a user.

    Args:
        user: a number, or a name already.

    Returns:
        The name; the number where there is none.
    """
    try:
        import pwd

        return pwd.getpwuid(int(user)).pw_name
    except (ImportError, KeyError, ValueError, OverflowError):
        return user


def printable(text: str) -> str:
    """Keep of a foreign text what can be shown on one line, shortened."""
    return "".join(symbol for symbol in text if symbol.isprintable())[:_MAX_TEXT]


def require_mode(mode: str, wait: float) -> None:
    """Check what an application asks for.

    Raises:
        UsageError: ``usage``: an unknown mode, or a wait that is no number of seconds.
    """
    if mode not in MODES:
        raise error("usage", f"{mode!r} is no access mode", f"Use one of {', '.join(MODES)}.")
    if not wait >= 0:
        raise error("usage", "the time to wait is 0 seconds or more")


def may_linger(data: bytes) -> bool:
    """Tell from the first byte of a slot's file whether the rest is worth reading."""
    return data[:1] == b"+"


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS else 0
