# SPDX-License-Identifier: Apache-2.0
"""What a backend brings to the conformance suite: a `BackendCase`. Tallystick's own cases stand at the end.

A case is a row of functions, so that a backend in another project needs nothing of ours but this file. They are
functions of modules, not closures: the tests about several processes send them there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anchored import AnchoredBackend, Device
from backends.computer import ALL, Hand
from fakes import FakeClock
from tallystick.backends.file import FileBackend
from tallystick.container.anchor import Capability
from tallystick.container.base import Container
from tallystick.license.trust import Trust


@dataclass
class Place:
    """Where one test's container is.

    Attributes:
        path: an empty folder of the test's own.
        clock: the time the container goes by; the test moves it.
        devices: whatever a case has to find again when the container is opened the next time.
    """

    path: Path
    clock: FakeClock = field(default_factory=FakeClock)
    devices: dict[str, Any] = field(default_factory=dict)


Create = Callable[[Place, Sequence[Trust]], Container]
Open = Callable[[Place, Sequence[Trust], float], Container]
Touch = Callable[[Place, Container], None]


@dataclass(frozen=True)
class BackendCase:
    """A backend under test.

    Attributes:
        name: for people, and the id of its tests.
        capabilities: what its containers must report; tests that need another one are skipped and say so.
        create: makes a container in a place and opens it.
        open: opens it with a re-proof interval in seconds, *without* a renewing thread (``background=False``).
        view: opens it as `tallystick.view` does; None where a locked container cannot be looked at.
        unplug: makes the container's key stop answering, for good.
        impostor: makes another key answer in its place.
        step: does what the renewing thread does once.
        files: the folder whose files an attacker could copy and restore; None where there is none.
        kind: what its requests call the backend; empty: the URI's scheme.
        shared: whether another process can open the same container.
        leave: clears up what the case made besides containers.
        patience_s: how long processes and threads that work hard may take together.
        slice: classes of the suite that are run without being asked for, for a case much like another; empty: all. A
            run with ``-k`` knows what it wants, and slices nothing.
    """

    name: str
    capabilities: Capability
    create: Create
    open: Open
    view: Callable[[Place], Container] | None = None
    unplug: Touch | None = None
    impostor: Touch | None = None
    step: Callable[[Container], None] | None = None
    files: Callable[[Place], Path] | None = None
    kind: str = ""
    shared: bool = True
    leave: Callable[[Place], None] | None = None
    patience_s: float = 120.0
    slice: frozenset[str] = frozenset()

    def __repr__(self) -> str:
        return self.name


# ------------------------------------------------------------------------------------------------- Tallystick's own


def renew(container: Container) -> None:
    """The renewing thread's one step, of every `SealedContainer`."""
    container._seating._renewer.step()  # type: ignore[attr-defined]


def _file(place: Place) -> FileBackend:
    return FileBackend(place.clock, [Hand(ALL)])


def file_folder(place: Place) -> Path:
    """Where the files are."""
    return place.path / "container"


def file_create(place: Place, trusts: Sequence[Trust]) -> Container:
    """Make a file container."""
    return _file(place).create(f"file:{file_folder(place)}", trusts)


def file_open(place: Place, trusts: Sequence[Trust], reproof_s: float = 60.0) -> Container:
    """Open it."""
    return _file(place).open(f"file:{file_folder(place)}", trusts, reproof_s=reproof_s, background=False)


def file_view(place: Place) -> Container:
    """Look at it."""
    return _file(place).view(f"file:{file_folder(place)}")


def file_unplug(place: Place, container: Container) -> None:
    """Take the private key out of memory: a file has nothing that could be pulled out."""
    container._session.anchor.close()  # type: ignore[attr-defined]


def file_impostor(place: Place, container: Container) -> None:
    """Put another container's key in its place."""
    other = _file(place).create(f"file:{place.path / 'other'}")
    container._session.anchor = other._session.anchor  # type: ignore[attr-defined]


FILE = BackendCase(
    "file",
    Capability.UNLOCK,
    file_create,
    file_open,
    view=file_view,
    unplug=file_unplug,
    impostor=file_impostor,
    step=renew,
    files=file_folder,
)


def _anchored(place: Place) -> AnchoredBackend:
    path = place.path / "device"
    device = Device(str(path)) if path.exists() else Device.make(str(path))
    return AnchoredBackend(device, place.clock)


def anchored_create(place: Place, trusts: Sequence[Trust]) -> Container:
    """Make a container bound to the test's device."""
    return _anchored(place).create(f"anchored:{file_folder(place)}", trusts)


def anchored_open(place: Place, trusts: Sequence[Trust], reproof_s: float = 60.0) -> Container:
    """Open it."""
    uri = f"anchored:{file_folder(place)}"
    return _anchored(place).open(uri, trusts, reproof_s=reproof_s, background=False)


def anchored_view(place: Place) -> Container:
    """Look at it."""
    return _anchored(place).view(f"anchored:{file_folder(place)}")


def anchored_unplug(place: Place, container: Container) -> None:
    """Pull the device out."""
    Device(str(place.path / "device")).plant("unplugged")


def anchored_impostor(place: Place, container: Container) -> None:
    """Swap the device."""
    Device(str(place.path / "device")).plant("impostor")


ANCHORED = BackendCase(
    "anchored",
    Capability.UNLOCK | Capability.ROLLBACK_PROOF | Capability.NON_EXPORTABLE,
    anchored_create,
    anchored_open,
    view=anchored_view,
    unplug=anchored_unplug,
    impostor=anchored_impostor,
    step=renew,
    files=file_folder,
)
