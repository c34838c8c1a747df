# SPDX-License-Identifier: Apache-2.0
"""What a code entitles a container to, and taking it: the rules read only, the charge comes after them.

An activation is charged by entitlement and container, never by request: a container that asks again gets what it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from tallystick.authority.code_records import by_code
from tallystick.authority.metering import ATTESTED_LEVEL, one_at_a_time, require_level
from tallystick.authority.offers import Offer, resolve
from tallystick.authority.office import Work
from tallystick.authority.plain import counts
from tallystick.authority.schema import ENTITLEMENT, LICENSE, SLOT
from tallystick.authority.sql import sa
from tallystick.authority.standing import Standing
from tallystick.codec.ident import container_id
from tallystick.errors import error
from tallystick.license.dates import show
from tallystick.license.messages import Request
from tallystick.license.model import ACTIVE

_NEW_REQUEST: Final = "Then make a new request: this one keeps its answer."


@dataclass(frozen=True, slots=True)
class Decision:
    """What a request is entitled to: the licenses its container has of an entitlement, and how many it gets more."""

    entitlement: sa.Row[Any]
    held: Sequence[sa.Row[Any]]
    more: int


def require_licenses(work: Work, request: Request) -> None:
    """A refresh is for containers that have something to refresh."""
    held = sa.select(LICENSE.c.id).where(LICENSE.c.container == request.key.thumbprint).limit(1)
    if work.db.execute(held).one_or_none() is None:
        shown = container_id(request.key.thumbprint)
        raise error(
            "license_not_found", f"no license was issued to {shown}", "Activate first, with an activation code."
        )


def entitled(work: Work, request: Request, offline: bool, standing: Standing) -> Decision:
    """Decide, reading only. The code comes first: who has none learns nothing else."""
    row = by_code(work, request.code)
    if request.product and request.product != row.product:
        raise error("wrong_product", f"the code is for {row.product}, not for {request.product}")
    offer = Offer.from_bytes(row.offer)
    if offline and not offer.terms.offline:
        raise error("offline_denied", f"{row.product} may not be activated by file")
    expires = resolve(offer, work.now, {}, {}).terms.expires
    if expires is not None and expires <= work.now:
        raise error(
            "expired", f"what this code is for ended {show(expires)}", "Ask the vendor's sales desk for a renewal."
        )
    query = sa.select(LICENSE).filter_by(entitlement=row.id, container=request.key.thumbprint)
    held = work.db.execute(query.where(LICENSE.c.freed_at.is_(None)).order_by(LICENSE.c.ordinal)).all()
    more = max(0, max(1, request.quantity) - len(held))
    if more or standing.level < min(offer.terms.min_level, ATTESTED_LEVEL):
        require_level(work, row.product, offer, standing)
    if more > 1 and standing.level < offer.terms.min_level:
        raise one_at_a_time(row.product)
    if more > row.quantity - row.taken:
        asked = f"; {more} asked" if more > 1 else ""
        message = f"{row.taken} of {row.quantity} activations of this code are in use{asked}"
        remedy = f"Deactivate one and send its receipt, or buy more. {_NEW_REQUEST}"
        raise error("quantity_exhausted", message, remedy)
    return Decision(row, held, more)


def charge(work: Work, request: Request, decision: Decision) -> None:
    """Take slots and make a license for each: slots given back first, with what is left of them, then new ones."""
    key, container = decision.entitlement.id, request.key.thumbprint
    if not decision.more:
        return
    work.update(ENTITLEMENT, {"id": key}, taken=decision.entitlement.taken + decision.more)
    free = set(range(max(1, request.quantity))) - {row.ordinal for row in decision.held}
    for ordinal, slot in zip(sorted(free), _slots(work, decision), strict=False):
        offer = resolve(Offer.from_bytes(slot.offer), work.now, counts(slot.used), counts(slot.first_use))
        license_id = work.new_id()
        work.insert(
            LICENSE,
            id=license_id,
            entitlement=key,
            slot=slot.number,
            container=container,
            ordinal=ordinal,
            offer=offer.to_bytes(),
            seq=0,
            message=b"",
            agreement=None,
            status=ACTIVE,
            reason="",
            issued_at=work.now,
            installed_at=None,
            used="{}",
            first_use="{}",
            freed_at=None,
            freed_by="",
        )
        work.audit(
            "license.issue", license_id.hex(), entitlement=key, slot=slot.number, container=container_id(container)
        )


def _slots(work: Work, decision: Decision) -> Sequence[sa.Row[Any]]:
    key = decision.entitlement.id
    last = work.db.execute(sa.select(sa.func.max(SLOT.c.number)).where(SLOT.c.entitlement == key)).scalar() or 0
    found: list[sa.Row[Any]] = []
    if last > decision.entitlement.taken:  # some were given back; looking for them takes as long as there are slots
        busy = sa.select(LICENSE.c.slot).where(LICENSE.c.entitlement == key, LICENSE.c.freed_at.is_(None))
        given_back = sa.select(SLOT).where(SLOT.c.entitlement == key, SLOT.c.number.not_in(busy))
        found += work.db.execute(given_back.order_by(SLOT.c.number).limit(decision.more))
    for number in range(last + 1, last + 1 + decision.more - len(found)):
        values = {"entitlement": key, "number": number, "offer": decision.entitlement.offer}
        work.insert(SLOT, **values, used="{}", first_use="{}")
        found.append(work.one(SLOT, "slot", entitlement=key, number=number))
    return found
