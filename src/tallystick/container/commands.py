# SPDX-License-Identifier: Apache-2.0
"""What can be asked of a ledger. Each command is a record of plain values, so that a journal can hold it and a dongle
receive it.

body = [[reading], [code, field, ...], ...]         one journal record: a reading of the clocks, then commands in order
"""

from __future__ import annotations

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


class CancelRequest(Command):
    """Give up an open request; its answer will be refused."""

    request_id: bytes


class Install(Command):
    """Install an update message: verified, bound to this container, each once."""

    message: bytes


class TakeRefusal(Command):
    """Close a request with the issuer's refusal message."""

    message: bytes


class KeepReceipt(Command):
    """Keep a signed receipt under the id of the update it confirms, or of the license it gives up."""

    about: bytes
    message: bytes


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


class Debit(Command):
    """Take an amount out for a grant, before the grant is emitted."""

    license_id: bytes
    xid: bytes
    counter: str
    amount: int
    receiver: bytes
    ends: int | None = None


class Settle(Command):
    """Close a grant: ``accepted`` (receipt), ``refused`` (refusal), ``returned`` or ``ended`` (loan over)."""

    license_id: bytes
    xid: bytes
    outcome: str


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
    15: Debit,
    16: Settle,
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
