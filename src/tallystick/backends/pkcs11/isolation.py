# SPDX-License-Identifier: Apache-2.0
"""A PKCS#11 module in a process of its own: a crash, a hang or a damaged memory there is an error with a code here.

The process is started at the first call and ends when the port is closed, or with the process that owns it. It has the
owner's environment, because modules are configured by it, the owner's import path, and nothing else that is open; what
the module prints goes to the owner's standard error output. It is another interpreter of the same Python, so there must
be one: a program frozen into one file has none.

A call that takes too long ends the worker (`device_silent`), a worker that ends by itself or answers nonsense fails the
call (`backend_failed`), and the next call starts a new one, where nobody is logged in: it says `device_removed` to
whoever does not know yet. An interrupt in the middle of a call gives the worker up as well, for its answer would be
taken for the next one's.

A forked child closes its copy of the way to the worker at once, or its parent's death would not be noticed there, and
starts a worker of its own.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from time import monotonic
from typing import Final

from tallystick.backends.pkcs11 import wire
from tallystick.backends.pkcs11.port import Argument, Value
from tallystick.backends.pkcs11.process import FAREWELL_S, NO_WORKER, Worker
from tallystick.container.slots_fork import tell_when_forked
from tallystick.errors import FormatError, TallystickError, error

_PATIENCE: Final = 10
"""A person types a PIN on a pad; a card looks for primes."""
_PATIENT: Final = frozenset(("login", "generate"))
_IDLE: Final[dict[str, Value]] = {"is_open": False, "leave": None, "refresh": None}
"""What need not be asked of a worker that is not there."""
_ALARM: Final = 14  # SIGALRM, a name that not all systems have
_START_S: Final = 60.0  # of a Python, on a machine that is being started itself


class Isolated:
    """A module in a worker process; see the module. A `Port`.

    Args:
        path: of the shared library.
        deadline_s: after how many seconds a call counts as hanging; ten times that where a PIN is typed on the
            token's own pad or a key is made.
    """

    def __init__(self, path: str, deadline_s: float = 30.0, *, quiet: bool = False) -> None:
        self._path = path
        self._deadline_s = deadline_s
        self._quiet = quiet
        self._lock = threading.RLock()  # a destructor in the middle of a call must not wait for itself
        self._worker: Worker | None = None
        self._closed = False
        tell_when_forked(self)

    def call(self, operation: str, *arguments: Argument) -> Value:
        """Do one operation; see `Port.call`.

        Raises:
            BackendUnavailableError: besides, no worker can be started.
            FormatError: ``too_large``: more than 1 MiB is to be sent.
        """
        with self._lock:
            if self._closed:
                raise error("closed", "the way to the PKCS#11 module was closed")
            worker = self._worker
            if worker is not None and (worker.is_busy or worker.is_gone()):  # busy: this is a destructor within a call
                self._give_up(worker)
                worker = None
            if worker is None and operation in _IDLE:
                return _IDLE[operation]
            limit_s = self._deadline_s * (_PATIENCE if _is_patient(operation, arguments) else 1)
            value = self._ask(worker or self._started(), operation, arguments, limit_s)
            if isinstance(value, TallystickError):
                raise value
            return value

    def close(self) -> None:
        """End the worker; it closes its sessions first, if it can."""
        with self._lock:
            self._closed = True
            worker, self._worker = self._worker, None
            if worker is not None:
                worker.end(0 if worker.is_busy else FAREWELL_S)

    def forked(self) -> None:
        """Leave the worker to the parent; called in a forked child."""
        self._lock = threading.RLock()  # a thread of the parent may have held it
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.disown()

    def _started(self) -> Worker:
        self._worker = worker = Worker(quiet=self._quiet)
        refusal = self._ask(worker, wire.LOAD, (os.fsencode(self._path),), _START_S)
        if isinstance(refusal, TallystickError):
            self._give_up(worker)
            raise refusal
        return worker

    def _ask(
        self, worker: Worker, operation: str, arguments: Sequence[Argument], limit_s: float
    ) -> Value | TallystickError:
        """Return what the worker answers; it is given up unless it does, whatever the reason."""
        try:
            return worker.exchange(operation, arguments, monotonic() + limit_s)
        except TimeoutError as reason:
            raise self._ended(worker, -_ALARM, limit_s) from reason
        except (EOFError, OSError) as reason:
            raise self._ended(worker, self._give_up(worker, FAREWELL_S), limit_s) from reason
        except FormatError as reason:
            if not worker.is_busy:  # not even asked: the request is too large
                raise
            message = f"the PKCS#11 module {self._path} has damaged its process: its answer is malformed"
            raise error("backend_failed", message, rv="Malformed") from reason
        finally:
            if worker.is_busy:
                self._give_up(worker)

    def _give_up(self, worker: Worker, patience_s: float = 0.0) -> int | None:
        """End a worker; return what it ended with."""
        if self._worker is worker:
            self._worker = None
        return worker.end(patience_s)

    def _ended(self, worker: Worker, status: int | None, limit_s: float) -> TallystickError:
        """Say how a worker ended: what `subprocess` says, or by its alarm, ours or its own."""
        if status == -_ALARM:
            how = f"has not answered within {limit_s:g} s"
        else:
            how = f"crashed (signal {-status})" if status is not None and status < 0 else f"ended (status {status})"
        if not worker.has_started:
            message = f"the process for the PKCS#11 module {self._path} does not start: it {how}"
            return error("backend_unavailable", message, NO_WORKER)
        message = f"the PKCS#11 module {self._path} {how}"
        if status == -_ALARM:
            return error("device_silent", message, rv="Silent")
        return error("backend_failed", message, rv="Crashed", status=status)


def _is_patient(operation: str, arguments: Sequence[Argument]) -> bool:
    return operation in _PATIENT and not (operation == "login" and len(arguments) > 1 and arguments[1] is not None)
