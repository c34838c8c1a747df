# SPDX-License-Identifier: Apache-2.0
"""Licenses whose units a TPM counts: which get a meter, how far it may go, what it certified.

An offer that asks for level 3 is met by a dongle, or by an attested TPM (level 2) that counts the license's units
itself. The first license of such an offer takes a meter of the request's evidence, for good; a meter counts for one
license only. Its ceiling is the value certified then and all units granted, and only ever rises: an older license with
a higher ceiling could be kept. A meter that was lost is another matter (`lost_meters`): once the vendor closed it, its
license takes another one, with what the books leave of its units.

What a container says it used is a word; what its meter certifies is not. The books take the higher of both. A license
given up gives its units back only as far as its meter proves that it counted them for that (`GIVE_BACK`).
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from tallystick.authority.offers import Offer
from tallystick.authority.office import Work
from tallystick.authority.plain import counts, to_json
from tallystick.authority.schema import LICENSE
from tallystick.authority.schema_meter import CLOSED, METER
from tallystick.authority.sql import sa
from tallystick.authority.standing import Standing
from tallystick.codec.ident import container_id
from tallystick.codec.keys import PublicKey
from tallystick.errors import AuthorityError, TallystickError, VerificationError, error
from tallystick.license.messages import Request
from tallystick.license.meter import MeterClaim, given_back

if TYPE_CHECKING:
    from tallystick.authority.attest.meter import Metered

METERED_LEVEL: Final = 3
ATTESTED_LEVEL: Final = 2
_TPM: Final = "tpm"
_ASK: Final = "Make the request with `tally request --metered`."
_BOOKS: Final = 1 << 62  # numbers from here on have no place in a database, with what may be granted added


def examine(work: Work, request: Request, data: bytes) -> Standing:
    """Examine the evidence about meters; it proves no level by itself.

    Args:
        work: the transaction.
        request: accepted.
        data: the evidence.

    Returns:
        The meters, or a warning for the operator.
    """
    from tallystick.authority.attest.meter import examine_meters

    challenge = sha256(request.challenge()).digest()
    try:
        found = examine_meters(data, request.evidence.get(_TPM, b""), request.key, challenge)
    except AuthorityError as refused:
        return Standing(remarks=(f"its meters prove nothing: {refused.message} ({refused.details['reason']})",))
    return Standing(meters=tuple(one for one in found if one.value < _BOOKS))


def require_level(work: Work, product: str, offer: Offer, standing: Standing) -> None:
    """Refuse a container that does not prove what an offer asks for.

    Args:
        work: the transaction.
        product: what is asked for.
        offer: what was sold.
        standing: what the request proves.

    Raises:
        NotLicensedError: ``level_too_low``, saying what is missing.
    """
    needed, level = offer.terms.min_level, standing.level
    if level >= needed:
        return
    message = f"{product} needs a container of level L{needed}; this is L{level}"
    if needed < METERED_LEVEL or level < ATTESTED_LEVEL or standing.attested is None:
        raise error("level_too_low", message)
    if offer.terms.touch:
        raise error(
            "level_too_low", f"{message}: this asks for a press of a button, which a TPM has not", "Use a dongle."
        )
    if offer.terms.units is None or any(feature.units is not None for feature in offer.features.values()):
        message += ": a TPM reaches L3 only where it counts the license's units itself, and this counts none"
        raise error("level_too_low", message, "Use a dongle.")
    if not _spare(work, standing):
        raise error("level_too_low", f"{message}: it offers no counter of its TPM for the units", _ASK)


def take_values(work: Work, request: Request, standing: Standing) -> tuple[str, ...]:
    """Book what meters certify of the licenses they are for.

    Args:
        work: the transaction.
        request: accepted.
        standing: what it proves.

    Returns:
        Warnings for the operator.
    """
    warnings = []
    for metered in standing.meters:
        meter = work.find(METER, counter=metered.counter)
        if meter is None or meter.container != request.key.thumbprint:
            continue
        if metered.value < meter.value:
            shown = container_id(request.key.thumbprint)
            warnings.append(f"the meter of license {meter.license.hex()} in {shown} went back: its TPM was set back")
            work.audit("meter.went_back", meter.license.hex(), known=meter.value, said=metered.value)
        if meter.seen_at == CLOSED:
            warnings.append(f"the meter of license {meter.license.hex()} was not lost: it counts on, and is open again")
            work.audit("meter.reopen", meter.license.hex(), value=metered.value)
        work.update(METER, {"license": meter.license}, value=max(meter.value, metered.value), seen_at=work.now)
        row = work.one(LICENSE, "license", id=meter.license)
        used = counts(row.used)
        gone = used_by(meter, meter.granted, metered.value)
        if gone > used.get("", 0):
            work.update(LICENSE, {"id": row.id}, used=to_json({**used, "": gone}))
    return tuple(warnings)


def assign(work: Work, request: Request, standing: Standing) -> None:
    """Give the container's licenses that need a meter, and have none or a closed one, one of those the request offers.

    Args:
        work: the transaction.
        request: accepted.
        standing: what it proves.
    """
    if not standing.meters or not ATTESTED_LEVEL <= standing.level < METERED_LEVEL:  # meters are an attested TPM's
        return
    query = sa.select(LICENSE).where(LICENSE.c.container == request.key.thumbprint, LICENSE.c.freed_at.is_(None))
    without, closed = [], []
    for row in work.db.execute(query.order_by(LICENSE.c.issued_at, LICENSE.c.ordinal)).all():
        terms, meter = Offer.from_bytes(row.offer).terms, work.find(METER, license=row.id)
        if terms.min_level < METERED_LEVEL or terms.units is None:
            continue
        if meter is None:
            without.append(row)
        elif meter.seen_at == CLOSED:
            closed.append(row)
    for row, spare in zip(without + closed, _spare(work, standing), strict=False):  # what was never counted comes first
        _assign(work, row, spare)


def _assign(work: Work, row: sa.Row[Any], spare: Metered) -> None:
    terms = Offer.from_bytes(row.offer).terms
    granted = (terms.units or 0) + terms.overage
    ceiling = spare.value + max(0, granted - counts(row.used).get("", 0))
    work.db.execute(sa.delete(METER).where(METER.c.license == row.id))  # a closed one
    values = {"license": row.id, "container": row.container, "key": spare.key.cose, "counter": spare.counter}
    work.insert(METER, **values, ceiling=ceiling, granted=granted, value=spare.value, seen_at=work.now)
    work.audit("meter.assign", row.id.hex(), ceiling=ceiling, granted=granted)


def claim_of(work: Work, row: sa.Row[Any]) -> MeterClaim | None:
    """Return what a license says of its meter; what was granted more since raises the ceiling.

    Args:
        work: the transaction.
        row: of the license.
    """
    meter = work.find(METER, license=row.id)
    if meter is None:
        return None
    terms = Offer.from_bytes(row.offer).terms
    granted = (terms.units or 0) + terms.overage
    if granted > meter.granted:
        ceiling = meter.ceiling + granted - meter.granted
        work.update(METER, {"license": row.id}, ceiling=ceiling, granted=granted)
        work.audit("meter.raise", row.id.hex(), ceiling=ceiling, granted=granted)
        meter = work.one(METER, "meter", license=row.id)
    return MeterClaim(PublicKey.from_cose(meter.key), meter.counter, meter.ceiling)


def settled(work: Work, row: sa.Row[Any], used: dict[str, int], proofs: Sequence[bytes]) -> dict[str, int]:
    """Tell what a license used in all that is given up now, and let its meter go.

    Args:
        work: the transaction.
        row: of the license.
        used: what its container says, by counter.
        proofs: of the units that its meter counted to give them back.

    Returns:
        What is booked: what was granted, but for the units proven to be given back; what the books have of a license
        whose meter the vendor closed.
    """
    meter = work.find(METER, license=row.id)
    if meter is None:
        return used
    if meter.seen_at == CLOSED:
        work.db.execute(sa.delete(METER).where(METER.c.license == row.id))
        return used
    claim = MeterClaim(PublicKey.from_cose(meter.key), meter.counter, meter.ceiling)
    try:
        back = given_back(proofs, claim, row.id)
    except VerificationError as refused:
        work.audit("meter.refuse", row.id.hex(), reason=refused.details.get("reason", refused.code))
        back = 0
    gone = max(used.get("", 0), int(meter.granted) - back)
    work.db.execute(sa.delete(METER).where(METER.c.license == row.id))
    work.audit("meter.close", row.id.hex(), given_back=back, used=gone)
    return {**used, "": gone} if gone else used


def used_by(meter: sa.Row[Any], granted: int, value: int) -> int:
    """Tell how many units are gone where a meter stands at a value."""
    gone: int = granted - max(0, meter.ceiling - value)
    return max(0, gone)


def _spare(work: Work, standing: Standing) -> list[Metered]:
    """The meters no license has yet."""
    return [one for one in standing.meters if work.find(METER, counter=one.counter) is None]


def one_at_a_time(product: str) -> TallystickError:
    """Build the refusal of a request for several licenses whose units a TPM shall count."""
    return error("level_too_low", f"of {product}, a TPM takes one license at a time", "Ask for one license.")
