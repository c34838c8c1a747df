# SPDX-License-Identifier: Apache-2.0
"""Containers on tokens and in HSMs (``pkcs11:``): files on disk, keys and a mark on the token.

The folder is as in `backends.folder`; in ``anchor`` is what it remembers of the token (`backends.pkcs11.record`). Where
the token keeps private data, each commit is a snapshot that a mark on the token confirms; where it does not, commits go
to the journal, and restored files are not even noticed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from tallystick.backends.device import DeviceBackend
from tallystick.backends.keeping import keep_key
from tallystick.backends.pkcs11 import modules
from tallystick.backends.pkcs11.anchor import Pkcs11Anchor
from tallystick.backends.pkcs11.details import details
from tallystick.backends.pkcs11.loading import connect
from tallystick.backends.pkcs11.modules import Module
from tallystick.backends.pkcs11.record import TokenRecord
from tallystick.backends.pkcs11.token import Connect, Token
from tallystick.backends.pkcs11.uri import Pkcs11Uri, parse_pkcs11_uri
from tallystick.clock import Clock
from tallystick.container.base import Container
from tallystick.container.places import user_folder
from tallystick.container.secrets import SecretsHandler, secrets_of
from tallystick.container.session import Session
from tallystick.container.vfs import Directory, Vfs
from tallystick.errors import TallystickError
from tallystick.license.trust import Trust
from tallystick.record import Record

if TYPE_CHECKING:
    from tallystick.backends.clearing import Step


def container_folder(name: str) -> str:
    """Return the folder of a container by name, as this system's conventions have it."""
    return os.path.join(user_folder("pkcs11"), name)


class _Asked(Record):
    """Which container is meant, and who is asked for its PIN.

    Attributes:
        uri: read.
        secrets: asked for the PIN.
    """

    uri: Pkcs11Uri
    secrets: SecretsHandler | None


class Pkcs11Backend(DeviceBackend[_Asked, Pkcs11Anchor]):
    """Creates, opens and destroys containers on tokens.

    Args:
        clock: where time comes from; the machine's if omitted.
        connect: opens the way to a module; in this process, or in one of its own, if omitted.
        folder: where the files of a container are, by its name.
        vfs: the operating system; the real one if omitted.
        allowed: given a URI, the modules its token may be in; those the administrator allows if omitted.
    """

    scheme: Final = "pkcs11"
    asks_secrets: Final = True
    _record = TokenRecord
    _device = "token"

    def __init__(
        self,
        clock: Clock | None = None,
        connect: Connect = connect,
        folder: Callable[[str], str] = container_folder,
        vfs: Vfs | None = None,
        allowed: Callable[[Pkcs11Uri], tuple[Module, ...]] = modules.chosen,
    ) -> None:
        super().__init__(clock, vfs)
        self._connect = connect
        self._folder = folder
        self._allowed = allowed

    def create(
        self, uri: str, trusts: Sequence[Trust] = (), *, tolerance: str = "", secrets: SecretsHandler | None = None
    ) -> Container:
        """Make a container; a creation that was interrupted is cleared up and begun again.

        Args:
            uri: ``pkcs11:`` URI.
            trusts: vendors the application trusts.
            tolerance: means nothing here.
            secrets: asked for the PIN.

        Returns:
            The open container.

        Raises:
            UsageError: ``bad_uri``, ``module_not_allowed``, ``ambiguous``: several tokens answer to the URI.
            ContainerError: ``already_exists``: a container, here or by the same key; ``not_supported``: the token can
                hold none, and why.
            LockedError: ``pin_needed``, ``pin_wrong``, ``pin_blocked``.
            BackendError: of the token; ``identity_missing``: the PIN's file.
            BackendUnavailableError, StorageError.
        """
        from tallystick.backends.pkcs11.choosing import narrowed  # seldom needed
        from tallystick.backends.pkcs11.provision import clear_unfinished, provision

        asked = _asked(uri, secrets)
        where = asked.uri
        token = Token(where, narrowed(where, self._allowed(where), self._connect), self._connect, None, asked.secrets)

        def tidy(directory: Directory) -> None:
            unfinished = TokenRecord.unfinished(directory)
            if unfinished is not None:
                clear_unfinished(unfinished, token)

        def make(directory: Directory, key: bytes) -> Pkcs11Anchor:
            anchor = provision(directory, token, where, self._clock.read().wall)
            keep_key(directory, anchor, key)
            return anchor

        return self._made(uri, asked, trusts, make, tidy=tidy, close=token.close)

    def open(
        self,
        uri: str,
        trusts: Sequence[Trust] = (),
        *,
        reproof_s: float = 60.0,
        background: bool = True,
        secrets: SecretsHandler | None = None,
    ) -> Container:
        """Open a container.

        Args:
            uri: ``pkcs11:`` URI.
            trusts: vendors the application trusts.
            reproof_s: seconds a proof of the key holds.
            background: renew seats from a thread.
            secrets: asked for the PIN.

        Returns:
            The container.

        Raises:
            NotFoundError: ``container_not_found``.
            LockedError: of the PIN; ``anchor_lost``, ``rolled_back``, ``tampered``: `view` reads what can be read.
            UsageError, BackendError, BackendUnavailableError, StorageError, ContainerError (``busy``): as `create`.
        """
        return self._opened(uri, _asked(uri, secrets), trusts, reproof_s=reproof_s, background=background)

    def view(self, uri: str, *, secrets: SecretsHandler | None = None) -> Container:
        """Open a container read-only if it is locked, normally if it is not.

        Args:
            uri: ``pkcs11:`` URI.
            secrets: asked for the PIN.

        Returns:
            The container, or a `LockedView`.

        Raises:
            NotFoundError, StorageError, UsageError, BackendError: as `open`; LockedError: of the PIN.
        """
        return self._viewed(uri, _asked(uri, secrets))

    def destroy(
        self, uri: str, *, force: bool = False, dry_run: bool = False, secrets: SecretsHandler | None = None
    ) -> tuple[str, ...]:
        """Remove a container for good: its keys, marks and secret on the token, and its files.

        Args:
            uri: ``pkcs11:`` URI.
            force: also where it holds licenses, is locked, or its token is gone.
            dry_run: remove nothing.
            secrets: asked for the PIN.

        Returns:
            What was, or would be, removed, for people; what stays begins with `clearing.LEFT`.

        Raises:
            ContainerError: ``held``, ``busy``.
            TallystickError: others as of `open`; after each of them destroying again goes on.
        """
        return self._destroyed(uri, _asked(uri, secrets), force=force, dry_run=dry_run)

    def _path(self, where: _Asked) -> str:
        return where.uri.path or self._folder(where.uri.name)

    def _token(self, where: _Asked, known: TokenRecord, undo: ExitStack) -> Token:
        found = self._allowed(where.uri)
        likeliest = sorted(found, key=lambda module: module.path != known.module)
        token = Token(where.uri, tuple(likeliest), self._connect, known.key, where.secrets, known.known)
        undo.callback(token.close)
        return token

    def _anchor(self, where: _Asked, directory: Directory, undo: ExitStack) -> Pkcs11Anchor:
        TokenRecord.require_states(directory)
        known = TokenRecord.load(directory)
        return Pkcs11Anchor(self._token(where, known, undo), known)

    def _is_journaled(self, anchor: Pkcs11Anchor | None) -> bool:
        return anchor is not None and not anchor.known.mode.marks

    def _begun(self, anchor: Pkcs11Anchor, directory: Directory) -> None:
        anchor.begun(directory)

    def _settle(self, container: Container, anchor: Pkcs11Anchor, session: Session) -> None:
        if not anchor.known.begun:  # its creation was cut off behind its first state
            with session.store.lock():
                anchor.begun(session.directory)

    def _details(self, anchor: Pkcs11Anchor, session: Session) -> Mapping[str, str]:
        return details(anchor)

    def _renew(self, anchor: Pkcs11Anchor, directory: Directory, generation: int) -> None:
        anchor.renew(generation)

    def _is_shown(self, reason: TallystickError) -> bool:
        return super()._is_shown(reason) and not reason.code.startswith("pin_")

    def _steps(self, where: _Asked, directory: Directory, undo: ExitStack, *, force: bool) -> Sequence[Step]:
        from tallystick.backends.pkcs11 import removal  # seldom needed

        return removal.plan(directory, lambda known: self._token(where, known, undo), force=force)


def _asked(uri: str, secrets: SecretsHandler | None) -> _Asked:
    where = parse_pkcs11_uri(uri)
    return _Asked(where, secrets_of(where.pin_file, secrets))
