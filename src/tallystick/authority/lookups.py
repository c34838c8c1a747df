# SPDX-License-Identifier: Apache-2.0
"""Reading the books: licenses, as they are on record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from tallystick.authority.licensing import status_of
from tallystick.authority.offers import Offer
from tallystick.authority.office import Office, Work
from tallystick.authority.plain import counts
from tallystick.authority.schema import ENTITLEMENT, LICENSE
from tallystick.authority.sql import sa
from tallystick.codec.ident import container_id
from tallystick.errors import error
from tallystick.exchange.words import STATUS_NAMES

_PREFIX_MIN: Final = 6


@dataclass(frozen=True, slots=True)
class IssuedLicense:
    """A license on the vendor's books.

    Attributes:
        license_id: hexadecimal.
        entitlement, product, customer: what it comes from.
        container: printed id of the container it is bound to.
        seq: of its newest message, or the higher one that its container named.
        status: ``active``, ``suspended`` or ``revoked``.
        reason: why, if not active.
        offer: its terms.
        issued_at: when its newest message was signed.
        installed_at: when its container first reported it; None if it never did.
        used: units used, by counter, as last reported.
        first_use: when usage periods began, by counter.
        freed_at: when its slot was given back; None while it is in use.
        freed_by: ``receipt`` or ``release``; empty while it is in use.
    """

    license_id: str
    entitlement: str
    product: str
    customer: str
    container: str
    seq: int
    status: str
    reason: str
    offer: Offer
    issued_at: int
    installed_at: int | None
    used: dict[str, int]
    first_use: dict[str, int]
    freed_at: int | None
    freed_by: str


def licenses(
    office: Office, *, entitlement: str = "", container: bytes | None = None, limit: int | None = None
) -> tuple[IssuedLicense, ...]:
    """List licenses, newest first.

    Args:
        office: whose.
        entitlement: only of this entitlement.
        container: only in the container of this thumbprint.
        limit: how many at most.

    Raises:
        StorageError: the database cannot be read.
    """
    query = sa.select(LICENSE).order_by(LICENSE.c.issued_at.desc(), LICENSE.c.id).limit(limit)
    if entitlement:
        query = query.where(LICENSE.c.entitlement == entitlement)
    if container is not None:
        query = query.where(LICENSE.c.container == container)

    def look(work: Work) -> tuple[IssuedLicense, ...]:
        sold: dict[str, sa.Row[Any]] = {}
        for row in (rows := work.db.execute(query).all()):
            if row.entitlement not in sold:
                sold[row.entitlement] = work.one(ENTITLEMENT, "entitlement", id=row.entitlement)
        return tuple(_license(row, sold[row.entitlement]) for row in rows)

    return office.read(look)


def license_(office: Office, license_id: str) -> IssuedLicense:
    """Return a license, also one given back.

    Args:
        office: whose.
        license_id: hexadecimal; its beginning suffices where it is the only one.

    Raises:
        AuthorityError: ``record_not_found``.
        UsageError: ``ambiguous``.
        StorageError: the database cannot be read.
    """

    def look(work: Work) -> IssuedLicense:
        row = license_row(work, license_id)
        if row is None:
            remedy = "See `tally vendor list licenses`."
            raise error("record_not_found", f"no license begins with {license_id[:40]!r}", remedy)
        return _license(row, work.one(ENTITLEMENT, "entitlement", id=row.entitlement))

    return office.read(look)


def license_row(work: Work, text: str, *where: sa.ColumnElement[bool]) -> sa.Row[Any] | None:
    """Return the row of the license whose id begins with a text.

    Args:
        work: the transaction.
        text: 6 to 32 hexadecimal digits.
        where: what else must be true of it.

    Returns:
        The row, None where there is none.

    Raises:
        UsageError: ``ambiguous``.
    """
    text = text.strip().lower()
    if not is_hex(text):
        return None
    low, high = bytes.fromhex(text.ljust(32, "0")), bytes.fromhex(text.ljust(32, "f"))
    found = work.db.execute(sa.select(LICENSE).where(LICENSE.c.id.between(low, high), *where).limit(3)).all()
    if len(found) > 1:
        ids = [row.id.hex() for row in found]
        raise error("ambiguous", f"several licenses begin with {text}: {', '.join(ids)}", ids=ids)
    return found[0] if found else None


def is_hex(text: str) -> bool:
    """Tell whether a text may be the beginning of an id in hexadecimal."""
    return _PREFIX_MIN <= len(text) <= 32 and not set(text.lower()) - set("0123456789abcdef")


def _license(row: sa.Row[Any], sold: sa.Row[Any]) -> IssuedLicense:
    status, reason = status_of(row, sold)
    return IssuedLicense(
        row.id.hex(),
        row.entitlement,
        sold.product,
        sold.customer,
        container_id(row.container),
        row.seq,
        STATUS_NAMES[status],
        reason,
        Offer.from_bytes(row.offer),
        row.issued_at,
        row.installed_at,
        counts(row.used),
        counts(row.first_use),
        row.freed_at,
        row.freed_by,
    )
