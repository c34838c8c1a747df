# SPDX-License-Identifier: Apache-2.0
"""License containers: may this run, how often, and who says so; offline, with proof.

    import tallystick

    TRUST = "tallytrust:acme:pAECAyggASFYI..."            # one line from `tally vendor init`

    with tallystick.open("file:", trust=TRUST) as container:
        with container.checkout("render") as seat:
            seat.require("pdf")                            # raises with a remedy; `check` returns True or False
            seat.consume(1)                                # exactly one unit, durable before it returns
            data = seat.unlock(open("model.tally", "rb").read())

``container.request`` and ``container.install`` activate it, `errors.TallystickError` is the root of what can be raised,
and ``tally --help`` does all of it on the command line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tallystick.errors import TallystickError
from tallystick.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tallystick.container.base import Container
    from tallystick.container.seat import Seat, requires
    from tallystick.container.secrets import SecretRequest, SecretsHandler
    from tallystick.license.trust import Trust

__all__ = [
    "Container",
    "Seat",
    "SecretRequest",
    "SecretsHandler",
    "TallystickError",
    "Trust",
    "__version__",
    "create",
    "destroy",
    "open",
    "requires",
    "view",
]

_LAZY = {
    "Container": "tallystick.container.base",
    "Seat": "tallystick.container.seat",
    "SecretRequest": "tallystick.container.secrets",
    "SecretsHandler": "tallystick.container.secrets",
    "requires": "tallystick.container.seat",
    "Trust": "tallystick.license.trust",
}


def open(
    uri: str = "file:",
    trust: str | Trust | Sequence[str | Trust] | None = None,
    *,
    reproof_s: float = 60.0,
    background: bool = True,
    secrets: SecretsHandler | None = None,
) -> Container:
    """Open a license container.

    Args:
        uri: where it is: ``file:``, ``file:NAME``, ``file:/path``, or a scheme of another backend.
        trust: the vendor's trust text pinned in the application, a `Trust`, or several; without it nothing can be
            checked out.
        reproof_s: seconds for which one proof of the container's key holds, 1 to 3600.
        background: renew seats from a thread, so that `Seat.check` never waits.
        secrets: asked for the PIN where the container's device wants one (a `SecretRequest` says whose), if the URI
            names no file with it; returns it, or an empty text for none. Not asked by devices that want none.

    Returns:
        The container; use it as a context manager.

    Raises:
        UsageError: ``bad_uri``, ``unknown_scheme``, ``usage`` (a damaged trust text).
        NotFoundError: ``container_not_found``.
        LockedError: ``binding_lost``, ``tampered``, ``rolled_back``; `view` still reads what can be read; or
            ``pin_needed``, ``pin_wrong``, ``pin_blocked``.
        BackendUnavailableError: an extra or a device is missing.
        StorageError: permission, space or I/O.
    """
    from tallystick import registry

    backend: Any = registry.backend(uri)
    opened: Container = backend.open(
        uri, _trusts(trust), reproof_s=reproof_s, background=background, **_asking(backend, secrets)
    )
    return opened


def create(
    uri: str = "file:",
    trust: str | Trust | Sequence[str | Trust] | None = None,
    *,
    tolerance: str = "medium",
    secrets: SecretsHandler | None = None,
) -> Container:
    """Make a license container.

    Args:
        uri: where.
        trust: as in `open`.
        tolerance: of a machine-bound container: loose, medium or strict.
        secrets: as in `open`.

    Returns:
        The open container.

    Raises:
        UsageError, BackendUnavailableError, StorageError, LockedError (of the PIN): as in `open`.
        ContainerError: ``already_exists``.
    """
    from tallystick import registry

    backend: Any = registry.backend(uri)
    made: Container = backend.create(uri, _trusts(trust), tolerance=tolerance, **_asking(backend, secrets))
    return made


def view(uri: str = "file:", *, secrets: SecretsHandler | None = None) -> Container:
    """Open a container to look at it, also where it is locked.

    Args:
        uri: where.
        secrets: as in `open`.

    Returns:
        The container; a locked one refuses everything but reading and `Container.repair_request`.

    Raises:
        As `open`, without LockedError where anything can still be read.
    """
    from tallystick import registry

    backend: Any = registry.backend(uri)
    opened: Container = backend.view(uri, **_asking(backend, secrets))
    return opened


def destroy(
    uri: str, *, force: bool = False, dry_run: bool = False, secrets: SecretsHandler | None = None
) -> tuple[str, ...]:
    """Remove a container for good. What interrupts it is gone on with by calling again.

    Args:
        uri: which.
        force: also where it holds licenses, is locked, or its device is gone: what it holds is lost then.
        dry_run: remove nothing.
        secrets: as in `open`.

    Returns:
        What was, or would be, removed, one line each, for people; what stays begins with ``not removed:``.

    Raises:
        ContainerError: ``held``: it holds licenses or is locked; ``not_supported``: nothing of it is on this computer.
        UsageError, NotFoundError, BackendError, BackendUnavailableError, StorageError, LockedError (of the PIN): as in
            `open`.
    """
    from tallystick import registry
    from tallystick.errors import error

    backend: Any = registry.backend(uri)
    if not hasattr(backend, "destroy"):
        raise error("not_supported", f"{uri.partition(':')[0]}: containers are not destroyed from here")
    more = _asking(backend, secrets)
    lines: tuple[str, ...] = tuple(backend.destroy(uri, force=force, dry_run=dry_run, **more))
    return lines


def _asking(backend: Any, secrets: SecretsHandler | None) -> dict[str, SecretsHandler]:
    """Return what a backend takes besides where its devices want a PIN."""
    return {} if secrets is None or not getattr(backend, "asks_secrets", False) else {"secrets": secrets}


def _trusts(trust: str | Trust | Sequence[str | Trust] | None) -> list[Trust]:
    from tallystick.license.trust import Trust

    if trust is None:
        return []
    given = [trust] if isinstance(trust, str | Trust) else list(trust)
    return [Trust.from_text(item) if isinstance(item, str) else item for item in given]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
