# SPDX-License-Identifier: Apache-2.0
"""What a container whose files and anchor parted asks its vendor, and what the vendor answers.

The *halt* says where the anchor stands and which state is the newest on disk; the *resync* lets exactly that state go
on from exactly that place. Both are bound to the container by the messages they stand in, so a resync is good once: the
container's first commit after it moves the anchor on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tallystick.license.schema import MAX_UNITS, Field, Table, octets, text, uint
from tallystick.record import Record

DIGEST_BYTES: Final = 32


class Halt(Record):
    """Where a container stands still.

    Attributes:
        reason: code of the error it does not open with.
        counter: where its anchor stands.
        digest: SHA-256 of the newest snapshot on disk.
        generation: of that snapshot.
        chain: 32 bytes, `Position.place` of its anchor; None where that has a counter only.
    """

    reason: str
    counter: int
    digest: bytes
    generation: int
    chain: bytes | None = None

    @classmethod
    def from_map(cls, claims: Mapping[int, Any]) -> Halt:
        """Read the encoded form.

        Raises:
            FormatError: ``malformed`` or ``unsupported_version``.
        """
        return cls.of(_HALT.read(claims))

    def to_map(self) -> dict[int, Any]:
        """Return the encoded form."""
        return _HALT.write(self)


class Resync(Record):
    """Leave to go on.

    Attributes:
        counter: as the halt has it.
        digest: as the halt has it.
        chain: as the halt has it.
    """

    counter: int
    digest: bytes
    chain: bytes | None = None

    @classmethod
    def from_map(cls, claims: Mapping[int, Any]) -> Resync:
        """Read the encoded form.

        Raises:
            FormatError: ``malformed`` or ``unsupported_version``.
        """
        return cls.of(_RESYNC.read(claims))

    def to_map(self) -> dict[int, Any]:
        """Return the encoded form."""
        return _RESYNC.write(self)


_DIGEST: Final = octets(DIGEST_BYTES, DIGEST_BYTES)
_RESYNC: Final = Table(
    "resync", Field("counter", 1, uint(MAX_UNITS), True), Field("digest", 2, _DIGEST, True), Field("chain", 3, _DIGEST)
)
_HALT: Final = Table(
    "halt", *_RESYNC.fields, Field("reason", 4, text(64), True), Field("generation", 5, uint(MAX_UNITS), True)
)
