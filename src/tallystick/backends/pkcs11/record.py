# SPDX-License-Identifier: Apache-2.0
"""What a container remembers of its token: the file ``anchor``.

    anchor = [body: bstr .cbor body, checksum: bstr .size 32]          ; checksum = SHA-256(body)
    body = {
      1: 1,                                       ; version
      2: uint,                                    ; created at
      3: tstr,                                    ; the module it was made with: where the token is looked for first
      4: [tstr, tstr, tstr, tstr],                ; what the token called itself: label, serial, manufacturer, model
      5: [bstr, bstr .size 65],                   ; identity key: CKA_ID, point
      6: [bstr, bstr .size 65] / null,            ; agreement key; null where the token cannot agree
      7: bstr .size 1,                            ; how it works: see `Mode`; sealed beside the state key, too
      8: bool,                                    ; whether a state was made
      9: bool,                                    ; whether the keys were made for the container
    }

Nothing in it is secret, and nothing in it needs to be believed: a module must be allowed, a key must sign, and the mode
must be the one that was sealed. The checksum tells damage.
"""

from __future__ import annotations

from typing import Any, Final

from tallystick.backends.folder import DESTROYED, require_container
from tallystick.backends.framed import framed, unframed, versioned
from tallystick.backends.pkcs11.key import Key
from tallystick.container.vfs import Directory
from tallystick.errors import FormatError, LockedError, NotFoundError, error
from tallystick.record import Record

NAME: Final = "anchor"
VERSION: Final = 1
_LIMIT: Final = 16384
_POINT: Final = 65
PLANNED: Final = bytes(_POINT)
"""Stands for the point of a key that is not made yet."""
_ROWS: Final = {1: int, 2: int, 3: str, 4: list, 5: list, 7: bytes, 8: bool, 9: bool}


class Mode(Record):
    """How a container in a token works; one byte, bits from the lowest.

    Attributes:
        derives: the state key is sealed to the agreement key; else under a secret in a private data object.
        marks: the token holds a mark of the newest state.
        ratchet: each import and transfer is marked by a new key, and the one before destroyed.
    """

    derives: bool
    marks: bool
    ratchet: bool

    def to_byte(self) -> bytes:
        """Encode it."""
        return bytes([self.derives | self.marks << 1 | self.ratchet << 2])


class TokenRecord(Record):
    """What a container remembers of its token; see the module.

    Attributes:
        created: seconds since 1970.
        module: path.
        known: label, serial, manufacturer, model.
        identity, agreement: (CKA_ID, point); the second is None where the token cannot agree.
        mode: how it works.
        begun: whether a state was made.
        own: whether the keys were made for the container, and go with it.
    """

    created: int
    module: str
    known: tuple[str, ...]
    identity: tuple[bytes, bytes]
    agreement: tuple[bytes, bytes] | None
    mode: Mode
    begun: bool = False
    own: bool = True

    @property
    def key(self) -> Key:
        """What the token is known by."""
        return Key(*self.identity)

    def save(self, directory: Directory) -> None:
        """Write it, durably.

        Args:
            directory: the container's folder.

        Raises:
            StorageError: it cannot be written.
        """
        agreement = None if self.agreement is None else [*self.agreement]
        body = {
            1: VERSION, 2: self.created, 3: self.module, 4: [*self.known], 5: [*self.identity], 6: agreement,
            7: self.mode.to_byte(), 8: self.begun, 9: self.own,
        }  # fmt: skip
        directory.replace(NAME, framed(body))


def load(directory: Directory) -> TokenRecord:
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
    data = directory.read(NAME, _LIMIT)
    if data is None:
        raise error("container_not_found", f"no container in {directory.path}", path=directory.path)
    try:
        return _record(data)
    except (FormatError, TypeError, ValueError) as cause:
        if isinstance(cause, FormatError) and cause.code == "unsupported_version":
            raise
        raise error("tampered", "the container's record of its token is damaged", path=directory.path) from cause


def require_states(directory: Directory) -> None:
    """Refuse a folder without a state: a creation that was interrupted, or a container whose states were taken away.

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
        if {NAME} == {NAME, DESTROYED} & {*directory.names()} and load(directory).begun:
            remedy = "Put `state.A` and `state.B` back, or give the container up: `tally destroy --force`."
            raise error("rolled_back", f"the states of the container in {directory.path} are gone", remedy) from None
        raise


def is_unfinished(directory: Directory) -> bool:
    """Tell whether the creation of a container was interrupted here, of whose keys the record still tells.

    Args:
        directory: the container's folder.

    Raises:
        LockedError: ``rolled_back``: it was finished, and its states were taken away.
        StorageError: the record cannot be read.
    """
    names = directory.names()
    if NAME not in names or DESTROYED in names or any(name.startswith("state.") for name in names):
        return False
    try:
        begun = load(directory).begun
    except (LockedError, FormatError):  # damaged: whatever it knew, nobody can tell
        return False
    if begun:
        require_states(directory)
    return True


def mode_of(byte: bytes) -> Mode:
    """Read a mode.

    Args:
        byte: as `Mode.to_byte` wrote it.

    Raises:
        FormatError: ``malformed``.
    """
    if len(byte) != 1 or byte[0] >> 3:
        raise error("malformed", "not a mode")
    return Mode(bool(byte[0] & 1), bool(byte[0] & 2), bool(byte[0] & 4))


def _record(data: bytes) -> TokenRecord:
    rows = versioned(unframed(data, _LIMIT), VERSION, _ROWS, "the record of the token", maybe=frozenset([6]))
    known = rows[4]
    if len(known) != len(("label", "serial", "manufacturer", "model")) or any(type(one) is not str for one in known):
        raise error("malformed", "not the names of a token")
    agreement = None if rows[6] is None else _pair(rows[6])
    return TokenRecord(
        rows[2], rows[3], tuple(known), _pair(rows[5]), agreement, mode_of(rows[7]), rows[8], rows[9]
    )  # fmt: skip


def _pair(row: Any) -> tuple[bytes, bytes]:
    match row:
        case [bytes(key_id), bytes(point)] if len(point) == _POINT:
            return key_id, point
        case _:
            raise error("malformed", "not a key")
