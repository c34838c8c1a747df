# SPDX-License-Identifier: Apache-2.0
"""What the vendor changes on its own: terms, status, and slots taken back. Each container concerned gets one
unsolicited update.

A refresh charges nothing: a license keeps its id and slot, only its `seq` grows. *Suspend* and *resume* may be
repeated, *revoke* is final. *Release* takes a license back without proof, because its container was lost: its slot is
free at once, the license is revoked, and the audit log says who decided it and why.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from tallystick.authority.catalog import require_features, require_text
from tallystick.authority.changes import NO_CHANGE, Change, changed
from tallystick.authority.entitlements import MAX_QUANTITY, is_entitlement_id, one_entitlement
from tallystick.authority.lookups import license_row
from tallystick.authority.offers import Offer
from tallystick.authority.office import Office, Work
from tallystick.authority.outbox import Sent, send_update
from tallystick.authority.plain import counts
from tallystick.authority.receiving import BY_RELEASE, free_slot
from tallystick.authority.schema import ENTITLEMENT, LICENSE, SLOT
from tallystick.authority.sql import sa
from tallystick.errors import error
from tallystick.exchange.words import STATUS_NAMES
from tallystick.license.model import ACTIVE, REVOKED

_MAX_REASON: Final = 512
_VERBS: Final = {0: "resume", 1: "suspend", 2: "revoke"}


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What a change did.

    Attributes:
        target: id of the entitlement or license.
        updates: one for each container that has a license of it; to be sent there.
    """

    target: str
    updates: tuple[Sent, ...]


@dataclass(frozen=True, slots=True)
class _Target:
    """An entitlement with all its active licenses, or one license."""

    entitlement: sa.Row[Any]
    licenses: tuple[sa.Row[Any], ...]
    whole: bool

    @property
    def shown(self) -> str:
        return str(self.entitlement.id) if self.whole else self.licenses[0].id.hex()


def refresh(office: Office, target: str, change: Change = NO_CHANGE, *, add_quantity: int = 0) -> Refreshed:
    """Change the terms of what was sold; without a change, make the present licenses' updates again.

    Args:
        office: whose.
        target: id of an entitlement, or of a license (its beginning suffices).
        change: what is to be different.
        add_quantity: activations to add to the entitlement.

    Returns:
        The updates to send.

    Raises:
        UsageError: ``usage`` for a change that cannot be applied.
        AuthorityError: ``record_not_found``, ``key_missing``.
        VerificationError, StorageError, BackendError: the database or a key cannot be used.
    """
    office.unlock("license", "time")

    def apply(work: Work) -> Refreshed:
        found = _find(work, target)
        require_features(work, found.entitlement.product, change.features)
        if add_quantity:
            _add_quantity(work, found, add_quantity)
        if not change.empty:
            _apply(work, found, change)
            work.audit("terms.change", found.shown, change=change)
        return Refreshed(found.shown, _updates(work, found.licenses))

    return office.write(apply)


def set_status(office: Office, target: str, status: int, reason: str = "") -> Refreshed:
    """Suspend, resume or revoke.

    Args:
        office: whose.
        target: id of an entitlement, or of a license (its beginning suffices).
        status: ACTIVE, SUSPENDED or REVOKED of `license.model`.
        reason: shown to the user where the license is refused.

    Returns:
        The updates to send.

    Raises:
        UsageError: ``usage`` for what was revoked: that is final.
        AuthorityError: ``record_not_found``, ``key_missing``.
        VerificationError, StorageError, BackendError: the database or a key cannot be used.
    """
    office.unlock("license", "time")
    reason = "" if status == ACTIVE else require_text(reason, _MAX_REASON, "the reason")

    def change(work: Work) -> Refreshed:
        found = _find(work, target)
        before = found.entitlement if found.whole else found.licenses[0]
        if before.status == REVOKED and status != REVOKED:
            raise error("usage", f"{found.shown} was revoked, which is final", "Sell a new entitlement.")
        table = ENTITLEMENT if found.whole else LICENSE
        work.update(table, {"id": before.id}, status=status, reason=reason)
        work.audit(f"status.{_VERBS[status]}", found.shown, before=STATUS_NAMES[before.status], reason=reason)
        return Refreshed(found.shown, _updates(work, found.licenses))

    return office.write(change)


def release(office: Office, license_id: str, reason: str) -> Refreshed:
    """Take a license back without its container's proof.

    Args:
        office: whose.
        license_id: hexadecimal; its beginning suffices.
        reason: why; required, and kept in the audit log.

    Returns:
        The update that revokes it, should its container come back.

    Raises:
        UsageError: ``usage`` without a reason.
        AuthorityError: ``record_not_found``, also for a license that was given back already; ``key_missing``.
        VerificationError, StorageError, BackendError: the database or a key cannot be used.
    """
    reason = require_text(reason, _MAX_REASON, "the reason")
    if not reason:
        raise error("usage", "a release needs a reason", "Say what happened: `--reason TEXT`.")
    office.unlock("license", "time")

    def change(work: Work) -> Refreshed:
        row = _one_license(work, license_id)
        used, first_use = counts(row.used), counts(row.first_use)
        free_slot(work, row, BY_RELEASE, used, first_use, reason)
        work.audit(
            "license.release", row.id.hex(), entitlement=row.entitlement, slot=row.slot, used=used, reason=reason
        )
        freed = work.one(LICENSE, "license", id=row.id)
        return Refreshed(row.id.hex(), (send_update(work, row.container, [freed]),))

    return office.write(change)


def _find(work: Work, target: str) -> _Target:
    if is_entitlement_id(target):
        row = one_entitlement(work, target)
        query = sa.select(LICENSE).where(LICENSE.c.entitlement == row.id, LICENSE.c.freed_at.is_(None))
        licenses = work.db.execute(query.order_by(LICENSE.c.slot)).all()
        return _Target(row, tuple(licenses), True)
    license_ = _one_license(work, target)
    return _Target(work.one(ENTITLEMENT, "entitlement", id=license_.entitlement), (license_,), False)


def _one_license(work: Work, text: str) -> sa.Row[Any]:
    """The active license whose id begins with this."""
    row = license_row(work, text, LICENSE.c.freed_at.is_(None))
    if row is None:
        remedy = "See `tally vendor list` and `tally vendor list licenses`."
        raise error("record_not_found", f"no entitlement and no active license is called {text[:40]!r}", remedy)
    return row


def _apply(work: Work, found: _Target, change: Change) -> None:
    if found.whole:
        new = changed(Offer.from_bytes(found.entitlement.offer), change).to_bytes()
        work.update(ENTITLEMENT, {"id": found.entitlement.id}, offer=new)
        slots = sa.select(SLOT).where(SLOT.c.entitlement == found.entitlement.id)
    else:
        row = found.licenses[0]
        slots = sa.select(SLOT).where(SLOT.c.entitlement == row.entitlement, SLOT.c.number == row.slot)
    for slot in work.db.execute(slots).all():
        new = changed(Offer.from_bytes(slot.offer), change).to_bytes()
        work.update(SLOT, {"entitlement": slot.entitlement, "number": slot.number}, offer=new)
    for row in found.licenses:
        new = changed(Offer.from_bytes(row.offer), change, now=work.now).to_bytes()
        work.update(LICENSE, {"id": row.id}, offer=new)


def _add_quantity(work: Work, found: _Target, more: int) -> None:
    quantity = found.entitlement.quantity + more
    if not found.whole:
        raise error("usage", "activations are added to an entitlement, not to a license")
    if not found.entitlement.taken <= quantity <= MAX_QUANTITY or quantity < 1:
        raise error("usage", f"{quantity} activations, of which {found.entitlement.taken} are in use, cannot be")
    work.update(ENTITLEMENT, {"id": found.entitlement.id}, quantity=quantity)
    work.audit("entitlement.quantity", found.shown, before=found.entitlement.quantity, after=quantity)


def _updates(work: Work, licenses: Iterable[sa.Row[Any]]) -> tuple[Sent, ...]:
    by_container: dict[bytes, list[sa.Row[Any]]] = {}
    for row in licenses:
        by_container.setdefault(row.container, []).append(work.one(LICENSE, "license", id=row.id))
    return tuple(send_update(work, container, rows) for container, rows in by_container.items())
