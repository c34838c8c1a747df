# SPDX-License-Identifier: Apache-2.0
"""What containers report of loans and transfers between them, and whether the reports add up.

Nothing here undoes anything: a file container restored from a copy can give the same seats away twice while it is
offline (level L0 cannot prevent it), and this is where the vendor sees it. Every report is kept; for each license it
touches, what arrived elsewhere and what was used is compared with what was issued.
"""

from __future__ import annotations

from collections.abc import Mapping

from tallystick.authority.offers import Offer
from tallystick.authority.office import Work
from tallystick.authority.plain import counts, to_json
from tallystick.authority.schema import EXCHANGE, LICENSE
from tallystick.authority.sql import sa
from tallystick.codec.ident import container_id
from tallystick.license.grant_policy import SEATS
from tallystick.license.messages import Exchange, Request


def reconcile(work: Work, request: Request) -> tuple[str, ...]:
    """Keep a container's reports, and compare them with what was issued.

    Args:
        work: the transaction.
        request: signed by the container that reports.

    Returns:
        Warnings for the operator: a report that its other end contradicts, or more in use than was issued.
    """
    reporter = request.key.thumbprint
    warnings: list[str] = []
    for exchange in request.exchanges:
        warnings += _keep(work, reporter, exchange, request.created_at)
    for license_id in dict.fromkeys(exchange.license_id for exchange in request.exchanges):
        warnings += _compare(work, license_id)
    return tuple(warnings)


def _keep(work: Work, reporter: bytes, exchange: Exchange, said_at: int) -> list[str]:
    known = work.find(EXCHANGE, container=reporter, xid=exchange.xid)
    values = {
        "license": exchange.license_id,
        "peer": exchange.peer,
        "outgoing": int(exchange.outgoing),
        "transfer": int(exchange.transfer),
        "amounts": to_json(exchange.amounts),
        "returned": to_json(exchange.returned),
        "used": to_json(exchange.used),
        "said_at": said_at,
    }
    if known is None:
        work.insert(EXCHANGE, container=reporter, xid=exchange.xid, **values)
    elif said_at >= known.said_at:
        work.update(EXCHANGE, {"container": reporter, "xid": exchange.xid}, **values)
    other = work.find(EXCHANGE, container=exchange.peer, xid=exchange.xid)
    if other is None or (counts(other.amounts) == dict(exchange.amounts) and other.license == exchange.license_id):
        return []
    shown = container_id(reporter), container_id(exchange.peer)
    work.audit("exchange.differs", exchange.xid.hex(), one=shown[0], other=shown[1])
    return [f"{shown[0]} and {shown[1]} report exchange {exchange.xid.hex()[:8]} differently"]


def _compare(work: Work, license_id: bytes) -> list[str]:
    """Compare what left a license's container for good, and was used there, with what was issued."""
    row = work.find(LICENSE, id=license_id)
    if row is None:
        return []
    holder = row.container
    statement = sa.select(EXCHANGE).where(EXCHANGE.c.license == license_id, EXCHANGE.c.transfer == 1)
    gone: dict[bytes, dict[str, int]] = {}
    for entry in work.db.execute(statement):
        giver = entry.container if entry.outgoing else entry.peer
        if giver == holder:
            back = counts(entry.returned)
            kept = {name: max(0, amount - back.get(name, 0)) for name, amount in counts(entry.amounts).items()}
            gone[entry.xid] = _least(gone.get(entry.xid, kept), kept)
    used = counts(row.used)
    warnings = []
    for name, issued in _issued(Offer.from_bytes(row.offer)).items():
        total = sum(amounts.get(name, 0) for amounts in gone.values()) + used.get(name, 0)
        if total > issued:
            what = {"": "units", SEATS: "seats"}.get(name, name)
            work.audit("license.oversubscribed", license_id.hex(), counter=name, issued=issued, found=total)
            warnings.append(
                f"license {license_id.hex()[:8]}: {total} {what} were used or given away of {issued}: "
                f"{container_id(holder)} was restored from a copy, or copied"
            )
    return warnings


def _issued(offer: Offer) -> dict[str, int]:
    """Tell what a license gives, by counter; the right to run counts as one seat where seats are not counted."""
    terms = offer.terms
    issued = {SEATS: 1 if terms.seats is None else terms.seats}
    if terms.units is not None:
        issued[""] = terms.units + terms.overage
    for name, feature in offer.features.items():
        if feature.units is not None:
            issued[name] = feature.units + feature.overage
    return issued


def _least(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    """Of two reports of one exchange, take the lower: a return is known to one end first."""
    return {name: min(one.get(name, 0), other.get(name, 0)) for name in {*one, *other}}
