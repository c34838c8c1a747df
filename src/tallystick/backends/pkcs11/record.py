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

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Self

from tallystick.backends.pkcs11.key import Key
from tallystick.backends.remembered import Remembered
from tallystick.codec.keys import PublicKey
from tallystick.errors import error
from tallystick.record import Record

_POINT: Final = 65
_NAMES: Final = ("label", "serial", "manufacturer", "model")
PLANNED: Final = bytes(_POINT)
"""Stands for the point of a key that is not made yet."""


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


class TokenRecord(Remembered):
    """What a container remembers of its token; see the module.

    Attributes:
        created: see `Remembered`.
        module: path.
        known: label, serial, manufacturer, model.
        identity, agreement: (CKA_ID, point); the second is None where the token cannot agree.
        mode: how it works.
        begun: whether a state was made.
        own: whether the keys were made for the container, and go with it.
    """

    module: str
    known: tuple[str, ...]
    identity: tuple[bytes, bytes]
    agreement: tuple[bytes, bytes] | None
    mode: Mode
    begun: bool = False
    own: bool = True

    _device = "token"
    _version = 1
    _rows = MappingProxyType({1: int, 2: int, 3: str, 4: list, 5: list, 7: bytes, 8: bool, 9: bool})
    _maybe = frozenset([6])

    @property
    def public_key(self) -> PublicKey:
        """The container's identity key."""
        return PublicKey.from_p256_point(self.identity[1])

    @property
    def key(self) -> Key:
        """What the token is known by."""
        return Key(*self.identity)

    def _has_begun(self) -> bool:
        return self.begun

    def _body(self) -> Mapping[int, Any]:
        agreement = None if self.agreement is None else [*self.agreement]
        return {
            2: self.created, 3: self.module, 4: [*self.known], 5: [*self.identity], 6: agreement,
            7: self.mode.to_byte(), 8: self.begun, 9: self.own,
        }  # fmt: skip

    @classmethod
    def _of_body(cls, rows: Mapping[int, Any]) -> Self:
        known = rows[4]
        if len(known) != len(_NAMES) or any(type(one) is not str for one in known):
            raise error("malformed", "not the names of a token")
        agreement = None if rows[6] is None else _pair(rows[6])
        return cls(rows[2], rows[3], tuple(known), _pair(rows[5]), agreement, mode_of(rows[7]), rows[8], rows[9])


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


def _pair(row: Any) -> tuple[bytes, bytes]:
    match row:
        case [bytes(key_id), bytes(point)] if len(point) == _POINT:
            return key_id, point
        case _:
            raise error("malformed", "not a key")
