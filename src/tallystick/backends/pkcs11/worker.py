# SPDX-License-Identifier: Apache-2.0
"""The process that a PKCS#11 module is loaded in, so that it can do no harm elsewhere; started by `isolation`.

Its standard input is a socket to its owner, and what comes over it is in `wire`. It is put aside before anything else:
the module finds nothing to read there, and what it prints goes to the standard error output. The worker ends when its
owner does or lets go of it, whatever it is doing: between requests because the socket is at its end, within one because
every request sets an alarm.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from tallystick.backends.pkcs11 import wire
from tallystick.errors import TallystickError, error

if TYPE_CHECKING:
    from tallystick.backends.pkcs11.port import Argument, Port, Value

_FAREWELL_S: Final = 5
_LATER: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> None:
    """Serve the owner at the other end of the standard input until it is gone."""
    line = _put_aside()
    _settle()
    port: Port | None = None
    value: Value
    while (payload := _read(line)) is not None:
        number, seconds, operation, arguments = wire.requested(payload)
        payload = b""
        signal.alarm(seconds)
        try:
            if port is None:  # `wire.LOAD` comes first
                port, value = _loaded(arguments), None
            else:
                value = port.call(operation, *arguments)
            frame = wire.answer(number, value)
        except TallystickError as reason:
            frame = wire.refusal(number, reason)
        except Exception as reason:
            frame = wire.refusal(number, _stumbled(operation, reason))
        signal.alarm(0)
        _write(line, frame)
    signal.alarm(_FAREWELL_S)
    if port is not None:
        port.close()
    os._exit(0)  # the module's own farewells are not waited for


def _put_aside() -> int:
    """Move the socket out of the module's way; return where it is."""
    line = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return line


def _settle() -> None:
    """End with the owner and not with what is typed at its terminal; leave no PIN behind in a core file."""
    for number in _LATER:
        signal.signal(number, lambda *_: None)  # ignored, it would be by programs that the module starts as well
        signal.siginterrupt(number, False)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.unraisablehook = lambda _: None  # python-pkcs11's destructors on a dead module


def _loaded(arguments: Sequence[Argument]) -> Port:
    from tallystick.backends.pkcs11.driver import driver  # its library may be missing: that is an answer, too

    (path,) = arguments
    if not isinstance(path, bytes):
        raise TypeError(wire.LOAD)
    return driver(os.fsdecode(path)).enter()


def _stumbled(operation: str, reason: Exception) -> TallystickError:
    name = type(reason).__name__  # and no more of it: it may quote what it was given
    return error("backend_failed", f"the PKCS#11 module makes no sense: {operation} ({name})", rv=name)


def _read(line: int) -> bytes | None:
    """Read a frame; None at the end, also where that is in the middle of one."""
    head = _exactly(line, wire.HEAD)
    return None if head is None else _exactly(line, wire.length(head))


def _exactly(line: int, size: int) -> bytes | None:
    data = bytearray()
    while len(data) < size:
        try:
            more = os.read(line, size - len(data))
        except ConnectionError:
            return None
        if not more:
            return None
        data += more
    return bytes(data)


def _write(line: int, frame: memoryview) -> None:
    try:
        while frame:
            frame = frame[os.write(line, frame) :]
    except OSError:  # nobody is there any more, which the next read says again
        return
