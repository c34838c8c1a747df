# SPDX-License-Identifier: Apache-2.0
"""What the vendor knows of each container: its keys, its last word about its accounts, and whether that word went back
in time.

A file container restored from a copy cannot be detected offline (level L0); here it is, at the next contact: the
container counts the states it has committed, and a later message with a lower count comes from an older state.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from tallystick.authority.exchanges import reconcile
from tallystick.authority.office import Work
from tallystick.authority.plain import counts, one_line, texts, to_json
from tallystick.authority.schema import CONTAINER, LICENSE, SLOT
from tallystick.authority.sql import sa
from tallystick.codec.ident import container_id
from tallystick.license.messages import Account, Request
from tallystick.license.receipts import Receipt

Said: TypeAlias = Request | Receipt


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
        )
        work.audit("container.new", container_id(thumbprint), backend=one_line(request.backend), level=level)
        return reconcile(work, request)
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
    later = said.created_at >= known.reported_at
    # A message is committed before it leaves: two of one generation, made at different times, are of two copies.
    twice = said.created_at > known.reported_at and said.generation == known.generation
    went_back = twice or (later and said.generation < known.generation)
    changes: dict[str, Any] = {"last_seen": work.now}
    if later:
        changes["reported_at"] = said.created_at
        changes["generation"] = said.generation
        changes["variables"] = to_json({**texts(known.variables), **said.variables})
    work.update(CONTAINER, {"thumbprint": known.thumbprint}, **changes)
    take_accounts(work, known.thumbprint, said.accounts)
    if not went_back:
        return ()
    shown = container_id(known.thumbprint)
    work.audit("container.went_back", shown, known=known.generation, said=said.generation)
    warning = f"{shown} is older than when it last wrote (state {said.generation} after {known.generation})"
    return (f"{warning}: restored from a copy, or copied",)


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
