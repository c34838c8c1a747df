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
    locked_view,
    require_container,
    require_vacant,
    sealed_key,
)
from tallystick.backends.tpm import record, removal
from tallystick.backends.tpm.anchor import TpmAnchor, auth_of
from tallystick.backends.tpm.chip import Chip, Connect, transport
from tallystick.backends.tpm.details import details
from tallystick.backends.tpm.endorsement import fingerprint
from tallystick.backends.tpm.templates import key_of
from tallystick.backends.tpm.uri import TpmUri, parse_tpm_uri, read_secret
from tallystick.clock import Clock, SystemClock
from tallystick.container.base import Container
from tallystick.container.places import user_folder
from tallystick.container.sealed import SealedContainer
from tallystick.container.session import Session
from tallystick.container.store import Store
from tallystick.container.vfs import Directory, Vfs
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
        where = parse_tpm_uri(uri)
        auth = auth_of(read_secret(where.auth_file))
        chip = self._chip(where)
        directory = Directory.open(self._path(where), self._vfs, create=True)
        key = directory.vfs.random(KEY_BYTES)
        store = Store(directory, key, journal=False)
        try:
            with store.lock():
                removal.clear_unfinished(directory, chip)
                require_vacant(directory, store)
                anchor = TpmAnchor.provision(directory, chip, auth, self._clock.read().wall)
                directory.replace(KEY_FILE, anchor.seal(key))
                anchor.define(directory)
                session = Session(store, anchor, self._clock, directory)
                session.begin()
        except BaseException:
            store.close()
            chip.close()
            directory.close()
            raise
        return SealedContainer(uri, session, trusts, location=directory.path, details=details(anchor, session))

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
            shown = details(session.anchor, session)
            return SealedContainer(
                uri,
                session,
                trusts,
                location=directory.path,
                details=shown,
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
            where = parse_tpm_uri(uri)
            with Directory.open(self._path(where), self._vfs, read_only=True) as directory:
                now = self._clock.read().wall
                found = {"tpm": reason.code}
                return locked_view(directory, uri, reason, now=now, otherwise=_clear, findings=lambda: found)

    def destroy(self, uri: str, *, force: bool = False) -> tuple[str, ...]:
        """Remove a container: its indices, the storage key if it made that one persistent, its files.

        Args:
            uri: ``tpm:`` URI.
            force: also where it holds licenses, or cannot be read.

        Returns:
            What was removed, for people.

        Raises:
            ContainerError: ``held``: it holds licenses, or it cannot be told.
            NotFoundError, UsageError, BackendError, BackendUnavailableError, StorageError: as `open`.
        """
        where = parse_tpm_uri(uri)
        if not force:
            removal.require_empty(self.view(uri))
        with Directory.open(self._path(where), self._vfs) as directory:
            chip = self._chip(where)
            try:
                return removal.remove(directory, chip)
            finally:
                chip.close()

    def _chip(self, where: TpmUri) -> Chip:
        chip = Chip(where.tcti, self._connect)
        if where.owner_file:
            chip.own(read_secret(where.owner_file))
        return chip

    def _path(self, where: TpmUri) -> str:
        return where.path or self._folder(where.name)

    def _session(self, directory: Directory, chip: Chip, where: TpmUri) -> Session:
        require_container(directory)
        known = record.load(directory)
        auth = auth_of(read_secret(where.auth_file))
        if known.secret and not auth:
            raise error("secret_needed", "this container was created with a user secret")
        anchor = TpmAnchor(chip, known, auth)
        try:
            key = anchor.unseal(sealed_key(directory))
        except TallystickError as reason:
            if reason.code == "chip_changed" and known.chip and fingerprint(chip) == known.chip:
                raise error("chip_cleared", "this is the container's TPM, but it was cleared since") from reason
            raise
        return Session(Store(directory, key, journal=False), anchor, self._clock, directory)


def _clear(directory: Directory) -> Clear:
    known = record.load(directory)
    return key_of(known.identity.public).thumbprint, known.created, [], ()
