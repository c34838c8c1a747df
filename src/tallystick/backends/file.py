# SPDX-License-Identifier: Apache-2.0
"""File containers: a folder bound to this machine (``file:``, level L0).

The folder is as in `backends.folder`; in ``anchor`` are the keys, bound to the machine: see `backends.software`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Final

from tallystick.backends.enrollment import Explanation
from tallystick.backends.file_uri import FileUri, parse_file_uri, read_identity
from tallystick.backends.folder import (
    KEY_BYTES,
    KEY_FILE,
    Clear,
    locked_view,
    require_container,
    require_vacant,
    sealed_key,
)
from tallystick.backends.header import read_header
from tallystick.backends.software import SoftwareAnchor
from tallystick.backends.software import explain as explain_binding
from tallystick.backends.traits.base import TraitSource
from tallystick.clock import Clock, SystemClock
from tallystick.container.base import Container
from tallystick.container.sealed import SealedContainer
from tallystick.container.session import Session
from tallystick.container.store import Store
from tallystick.container.vfs import Directory, Vfs
from tallystick.errors import LockedError, StorageError, TallystickError
from tallystick.license.trust import Trust


class FileBackend:
    """Creates and opens file containers.

    Args:
        clock: where time comes from; the machine's if omitted.
        sources: trait readers; those of this system if omitted.
        vfs: the operating system; the real one if omitted.
    """

    scheme: Final = "file"

    def __init__(
        self, clock: Clock | None = None, sources: Sequence[TraitSource] | None = None, vfs: Vfs | None = None
    ) -> None:
        self._clock: Clock = SystemClock() if clock is None else clock
        self._sources = sources
        self._vfs = vfs

    def create(self, uri: str, trusts: Sequence[Trust] = (), *, tolerance: str = "medium") -> Container:
        """Make a container; a creation that was interrupted is finished by creating again.

        Args:
            uri: ``file:`` URI.
            trusts: vendors the application trusts.
            tolerance: loose, medium or strict: how much of the machine may change.

        Returns:
            The open container.

        Raises:
            UsageError: ``bad_uri``, ``usage``.
            ContainerError: ``already_exists``.
            LockedError: ``rolled_back`` where the states of a container were taken away.
            BackendError: ``identity_missing``.
            StorageError.
        """
        where = parse_file_uri(uri)
        identity = _identity(where)
        directory = Directory.open(where.path, self._vfs, create=True)
        key = directory.vfs.random(KEY_BYTES)
        store = Store(directory, key)
        try:
            with store.lock():  # two creations at once would leave the keys of one and the state of the other
                require_vacant(directory, store)
                now = self._clock.read().wall
                anchor = SoftwareAnchor.create(
                    directory, tolerance=tolerance, sources=self._sources, identity=identity, now=now
                )
                directory.replace(KEY_FILE, anchor.seal(key))
                session = Session(store, anchor, self._clock, directory)
                session.begin()
        except BaseException:
            store.close()
            directory.close()
            raise
        return SealedContainer(uri, session, trusts, location=where.path, details=_details(anchor))

    def open(
        self, uri: str, trusts: Sequence[Trust] = (), *, reproof_s: float = 60.0, background: bool = True
    ) -> Container:
        """Open a container.

        Args:
            uri: ``file:`` URI.
            trusts: vendors the application trusts.
            reproof_s: seconds a proof of the key holds.
            background: renew seats from a thread.

        Returns:
            The container.

        Raises:
            UsageError: ``bad_uri``.
            NotFoundError: ``container_not_found``.
            LockedError: ``binding_lost``, ``tampered`` or ``rolled_back``; `view` still reads what can be read.
            BackendError: ``identity_missing``.
            StorageError.
        """
        where = parse_file_uri(uri)
        directory = Directory.open(where.path, self._vfs)
        try:
            anchor, session = self._session(directory, where)
        except BaseException:
            directory.close()
            raise
        try:
            session.current()
            container = SealedContainer(
                uri,
                session,
                trusts,
                location=where.path,
                details=_details(anchor),
                reproof_s=reproof_s,
                background=background,
            )
            _note_drift(container, anchor)
        except BaseException:
            session.close()
            raise
        return container

    def view(self, uri: str) -> Container:
        """Open a container read-only if it is locked, normally if it is not.

        Args:
            uri: ``file:`` URI.

        Returns:
            The container, or a `LockedView`.

        Raises:
            NotFoundError, StorageError, UsageError: as `open`.
            LockedError: ``tampered`` where not even the clear header can be read.
        """
        try:
            return self.open(uri, background=False)
        except LockedError as reason:
            return self._locked(uri, reason)
        except TallystickError as reason:
            if reason.code != "identity_missing":
                raise
            return self._locked(uri, reason)

    def destroy(self, uri: str, *, force: bool = False, dry_run: bool = False) -> tuple[str, ...]:
        """Remove a container for good; interrupted, it is gone on with by destroying again.

        Args:
            uri: ``file:`` URI.
            force: also where it holds licenses, or is locked.
            dry_run: remove nothing.

        Returns:
            What was, or would be, removed, for people; what stays begins with `clearing.LEFT`.

        Raises:
            ContainerError: ``held``, ``busy``.
            FormatError: ``unsupported_version``: of a newer version, or of another backend; not even forced.
            NotFoundError, StorageError, UsageError: as `open`.
        """
        from tallystick.backends import clearing  # seldom needed

        where = parse_file_uri(uri)
        with Directory.open(where.path, self._vfs, read_only=dry_run) as directory:
            clearing.require_something(directory)
            if not force and not clearing.is_begun(directory):
                clearing.require_empty(self.view(uri))
            _require_own(directory)
            return clearing.clear(directory, dry_run=dry_run)

    def explain(self, uri: str) -> Explanation:
        """Show, trait by trait, why a container opens here or does not. Changes nothing.

        Args:
            uri: ``file:`` URI.

        Returns:
            The explanation; digests only.

        Raises:
            NotFoundError, LockedError (``tampered``), StorageError, UsageError.
        """
        where = parse_file_uri(uri)
        directory = Directory.open(where.path, self._vfs, read_only=True)
        try:
            return explain_binding(directory, self._sources, _identity(where))
        finally:
            directory.close()

    def _session(self, directory: Directory, where: FileUri) -> tuple[SoftwareAnchor, Session]:
        require_container(directory)
        now = self._clock.read().wall
        anchor = SoftwareAnchor.open(directory, sources=self._sources, identity=_identity(where), now=now)
        key = anchor.unseal(sealed_key(directory))
        return anchor, Session(Store(directory, key), anchor, self._clock, directory)

    def _locked(self, uri: str, reason: TallystickError) -> Container:
        from tallystick.container.view import LockedView  # seldom needed

        where = parse_file_uri(uri)
        with Directory.open(where.path, self._vfs, read_only=True) as directory:
            now = self._clock.read().wall
            return locked_view(
                directory,
                uri,
                reason,
                now=now,
                otherwise=_header,
                make=lambda info, held: LockedView(info, held, reason, lambda: self._findings(uri), now),
            )

    def _findings(self, uri: str) -> Mapping[str, str]:
        try:
            return {row.name: row.verdict for row in self.explain(uri).rows}
        except TallystickError as reason:
            return {"binding": reason.code}


def _note_drift(container: SealedContainer, anchor: SoftwareAnchor) -> None:
    for trait in anchor.drift:
        try:
            container.note("drift", f"{trait} of this computer changed within the tolerance and was enrolled anew")
        except StorageError:  # a full disk: the anchor file has the record, and that is no reason to lock anybody out
            return


def _require_own(directory: Directory) -> None:
    try:
        read_header(directory)
    except TallystickError as reason:
        if reason.code == "unsupported_version":  # files of a container whose keys are somewhere else
            raise


def _header(directory: Directory) -> Clear:
    header = read_header(directory)
    return header.identity.thumbprint, header.created, [], ()


def _identity(where: FileUri) -> bytes | None:
    return None if where.identity_file is None else read_identity(os.path.abspath(where.identity_file))


def _details(anchor: SoftwareAnchor) -> dict[str, str]:
    return {"tolerance": anchor.tolerance, "machine": anchor.profile, "level": "L0"}
