# SPDX-License-Identifier: Apache-2.0
"""What a container's account says of loans and transfers: what it gave, and what came to it.

An exchange has one id on both sides, the *xid*. What is said of it is cumulative: how much came back so far, how much
was used so far. A receipt that arrives twice, or after a later one, therefore changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Self

from tallystick.codec.digest import sha256
from tallystick.record import Record

# Of the giver: debited and perhaps emitted; the receiver's receipt came; nothing more will happen.
IN_TRANSIT, ACCEPTED, CLOSED = 0, 1, 2
# Of the receiver: held; given back; never taken.
HELD, RETURNED, DECLINED = 0, 1, 2
XID_BYTES: Final = 16
_NOTHING: Final[Mapping[str, int]] = {}


class Given(Record):
    """One grant on the giver's books.

    Attributes:
        xid: 16 bytes.
        part: which holding it was taken from.
        request_id: the receiver's request it answers.
        receiver: the receiver's encoded COSE_Key, which verifies its receipts.
        at: when it was given.
        amounts: how much, by counter.
        features: only these; None for all.
        ends: end of a loan; None for a transfer.
        status: IN_TRANSIT, ACCEPTED or CLOSED.
        outcome: how it closed: ``declined``, ``returned`` or ``ended``; empty while it is open.
        seq: 0, one more for each extension.
        message: the grant as emitted, re-emitted for ever; empty until it is signed.
        returned: what came back so far, by counter.
        used: what the receiver reported as used so far, by counter.
        recalled_at: when it was asked back; 0 if it was not.
        asked_at: when the receiver says it made the request.
    """

    xid: bytes
    part: bytes
    request_id: bytes
    receiver: bytes
    at: int
    amounts: Mapping[str, int]
    features: tuple[str, ...] | None
    ends: int | None
    status: int = IN_TRANSIT
    outcome: str = ""
    seq: int = 0
    message: bytes = b""
    returned: Mapping[str, int] = _NOTHING
    used: Mapping[str, int] = _NOTHING
    recalled_at: int = 0
    asked_at: int = 0

    @classmethod
    def from_row(cls, row: list[Any]) -> Self:
        """Read what `row_of` wrote."""
        values: list[Any] = [tuple(value) if type(value) is list else value for value in row]
        return cls(*values)

    def out(self, counter: str) -> int:
        """Tell how much of a counter is still out."""
        return self.amounts.get(counter, 0) - self.returned.get(counter, 0) - self.used.get(counter, 0)


class Arrival(Record):
    """One grant on the receiver's books.

    Attributes:
        xid: 16 bytes.
        license_id, vendor, product: what it is a part of.
        request_id: the request it answers.
        giver: thumbprint.
        at: when it came.
        amounts: how much, by counter.
        ends: end of a loan; None for a transfer.
        status: HELD, RETURNED or DECLINED.
        recalled: whether the giver asked for it.
        receipt: the newest receipt, re-emitted for ever; empty until it is signed.
        returned: what was given back so far, by counter.
        used: what was used, by counter; told when it is returned.
    """

    xid: bytes
    license_id: bytes
    vendor: str
    product: str
    request_id: bytes
    giver: bytes
    at: int
    amounts: Mapping[str, int]
    ends: int | None
    status: int = HELD
    recalled: bool = False
    receipt: bytes = b""
    returned: Mapping[str, int] = _NOTHING
    used: Mapping[str, int] = _NOTHING

    @classmethod
    def from_row(cls, row: list[Any]) -> Self:
        """Read what `row_of` wrote."""
        return cls(*row)


def exchange_id(request_id: bytes, giver: bytes, number: int) -> bytes:
    """Name an exchange: the same for each repetition of the same answer, another for another giver.

    Args:
        request_id: of the receiver's request, 16 random bytes.
        giver: thumbprint.
        number: how many grants this giver has made on that request before.

    Returns:
        16 bytes.
    """
    return sha256(b"tallystick exchange" + request_id + giver + number.to_bytes(4))[:XID_BYTES]


def policy_key(transfer: bool, product: str = "") -> str:
    """Name an administrator's policy in the account: ``lend`` or ``transfer``, for one product or for all."""
    return ("transfer" if transfer else "lend") + (f"/{product}" if product else "")


def row_of(record: Record) -> list[Any]:
    """Write a record as the array of its fields."""
    return [_plain(getattr(record, field)) for field in type(record).fields]


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value
