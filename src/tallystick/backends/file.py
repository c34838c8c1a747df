# SPDX-License-Identifier: Apache-2.0
"""File containers: a folder bound to this machine (``file:``, level L0).

The folder is as in `backends.folder`; in ``anchor`` are the keys, bound to the machine: see `backends.software`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from tallystick.backends.enrollment import Explanation
from tallystick.backends.file_uri import FileUri, parse_file_uri, read_identity
from tallystick.backends.folder import Clear, require_container
from tallystick.backends.header import read_header
from tallystick.backends.keeping import FolderBackend, keep_key
from tallystick.backends.software import SoftwareAnchor
from tallystick.backends.software import explain as explain_binding
from tallystick.backends.traits.base import TraitSource
from tallystick.clock import Clock
from tallystick.container.base import Container
from tallystick.container.sealed import SealedContainer
from tallystick.container.session import Session
from tallystick.container.vfs import Directory, Vfs
from tallystick.errors import StorageError, TallystickError
from tallystick.license.trust import Trust

if TYPE_CHECKING:
    from tallystick.backends.clearing import Step


class FileBackend(FolderBackend[FileUri, SoftwareAnchor]):
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
        super().__init__(clock, vfs)
        self._sources = sources

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

        def make(directory: Directory, key: bytes) -> SoftwareAnchor:
            now = self._clock.read().wall
            anchor = SoftwareAnchor.create(
                directory, tolerance=tolerance, sources=self._sources, identity=identity, now=now
            )
            keep_key(directory, anchor, key)
            return anchor

        return self._made(uri, where, trusts, make)

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
        return self._opened(uri, parse_file_uri(uri), trusts, reproof_s=reproof_s, background=background)

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
        return self._viewed(uri, parse_file_uri(uri))

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
        return self._destroyed(uri, parse_file_uri(uri), force=force, dry_run=dry_run)

    def explain(self, uri: str) -> Explanation:
        """Show, trait by trait, why a container opens here or does not. Changes nothing.

        Args:
            uri: ``file:`` URI.

        Returns:
            The explanation; digests only.

        Raises:
            NotFoundError, LockedError (``tampered``), StorageError, UsageError.
        """
        return self._explained(parse_file_uri(uri))

    def _explained(self, where: FileUri) -> Explanation:
        with Directory.open(where.path, self._vfs, read_only=True) as directory:
            return explain_binding(directory, self._sources, _identity(where))

    def _path(self, where: FileUri) -> str:
        return where.path

    def _anchor(self, where: FileUri, directory: Directory, undo: ExitStack) -> SoftwareAnchor:
        require_container(directory)
        now = self._clock.read().wall
        return SoftwareAnchor.open(directory, sources=self._sources, identity=_identity(where), now=now)

    def _is_journaled(self, anchor: SoftwareAnchor | None) -> bool:
        return True

    def _settle(self, container: SealedContainer, anchor: SoftwareAnchor, session: Session) -> None:
        for trait in anchor.drift:
            try:
                container.note("drift", f"{trait} of this computer changed within the tolerance and was enrolled anew")
            except StorageError:  # a full disk: the anchor file has the record, no reason to lock anybody out
                return

    def _details(self, anchor: SoftwareAnchor, session: Session) -> Mapping[str, str]:
        return {"tolerance": anchor.tolerance, "machine": anchor.profile, "level": "L0"}

    def _is_shown(self, reason: TallystickError) -> bool:
        return super()._is_shown(reason) or reason.code == "identity_missing"

    def _clear(self, directory: Directory) -> Clear:
        header = read_header(directory)
        return header.identity.thumbprint, header.created, [], ()

    def _findings(self, where: FileUri, reason: TallystickError) -> Mapping[str, str]:
        try:
            return {row.name: row.verdict for row in self._explained(where).rows}
        except TallystickError as unexplained:
            return {"binding": unexplained.code}

    def _steps(self, where: FileUri, directory: Directory, undo: ExitStack, *, force: bool) -> Sequence[Step]:
        try:
            read_header(directory)
        except TallystickError as reason:
            if reason.code == "unsupported_version":  # files of a container whose keys are somewhere else
                raise
        return ()


def _identity(where: FileUri) -> bytes | None:
    return None if where.identity_file is None else read_identity(os.path.abspath(where.identity_file))
