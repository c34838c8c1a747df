# SPDX-License-Identifier: Apache-2.0
"""Token status lists (draft-ietf-oauth-status-list-21): which licenses a vendor has suspended or revoked.

A list is a zlib-compressed bit array; entry `i` of `bits` bits, least significant first. 0 valid, 1 invalid, 2
suspended. Decompression is bounded before it starts (rule R71).
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any, Final, Self

from tallystick.codec import kinds
from tallystick.errors import error
from tallystick.license.schema import MAX_TIME, Field, Table, nested, text, uint
from tallystick.license.trust import KeyRing, check_signed_in_time
from tallystick.record import Record

VALID: Final = 0
INVALID: Final = 1
SUSPENDED_ENTRY: Final = 2
MAX_LIST_BYTES: Final = 1 << 21
_CLAIM_STATUS_LIST: Final = 65533  # requested values of the draft
_CLAIM_TTL: Final = 65534


class StatusList(Record):
    """A decoded list.

    Attributes:
        bits: 1, 2, 4 or 8 bits an entry.
        data: the decompressed array.
    """

    bits: int
    data: bytes

    @classmethod
    def from_map(cls, claims: Any) -> StatusList:
        """Read the ``status_list`` claim.

        Args:
            claims: ``{"bits": n, "lst": zlib bytes}``, and optionally ``aggregation_uri``, which is never fetched.

        Raises:
            FormatError: ``malformed`` or ``too_large``.
        """
        match claims:
            case {"bits": int(bits), "lst": bytes(packed), **more} if bits in (1, 2, 4, 8) and type(bits) is int:
                if set(more) - {"aggregation_uri"}:
                    raise error("malformed", "a status list with unknown members")
            case _:
                raise error("malformed", "not a status list")
        inflate = zlib.decompressobj()
        try:
            data = inflate.decompress(packed, MAX_LIST_BYTES)
        except zlib.error as cause:
            raise error("malformed", "the status list does not decompress") from cause
        if not inflate.eof or inflate.unused_data:
            code = "too_large" if inflate.unconsumed_tail else "malformed"
            raise error(code, "the status list is cut, has bytes after it, or is too large")
        return cls(bits, data)

    @classmethod
    def from_statuses(cls, statuses: list[int], bits: int = 2) -> StatusList:
        """Build a list (the issuer's side).

        Args:
            statuses: one number below ``2 ** bits`` for each index.
            bits: bits an entry.
        """
        per_byte = 8 // bits
        data = bytearray((len(statuses) + per_byte - 1) // per_byte)
        for index, status in enumerate(statuses):
            data[index // per_byte] |= status << (index % per_byte * bits)
        return cls(bits, bytes(data))

    def to_map(self) -> dict[Any, Any]:
        """Return the ``status_list`` claim."""
        return {"bits": self.bits, "lst": zlib.compress(self.data, 9)}

    def status(self, index: int) -> int:
        """Return the status at an index.

        Args:
            index: 0 or more.

        Raises:
            FormatError: ``malformed`` beyond the end of the list.
        """
        per_byte = 8 // self.bits
        if not 0 <= index < len(self.data) * per_byte:
            raise error("malformed", f"the status list has no entry {index}")
        return self.data[index // per_byte] >> (index % per_byte * self.bits) & ((1 << self.bits) - 1)


class StatusToken(Record):
    """A signed status list.

    Attributes:
        subject: the list's own name (sub).
        issued_at: when it was signed; an older one is refused.
        expires, ttl: how long it is current; policy, not validity.
        status_list: the list.
    """

    subject: str
    issued_at: int
    status_list: StatusList
    expires: int | None = None
    ttl: int | None = None

    @classmethod
    def from_claims(cls, claims: Mapping[int, Any]) -> Self:
        """Read decoded claims, verified or not.

        Raises:
            FormatError: ``malformed``, ``too_large`` or ``unsupported_version``.
        """
        return cls(**_TABLE.read(claims))

    def to_claims(self) -> dict[int, Any]:
        """Return the claims to sign."""
        return _TABLE.write(self)


_TABLE: Final = Table(
    "status list",
    Field("subject", 2, text(256), True),
    Field("issued_at", 6, uint(MAX_TIME), True),
    Field("expires", 4, uint(MAX_TIME)),
    Field("ttl", _CLAIM_TTL, uint(MAX_TIME)),
    Field("status_list", _CLAIM_STATUS_LIST, nested(StatusList.from_map), True),
)


def read_status_list(message: bytes, ring: KeyRing, newest_seen: int = 0) -> StatusToken:
    """Accept a status list message.

    Args:
        message: the bytes received.
        ring: the vendor's keys.
        newest_seen: `iat` of the newest list known.

    Returns:
        The token.

    Raises:
        FormatError: malformed, too large, or another kind.
        VerificationError: signature, issuer, key use, ``key_validity`` or ``status_list_rollback``.
    """
    claims, record = ring.open(message, kinds.STATUS_LIST)
    token = StatusToken.from_claims(claims)
    check_signed_in_time(record, token.issued_at)
    if token.issued_at < newest_seen:
        raise error("status_list_rollback", "this status list is older than the one known")
    return token
