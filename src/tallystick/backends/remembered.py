# SPDX-License-Identifier: Apache-2.0
"""What a container remembers of the device that has its keys: the file ``anchor`` in its folder.

    anchor-file = [body: bstr .cbor body, checksum: bstr .size 32]     ; checksum = SHA-256(body)

The body is a map: its version, and what each backend adds. It is believed as little as any file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final, Self

from tallystick.backends.folder import ANCHOR_FILE, DESTROYED, require_container
from tallystick.backends.framed import framed, unframed, versioned
from tallystick.codec.keys import PublicKey
from tallystick.container.vfs import Directory
from tallystick.errors import FormatError, LockedError, NotFoundError, error
from tallystick.record import Record

_LIMIT: Final = 16384


class Remembered(Record):
    """What a container remembers of its device; each backend adds to it.

    Attributes:
        created: seconds since 1970.
    """

    _device: ClassVar[str]
    """What the device is called in messages."""
    _rows: ClassVar[Mapping[int, type]]
    """Types of the body's rows, by number."""
    _maybe: ClassVar[frozenset[int]]
    """Rows that may be missing."""
    _version: ClassVar[int]

    created: int

    @property
    def public_key(self) -> PublicKey:
        """The container's identity key."""
        raise NotImplementedError

    def _has_begun(self) -> bool:
        """Tell whether a state was made."""
        raise NotImplementedError

    def _body(self) -> Mapping[int, Any]:
        """Return the rows of the body behind its version."""
        raise NotImplementedError

    @classmethod
    def _of_body(cls, rows: Mapping[int, Any]) -> Self:
        """Undo `_body`; raises FormatError, TypeError or ValueError."""
        raise NotImplementedError

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read the file's contents.

        Args:
            data: the contents.

        Raises:
            FormatError: ``unsupported_version``, or it is damaged; so do TypeError and ValueError say.
        """
        what = f"the record of the {cls._device}"
        return cls._of_body(versioned(unframed(data, _LIMIT), cls._version, cls._rows, what, maybe=cls._maybe))

    @classmethod
    def load(cls, directory: Directory) -> Self:
        """Read the record.

        Args:
            directory: the container's folder.

        Returns:
            The record.

        Raises:
            NotFoundError: ``container_not_found``.
            LockedError: ``tampered``.
            FormatError: ``unsupported_version``.
            StorageError: it cannot be read.
        """
        try:
            data = directory.read(ANCHOR_FILE, _LIMIT)
            if data is None:
                raise error("container_not_found", f"no container in {directory.path}", path=directory.path)
            return cls.from_bytes(data)
        except (FormatError, TypeError, ValueError) as cause:
            if isinstance(cause, FormatError) and cause.code == "unsupported_version":
                raise
            message = f"the container's record of its {cls._device} is damaged"
            raise error("tampered", message, path=directory.path) from cause

    def save(self, directory: Directory) -> None:
        """Write it, durably.

        Args:
            directory: the container's folder.

        Raises:
            StorageError: it cannot be written.
        """
        directory.replace(ANCHOR_FILE, framed({1: self._version, **self._body()}))

    @classmethod
    def require_states(cls, directory: Directory) -> None:
        """Refuse a folder without a state: its creation was interrupted, or its states were taken away.

        Args:
            directory: the container's folder.

        Raises:
            NotFoundError: ``container_not_found``.
            LockedError: ``rolled_back``; ``tampered``.
            StorageError: the record cannot be read.
        """
        try:
            require_container(directory)
        except NotFoundError:
            if {ANCHOR_FILE} == {ANCHOR_FILE, DESTROYED} & {*directory.names()} and cls.load(directory)._has_begun():
                remedy = "Put `state.A` and `state.B` back, or give the container up: `tally destroy --force`."
                message = f"the states of the container in {directory.path} are gone"
                raise error("rolled_back", message, remedy) from None
            raise

    @classmethod
    def unfinished(cls, directory: Directory) -> Self | None:
        """Return what is remembered of a creation that was interrupted; None where there was none, or nobody can tell.

        Args:
            directory: the container's folder.

        Raises:
            LockedError: ``rolled_back``: it was finished, and its states were taken away.
            StorageError: the record cannot be read.
        """
        names = directory.names()
        if ANCHOR_FILE not in names or DESTROYED in names or any(name.startswith("state.") for name in names):
            return None
        try:
            known = cls.load(directory)
        except (LockedError, FormatError):  # damaged: whatever it knew, nobody can tell
            return None
        if known._has_begun():
            cls.require_states(directory)
        return known
