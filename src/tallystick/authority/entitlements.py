# SPDX-License-Identifier: Apache-2.0
"""Entitlements: what was bought, before and after it becomes licenses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from tallystick.authority.catalog import require_text
from tallystick.authority.code_records import new_code
from tallystick.authority.codes import ActivationCode
from tallystick.authority.offers import Offer
from tallystick.authority.office import Office, Work
from tallystick.authority.schema import ENTITLEMENT, TEMPLATE
from tallystick.authority.sql import sa
from tallystick.codec import base32
from tallystick.errors import error
from tallystick.exchange.words import STATUS_NAMES
from tallystick.license.model import ACTIVE, REVOKED

MAX_QUANTITY: Final = 1_000_000
_ID_PREFIX: Final = "E-"
_ID_SYMBOLS: Final = 9
_ID_BYTES: Final = 6  # 48 bits, of which the id shows 45: opaque, and never twice in one vendor's life
_MAX_LICENSEE: Final = 512
_MAX_NOTE: Final = 256


@dataclass(frozen=True, slots=True)
class Entitlement:
    """What was bought.

    Attributes:
        id: printed in licenses, for support cases.
        product, template: what.
        offer: on which terms.
        quantity: how many activations.
        taken: how many are in use.
        customer: the vendor's note of who bought it.
        licensee: text shown to the user.
        reference: the vendor's own reference, an order number for example.
        status: ``active``, ``suspended`` or ``revoked``.
        reason: why, if not active.
        created_at: seconds since 1970.
    """

    id: str
    product: str
    template: str
    offer: Offer
    quantity: int
    taken: int
    customer: str
    licensee: str
    reference: str
    status: str
    reason: str
    created_at: int


@dataclass(frozen=True, slots=True)
class Entitled:
    """A new entitlement, or one with a new code.

    Attributes:
        entitlement: the record.
        code: its activation code; it is stored nowhere, so this is the only time it can be shown.
    """

    entitlement: Entitlement
    code: ActivationCode


def entitle(
    office: Office, template: str, *, quantity: int = 1, customer: str = "", licensee: str = "", reference: str = ""
) -> Entitled:
    """Sell: make an entitlement and its activation code.

    Args:
        office: whose.
        template: what is sold.
        quantity: how many activations.
        customer: who bought it.
        licensee: text shown to the user; the customer if empty.
        reference: the vendor's own reference.

    Returns:
        The entitlement, and its code once.

    Raises:
        UsageError: ``usage``.
        AuthorityError: ``record_not_found`` for the template.
        StorageError: the database refuses.
    """
    if not 1 <= quantity <= MAX_QUANTITY:
        raise error("usage", f"a quantity of {quantity}; 1 to {MAX_QUANTITY} can be sold at once")
    notes = {
        "customer": require_text(customer, _MAX_NOTE, "the customer"),
        "licensee": require_text(licensee or customer, _MAX_LICENSEE, "the licensee"),
        "reference": require_text(reference, _MAX_NOTE, "the reference"),
    }

    def change(work: Work) -> Entitled:
        sold = work.one(TEMPLATE, "template", name=template)
        code, stored = new_code(work)
        key = _new_id(work)
        values = {"id": key, "product": sold.product, "template": template, "offer": sold.offer}
        values |= {"quantity": quantity, "taken": 0, "status": ACTIVE, "reason": "", "created_at": work.now}
        work.insert(ENTITLEMENT, **values, **notes, **stored)
        work.audit("entitlement.add", key, template=template, quantity=quantity, **notes)
        return Entitled(_shown(work.one(ENTITLEMENT, "entitlement", id=key)), code)

    return office.write(change)


def recode(office: Office, key: str) -> Entitled:
    """Replace the activation code of an entitlement, because it was lost or has leaked. Licenses issued stay.

    Args:
        office: whose.
        key: the entitlement's id.

    Returns:
        The entitlement, and its new code once. The old code is refused from now on.

    Raises:
        AuthorityError: ``record_not_found``.
        NotLicensedError: ``revoked``: that is final, and a new code could not be used.
        StorageError: the database refuses.
    """

    def change(work: Work) -> Entitled:
        row = one_entitlement(work, key)
        if row.status == REVOKED:
            raise error("revoked", f"{row.id} was revoked, which is final", "Sell a new entitlement.")
        code, stored = new_code(work)
        work.update(ENTITLEMENT, {"id": row.id}, **stored)
        work.audit("entitlement.recode", row.id)
        return Entitled(_shown(row), code)

    return office.write(change)


def entitlements(
    office: Office, *, product: str = "", search: str = "", limit: int | None = None
) -> tuple[Entitlement, ...]:
    """List entitlements, newest first.

    Args:
        office: whose.
        product: only of this product.
        search: only where the customer, the licensee, the reference or the id contains this, in any case.
        limit: how many at most.

    Raises:
        StorageError: the database cannot be read.
    """
    query = sa.select(ENTITLEMENT).order_by(ENTITLEMENT.c.created_at.desc(), ENTITLEMENT.c.id).limit(limit)
    if product:
        query = query.where(ENTITLEMENT.c.product == product)
    if search:
        columns = (ENTITLEMENT.c.customer, ENTITLEMENT.c.licensee, ENTITLEMENT.c.reference, ENTITLEMENT.c.id)
        query = query.where(sa.or_(*[column.icontains(search, autoescape=True) for column in columns]))
    return office.read(lambda work: tuple(_shown(row) for row in work.db.execute(query)))


def entitlement(office: Office, key: str) -> Entitlement:
    """Return an entitlement.

    Args:
        office: whose.
        key: its id, in any case, with or without hyphens.

    Raises:
        AuthorityError: ``record_not_found``.
        StorageError: the database cannot be read.
    """
    return office.read(lambda work: _shown(one_entitlement(work, key)))


def one_entitlement(work: Work, key: str) -> sa.Row[Any]:
    """Return the row of an entitlement.

    Args:
        work: the transaction.
        key: its id, in any case, with or without hyphens.

    Raises:
        AuthorityError: ``record_not_found``.
    """
    number = base32.decode(key.strip()[len(_ID_PREFIX) :], _ID_SYMBOLS) if is_entitlement_id(key) else None
    if number is None:
        raise error("record_not_found", f"{key[:40]!r} is not an entitlement's id", "See `tally vendor list`.")
    return work.one(ENTITLEMENT, "entitlement", id=_id_text(number))


def is_entitlement_id(text: str) -> bool:
    """Tell whether a text is meant as an entitlement's id and is not mistyped."""
    text = text.strip()
    return text[:2].upper() == _ID_PREFIX and base32.decode(text[2:], _ID_SYMBOLS) is not None


def _new_id(work: Work) -> str:
    return _id_text(int.from_bytes(work.random(_ID_BYTES)) >> 3)


def _id_text(number: int) -> str:
    return _ID_PREFIX + base32.grouped(base32.encode(number, _ID_SYMBOLS))


def _shown(row: sa.Row[Any]) -> Entitlement:
    return Entitlement(
        row.id,
        row.product,
        row.template,
        Offer.from_bytes(row.offer),
        row.quantity,
        row.taken,
        row.customer,
        row.licensee,
        row.reference,
        STATUS_NAMES[row.status],
        row.reason,
        row.created_at,
    )
