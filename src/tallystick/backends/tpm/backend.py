# SPDX-License-Identifier: Apache-2.0
"""Containers in a TPM 2.0 (``tpm:``): files on disk, keys and a position in the chip.

The folder is as in `backends.folder`; in ``anchor`` is what it remembers of the TPM (`backends.tpm.record`). There is
no journal: each commit is a snapshot that the TPM's counter and chain confirm (protocol P4).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Final

from tallystick.backends.folder import (
    KEY_BYTES,
    KEY_FILE,
    Clear,
    Held,
    locked_view,
    require_vacant,
    sealed_key,
)
from tallystick.backends.tpm import record
from tallystick.backends.tpm.anchor import TpmAnchor, auth_of
from tallystick.backends.tpm.chip import Chip
from tallystick.backends.tpm.details import details
from tallystick.backends.tpm.endorsement import fingerprint
from tallystick.backends.tpm.templates import own_key
from tallystick.backends.tpm.transport import Connect, transport
from tallystick.backends.tpm.uri import TpmUri, parse_tpm_uri, read_secret
from tallystick.clock import Clock, SystemClock
from tallystick.container.base import Container, ContainerInfo
from tallystick.container.mending import MENDABLE, MendingView, Workshop, newest
from tallystick.container.places import user_folder
from tallystick.container.sealed import SealedContainer
from tallystick.container.session import Session
from tallystick.container.store import Store
from tallystick.container.vfs import Directory, Vfs
from tallystick.container.view import LockedView
from tallystick.errors import LockedError, TallystickError, error
from tallystick.license.trust import Trust


def container_folder(name: str) -> str:
    """Return the folder of a container by name, as this system's conventions have it."""
    return os.path.join(user_folder("tpm"), name)


class TpmBackend:
    """Creates, opens and destroys containers in a TPM.

    Args:
        clock: where time comes from; the machine's if omitted.
        connect: opens the way to a TPM; libtss2's if omitted.
        folder: where the files of a container are, by its name.
        vfs: the operating system; the real one if omitted.
    """

    scheme: Final = "tpm"

    def __init__(
        self,
        clock: Clock | None = None,
        connect: Connect = transport,
        folder: Callable[[str], str] = container_folder,
        vfs: Vfs | None = None,
    ) -> None:
        self._clock: Clock = SystemClock() if clock is None else clock
        self._connect = connect
        self._folder = folder
        self._vfs = vfs

    def create(self, uri: str, trusts: Sequence[Trust] = (), *, tolerance: str = "") -> Container:
        """Make a container; a creation that was interrupted is cleared up and begun again.

        Args:
            uri: ``tpm:`` URI.
            trusts: vendors the application trusts.
            tolerance: means nothing here: a TPM is the same or another one.

        Returns:
            The open container.

        Raises:
            UsageError: ``bad_uri``.
            ContainerError: ``already_exists``.
            BackendError: ``chip_full``, ``device_silent``, ``identity_missing``, ``backend_failed``.
            BackendUnavailableError: this computer has no TPM.
            StorageError: ``no_permission`` for the TPM or the folder, and others.
        """
        from tallystick.backends.tpm import removal  # seldom needed

        where = parse_tpm_uri(uri)
        auth = auth_of(read_secret(where.auth_file))
        chip = self._chip(where)
        directory = Directory.open(self._path(where), self._vfs, create=True)
        key = directory.vfs.random(KEY_BYTES)
        store = Store(directory, key, journal=False)
        session: Session | None = None
        try:
            with store.lock():
                removal.clear_unfinished(directory, chip)
                require_vacant(directory, store)
                anchor = TpmAnchor.provision(directory, chip, auth, self._clock.read().wall)
                directory.replace(KEY_FILE, anchor.seal(key))
                anchor.define(directory)
                if len(anchor.indices) == 1:  # no room for the chain: the key says so, too, where nobody can edit it
                    directory.replace(KEY_FILE, anchor.seal(key))
                session = Session(store, anchor, self._clock, directory)
                session.begin()
                anchor.begun(directory)
        except BaseException:
            if session is not None:
                session.close()
            store.close()
            chip.close()
            directory.close()
            raise
        made = session
        return SealedContainer(uri, made, trusts, location=directory.path, details=lambda: details(anchor, made))

    def open(
        self, uri: str, trusts: Sequence[Trust] = (), *, reproof_s: float = 60.0, background: bool = True
    ) -> Container:
        """Open a container.

        Args:
            uri: ``tpm:`` URI.
            trusts: vendors the application trusts.
            reproof_s: seconds a proof of the key holds.
            background: renew seats from a thread.

        Returns:
            The container.

        Raises:
            UsageError: ``bad_uri``.
            NotFoundError: ``container_not_found``.
            LockedError: ``chip_changed``, ``chip_cleared``, ``anchor_lost``, ``anchor_redefined``,
                ``foreign_increment``, ``rolled_back``, ``tampered``, ``secret_needed``, ``secret_wrong``; `view` still
                reads what can be read.
            ContainerError: ``busy``.
            BackendError, BackendUnavailableError, StorageError: as `create`.
        """
        where = parse_tpm_uri(uri)
        directory = Directory.open(self._path(where), self._vfs)
        chip = self._chip(where)
        try:
            session = self._session(directory, chip, where)
        except BaseException:
            chip.close()
            directory.close()
            raise
        try:
            session.current()
            return SealedContainer(
                uri,
                session,
                trusts,
                location=directory.path,
                details=lambda: details(session.anchor, session),
                reproof_s=reproof_s,
                background=background,
            )
        except BaseException:
            session.close()
            raise

    def view(self, uri: str) -> Container:
        """Open a container read-only if it is locked, normally if it is not.

        Args:
            uri: ``tpm:`` URI.

        Returns:
            The container, or a `LockedView`.

        Raises:
            NotFoundError, StorageError, UsageError, BackendError: as `open`.
        """
        try:
            return self.open(uri, background=False)
        except LockedError as reason:
            return self._locked(uri, reason)

    def destroy(self, uri: str, *, force: bool = False, dry_run: bool = False) -> tuple[str, ...]:
        """Remove a container for good: its indices, the storage key if it made that one persistent, its files.

        Args:
            uri: ``tpm:`` URI.
            force: also where it holds licenses, is locked, or its TPM is gone.
            dry_run: remove nothing.

        Returns:
            What was, or would be, removed, for people; what stays begins with `clearing.LEFT`.

        Raises:
            ContainerError: ``held``, ``busy``.
            NotFoundError, UsageError, BackendError, BackendUnavailableError, StorageError: as `open`; after each of
                them destroying again goes on.
        """
        from tallystick.backends import clearing  # seldom needed
        from tallystick.backends.tpm import removal

        where = parse_tpm_uri(uri)
        with Directory.open(self._path(where), self._vfs, read_only=dry_run) as directory:
            clearing.require_something(directory)
            if not force and not clearing.is_begun(directory):
                clearing.require_empty(self.view(uri))
            chip = self._chip(where)
            try:
                return clearing.clear(directory, removal.plan(directory, chip, force=force), dry_run=dry_run)
            finally:
                chip.close()

    def export_key(self, uri: str, *, public: bool = False) -> bytes:
        """Write the identity key of a container as PEM; the TPM is not asked.

        Args:
            uri: ``tpm:`` URI.
            public: the public half only; else "TSS2 PRIVATE KEY", which that TPM alone loads.

        Returns:
            PEM.

        Raises:
            NotFoundError, LockedError (``tampered``), FormatError, StorageError, UsageError.
        """
        from tallystick.backends.tpm import pem  # seldom needed

        with Directory.open(self._path(parse_tpm_uri(uri)), self._vfs, read_only=True) as directory:
            return pem.exported(record.load(directory), public=public)

    def _chip(self, where: TpmUri) -> Chip:
        chip = Chip(where.tcti, self._connect)
        if where.owner_file:
            chip.own(read_secret(where.owner_file))
        return chip

    def _path(self, where: TpmUri) -> str:
        return where.path or self._folder(where.name)

    def _locked(self, uri: str, reason: LockedError) -> Container:
        where = parse_tpm_uri(uri)
        now = self._clock.read().wall
        shop = self._workshop(where) if reason.code in MENDABLE else None

        def make(info: ContainerInfo, held: Held) -> Container:
            if shop is not None:
                return MendingView(info, held, reason, shop)
            return LockedView(info, held, reason, lambda: {"tpm": reason.code}, now)

        with Directory.open(self._path(where), self._vfs, read_only=True) as directory:
            return locked_view(directory, uri, reason, now=now, otherwise=_clear, make=make)

    def _workshop(self, where: TpmUri) -> Workshop | None:
        """Bring together what can mend a container, where its keys still answer and a state can be read."""
        directory = Directory.open(self._path(where), self._vfs)
        chip = self._chip(where)
        store: Store | None = None
        try:
            anchor, key = self._anchor(directory, chip, where)
            store = Store(directory, key, journal=False)
            shop = Workshop(directory, store, anchor, self._clock, lambda: anchor.renew(directory))
            with store.lock():
                newest(shop)
        except TallystickError:
            if store is not None:
                store.close()
            chip.close()
            directory.close()
            return None
        return shop

    def _session(self, directory: Directory, chip: Chip, where: TpmUri) -> Session:
        anchor, key = self._anchor(directory, chip, where)
        anchor.require_indices()
        return Session(Store(directory, key, journal=False), anchor, self._clock, directory)

    def _anchor(self, directory: Directory, chip: Chip, where: TpmUri) -> tuple[TpmAnchor, bytes]:
        record.require_states(directory)
        known = record.load(directory)
        auth = auth_of(read_secret(where.auth_file)) if known.secret else b""
        if known.secret and not auth:
            raise error("secret_needed", "this container was created with a user secret")
        anchor = TpmAnchor(chip, known, auth)
        try:
            key = anchor.unseal(sealed_key(directory))
        except TallystickError as reason:
            if reason.code == "chip_changed" and known.chip and fingerprint(chip) == known.chip:
                raise error("chip_cleared", "this is the container's TPM, but it was cleared since") from reason
            raise
        return anchor, key


def _clear(directory: Directory) -> Clear:
    known = record.load(directory)
    return own_key(known.identity.public).thumbprint, known.created, [], ()
