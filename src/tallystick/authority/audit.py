# SPDX-License-Identifier: Apache-2.0
"""The audit log: who did what to which record, chained by hashes, written in the transaction of the change itself.

    hash = SHA-256(CBOR [seq, at, actor, action, subject, payload, previous hash])

A changed, inserted, moved or deleted row breaks the chain at a row that `verify` names; the number of rows and the last
hash stand in a table of their own, so that the end cannot be cut off unseen. Who can write to the whole database could
forge a whole new chain: note the head `verify` returns somewhere else, and give it to a later `verify`, which then
proves that nothing before it was rewritten.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from tallystick.authority.plain import to_json
from tallystick.authority.schema import AUDIT_HEAD, AUDIT_LOG
from tallystick.authority.sql import sa
from tallystick.codec import cbor
from tallystick.errors import TallystickError, error

GENESIS: Final = bytes(32)
_READ_HEAD: Final = sa.select(AUDIT_HEAD.c.length, AUDIT_HEAD.c.hash)
_MOVE_HEAD: Final = AUDIT_HEAD.update()
_ALL: Final = sa.select(AUDIT_LOG).order_by(AUDIT_LOG.c.seq).execution_options(yield_per=1000)
_ADD: Final = AUDIT_LOG.insert()


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One line of the log.

    Attributes:
        seq: its number, from 1.
        at: when, seconds since 1970.
        actor: who.
        action: what, for example ``license.issue``.
        subject: id of the record.
        payload: details, canonical JSON.
        hash: 32 bytes.
    """

    seq: int
    at: int
    actor: str
    action: str
    subject: str
    payload: str
    hash: bytes


@dataclass(frozen=True, slots=True)
class AuditHead:
    """The end of an unbroken log.

    Attributes:
        count: number of rows.
        hash: of the last row; 32 zero bytes for an empty log.
    """

    count: int
    hash: bytes

    def to_text(self) -> str:
        """Return ``COUNT:HASH``, to be noted elsewhere."""
        return f"{self.count}:{self.hash.hex()}"

    @classmethod
    def from_text(cls, text: str) -> AuditHead:
        """Read what `to_text` wrote.

        Raises:
            UsageError: ``usage``.
        """
        count, _, digest = text.strip().partition(":")
        try:
            head = cls(int(count), bytes.fromhex(digest))
        except ValueError:
            head = cls(-1, b"")
        if head.count < 0 or len(head.hash) != len(GENESIS):
            raise error(
                "usage", "not the head of an audit log", "It is `NUMBER:HASH`, as `tally vendor audit verify` prints."
            )
        return head


def start(connection: sa.Connection) -> None:
    """Begin the log of a new database."""
    connection.execute(AUDIT_HEAD.insert().values(id=1, length=0, hash=GENESIS))


def append(connection: sa.Connection, at: int, actor: str, action: str, subject: str, payload: Any) -> None:
    """Add a row, in the caller's transaction.

    Args:
        connection: the transaction.
        at: seconds since 1970.
        actor: who.
        action: what.
        subject: id of the record.
        payload: details without secrets.
    """
    count, previous = connection.execute(_READ_HEAD).one()
    seq = count + 1
    text = to_json(payload)
    digest = _digest(seq, at, actor, action, subject, text, previous)
    row = {"seq": seq, "at": at, "actor": actor, "action": action, "subject": subject, "payload": text}
    connection.execute(_ADD, {**row, "previous": previous, "hash": digest})
    connection.execute(_MOVE_HEAD, {"length": seq, "hash": digest})


def verify(connection: sa.Connection, noted: AuditHead | None = None) -> AuditHead:
    """Check every row.

    Args:
        connection: a transaction.
        noted: a head noted earlier, which the log must still contain.

    Returns:
        The head, to be noted.

    Raises:
        AuthorityError: ``audit_broken`` naming the first bad row.
    """
    seq, previous = 0, GENESIS
    with connection.execute(_ALL) as found:
        for row in found:
            seq += 1
            if row.seq != seq:
                raise _broken(seq, f"row {seq} is missing; row {row.seq} follows row {seq - 1}")
            if row.previous != previous:
                raise _broken(seq, f"row {seq} does not follow row {seq - 1}: one of the two was changed")
            if row.hash != _digest(row.seq, row.at, row.actor, row.action, row.subject, row.payload, row.previous):
                raise _broken(seq, f"row {seq} was changed")
            previous = row.hash
            if noted is not None and noted.count == seq and noted.hash != previous:
                raise _broken(seq, f"row {seq} or one before it is not what it was when its hash was noted")
    _check_end(connection, seq, previous, noted)
    return AuditHead(seq, previous)


def rows(connection: sa.Connection, subject: str = "", limit: int = 100) -> tuple[AuditRow, ...]:
    """Return the newest rows, oldest first.

    Args:
        connection: a transaction.
        subject: only rows about this record.
        limit: how many at most.
    """
    query = sa.select(AUDIT_LOG).order_by(AUDIT_LOG.c.seq.desc()).limit(limit)
    if subject:
        query = query.where(AUDIT_LOG.c.subject == subject)
    found = connection.execute(query).all()
    return tuple(
        AuditRow(row.seq, row.at, row.actor, row.action, row.subject, row.payload, row.hash) for row in reversed(found)
    )


def _check_end(connection: sa.Connection, seq: int, last: bytes, noted: AuditHead | None) -> None:
    head = connection.execute(sa.select(AUDIT_HEAD)).one_or_none()
    if head is None:
        raise _broken(seq, "the log's head is missing")
    if head.length > seq:
        raise _broken(seq + 1, f"row {seq + 1} is missing: the log had {head.length} rows")
    if head.length < seq:
        raise _broken(head.length + 1, f"row {head.length + 1} was added behind the log's end")
    if head.hash != last:
        raise _broken(seq, f"row {seq}, the last, is not the one the log ended with")
    if noted is not None and noted.count > seq:
        raise _broken(seq + 1, f"row {seq + 1} is missing: the log had {noted.count} rows when its head was noted")


def _digest(seq: int, at: int, actor: str, action: str, subject: str, payload: str, previous: bytes) -> bytes:
    return sha256(cbor.encode([seq, at, actor, action, subject, payload, previous])).digest()


def _broken(seq: int, message: str) -> TallystickError:
    return error("audit_broken", f"the audit log is broken: {message}", row=seq)
