# SPDX-License-Identifier: Apache-2.0
"""Real containers in a folder of the test's own, with everything injected that a test wants to get its hands on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from anchored import AnchoredBackend, Device
from backends.computer import ALL, Hand
from fakes import FakeClock
from issuer import Issuer
from tallystick.backends.file import FileBackend
from tallystick.container.sealed import SealedContainer
from tallystick.container.store_os import Vfs
from tallystick.license.model import License


class Room:
    """A file container, or an anchored one, and its vendor.

    Args:
        path: an empty folder.
        anchored: which of the two.
    """

    def __init__(self, path: Path, *, anchored: bool = False) -> None:
        self.folder = path / "c"
        self.clock = FakeClock()
        self.acme = Issuer()
        self.device = Device.make(str(path / "device")) if anchored else None
        self.opened: list[SealedContainer] = []

    def backend(self, vfs: Vfs | None = None) -> Any:
        """The backend."""
        if self.device is None:
            return FileBackend(self.clock, [Hand(ALL)], vfs)
        return AnchoredBackend(self.device, self.clock, vfs)

    @property
    def uri(self) -> str:
        """Of the container."""
        return f"{'file' if self.device is None else 'anchored'}:{self.folder}"

    def create(self, vfs: Vfs | None = None) -> SealedContainer:
        """Make it."""
        return self._kept(self.backend(vfs).create(self.uri, [self.acme.trust]))

    def open(self, vfs: Vfs | None = None, reproof_s: float = 60.0, background: bool = False) -> SealedContainer:
        """Open it."""
        opened = self.backend(vfs).open(self.uri, [self.acme.trust], reproof_s=reproof_s, background=background)
        return self._kept(opened)

    def _kept(self, container: SealedContainer) -> SealedContainer:
        self.opened.append(container)
        return container

    def sell(self, container: SealedContainer, product: str = "cad", **license_: Any) -> License:
        """Have a license installed."""
        request = container.request(product=product)
        made = self.acme.license(request, **license_)
        container.install(self.acme.answer(request, made))
        return made

    def close(self) -> None:
        """Close everything."""
        for container in self.opened:
            container.close()


class Meddling(Vfs):
    """The operating system, with something done before or after calls of it.

    Args:
        meddle: called with the name of each call and whether it is over.
    """

    __slots__ = ("meddle",)

    def __init__(self, meddle: Callable[[str, bool], None]) -> None:
        self.meddle = meddle


def _meddled(name: str) -> Callable[..., Any]:
    original = getattr(Vfs, name)

    def call(self: Meddling, *args: Any, **kwargs: Any) -> Any:
        self.meddle(name, False)
        result = original(self, *args, **kwargs)
        self.meddle(name, True)
        return result

    return call


CALLS = (
    "open",
    "pread",
    "pwrite",
    "fsync",
    "fdatasync",
    "fsync_dir",
    "rename",
    "unlink",
    "stat",
    "fstat",
    "flock",
    "unlock",
)
for _name in CALLS:
    setattr(Meddling, _name, _meddled(_name))
