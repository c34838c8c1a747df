# SPDX-License-Identifier: Apache-2.0
"""What the vendor knows of each container: its keys, its last word about its accounts, and whether that word went back
in time.

A file container restored from a copy cannot be detected offline (level L0); here it is, at the next contact: the
container counts the states it has committed, and a later message with a lower count comes from an older state; and it
names the messages before each message (`succession`), which a copy of it does not know. One message, one warning.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tallystick.authority.exchanges import reconcile
from tallystick.authority.office import Work
from tallystick.authority.plain import counts, one_line, texts, to_json
from tallystick.authority.restored import notice
from tallystick.authority.schema import CONTAINER, LICENSE, SLOT
from tallystick.authority.sql import sa
from tallystick.authority.succession import Fit, Said, examine, first_word
from tallystick.codec.ident import container_id
from tallystick.license.messages import MAX_PREVIOUS, REPAIR, Account, Request
from tallystick.license.receipts import EMPTIED, Receipt


def meet(work: Work, request: Request, level: int) -> tuple[str, ...]:
    """Put the container that made a request on record, or its news.

    Args:
        work: the transaction.
        request: accepted: its signature proves the key it names.
        level: derived from its evidence.

    Returns:
        Warnings for the operator.
    """
    thumbprint = request.key.thumbprint
    known = work.find(CONTAINER, thumbprint=thumbprint)
    agreement = None if request.agreement_key is None else request.agreement_key.cose
    if known is None:
        work.insert(
            CONTAINER,
            thumbprint=thumbprint,
            identity=request.key.cose,
            agreement=agreement,
            backend=one_line(request.backend),
            level=level,
            software=one_line(request.software),
            variables=to_json(request.variables),
            generation=request.generation,
            reported_at=request.created_at,
            first_seen=work.now,
            last_seen=work.now,
            last_ids=first_word(request),
        )
        work.audit("container.new", container_id(thumbprint), backend=one_line(request.backend), level=level)
        return notice(work, thumbprint, request.accounts) + reconcile(work, request)
    news = {
        "agreement": agreement,
        "backend": one_line(request.backend),
        "level": level,
        "software": one_line(request.software),
    }
    work.update(CONTAINER, {"thumbprint": thumbprint}, **news)
    return hear(work, known, request) + reconcile(work, request)


def hear(work: Work, known: sa.Row[Any], said: Said) -> tuple[str, ...]:
    """Take a known container's word: device variables, counters, generation.

    Args:
        work: the transaction.
        known: the container's row.
        said: its request or receipt, signed by its key.

    Returns:
        Warnings for the operator.
    """
    fit, warnings = _compare(work, known, said)
    changes: dict[str, Any] = {"last_seen": work.now}
    if said.created_at >= known.reported_at and fit is not Fit.LATE:
        changes["reported_at"] = said.created_at
        changes["generation"] = said.generation
        changes["variables"] = to_json({**texts(known.variables), **said.variables})
    work.update(CONTAINER, {"thumbprint": known.thumbprint}, **changes)
    take_accounts(work, known.thumbprint, said.accounts)
    return warnings + notice(work, known.thumbprint, said.accounts)


def overhear(work: Work, request: Request) -> tuple[str, ...]:
    """Compare a request that is refused with the container's last word and the books, and take nothing else from it.

    Args:
        work: the transaction.
        request: accepted: its signature proves the key it names.

    Returns:
        Warnings for the operator.
    """
    known = work.find(CONTAINER, thumbprint=request.key.thumbprint)
    warnings = () if known is None or request.action == REPAIR else _compare(work, known, request)[1]
    return warnings + notice(work, request.key.thumbprint, request.accounts)


def _compare(work: Work, known: sa.Row[Any], said: Said) -> tuple[Fit, tuple[str, ...]]:
    """Compare a message with the last one; of all that does not fit, one thing is warned of."""
    later, behind = said.created_at >= known.reported_at, said.generation < known.generation
    fit, kept = examine(known.last_ids or b"", said, earlier=not later, behind=behind)
    if kept != (known.last_ids or b""):
        work.update(CONTAINER, {"thumbprint": known.thumbprint}, last_ids=kept)
    if fit is Fit.LATE:
        return fit, ()
    shown, states = container_id(known.thumbprint), f"state {said.generation} after {known.generation}"
    if (later and behind) or _twice(known, said):
        work.audit("container.went_back", shown, known=known.generation, said=said.generation)
        return fit, (f"{shown} is older than when it last wrote ({states}): restored from a copy, or copied",)
    if fit not in (Fit.FORKED, Fit.GAP):
        return fit, ()
    work.audit(f"container.{fit.value}", shown, known=known.generation, said=said.generation)
    why = "restored from a copy, or copied"
    if fit is Fit.GAP:
        why = f"more than {MAX_PREVIOUS} messages of it never arrived, or it was copied"
    return fit, (f"{shown} does not know what it last wrote ({states}): {why}",)


def _twice(known: sa.Row[Any], said: Said) -> bool:
    """A message is committed before it leaves: two of one generation, made at different times, are of two copies. What
    states that a container is empty commits nothing.
    """
    if isinstance(said, Receipt) and said.purpose == EMPTIED:
        return False
    return bool(said.created_at > known.reported_at and said.generation == known.generation)


def take_accounts(work: Work, container: bytes, accounts: Iterable[Account]) -> None:
    """Book the counters a container reports; a counter never goes back.

    Args:
        work: the transaction.
        container: its thumbprint.
        accounts: what it says.
    """
    for account in accounts:
        row = work.find(LICENSE, id=account.license_id)
        if row is None or row.container != container:
            continue
        before = counts(row.used)
        used = highest(before, account.used)
        first_use = earliest(counts(row.first_use), account.first_use)
        if row.freed_at is not None and used != before:  # used on after its slot was freed: the slot pays
            book(work, row, {name: used[name] - before.get(name, 0) for name in used}, first_use)
        changes: dict[str, Any] = {"used": to_json(used), "first_use": to_json(first_use)}
        if row.installed_at is None:
            changes["installed_at"] = work.now
        work.update(LICENSE, {"id": row.id}, **changes)


def book(work: Work, row: sa.Row[Any], used: Mapping[str, int], first_use: Mapping[str, int]) -> None:
    """Debit a license's slot, so that the next license made from it has only the rest.

    Args:
        work: the transaction.
        row: of the license.
        used: units to debit, by counter.
        first_use: when usage periods began, by counter.
    """
    slot = work.one(SLOT, "slot", entitlement=row.entitlement, number=row.slot)
    before = counts(slot.used)
    total = {name: before.get(name, 0) + used.get(name, 0) for name in {*before, *used}}
    began = earliest(counts(slot.first_use), first_use)
    key = {"entitlement": row.entitlement, "number": row.slot}
    work.update(SLOT, key, used=to_json(total), first_use=to_json(began))


def highest(known: Mapping[str, int], said: Mapping[str, int]) -> dict[str, int]:
    """Return the higher of two counts, by counter."""
    return {name: max(known.get(name, 0), said.get(name, 0)) for name in {*known, *said}}


def earliest(known: Mapping[str, int], said: Mapping[str, int]) -> dict[str, int]:
    """Return the earlier of two instants, by counter."""
    return {name: min(known.get(name, at), said.get(name, at)) for name, at in {**known, **said}.items()}
