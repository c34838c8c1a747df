# SPDX-License-Identifier: Apache-2.0
"""URI scheme -> backend, loaded when first used.

Built-in schemes are a table of dotted names; others come from the entry-point group ``tallystick.backends``, whose
entries are named after their scheme and point to a class like `backends.file.FileBackend` (see `Backend`). A built-in
scheme cannot be replaced by a plug-in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from types import MappingProxyType
from typing import Any, Final, Protocol

from tallystick.container.base import Container
from tallystick.errors import TallystickError, error
from tallystick.license.trust import Trust
from tallystick.record import Record

ENTRY_POINTS: Final = "tallystick.backends"


class Backend(Protocol):
    """What a backend class offers; constructed without arguments.

    More methods are welcome, and refused as ``not_supported`` where they are missing: ``destroy(uri, *, force=False,
    dry_run=False)`` removes a container and returns lines that say what was removed, ``explain(uri)`` shows why one
    that is bound to traits of a computer opens there (`backends.enrollment.Explanation`), and ``export_key(uri, *,
    public=False)`` writes its identity key as PEM.

    A backend whose devices want a PIN says ``asks_secrets = True``: then ``create``, ``open``, ``view`` and ``destroy``
    take ``secrets: SecretsHandler | None = None`` besides (`container.secrets`), and call it when they need one.
    """

    scheme: str

    def create(self, uri: str, trusts: Sequence[Trust] = (), **options: Any) -> Container:
        """Make a container."""

    def open(
        self, uri: str, trusts: Sequence[Trust] = (), *, reproof_s: float = 60.0, background: bool = True
    ) -> Container:
        """Open a container."""

    def view(self, uri: str) -> Container:
        """Open a container, read-only where it is locked."""


class BuiltIn(Record):
    """One row of the built-in table.

    Attributes:
        summary: for people.
        target: ``module:class``.
        extra: of the distribution that brings its library.
        library: module that must be importable.
        system: what that library needs of the system, as Debian and Ubuntu install it.
    """

    summary: str
    target: str
    extra: str = ""
    library: str = ""
    system: str = ""


BUILT_IN: Final[Mapping[str, BuiltIn]] = MappingProxyType(
    {
        "file": BuiltIn("folder bound to this machine", "tallystick.backends.file:FileBackend"),
        "tpm": BuiltIn(
            "TPM 2.0 of this machine",
            "tallystick.backends.tpm.backend:TpmBackend",
            "tpm",
            "tpm2_pytss",
            "sudo apt install libtss2-dev",
        ),
        "pkcs11": BuiltIn(
            "smart card, token or HSM", "tallystick.backends.pkcs11.backend:Pkcs11Backend", "pkcs11", "pkcs11"
        ),
        "usb": BuiltIn("Tallystick dongle", "tallystick.dongle.backend:UsbBackend", "usb", "usb"),
    }
)


class Availability(Record):
    """Whether a backend can be used here.

    Attributes:
        scheme: of the URIs.
        summary: for people.
        available: True or False.
        reason: why not.
        remedy: what to do.
    """

    scheme: str
    summary: str
    available: bool
    reason: str = ""
    remedy: str = ""


def backend(uri: str) -> Backend:
    """Find and load the backend of a URI.

    Args:
        uri: ``scheme:...``.

    Returns:
        The backend.

    Raises:
        UsageError: ``bad_uri``, ``unknown_scheme``.
        BackendUnavailableError: naming the extra that is missing.
    """
    scheme, colon, _ = uri.partition(":")
    if not colon or not scheme.isascii() or not scheme.isalnum():
        raise error("bad_uri", f"{uri[:80]!r} is not a container URI")
    row = BUILT_IN.get(scheme)
    if row is not None:
        return _built_in(scheme, row)
    for entry in _plug_ins():
        if entry.name == scheme:
            return _load(scheme, entry.value)
    raise error("unknown_scheme", f"no backend for {scheme}: containers is installed", scheme=scheme)


def availability() -> tuple[Availability, ...]:
    """Report every backend: available, or why not and what to do.

    Returns:
        One row for each scheme, built-in ones first.
    """
    rows = []
    for scheme, row in BUILT_IN.items():
        try:
            _built_in(scheme, row)
            rows.append(Availability(scheme, row.summary, True))
        except TallystickError as reason:
            rows.append(Availability(scheme, row.summary, False, reason.message, reason.remedy))
    for entry in _plug_ins():
        if entry.name not in BUILT_IN:
            try:
                _load(entry.name, entry.value)
                rows.append(Availability(entry.name, f"plug-in {entry.value}", True))
            except TallystickError as reason:
                rows.append(Availability(entry.name, f"plug-in {entry.value}", False, reason.message, reason.remedy))
    return tuple(rows)


def _built_in(scheme: str, row: BuiltIn) -> Backend:
    if row.library:
        try:
            import_module(row.library)
        except ImportError as cause:
            raise _lacking(scheme, row, cause) from cause
    return _load(scheme, row.target)


def _lacking(scheme: str, row: BuiltIn, cause: ImportError) -> TallystickError:
    """Say what has to be installed: the extra, or what its library needs of the system."""
    pip = f'pip install "tallystick[{row.extra}]"'
    if isinstance(cause, ModuleNotFoundError) and (cause.name or "").partition(".")[0] == row.library:
        message = f"{scheme}: containers need the extra {row.extra!r}"
        remedy = f"Install it: {row.system} && {pip}" if row.system else f"Install it: {pip}"
        return error("backend_unavailable", message, remedy, extra=row.extra)
    message = f"the library of the extra {row.extra!r} does not load: {cause}"
    remedy = f"Install what it needs: {row.system}" if row.system else f"Install it again: {pip}"
    return error("backend_unavailable", message, remedy, extra=row.extra)


def _load(scheme: str, target: str) -> Backend:
    module, _, name = target.partition(":")
    try:
        made: Backend = getattr(import_module(module), name)()
    except Exception as cause:  # somebody else's code: whatever it raises, the other backends go on
        message = f"the backend of {scheme}: containers does not load: {cause}"
        raise error("backend_unavailable", message, scheme=scheme) from cause
    return made


def _plug_ins() -> list[Any]:
    from importlib.metadata import entry_points

    return sorted(entry_points(group=ENTRY_POINTS), key=lambda entry: str(entry.name))
