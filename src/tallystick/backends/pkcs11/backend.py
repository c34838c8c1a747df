# SPDX-License-Identifier: Apache-2.0
"""Containers on tokens and in HSMs (``pkcs11:``): files on disk, keys and a mark on the token.

The folder is as in `backends.folder`; in ``anchor`` is what it remembers of the token (`backends.pkcs11.record`). Where
the token keeps private data, each commit is a snapshot that a mark on the token confirms; where it does not, commits go
to the journal, and restored files are not even noticed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from tallystick.backends.folder import KEY_BYTES, KEY_FILE, Clear, Held, locked_view, require_vacant, sealed_key
from tallystick.backends.pkcs11 import modules, record
from tallystick.backends.pkcs11.anchor import Pkcs11Anchor
from tallystick.backends.pkcs11.details import details
from tallystick.backends.pkcs11.loading import connect
from tallystick.backends.pkcs11.modules import Module
from tallystick.backends.pkcs11.record import TokenRecord
from tallystick.backends.pkcs11.token import Connect, Token
from tallystick.backends.pkcs11.uri import Pkcs11Uri, parse_pkcs11_uri
from tallystick.clock import Clock, SystemClock
from tallystick.codec.keys import PublicKey
from tallystick.container.base import Container, ContainerInfo
from tallystick.container.mending import MENDABLE, MendingView, Workshop, newest
from tallystick.container.places import user_folder
from tallystick.container.sealed import SealedContainer
from tallystick.container.secrets import SecretsHandler, secrets_of
from tallystick.container.session import Session
from tallystick.container.store import Store
from tallystick.container.vfs import Directory, Vfs
from tallystick.container.view import LockedView
from tallystick.errors import LockedError, TallystickError
from tallystick.license.trust import Trust


def container_folder(name: str) -> str:
    """Return the folder of a container by name, as this system's conventions have it."""
    return os.path.join(user_folder("pkcs11"), name)


class Pkcs11Backend:
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

    def __init__(
        self,
        clock: Clock | None = None,
        connect: Connect = connect,
        folder: Callable[[str], str] = container_folder,
        vfs: Vfs | None = None,
        allowed: Callable[[Pkcs11Uri], tuple[Module, ...]] = modules.chosen,
    ) -> None:
        self._clock: Clock = SystemClock() if clock is None else clock
        self._connect = connect
        self._folder = folder
        self._vfs = vfs
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
            ContainerError: ``already_exists``; ``not_supported``: the token can hold none, and why.
            LockedError: ``pin_needed``, ``pin_wrong``, ``pin_blocked``.
            BackendError: of the token; ``identity_missing``: the PIN's file.
            BackendUnavailableError, StorageError.
        """
        from tallystick.backends.pkcs11.choosing import narrowed  # seldom needed
        from tallystick.backends.pkcs11.provision import clear_unfinished, provision

        where = parse_pkcs11_uri(uri)
        asked = secrets_of(where.pin_file, secrets)
        token = Token(where, narrowed(where, self._allowed(where), self._connect), self._connect, None, asked)
        directory = Directory.open(self._path(where), self._vfs, create=True)
        key = directory.vfs.random(KEY_BYTES)
        store = Store(directory, key, journal=False)
        session: Session | None = None
        try:
            with store.lock():
                if record.is_unfinished(directory):
                    clear_unfinished(record.load(directory), token)
                require_vacant(directory, store)
                anchor = provision(directory, token, where, self._clock.read().wall)
                directory.replace(KEY_FILE, anchor.seal(key))
                store.journaled = not anchor.known.mode.marks
                session = Session(store, anchor, self._clock, directory)
                session.begin()
                anchor.begun(directory)
        except BaseException:
            if session is not None:
                session.close()
            store.close()
            token.close()
            directory.close()
            raise
        return SealedContainer(uri, session, trusts, location=directory.path, details=lambda: details(anchor))

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
        where = parse_pkcs11_uri(uri)
        directory = Directory.open(self._path(where), self._vfs)
        try:
            anchor, session = self._session(directory, where, secrets_of(where.pin_file, secrets))
        except BaseException:
            directory.close()
            raise
        try:
            session.current()
            if not anchor.known.begun:  # its creation was cut off behind its first state
                with session.store.lock():
                    anchor.begun(directory)
            return SealedContainer(
                uri,
                session,
                trusts,
                location=directory.path,
                details=lambda: details(anchor),
                reproof_s=reproof_s,
                background=background,
            )
        except BaseException:
            session.close()
            raise

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
        try:
            return self.open(uri, background=False, secrets=secrets)
        except LockedError as reason:
            if reason.code.startswith("pin_"):
                raise
            return self._locked(uri, reason, secrets_of(parse_pkcs11_uri(uri).pin_file, secrets))

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
        from tallystick.backends import clearing  # seldom needed
        from tallystick.backends.pkcs11 import removal

        where = parse_pkcs11_uri(uri)
        asked = secrets_of(where.pin_file, secrets)
        tokens: list[Token] = []

        def token(known: TokenRecord) -> Token:
            tokens.append(self._token(where, known, asked))
            return tokens[-1]

        with Directory.open(self._path(where), self._vfs, read_only=dry_run) as directory:
            clearing.require_something(directory)
            if not force and not clearing.is_begun(directory):
                clearing.require_empty(self.view(uri, secrets=secrets))
            try:
                return clearing.clear(directory, removal.plan(directory, token, force=force), dry_run=dry_run)
            finally:
                for one in tokens:
                    one.close()

    def _path(self, where: Pkcs11Uri) -> str:
        return where.path or self._folder(where.name)

    def _token(self, where: Pkcs11Uri, known: TokenRecord, secrets: SecretsHandler | None) -> Token:
        found = self._allowed(where)
        likeliest = sorted(found, key=lambda module: module.path != known.module)
        return Token(where, tuple(likeliest), self._connect, known.key, secrets, known.known)

    def _session(
        self, directory: Directory, where: Pkcs11Uri, secrets: SecretsHandler | None
    ) -> tuple[Pkcs11Anchor, Session]:
        anchor, key = self._anchor(directory, where, secrets)
        store = Store(directory, key, journal=not anchor.known.mode.marks)
        return anchor, Session(store, anchor, self._clock, directory)

    def _anchor(
        self, directory: Directory, where: Pkcs11Uri, secrets: SecretsHandler | None
    ) -> tuple[Pkcs11Anchor, bytes]:
        record.require_states(directory)
        known = record.load(directory)
        anchor = Pkcs11Anchor(self._token(where, known, secrets), known)
        try:
            return anchor, anchor.unseal(sealed_key(directory))
        except BaseException:
            anchor.close()
            raise

    def _locked(self, uri: str, reason: LockedError, secrets: SecretsHandler | None) -> Container:
        where = parse_pkcs11_uri(uri)
        now = self._clock.read().wall
        shop = self._workshop(where, secrets) if reason.code in MENDABLE else None

        def make(info: ContainerInfo, held: Held) -> Container:
            if shop is not None:
                return MendingView(info, held, reason, shop)
            return LockedView(info, held, reason, lambda: {"token": reason.code}, now)

        with Directory.open(self._path(where), self._vfs, read_only=True) as directory:
            return locked_view(directory, uri, reason, now=now, otherwise=_clear, make=make)

    def _workshop(self, where: Pkcs11Uri, secrets: SecretsHandler | None) -> Workshop | None:
        """Bring together what can mend a container, where its keys still answer and a state can be read."""
        directory = Directory.open(self._path(where), self._vfs)
        store: Store | None = None
        anchor: Pkcs11Anchor | None = None
        try:
            anchor, key = self._anchor(directory, where, secrets)
            store = Store(directory, key, journal=not anchor.known.mode.marks)
            shop = Workshop(directory, store, anchor, self._clock, partial(_renew, anchor, store))
            with store.lock():
                newest(shop)
        except TallystickError:
            for one in (store, anchor, directory):
                if one is not None:
                    one.close()
            return None
        return shop


def _renew(anchor: Pkcs11Anchor, store: Store) -> None:
    anchor.renew(store.slots()[0].generation)


def _clear(directory: Directory) -> Clear:
    known = record.load(directory)
    return PublicKey.from_p256_point(known.identity[1]).thumbprint, known.created, [], ()
