# SPDX-License-Identifier: Apache-2.0
"""A program that takes seats as it is told, line by line, in a process of its own; and its remote control.

    with Program.start(room) as program:
        assert program.ask("take user-limit") == "ok"
        program.kill()

Commands: ``take MODE [WAIT]``, ``close [now]``, ``check``, ``fork`` (the child says what it finds, and stays).
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from types import TracebackType
from typing import Self

import rooms

from backends.computer import ALL, Hand
from tallystick.backends.file import FileBackend
from tallystick.clock import SystemClock
from tallystick.container.base import Container
from tallystick.container.seat import Seat
from tallystick.errors import TallystickError
from tallystick.license.trust import Trust


class Program:
    """The remote control.

    Args:
        process: running `main`.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.pid = process.pid
        assert self._line() == "ready"

    @classmethod
    def start(cls, room: rooms.Room) -> Self:
        """Start it on a room's container."""
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        argv = [sys.executable, __file__, room.uri, room.acme.trust.to_text()]
        return cls(subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env))

    def tell(self, command: str) -> None:
        """Give a command, without waiting for its answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def ask(self, command: str) -> str:
        """Give a command and wait for its answer."""
        self.tell(command)
        return self._line()

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    hear = _line

    def kill(self) -> None:
        """Kill it, as the kernel does."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(60)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.kill()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()


def say(text: str) -> None:
    """Answer with one line, in one write."""
    os.write(1, f"{text}\n".encode())


def take(container: Container, mode: str = "user-limit", wait: str = "0") -> Seat | None:
    """Check out, and say what came of it."""
    try:
        seat = container.checkout("cad", mode=mode, wait=float(wait))
    except TallystickError as refusal:
        say(f"{refusal.code}: {refusal.message}".replace("\n", " "))
        return None
    say("ok")
    return seat


def fork(seat: Seat) -> None:
    """Fork; the child asks its parent's seat, says the answer, and stays until standard input is closed."""
    if os.fork():
        return
    allowed = seat.check()
    refusal = seat.refusal()
    say(f"child {allowed} {refusal.code if refusal else ''}".strip())
    poller = select.poll()
    poller.register(0, 0)
    poller.poll(60_000)
    os._exit(0)


def main() -> None:
    """Run commands until there are no more."""
    _, uri, trust = sys.argv
    backend = FileBackend(SystemClock(), [Hand(ALL)])
    container = backend.open(uri, [Trust.from_text(trust)], background=False)
    seats: list[Seat] = []
    say("ready")
    for line in sys.stdin:
        command, *rest = line.split()
        if command == "take":
            seat = take(container, *rest)
            seats += [seat] if seat else []
        elif command == "close":
            seats.pop().close(linger=None if not rest else False)
            say("ok")
        elif command == "check":
            say(str(seats[-1].check()))
        elif command == "fork":
            fork(seats[-1])


if __name__ == "__main__":
    main()
