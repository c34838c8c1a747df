# SPDX-License-Identifier: Apache-2.0
"""The factories of devices that a vendor believes, and how far.

A device certificate proves a level only where its factory is on these books, and never more than the books say: a
vendor may believe a factory that keys stay in its devices (2) and not that their firmware keeps the account (3).
"""

from __future__ import annotations

from dataclasses import dataclass

from tallystick.authority.office import Office, Work
from tallystick.authority.schema import FACTORY
from tallystick.authority.sql import sa
from tallystick.authority.standing import Standing
from tallystick.codec.keys import PublicKey
from tallystick.errors import FormatError, VerificationError, error
from tallystick.license.device import proven_level
from tallystick.license.messages import Request
from tallystick.license.pins import ACCOUNT_STAYS, KEY_STAYS, Believed, Factory
from tallystick.license.trust import MAX_FACTORIES


@dataclass(frozen=True, slots=True)
class KnownFactory:
    """A factory on the vendor's books.

    Attributes:
        name: its name.
        text: the line that pins it.
        level: how far it is believed: 2 or 3.
        added_at: seconds since 1970.
    """

    name: str
    text: str
    level: int
    added_at: int


def add(office: Office, line: str, *, level: int = ACCOUNT_STAYS) -> KnownFactory:
    """Believe a factory from now on, or believe it more or less than before.

    Args:
        office: whose.
        line: the line that pins it, ``tallyfactory:NAME:...``.
        level: how far: `KEY_STAYS` or `ACCOUNT_STAYS`.

    Returns:
        What is on the books.

    Raises:
        UsageError: ``usage`` where the line is none, or for another level.
        AuthorityError: ``record_exists`` where a factory of that name has another key.
        StorageError: the database refuses.
    """
    factory = Factory.from_text(line)
    if level not in (KEY_STAYS, ACCOUNT_STAYS):
        raise error("usage", "a factory is believed up to level 2 or 3")

    def change(work: Work) -> KnownFactory:
        known = work.find(FACTORY, name=factory.name)
        if known is None:
            if len(believed(work.db)) >= MAX_FACTORIES:
                raise error("usage", f"a vendor believes {MAX_FACTORIES} factories at most", "Remove one first.")
            work.insert(FACTORY, name=factory.name, public=factory.key.cose, level=level, added_at=work.now)
        elif known.public != factory.key.cose:
            remedy = f"If it has a new key: `tally vendor factory remove {factory.name}` first."
            raise error("record_exists", f"a factory {factory.name} with another key is on the books", remedy)
        elif known.level != level:
            work.update(FACTORY, {"name": factory.name}, level=level)
        if known is None or known.level != level:
            work.audit("factory.add", factory.name, key=factory.key.thumbprint, level=level)
        return _known(work.one(FACTORY, "factory", name=factory.name))

    return office.write(change)


def remove(office: Office, name: str) -> KnownFactory:
    """Believe a factory no more: its devices count as level 0 from their next request on.

    Args:
        office: whose.
        name: of the factory.

    Returns:
        What was on the books.

    Raises:
        AuthorityError: ``record_not_found``.
        StorageError: the database refuses.
    """

    def change(work: Work) -> KnownFactory:
        known = _known(work.one(FACTORY, "factory", name=name))
        work.db.execute(sa.delete(FACTORY).where(FACTORY.c.name == name))
        work.audit("factory.remove", name)
        return known

    return office.write(change)


def factories(office: Office) -> tuple[KnownFactory, ...]:
    """List the factories by name.

    Args:
        office: whose.

    Raises:
        StorageError: the database cannot be read.
    """
    query = sa.select(FACTORY).order_by(FACTORY.c.name)
    return office.read(lambda work: tuple(_known(row) for row in work.db.execute(query)))


def believed(db: sa.Connection) -> tuple[Believed, ...]:
    """Return the factories as they stand in a key set.

    Args:
        db: the transaction.
    """
    rows = db.execute(sa.select(FACTORY).order_by(FACTORY.c.name))
    return tuple(Believed(row.name, PublicKey.from_cose(row.public), row.level) for row in rows)


def examine(work: Work, request: Request, data: bytes) -> Standing:
    """Derive the level that a device certificate proves.

    Args:
        work: the transaction.
        request: accepted: its signature proves that the device has the key the certificate must name.
        data: the certificate.

    Returns:
        The level, 0 for none, with a warning for the operator then.
    """
    try:
        return Standing(proven_level(data, believed(work.db), request.key))
    except (FormatError, VerificationError) as reason:
        hint = "; `tally vendor factory add` believes it" if "factory" in reason.details else ""
        return Standing(
            remarks=(f"its level is L0, for its device certificate proves nothing: {reason.message}{hint}",)
        )


def _known(row: sa.Row[tuple[object, ...]]) -> KnownFactory:
    pinned = Factory(row.name, PublicKey.from_cose(row.public))
    return KnownFactory(row.name, pinned.to_text(), row.level, row.added_at)
