# SPDX-License-Identifier: Apache-2.0
"""What can be asked of a ledger. Each command is a record of plain values, so that a journal can hold it and a dongle
receive it.

body = [[reading], [code, field, ...], ...]         one journal record: a reading of the clocks, then commands in order
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tallystick.clock import Reading
from tallystick.codec import cbor
from tallystick.errors import error
from tallystick.record import Record


class Command(Record):
    """Base of the commands."""


class AddVendor(Command):
    """Record a vendor's root key (encoded COSE_Key), named by the user."""

    vendor: str
    root: bytes


class OpenRequest(Command):
    """Remember a request before it is emitted."""

    request_id: bytes
    vendor: str
    product: str
    action: int
    message: bytes
    count: int = 1


class CancelRequest(Command):
    """Give up an open request; its answer will be refused."""

    request_id: bytes


class Install(Command):
    """Install an update message: verified, bound to this container, each once.

    `secret` opens an update that was sealed to the anchor's device; only the anchor can tell it.
    """

    message: bytes
    secret: bytes = b""


class TakeRefusal(Command):
    """Close a request with the issuer's refusal message."""

    message: bytes


class KeepReceipt(Command):
    """Keep a signed receipt under the id of the update it confirms, or of the license it gives up.

    Journals written before `vendor` and `message_id` were there have neither: such a receipt is not remembered as
    written.
    """

    about: bytes
    message: bytes
    vendor: str = ""
    message_id: bytes = b""


class Consume(Command):
    """Use up exactly `units`, or nothing."""

    license_id: bytes
    feature: str
    units: int
    idempotency_key: bytes = b""


class Reserve(Command):
    """Debit a block that is then served from memory."""

    license_id: bytes
    feature: str
    units: int
    reservation_id: bytes


class Metered(Command):
    """Book what a TPM counted of a license's units, and keep the proof of a use that has an idempotency key."""

    license_id: bytes
    used: int
    idempotency_key: bytes = b""
    proof: bytes = b""


class Release(Command):
    """Give the unused rest of a block back, once; a block never released is forfeited."""

    license_id: bytes
    reservation_id: bytes
    rest: int


class FirstUse(Command):
    """Start the usage period of a license or feature, if it has not started."""

    license_id: bytes
    feature: str


class Deactivate(Command):
    """Give a license up for good."""

    license_id: bytes


class Observe(Command):
    """Remember the time and nothing else."""


class SetVariable(Command):
    """Set a device variable; an empty value removes it."""

    name: str
    value: str


class Note(Command):
    """Add a line to the history."""

    kind: str
    text: str


class Give(Command):
    """Take an amount out for a loan (`ends`) or a transfer, before the grant is emitted; `request` is the receiver's.

    Without `amounts` everything of the part is given. `level` is what the receiver proved.
    """

    request: bytes
    part: bytes
    amounts: Mapping[str, int]
    features: tuple[str, ...] | None = None
    ends: int | None = None
    level: int = 0


class KeepGrant(Command):
    """Keep a signed grant."""

    xid: bytes
    message: bytes


class Extend(Command):
    """Move the end of a loan, before the grant that says so is emitted."""

    xid: bytes
    ends: int


class Recall(Command):
    """Remember that a loan was asked back."""

    xid: bytes


class TakeShares(Command):
    """Book a receiver's receipt: accepted, returned or declined."""

    message: bytes


class Accept(Command):
    """Take what a grant brings; a grant whose request was cancelled or used up is declined."""

    message: bytes


class Decline(Command):
    """Refuse a grant for good."""

    message: bytes


class Return(Command):
    """Give back what a grant brought, all of it where no amounts are named; `recall` is the giver's message, if any."""

    xid: bytes
    amounts: Mapping[str, int]
    recall: bytes = b""


class KeepShare(Command):
    """Keep the signed receipt of what became of a grant."""

    xid: bytes
    message: bytes


class SetPolicy(Command):
    """Set what the container's administrator allows; an empty map removes the rule."""

    key: str
    policy: Mapping[int, Any]


# The number of a command never changes: journals hold it.
CODES: Final[dict[int, type[Command]]] = {
    1: AddVendor,
    2: OpenRequest,
    3: CancelRequest,
    4: Install,
    5: TakeRefusal,
    6: KeepReceipt,
    7: Consume,
    8: Reserve,
    9: Release,
    10: FirstUse,
    11: Deactivate,
    12: Observe,
    13: SetVariable,
    14: Note,
    15: Give,
    16: KeepGrant,
    17: Extend,
    18: Recall,
    19: TakeShares,
    20: Accept,
    21: Decline,
    22: Return,
    23: KeepShare,
    24: SetPolicy,
    25: Metered,
}
_NUMBERS: Final = {cls: number for number, cls in CODES.items()}


def encode(reading: Reading, commands: tuple[Command, ...]) -> bytes:
    """Encode one transaction.

    Args:
        reading: the clocks at that moment.
        commands: in order.

    Returns:
        The journal body.
    """
    rows: list[Any] = [[reading.wall, reading.uptime, reading.boot_id]]
    for command in commands:
        cls = type(command)
        rows.append([_NUMBERS[cls], *[getattr(command, field) for field in cls.fields]])
    return cbor.encode(rows)


def decode(body: bytes) -> tuple[Reading, tuple[Command, ...]]:
    """Decode what `encode` wrote and the journal's seal authenticated.

    Args:
        body: the journal body.

    Returns:
        The reading and the commands.

    Raises:
        FormatError: ``unsupported_version`` for a command of a newer version, ``malformed`` for a defect of the writer.
    """
    commands = []
    try:
        first, *rows = cbor.decode_trusted(body)
        for number, *values in rows:
            cls = CODES.get(number)
            if cls is None:
                raise error("unsupported_version", f"the journal holds command {number} of a newer version")
            commands.append(cls(*values))
        return Reading(*first), tuple(commands)
    except (TypeError, ValueError) as cause:
        raise error("malformed", "a journal record is not what this version writes") from cause
