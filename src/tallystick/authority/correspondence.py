# SPDX-License-Identifier: Apache-2.0
"""Reading the books: containers, what they asked and were answered, and what was reported of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from tallystick.authority.office import Office, Work
from tallystick.authority.plain import facts, texts
from tallystick.authority.schema import CONTAINER, LICENSE, OUTBOX, REPAIR_CASE, REQUEST
from tallystick.authority.sql import sa
from tallystick.codec import base32
from tallystick.codec.ident import PREFIX, container_id, is_container_id
from tallystick.errors import error
from tallystick.license.messages import ACTION_NAMES

_ID_SYMBOLS: Final = 14  # of a printed id: 70 bits of the thumbprint


@dataclass(frozen=True, slots=True)
class KnownContainer:
    """A container on the vendor's books.

    Attributes:
        container: printed id.
        thumbprint: hexadecimal.
        backend: scheme it names.
        level: assurance level derived from its evidence.
        software: program that made its last request.
        variables: device variables.
        generation: states it had committed when it last wrote.
        licenses: how many active licenses it has.
        first_seen, last_seen: seconds since 1970.
    """

    container: str
    thumbprint: str
    backend: str
    level: int
    software: str
    variables: dict[str, str]
    generation: int
    licenses: int
    first_seen: int
    last_seen: int


@dataclass(frozen=True, slots=True)
class AnsweredRequest:
    """A request and its answer.

    Attributes:
        request_id: hexadecimal.
        action: ``activate`` or ``refresh``.
        container: printed id.
        entitlement: empty where it was refused, or for a refresh.
        answer: ``update`` or ``refusal``.
        answer_id: hexadecimal.
        text: what was answered.
        received_at: seconds since 1970.
    """

    request_id: str
    action: str
    container: str
    entitlement: str
    answer: str
    answer_id: str
    text: str
    received_at: int


@dataclass(frozen=True, slots=True)
class RepairCase:
    """A locked container, as somebody reported it, which proves nothing; or one that was noticed to be rewound.

    Attributes:
        case: its id.
        container: printed id it names.
        reason: code.
        reported_at: seconds since 1970.
        licenses: ids of the active licenses that container has on the books, hexadecimal.
    """

    case: str
    container: str
    reason: str
    reported_at: int
    licenses: tuple[str, ...]


def containers(office: Office, *, limit: int | None = None) -> tuple[KnownContainer, ...]:
    """List containers, latest contact first.

    Args:
        office: whose.
        limit: how many at most.

    Raises:
        StorageError: the database cannot be read.
    """
    query = sa.select(CONTAINER).order_by(CONTAINER.c.last_seen.desc(), CONTAINER.c.thumbprint).limit(limit)
    return office.read(lambda work: tuple(_container(work, row) for row in work.db.execute(query).all()))


def container(office: Office, shown: str) -> KnownContainer:
    """Return a container.

    Args:
        office: whose.
        shown: its printed id, in any case, with or without hyphens.

    Raises:
        AuthorityError: ``record_not_found``.
        StorageError: the database cannot be read.
    """
    ends = thumbprints(shown)

    def look(work: Work) -> KnownContainer:
        if ends is not None:
            row = work.db.execute(sa.select(CONTAINER).where(CONTAINER.c.thumbprint.between(*ends))).first()
            if row is not None:
                return _container(work, row)
        raise error("record_not_found", f"no license was issued to {shown[:40]}", "See `tally vendor list containers`.")

    return office.read(look)


def thumbprints(shown: str) -> tuple[bytes, bytes] | None:
    """Return the lowest and the highest thumbprint that a printed id may stand for: it is the beginning of one.

    Args:
        shown: the id, in any case, with or without hyphens.

    Returns:
        None where it is no such id.
    """
    number = base32.decode(shown.strip()[len(PREFIX) :], _ID_SYMBOLS) if is_container_id(shown) else None
    if number is None:
        return None
    return (number << 2).to_bytes(9) + bytes(23), (number << 2 | 3).to_bytes(9) + b"\xff" * 23


def requests(office: Office, *, limit: int | None = None) -> tuple[AnsweredRequest, ...]:
    """List requests and what was answered, newest first.

    Args:
        office: whose.
        limit: how many at most.

    Raises:
        StorageError: the database cannot be read.
    """
    query = (
        sa.select(REQUEST, OUTBOX.c.kind, OUTBOX.c.content)
        .join(OUTBOX, OUTBOX.c.id == REQUEST.c.answer)
        .order_by(REQUEST.c.received_at.desc(), REQUEST.c.id)
        .limit(limit)
    )
    return office.read(lambda work: tuple(_request(row) for row in work.db.execute(query).all()))


def cases(office: Office, *, limit: int | None = None) -> tuple[RepairCase, ...]:
    """List repair cases, newest first.

    Args:
        office: whose.
        limit: how many at most.

    Raises:
        StorageError: the database cannot be read.
    """
    query = sa.select(REPAIR_CASE).order_by(REPAIR_CASE.c.reported_at.desc(), REPAIR_CASE.c.id).limit(limit)

    def look(work: Work) -> tuple[RepairCase, ...]:
        return tuple(
            RepairCase(row.id, container_id(row.container), row.reason, row.reported_at, _active(work, row.container))
            for row in work.db.execute(query).all()
        )

    return office.read(look)


def _container(work: Work, row: sa.Row[Any]) -> KnownContainer:
    return KnownContainer(
        container_id(row.thumbprint),
        row.thumbprint.hex(),
        row.backend,
        row.level,
        row.software,
        texts(row.variables),
        row.generation,
        len(_active(work, row.thumbprint)),
        row.first_seen,
        row.last_seen,
    )


def _request(row: sa.Row[Any]) -> AnsweredRequest:
    return AnsweredRequest(
        row.id.hex(),
        ACTION_NAMES[row.action],
        container_id(row.container),
        row.entitlement,
        row.kind,
        row.answer.hex(),
        facts(row.content)["text"],
        row.received_at,
    )


def _active(work: Work, container: bytes) -> tuple[str, ...]:
    query = sa.select(LICENSE.c.id).where(LICENSE.c.container == container, LICENSE.c.freed_at.is_(None))
    return tuple(key.hex() for key in work.db.execute(query.order_by(LICENSE.c.issued_at)).scalars())
