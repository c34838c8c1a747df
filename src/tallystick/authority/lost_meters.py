# SPDX-License-Identifier: Apache-2.0
"""Meters that are lost: noticing it, and letting their licenses go on with another one.

Whoever may remove indices of a TPM can remove a meter's counter, and its license is of no use from then on. That no
counter is shown proves no loss: a request can leave out one that is still there. So nothing is given again until a
person decides (`close`); then the next request that offers a counter gets it for the units that the books leave. A
request that shows the closed counter opens it again instead (`metering.take_values`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tallystick.authority.catalog import require_text
from tallystick.authority.lookups import license_row
from tallystick.authority.office import Office, Work
from tallystick.authority.plain import counts, to_json
from tallystick.authority.schema import LICENSE
from tallystick.authority.schema_meter import CLOSED, METER
from tallystick.authority.sql import sa
from tallystick.authority.standing import Standing
from tallystick.codec.ident import container_id
from tallystick.errors import error
from tallystick.license.messages import REPAIR, Request

_MAX_REASON: Final = 512


@dataclass(frozen=True, slots=True)
class ClosedMeter:
    """A license whose meter was given up as lost.

    Attributes:
        license_id: hexadecimal.
        container: printed id of the container that has it.
        granted: units, with those of an overage.
        used: of them; the rest is what another meter will count.
    """

    license_id: str
    container: str
    granted: int
    used: int


def missing(work: Work, request: Request, standing: Standing) -> tuple[str, ...]:
    """Warn of licenses that a container holds and whose meters it does not show.

    Args:
        work: the transaction, after meters were assigned.
        request: accepted; one for repair never shows meters.
        standing: what it proves.

    Returns:
        Warnings for the operator.
    """
    held = {account.license_id: account.seq for account in request.accounts}
    if not held or request.action == REPAIR:
        return ()
    shown, warnings = {metered.counter for metered in standing.meters}, []
    query = sa.select(METER, LICENSE.c.seq).join(LICENSE, LICENSE.c.id == METER.c.license)
    for meter in work.db.execute(query.where(METER.c.license.in_(held)).order_by(METER.c.license)).all():
        if meter.container != request.key.thumbprint or meter.counter in shown or held[meter.license] != meter.seq:
            continue  # an older license may have had no meter, or another
        name = meter.license.hex()
        if meter.seen_at == CLOSED:
            warnings.append(f"license {name} waits for another meter: ask for a request with `--metered`")
            continue
        command = f"tally vendor tpm close-meter {name[:8]}"
        warnings.append(
            f"{container_id(meter.container)} does not show the meter of license {name}: its counter was removed from "
            f"the TPM, or is kept from you; `{command}` gives the license another one"
        )
        work.audit("meter.missing", name, known=meter.value)
    return tuple(warnings)


def close(office: Office, license_id: str, reason: str, used: int | None = None) -> ClosedMeter:
    """Give a license's meter up as lost, so that the license gets another one.

    Args:
        office: whose.
        license_id: hexadecimal; its beginning suffices.
        reason: why; required, and kept in the audit log.
        used: units that count as used; as many as the books have if omitted: what the meter certified last, or more
            where its container said so since.

    Returns:
        What is on the books now.

    Raises:
        UsageError: ``usage`` without a reason, or for a number below the books' or above what was granted;
            ``ambiguous``.
        AuthorityError: ``record_not_found``: no such license, or one without a meter.
        StorageError: the database cannot be used.
    """
    reason = require_text(reason, _MAX_REASON, "the reason")
    if not reason:
        raise error("usage", "giving a meter up needs a reason", "Say what happened: `--reason TEXT`.")

    def change(work: Work) -> ClosedMeter:
        row = license_row(work, license_id, LICENSE.c.freed_at.is_(None))
        meter = None if row is None else work.find(METER, license=row.id)
        if row is None or meter is None:
            remedy = "See `tally vendor list licenses`."
            raise error("record_not_found", f"no license {license_id[:40]!r} has a meter", remedy)
        before = counts(row.used)
        known = before.get("", 0)
        gone = known if used is None else used
        if gone != known and not known <= gone <= meter.granted:
            raise error("usage", f"{known} of {meter.granted} units are used as the books have it; {gone} cannot be")
        if gone != known:
            work.update(LICENSE, {"id": row.id}, used=to_json({**before, "": gone}))
        work.update(METER, {"license": row.id}, seen_at=CLOSED)
        work.audit("meter.give_up", row.id.hex(), value=meter.value, known=known, used=gone, reason=reason)
        return ClosedMeter(row.id.hex(), container_id(row.container), meter.granted, gone)

    return office.write(change)
