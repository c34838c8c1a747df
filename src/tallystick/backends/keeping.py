# SPDX-License-Identifier: Apache-2.0
"""Making, opening, showing and destroying a container that is kept in a folder, whatever its keys are in.

What is done, in which order, and what is let go when something fails, is the same for all and stands here. A backend
says where the folder is, how its anchor is made and opened, and what else is its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from tallystick.backends.folder import KEY_BYTES, KEY_FILE, Clear, Held, locked_view, require_vacant, state_key
from tallystick.clock import Clock, SystemClock
from tallystick.container.anchor import Anchor
from tallystick.container.base import Container, ContainerInfo
from tallystick.container.sealed import SealedContainer
from tallystick.container.session import Session
from tallystick.container.store import Store
from tallystick.container.vfs import Directory, Vfs
from tallystick.errors import LockedError, TallystickError
from tallystick.license.trust import Trust

if TYPE_CHECKING:
    from tallystick.backends.clearing import Step

W = TypeVar("W")
"""What a backend makes of a URI."""
A = TypeVar("A", bound=Anchor)


def keep_key(directory: Directory, anchor: Anchor, key: bytes) -> None:
    """Write the state key of a new container, sealed by its anchor."""
    directory.replace(KEY_FILE, anchor.seal(key))


class FolderBackend(ABC, Generic[W, A]):
    """What the backends of containers in folders have in common; each adds the public methods, and what they raise.

    Args:
        clock: where time comes from; the machine's if omitted.
        vfs: the operating system; the real one if omitted.
    """

    def __init__(self, clock: Clock | None, vfs: Vfs | None) -> None:
        self._clock: Clock = SystemClock() if clock is None else clock
        self._vfs = vfs

    # -- what is the same for all

    def _made(
        self,
        uri: str,
        where: W,
        trusts: Sequence[Trust],
        make: Callable[[Directory, bytes], A],
        *,
        tidy: Callable[[Directory], None] = lambda _: None,
        close: Callable[[], None] = lambda: None,
    ) -> Container:
        """Make a container.

        Args:
            uri: as it was given.
            where: what the backend made of it.
            trusts: vendors the application trusts.
            make: given the folder and the state key, makes the anchor and writes the key, sealed.
            tidy: takes out of the device what an interrupted creation left.
            close: lets go of the device where there is no container in the end.
        """
        with ExitStack() as undo:
            undo.callback(close)
            directory = undo.enter_context(Directory.open(self._path(where), self._vfs, create=True))
            key = directory.vfs.random(KEY_BYTES)
            store = Store(directory, key, journal=self._is_journaled(None))
            undo.callback(store.close)
            with store.lock():  # two creations at once would leave the keys of one and the state of the other
                tidy(directory)
                require_vacant(directory, store)
                anchor = make(directory, key)
                undo.callback(anchor.close)
                store.journaled = self._is_journaled(anchor)
                session = Session(store, anchor, self._clock, directory)
                undo.callback(session.close)
                session.begin()
                self._begun(anchor, directory)
            container = self._container(uri, trusts, anchor, session)
            undo.pop_all()
        return container

    def _opened(self, uri: str, where: W, trusts: Sequence[Trust] = (), **options: Any) -> Container:
        """Open a container; the options are those of `SealedContainer`."""
        with ExitStack() as undo:
            directory = undo.enter_context(Directory.open(self._path(where), self._vfs))
            anchor, store = self._reached(where, directory, undo)
            self._require_whole(anchor)
            session = Session(store, anchor, self._clock, directory)
            undo.callback(session.close)
            session.current()
            container = self._container(uri, trusts, anchor, session, **options)
            self._settle(container, anchor, session)
            undo.pop_all()
        return container

    def _viewed(self, uri: str, where: W) -> Container:
        """Open a container, or show what is left of it."""
        try:
            return self._opened(uri, where, background=False)
        except TallystickError as reason:
            if not self._is_shown(reason):
                raise
            return self._locked(uri, where, reason)

    def _destroyed(self, uri: str, where: W, *, force: bool, dry_run: bool) -> tuple[str, ...]:
        """Remove a container for good."""
        from tallystick.backends import clearing  # seldom needed

        with ExitStack() as undo:
            directory = undo.enter_context(Directory.open(self._path(where), self._vfs, read_only=dry_run))
            clearing.require_something(directory)
            if not force and not clearing.is_begun(directory):
                clearing.require_empty(self._viewed(uri, where))
            return clearing.clear(directory, self._steps(where, directory, undo, force=force), dry_run=dry_run)

    def _reached(self, where: W, directory: Directory, undo: ExitStack) -> tuple[A, Store]:
        """Open the anchor and the store, for whoever closes them by the stack."""
        anchor = self._anchor(where, directory, undo)
        undo.callback(anchor.close)
        store = Store(directory, state_key(directory, anchor.unseal), journal=self._is_journaled(anchor))
        undo.callback(store.close)
        return anchor, store

    def _container(
        self, uri: str, trusts: Sequence[Trust], anchor: A, session: Session, **options: Any
    ) -> SealedContainer:
        location = session.directory.path
        return SealedContainer(
            uri, session, trusts, location=location, details=lambda: self._details(anchor, session), **options
        )

    def _locked(self, uri: str, where: W, reason: TallystickError) -> Container:
        now = self._clock.read().wall
        with Directory.open(self._path(where), self._vfs, read_only=True) as directory:
            view = partial(self._view, where, reason)
            return locked_view(directory, uri, reason, now=now, otherwise=self._clear, make=view)

    def _view(self, where: W, reason: TallystickError, info: ContainerInfo, held: Held) -> Container:
        """Make the view of a container that does not open."""
        from tallystick.container.view import LockedView  # seldom needed

        return LockedView(info, held, reason, lambda: self._findings(where, reason), info.now)

    # -- what each says of itself

    @abstractmethod
    def _path(self, where: W) -> str:
        """Return the container's folder."""

    @abstractmethod
    def _anchor(self, where: W, directory: Directory, undo: ExitStack) -> A:
        """Open the anchor of a container that is there; what else it takes is closed by the stack."""

    @abstractmethod
    def _details(self, anchor: A, session: Session) -> Mapping[str, str]:
        """Return more facts about an open container."""

    @abstractmethod
    def _clear(self, directory: Directory) -> Clear:
        """Tell what is in the clear where no snapshot does."""

    @abstractmethod
    def _findings(self, where: W, reason: TallystickError) -> Mapping[str, str]:
        """Explain why a container does not open."""

    @abstractmethod
    def _steps(self, where: W, directory: Directory, undo: ExitStack, *, force: bool) -> Sequence[Step]:
        """Find what is in the device and how it is removed; refuse what is not this backend's."""

    def _is_journaled(self, anchor: A | None) -> bool:
        """Tell whether commits go to a journal; without an anchor: before one is made."""
        return False

    def _begun(self, anchor: A, directory: Directory) -> None:
        """Record that there is a state, behind the first one."""

    def _require_whole(self, anchor: A) -> None:
        """Refuse an anchor that can be repaired, but not opened."""

    def _settle(self, container: SealedContainer, anchor: A, session: Session) -> None:
        """Do what is left to be done when a container was opened."""

    def _is_shown(self, reason: TallystickError) -> bool:
        """Tell whether a container that does not open for a reason is shown as a locked one."""
        return isinstance(reason, LockedError)
