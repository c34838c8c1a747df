# SPDX-License-Identifier: Apache-2.0
"""Containers whose keys are in a device: as all others (`backends.keeping`), and they can be mended."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from typing import ClassVar

from tallystick.backends.folder import Clear, Held
from tallystick.backends.keeping import A, FolderBackend, W
from tallystick.backends.remembered import Remembered
from tallystick.container.base import Container, ContainerInfo
from tallystick.container.mending import MENDABLE, MendingView, Workshop, newest
from tallystick.container.vfs import Directory
from tallystick.errors import TallystickError


class DeviceBackend(FolderBackend[W, A]):
    """What the backends of containers with keys in a device have in common."""

    _record: ClassVar[type[Remembered]]
    """What a container remembers of its device."""
    _device: ClassVar[str]
    """What the device is called in an explanation."""

    def _clear(self, directory: Directory) -> Clear:
        known = self._record.load(directory)
        return known.public_key.thumbprint, known.created, [], ()

    def _findings(self, where: W, reason: TallystickError) -> Mapping[str, str]:
        return {self._device: reason.code}

    def _view(self, where: W, reason: TallystickError, info: ContainerInfo, held: Held) -> Container:
        shop = self._workshop(where) if reason.code in MENDABLE else None
        if shop is None:
            return super()._view(where, reason, info, held)
        return MendingView(info, held, reason, shop)

    def _workshop(self, where: W) -> Workshop | None:
        """Bring together what can mend a container, where its keys still answer and a state can be read."""
        with ExitStack() as undo:
            directory = undo.enter_context(Directory.open(self._path(where), self._vfs))
            try:
                anchor, store = self._reached(where, directory, undo)
                renew = partial(self._renew, anchor, directory)
                shop = Workshop(directory, store, anchor, self._clock, renew)
                with store.lock():
                    newest(shop)
            except TallystickError:
                return None
            undo.pop_all()
        return shop

    @abstractmethod
    def _renew(self, anchor: A, directory: Directory, generation: int) -> None:
        """Make anew what the anchor lost; the newest state has this generation."""
