# SPDX-License-Identifier: Apache-2.0
"""A worker's process, as its owner sees it: started, asked, waited for with a deadline, ended; see `isolation`.

The line is a socket rather than two pipes: writing to a process that is gone is an error then, and never SIGPIPE.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from math import ceil
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeVar

from tallystick.backends.pkcs11 import wire
from tallystick.backends.pkcs11.port import Argument, Value
from tallystick.errors import TallystickError, error

if TYPE_CHECKING:
    import subprocess

T = TypeVar("T")

FAREWELL_S: Final = 2.0
"""How long a process may take to end by itself."""
NO_WORKER: Final = "Install Python as a whole, or let the administrator set `isolate = false` for the module."
"""What to do where no worker can be started."""

_GRACE_S: Final = 5  # the worker's alarm is for owners that are gone
_LOOK_S: Final = 0.5  # a child of the module may hold the line open when the worker is gone
_BLOCK: Final = 1 << 16
_BOOT: Final = "import sys; sys.path[:] = sys.argv[1:]; from tallystick.backends.pkcs11.worker import main; main()"


class Worker:
    """A worker process, and the way to it.

    Raises:
        BackendUnavailableError: no process can be started.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        import socket
        import subprocess

        command = [_interpreter(), "-I", "-S", "-c", _BOOT, *_import_path()]
        noise = 2 if _is_open(2) and not quiet else subprocess.DEVNULL
        home = os.path.expanduser("~")  # some modules look for their files where they are started, and make them there
        self._asked = self._answered = 0
        self._flags = getattr(socket, "MSG_NOSIGNAL", 0)  # programs that pipe their output let SIGPIPE end them
        self._line, theirs = socket.socketpair()
        with theirs:
            try:
                # A group of its own: what is typed at the owner's terminal is for the owner.
                self._process: subprocess.Popen[bytes] = subprocess.Popen(  # noqa: S603 - our own Python
                    command,
                    stdin=theirs.fileno(),
                    stdout=noise,
                    stderr=noise,
                    process_group=0,
                    cwd=home if os.path.isdir(home) else "/",
                )
            except BaseException as reason:
                self._line.close()
                if not isinstance(reason, OSError):
                    raise
                message = f"no process can be started for the PKCS#11 module: {reason.strerror}"
                raise error("backend_unavailable", message, NO_WORKER) from reason

    @property
    def is_busy(self) -> bool:
        """Whether a request has not been answered."""
        return self._asked != self._answered

    @property
    def has_started(self) -> bool:
        """Whether it has answered ever."""
        return self._answered > 0

    def is_gone(self) -> bool:
        """Tell whether the process has ended."""
        return self._process.poll() is not None

    def exchange(self, operation: str, arguments: Sequence[Argument], until: float) -> Value | TallystickError:
        """Ask, and wait for the answer.

        Raises:
            TimeoutError: there is none in time.
            EOFError, OSError: the process has ended.
            FormatError: the answer is malformed; or, not busy then, the request is too large.
        """
        number = self._asked + 1
        frame = wire.request(number, ceil(until - monotonic()) + _GRACE_S, operation, arguments)
        self._asked = number
        while frame:
            frame = frame[self._patiently(self._send, frame, until) :]
        value = wire.answered(self._received(until), number, operation)
        self._answered = number
        return value

    def end(self, patience_s: float) -> int | None:
        """Let go of the process, and kill it where it does not end soon; return what it ended with."""
        from subprocess import TimeoutExpired

        self._line.close()
        for patience in (patience_s, FAREWELL_S):
            try:
                return self._process.wait(patience)
            except TimeoutExpired:
                self._process.kill()
        return None  # in the kernel's hands

    def disown(self) -> None:
        """Close our copy of the line; the process is the parent's to wait for."""
        self._line.close()
        self._process.returncode = 0

    def _send(self, frame: memoryview) -> int:
        return self._line.send(frame, self._flags)

    def _received(self, until: float) -> bytes:
        data = bytearray()
        while len(data) < wire.HEAD or len(data) < wire.HEAD + wire.length(bytes(data[: wire.HEAD])):
            more = self._patiently(self._line.recv, _BLOCK, until)
            if not more:
                raise EOFError
            data += more
        if len(data) > wire.HEAD + wire.length(bytes(data[: wire.HEAD])):
            raise error("malformed", "more than an answer was received")
        return bytes(data[wire.HEAD :])

    def _patiently(self, step: Callable[[Any], T], argument: object, until: float) -> T:
        while True:
            left = until - monotonic()
            self._line.settimeout(max(0.0, min(left, _LOOK_S)))
            try:
                return step(argument)
            except (TimeoutError, BlockingIOError):
                if left <= 0:
                    raise TimeoutError from None
                if self.is_gone():
                    raise EOFError from None


def _interpreter() -> str:
    """Return the path of this Python.

    Raises:
        BackendUnavailableError: there is none, or processes work otherwise here.
    """
    if os.name == "posix":
        name = f"python{sys.version_info.major}.{sys.version_info.minor}"
        embedded = (os.path.join(prefix, "bin", name) for prefix in (sys.exec_prefix, sys.base_exec_prefix))
        own: tuple[str, ...] = () if getattr(sys, "frozen", False) else (sys.executable or "",)
        for path in (*own, *embedded):
            if os.path.basename(path).startswith(("python", "pypy")) and os.access(path, os.X_OK):
                return path
    raise error("backend_unavailable", "there is no Python here to run the PKCS#11 module in", NO_WORKER)


def _import_path() -> list[str]:
    """Return where modules are imported from, without the folder one happens to be in; and where this one is from."""
    here = os.path.abspath(__file__).rsplit(os.sep, 4)[0]
    return [*(entry for entry in sys.path if os.path.isabs(entry)), here]


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
