# SPDX-License-Identifier: Apache-2.0
"""Containers in a TPM 2.0 (``tpm:``): files on disk, keys and a position in the chip.

The folder is as in `backends.folder`; in ``anchor`` is what it remembers of the TPM (`backends.tpm.record`). There is
no journal: each commit is a snapshot that the TPM's counter and chain confirm (protocol P4).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Final

from tallystick.backends.device import DeviceBackend
from tallystick.backends.keeping import keep_key
from tallystick.backends.tpm.anchor import TpmAnchor, auth_of
from tallystick.backends.tpm.chip import Chip
from tallystick.backends.tpm.details import details
from tallystick.backends.tpm.record import ChipRecord
from tallystick.backends.tpm.transport import Connect, transport
from tallystick.backends.tpm.uri import TpmUri, parse_tpm_uri, read_secret
from tallystick.clock import Clock
from tallystick.container.base import Container
from tallystick.container.places import user_folder
from tallystick.container.session import Session
from tallystick.container.vfs import Directory, Vfs
from tallystick.errors import error
from tallystick.license.trust import Trust

if TYPE_CHECKING:
    from tallystick.backends.clearing import Step


def container_folder(name: str) -> str:
    """Return the folder of a container by name, as this system's conventions have it."""
    return os.path.join(user_folder("tpm"), name)


class TpmBackend(DeviceBackend[TpmUri, TpmAnchor]):
    """Creates, opens and destroys containers in a TPM.

    Args:
        clock: where time comes from; the machine's if omitted.
        connect: opens the way to a TPM; libtss2's if omitted.
        folder: where the files of a container are, by its name.
        vfs: the operating system; the real one if omitted.
    """

    scheme: Final = "tpm"
    _record = ChipRecord
    _device = "tpm"

    def __init__(
        self,
        clock: Clock | None = None,
        connect: Connect = transport,
        folder: Callable[[str], str] = container_folder,
        vfs: Vfs | None = None,
    ) -> None:
        super().__init__(clock, vfs)
        self._connect = connect
        self._folder = folder

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

        def make(directory: Directory, key: bytes) -> TpmAnchor:
            anchor = TpmAnchor.provision(directory, chip, auth, self._clock.read().wall)
            keep_key(directory, anchor, key)
            anchor.define(directory)
            if len(anchor.indices) == 1:  # no room for the chain: the key says so, too, where nobody can edit it
                keep_key(directory, anchor, key)
            return anchor

        tidy = partial(removal.clear_unfinished, chip=chip)
        return self._made(uri, where, trusts, make, tidy=tidy, close=chip.close)

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
        return self._opened(uri, parse_tpm_uri(uri), trusts, reproof_s=reproof_s, background=background)

    def view(self, uri: str) -> Container:
        """Open a container read-only if it is locked, normally if it is not.

        Args:
            uri: ``tpm:`` URI.

        Returns:
            The container, or a `LockedView`.

        Raises:
            NotFoundError, StorageError, UsageError, BackendError: as `open`.
        """
        return self._viewed(uri, parse_tpm_uri(uri))

    def destroy(self, uri: str, *, force: bool = False, dry_run: bool = False) -> tuple[str, ...]:
        """Remove a container for good: its indices and its files; a storage key it made persistent is listed and stays.

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
        return self._destroyed(uri, parse_tpm_uri(uri), force=force, dry_run=dry_run)

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
            return pem.exported(ChipRecord.load(directory), public=public)

    def _chip(self, where: TpmUri) -> Chip:
        chip = Chip(where.tcti, self._connect)
        if where.owner_file:
            chip.own(read_secret(where.owner_file))
        return chip

    def _path(self, where: TpmUri) -> str:
        return where.path or self._folder(where.name)

    def _anchor(self, where: TpmUri, directory: Directory, undo: ExitStack) -> TpmAnchor:
        chip = self._chip(where)
        undo.callback(chip.close)
        ChipRecord.require_states(directory)
        known = ChipRecord.load(directory)
        auth = auth_of(read_secret(where.auth_file)) if known.secret else b""
        if known.secret and not auth:
            raise error("secret_needed", "this container was created with a user secret")
        return TpmAnchor(chip, known, auth)

    def _begun(self, anchor: TpmAnchor, directory: Directory) -> None:
        anchor.begun(directory)

    def _require_whole(self, anchor: TpmAnchor) -> None:
        anchor.require_indices()

    def _details(self, anchor: TpmAnchor, session: Session) -> Mapping[str, str]:
        return details(anchor, session)

    def _renew(self, anchor: TpmAnchor, directory: Directory, generation: int) -> None:
        anchor.renew(directory, generation)

    def _steps(self, where: TpmUri, directory: Directory, undo: ExitStack, *, force: bool) -> Sequence[Step]:
        from tallystick.backends.tpm import removal  # seldom needed

        chip = self._chip(where)
        undo.callback(chip.close)
        return removal.plan(directory, chip, force=force)
