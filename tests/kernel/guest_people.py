# SPDX-License-Identifier: Apache-2.0
"""In the guest: users, and the ``tally`` they run."""

from __future__ import annotations

import json
import os
import pwd
import runpy
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from initramfs import MEMBER, OTHER, REMOTE, SEAT

from tallystick.errors import TallystickError

HOMES = {0: "/root", SEAT: "/tmp/seat", OTHER: "/tmp/other", REMOTE: "/tmp/remote", MEMBER: "/tmp/member"}
TALLY = str(Path(sys.prefix) / "bin" / "tally")


@dataclass
class Done:
    """What a command did."""

    status: int
    out: str
    err: str

    def json(self) -> Any:
        """Standard output as the JSON object it must be."""
        assert self.status == 0, self
        return json.loads(self.out)


def make_homes() -> None:
    """Give every user a home."""
    for uid, home in HOMES.items():
        Path(home).mkdir(0o700, exist_ok=True)
        os.chown(home, uid, uid)


def as_user(uid: int, act: Callable[[], Any]) -> Any:
    """Do something as a user, in a process of their own; returns what JSON can say of the result.

    Raises:
        AssertionError: it raised; with the traceback.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(reader)
            become(uid)
            try:
                said = {"result": act()}
            except BaseException:
                said = {"raised": traceback.format_exc()}
            os.write(writer, json.dumps(said, default=str).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        data = pipe.read()
    os.waitpid(pid, 0)
    said = json.loads(data or b'{"raised": "the process died"}')
    assert "raised" not in said, said["raised"]
    return said["result"]


class Companion:
    """A process of a user that goes on when it is told to, and is killed when it is no longer needed.

    Args:
        uid: the user.
        script: what it does; each ``yield`` is the end of a step, with what JSON can say of it.
    """

    def __init__(self, uid: int, script: Callable[[], Iterator[Any]]) -> None:
        told, self._tell = os.pipe()
        self._hear, say = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self._tell)
                os.close(self._hear)
                become(uid)
                _follow(script, told, say)
            finally:
                os._exit(0)
        os.close(told)
        os.close(say)
        self._said = b""

    def begin(self) -> None:
        """Let it take one step, without waiting."""
        os.write(self._tell, b".")

    def end(self) -> Any:
        """Wait until its step is done; returns what it says.

        Raises:
            AssertionError: it raised; with the traceback.
        """
        while b"\n" not in self._said:
            piece = os.read(self._hear, 65536)
            assert piece, f"the process died after {self._said!r}"
            self._said += piece
        line, _, self._said = self._said.partition(b"\n")
        said = json.loads(line)
        assert "raised" not in said, said["raised"]
        return said["result"]

    def step(self) -> Any:
        """Let it take one step, and wait."""
        self.begin()
        return self.end()

    def kill(self) -> None:
        """SIGKILL."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self._tell)
        os.close(self._hear)


def _follow(script: Callable[[], Iterator[Any]], told: int, say: int) -> None:
    steps = script()
    while os.read(told, 1):
        try:
            said = {"result": next(steps)}
        except BaseException:
            said = {"raised": traceback.format_exc()}
        os.write(say, json.dumps(said, default=str).encode() + b"\n")


def become(uid: int) -> None:
    """Be a user from now on, in their home and with their groups."""
    os.initgroups(pwd.getpwuid(uid).pw_name, uid)
    os.setgid(uid)
    os.setuid(uid)
    quiet = {name: value for name, value in os.environ.items() if name == "TSS2_LOG"}  # set by a module loaded already
    os.environ.clear()
    os.environ.update(quiet, HOME=HOMES[uid], PATH="/usr/bin:/bin", LC_ALL="C.UTF-8", COLUMNS="200")
    os.chdir(HOMES[uid])


def refusal(act: Callable[[], Any]) -> str:
    """The code something is refused with; empty if it is not.

    Args:
        act: what is tried.
    """
    try:
        act()
    except TallystickError as why:
        return why.code
    return ""


def tally(*arguments: str, uid: int = SEAT, cold: bool = False) -> Done:
    """Run the installed ``tally`` as a user, in a process of its own.

    Args:
        *arguments: its arguments.
        uid: the user.
        cold: start the interpreter, which takes seconds here; otherwise the script runs in a copy of this process,
            which has loaded the modules before.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        pid = os.fork()
        if pid == 0:
            status = 70
            try:
                become(uid)
                os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
                os.dup2(out.fileno(), 1)
                os.dup2(err.fileno(), 2)
                if cold:
                    os.execv(TALLY, [TALLY, *arguments])
                status = _script(list(arguments))
            finally:
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        out.seek(0)
        err.seek(0)
        return Done(status, out.read().decode(), err.read().decode())


def _script(arguments: list[str]) -> int:
    sys.argv = [TALLY, *arguments]
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False)
    try:
        runpy.run_path(TALLY, run_name="__main__")
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1 if end.code else 0
    except BaseException:
        traceback.print_exc()
        status = 70
    sys.stdout.flush()
    sys.stderr.flush()
    return status
