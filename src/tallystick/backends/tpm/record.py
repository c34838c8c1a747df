# SPDX-License-Identifier: Apache-2.0
"""The file ``anchor`` in the folder of a TPM's container: what it remembers of its TPM.

    anchor-file = [body: bstr .cbor body, checksum: bstr .size 32]     ; checksum = SHA-256(body)
    body = {
      1: 2,                                       ; version (1 is that of file containers)
      2: uint,                                    ; created, seconds since 1970
      3: uint,                                    ; persistent handle of the SRK; 0: made anew each time
      4: bstr,                                    ; Name of the SRK
      5: bool,                                    ; whether this container made the SRK persistent: `destroy` tells it
      6: [bstr, bstr],                            ; identity key: TPMT_PUBLIC, TPM2B_PRIVATE's contents
      7: [bstr, bstr],                            ; agreement key
      8: [uint, bstr],                            ; counter index: number, Name (empty: not made yet)
      9: [uint, bstr] / null,                     ; chain index; null: one index only (protocol P2)
      10: bstr,                                   ; SHA-256 of what identifies the TPM itself; empty: nothing does
      11: bool,                                   ; whether a user secret is needed
      12: uint,                                   ; 1: the TPM has a certificate, 2: it can meter, 4: states were made
    }

Nothing in it is secret, and nothing in it needs to be believed: a changed Name or key only keeps the container from
opening. The checksum tells damage from another TPM.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Self

from tallystick.backends.remembered import Remembered
from tallystick.backends.tpm.templates import own_key
from tallystick.codec.keys import PublicKey
from tallystick.errors import error
from tallystick.record import Record

CERTIFIED, CAN_METER, BEGUN = 1, 2, 4
_NV_INDEX: Final = 0x01  # first byte of an index's number


class Blob(Record):
    """A key of a TPM outside of it: only that TPM can load it.

    Attributes:
        public: TPMT_PUBLIC.
        private: TPM2B_PRIVATE's contents, encrypted by the TPM.
    """

    public: bytes
    private: bytes


class Place(Record):
    """Where an index is.

    Attributes:
        number: of the index.
        name: recorded after its first write; empty while it is made.
    """

    number: int
    name: bytes = b""


class ChipRecord(Remembered):
    """What a container remembers of its TPM; see the module.

    Attributes:
        created: see `Remembered`.
        srk: persistent handle; 0 where it is made anew each time.
        srk_name: 34 bytes.
        srk_made: whether this container made it persistent.
        identity, agreement: the keys.
        counter: the counter index.
        chain: the chain index; None for one index only.
        chip: digest of what identifies the TPM; empty for nothing.
        secret: whether a user secret is needed.
        promises: `CERTIFIED`, `CAN_METER`, `BEGUN`.
    """

    srk: int
    srk_name: bytes
    srk_made: bool
    identity: Blob
    agreement: Blob
    counter: Place
    chain: Place | None
    chip: bytes
    secret: bool
    promises: int = 0

    _device = "TPM"
    _version = 2  # 1 is that of file containers
    _rows = MappingProxyType(
        {1: int, 2: int, 3: int, 4: bytes, 5: bool, 6: list, 7: list, 8: list, 10: bytes, 11: bool, 12: int}
    )
    _maybe = frozenset([9])

    @property
    def public_key(self) -> PublicKey:
        """The container's identity key."""
        return own_key(self.identity.public)

    def _has_begun(self) -> bool:
        return bool(self.promises & BEGUN)

    def _body(self) -> Mapping[int, Any]:
        chain = None if self.chain is None else [self.chain.number, self.chain.name]
        return {
            2: self.created, 3: self.srk, 4: self.srk_name, 5: self.srk_made,
            6: [self.identity.public, self.identity.private], 7: [self.agreement.public, self.agreement.private],
            8: [self.counter.number, self.counter.name], 9: chain, 10: self.chip, 11: self.secret, 12: self.promises,
        }  # fmt: skip

    @classmethod
    def _of_body(cls, rows: Mapping[int, Any]) -> Self:
        chain = None if rows[9] is None else _place(rows[9])
        return cls(
            rows[2], rows[3], rows[4], rows[5], blob(rows[6]), blob(rows[7]), _place(rows[8]), chain, rows[10],
            rows[11], rows[12],
        )  # fmt: skip


def blob(row: Any) -> Blob:
    """Read a key as it stands in a container's files: ``[public, private]``; raises ``malformed``."""
    match row:
        case [bytes(public), bytes(private)]:
            return Blob(public, private)
        case _:
            raise error("malformed", "not a key")


def _place(row: Any) -> Place:
    match row:
        case [int(number), bytes(name)] if number >> 24 == _NV_INDEX:
            return Place(number, name)
        case _:
            raise error("malformed", "not an index")
