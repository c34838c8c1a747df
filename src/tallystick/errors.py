# SPDX-License-Identifier: Apache-2.0
"""Every way Tallystick refuses, in one tree and one table.

    TallystickError            .code  .message  .remedy  .details
    ├─ UsageError              a wrong argument, URI or call order (also a ValueError)
    ├─ FormatError             untrusted bytes do not parse, or are of another kind
    ├─ VerificationError       parsed, but not acceptable (.step of ``license/verify.py`` in details)
    ├─ NotLicensedError        the license does not permit this, now
    ├─ ContainerError          the container refuses or cannot
    │  ├─ LendingError         a loan, transfer, return or recall is not allowed, or not possible now
    │  ├─ NotFoundError        no such container, license, request
    │  └─ LockedError          opened read-only: binding lost, tampered, rolled back
    ├─ StorageError            the files underneath: permission, space, I/O
    ├─ BackendError            the device or library underneath (``__cause__`` is the original)
    │  └─ BackendUnavailableError   an extra, a library or a permission is missing
    └─ AuthorityError          the issuing side refuses

The *code* is the stable name of a condition; `CODES` holds, for each, the class, the exit status of ``tally``,
the HTTP status of the services, and the remedy shown when the place that raises knows no better one.
Errors describe; only the command line and the services decide how they look. Nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from tallystick.codes import TABLE
from tallystick.record import Record


class TallystickError(Exception):
    """A refusal with a stable code, a message for people and a remedy.

    Args:
        code: a key of `CODES`.
        message: one sentence that names what was refused and why, without secrets.
        remedy: one sentence that says what the user can do; the table's remedy if omitted.
        details: facts a program may want (plain values, no secrets), e.g. ``available=3``.
    """

    def __init__(self, code: str, message: str, remedy: str | None = None, **details: object) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.remedy = CODES[code].remedy if remedy is None else remedy
        self.details = details

    def __reduce__(self) -> tuple[object, ...]:
        """Survive pickling (process pools, worker processes)."""
        return (_rebuild, (type(self), self.code, self.message, self.remedy, self.details))


def _rebuild(
    cls: type[TallystickError], code: str, message: str, remedy: str, details: dict[str, object]
) -> TallystickError:
    return cls(code, message, remedy, **details)


class UsageError(TallystickError, ValueError):
    """A wrong argument, URI or order of calls: the program or the command line must change."""


class FormatError(TallystickError):
    """Untrusted bytes do not parse, are too large, or are a file of another kind."""


class VerificationError(TallystickError):
    """The bytes parse, but a signature, a key or a binding is not acceptable."""


class NotLicensedError(TallystickError):
    """The license does not permit this, now; ``details`` says what is left or until when."""


class ContainerError(TallystickError):
    """The container refuses, or cannot do this."""


class LendingError(ContainerError):
    """A loan, transfer, return or recall is not allowed, or not possible now."""


class NotFoundError(ContainerError):
    """There is no such container, license or request."""


class LockedError(ContainerError):
    """The container can only be read: binding lost, tampered with or rolled back. Nothing was deleted."""


class StorageError(TallystickError):
    """The files underneath: missing permission, no space, an I/O error."""


class BackendError(TallystickError):
    """The device or library underneath failed; ``__cause__`` is the original error."""


class BackendUnavailableError(BackendError):
    """A backend cannot be used here: an extra, a library, a device or a permission is missing."""


class AuthorityError(TallystickError):
    """The issuing side refuses."""


class Code(Record):
    """What the table knows of one condition.

    Attributes:
        cls: the class raised.
        exit_status: of ``tally``.
        http_status: of the services.
        title: what it is, for people.
        remedy: what to do, where the place that raises knows no better.
    """

    cls: type[TallystickError]
    exit_status: int
    http_status: int
    title: str
    remedy: str


CODES: Final[Mapping[str, Code]] = MappingProxyType(
    {code: Code(globals()[row[0]], row[1], row[2], row[3], row[4]) for code, row in TABLE.items()}
)


def error(code: str, message: str, remedy: str | None = None, **details: object) -> TallystickError:
    """Build the error of a code, in the class the table gives it.

    Args:
        code: a key of `CODES`.
        message: what was refused and why.
        remedy: what to do; the table's remedy if omitted.
        details: plain facts for programs.

    Returns:
        The exception, to be raised by the caller.
    """
    return CODES[code].cls(code, message, remedy, **details)
