# SPDX-License-Identifier: Apache-2.0
"""May this run? A pure function of the license, the account and the facts.

`evaluate` looks at, in this order: status, level, start, expiration, usage period, maintenance period, version (each
for the license and for the feature asked), contact check-in, units. The first that refuses decides. The verdict's
`valid_until` is the *effective end*: the earliest of expiration, end of the usage period and end of the check-in's
grace.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tallystick.errors import CODES, TallystickError, error
from tallystick.license.dates import DAY_S, number_of, show, span, version_numbers
from tallystick.license.grant_policy import SEATS, TOLERANCE_S
from tallystick.license.model import ACTIVE, PLAIN_FEATURE, REVOKED, Feature, License, Terms
from tallystick.record import Record

WARN_AHEAD_S: Final = 30 * DAY_S  # the customary notice of the field: at most 30 days before the end
WARN_PART: Final = 10  # and at most a tenth of what ends: a license of 30 days does not warn from its first second

_NO_COUNTS: Final[Mapping[str, int]] = {}


class Usage(Record):
    """What the container's account says of one license; ``""`` stands for the license itself, else a feature's name.

    Attributes:
        used: units used up, by counter (lent, transferred and reserved ones included).
        first_use: instant of first use, by counter.
        contact: latest contact with the issuer.
    """

    used: Mapping[str, int] = _NO_COUNTS
    first_use: Mapping[str, int] = _NO_COUNTS
    contact: int = 0


class Facts(Record):
    """What is asked, and when.

    Attributes:
        now: seconds since 1970, from `clock.assess`.
        feature: name of the feature asked for; empty for the product itself.
        units: how many units are about to be consumed.
        version: the application's version, where it passes one.
        release_date: the application's release date in seconds since 1970, where it passes one.
        level: the container's assurance level as far as known; None where only the issuer can tell.
        wall: what the computer's clock says, where that may not be believed yet (`clock`): it ends loans all the same,
            for the lender has the seats back by then; once it is right again, nothing was lost.
        warn: seconds before an end at which warnings begin; None for a tenth of what ends, at most 30 days.
    """

    now: int
    feature: str = ""
    units: int = 0
    version: str | None = None
    release_date: int | None = None
    level: int | None = None
    warn: int | None = None
    wall: int = 0


NOTICES: Final[Mapping[str, str]] = {
    "check_in_due": "The contact check-in is due; the license runs on for the rest of its grace.",
    "ends_soon": "The license, the feature or its usage period ends soon.",
    "loan_ends_soon": "The loan by which the license is held ends soon; extend it, or return it.",
    "overage_used": "More units are used than were bought; the vendor is told.",
}


class Notice(Record):
    """A warning: it runs, but somebody should know.

    Attributes:
        code: a key of `NOTICES`; the same through all releases of one major version.
        message: one sentence; also what `str` returns.
    """

    code: str
    message: str

    def __str__(self) -> str:
        return self.message


class Verdict(Record):
    """The answer.

    Attributes:
        code: ``ok`` or a key of `errors.CODES`.
        message: one sentence.
        remedy: what the user can do; empty for ``ok``.
        valid_until: the effective end in seconds since 1970; None = for ever.
        warnings: what will end soon, is due, or is reported.
        available: units left in the counter asked, None where nothing is counted.
    """

    code: str
    message: str
    remedy: str = ""
    valid_until: int | None = None
    warnings: tuple[Notice, ...] = ()
    available: int | None = None

    @property
    def ok(self) -> bool:
        """Whether it may run."""
        return self.code == "ok"

    def require(self) -> None:
        """Raise what refuses.

        Raises:
            NotLicensedError: with the verdict's code, message and remedy.
        """
        if self.code != "ok":
            raise self.to_error()

    def to_error(self) -> TallystickError:
        """Return the refusal as an exception."""
        details: dict[str, object] = {}
        if self.available is not None:
            details["available"] = self.available
        if self.valid_until is not None:
            details["valid_until"] = self.valid_until
        return error(self.code, self.message, self.remedy or None, **details)


def _refuse(code: str, message: str, valid_until: int | None = None, available: int | None = None) -> Verdict:
    return Verdict(code, message, CODES[code].remedy, valid_until, (), available)


NO_USAGE: Final = Usage()
BORROW_MORE: Final = "Borrow more, or return it: `tally borrow`, `tally return`."


def evaluate(license_: License, usage: Usage, facts: Facts) -> Verdict:
    """Decide whether the license permits what is asked.

    Args:
        license_: an accepted license.
        usage: its account.
        facts: what is asked, and when.

    Returns:
        The verdict; it never raises for a refusal.

    Raises:
        FormatError: ``malformed`` for a version that is not dotted numbers.
    """
    terms = license_.terms
    if license_.borrowed_until is not None and facts.wall > facts.now:
        facts = facts.replace(now=facts.wall)
    if license_.status != ACTIVE:
        code = "revoked" if license_.status == REVOKED else "suspended"
        why = f": {license_.reason}" if license_.reason else ""
        return _refuse(code, f"{license_.product} is {code} by the vendor{why}")
    if facts.level is not None and facts.level < terms.min_level:
        return _refuse("level_too_low", f"{license_.product} needs level L{terms.min_level}; this is L{facts.level}")
    if usage.used and usage.used.get(SEATS, 0) >= (1 if terms.seats is None else terms.seats or 1):
        return _refuse("lent_out", f"{license_.product} was lent or given away entirely")
    refusal = _check_terms(terms, license_.product, "", usage, facts)
    if refusal is not None:
        return _loan_over(license_, refusal) if _ends_with_loan(license_, refusal.valid_until) else refusal
    until = terms.expires if terms.usage_period is None else _end(terms, usage.first_use.get(""))
    name = facts.feature
    counted: Terms | Feature = terms
    counter = ""
    if name:
        feature = license_.features.get(name)
        if feature is None:
            return _refuse("feature_not_licensed", f"{license_.product} is licensed without {name}")
        if feature is not PLAIN_FEATURE:
            refusal = _check_terms(feature, f"{license_.product}: {name}", name, usage, facts)
            if refusal is not None:
                return refusal
            until = earlier(until, _end(feature, usage.first_use.get(name)))
            if feature.units is not None:
                counted, counter = feature, name
    return _finish(license_, counted, counter, usage, facts, until)


def _finish(
    license_: License, counted: Terms | Feature, counter: str, usage: Usage, facts: Facts, until: int | None
) -> Verdict:
    """Check-in and units, then the warnings."""
    terms, now = license_.terms, facts.now
    warnings: tuple[Notice, ...] = ()
    if terms.check_in is not None:
        due = max(usage.contact, license_.issued_at) + terms.check_in
        if now >= due + terms.grace:
            message = f"{license_.product}: no contact with the vendor since {show(due - terms.check_in)}"
            return _refuse("check_in_overdue", message)
        if now >= due:
            text = f"contact check-in is due; it runs on for {span(due + terms.grace - now)}"
            warnings = (Notice("check_in_due", text),)
        until = earlier(until, due + terms.grace)
    available = None
    if counted.units is not None:
        left, asked = counted.units - usage.used.get(counter, 0), facts.units
        available = left + counted.overage
        if available < 0:  # noqa: PLR1730 - `max` would take a twentieth of the evaluation
            available = 0
        if asked > available:
            message = f"{counter or license_.product}: {number_of(asked, 'unit')} asked, {available} left"
            refusal = _refuse("units_exhausted", message, available=available)
            return refusal if license_.borrowed_until is None else refusal.replace(remedy=BORROW_MORE)
        if asked > left:
            text = f"{number_of(asked - left, 'unit')} over the {counted.units} bought; they are reported"
            warnings += (Notice("overage_used", text),)
    lead = facts.warn
    if (
        until is not None
        and until - now <= (WARN_AHEAD_S if lead is None else lead)
        and (lead is not None or until - now <= _lasts(license_, usage, facts.feature, until) // WARN_PART)
    ):
        loan = _ends_with_loan(license_, until)
        warnings += (Notice("loan_ends_soon" if loan else "ends_soon", f"ends {show(until)}, in {span(until - now)}"),)
    return Verdict.of(
        {"code": "ok", "message": "licensed", "valid_until": until, "warnings": warnings, "available": available}
    )


def _ends_with_loan(license_: License, until: int | None) -> bool:
    """Tell whether an end is that of the loan: less the tolerance of clocks, see `lineage.effective`."""
    return license_.borrowed_until is not None and until == license_.borrowed_until - TOLERANCE_S


def _loan_over(license_: License, refusal: Verdict) -> Verdict:
    from tallystick.codec.ident import container_id  # not at every start: loans that ended are few

    giver = "" if license_.giver is None else f" from {container_id(license_.giver)}"
    message = f"the loan of {license_.product}{giver} ended {show(license_.borrowed_until or 0)}"
    return refusal.replace(message=message, remedy="Borrow it again: `tally borrow`.")


def _check_terms(terms: Terms | Feature, what: str, counter: str, usage: Usage, facts: Facts) -> Verdict | None:
    """The terms that a license and a feature have in common."""
    now = facts.now
    if terms.not_before is not None and now < terms.not_before:
        return _refuse("not_yet_valid", f"{what} starts {show(terms.not_before)}; it is {show(now)}")
    if terms.expires is not None and now >= terms.expires:
        return _refuse("expired", f"{what} expired {show(terms.expires)}", valid_until=terms.expires)
    if terms.usage_period is not None:
        started = usage.first_use.get(counter)
        if started is not None and now >= started + terms.usage_period:
            end = started + terms.usage_period
            return _refuse(
                "usage_period_over", f"{what} ran {span(terms.usage_period)}, to {show(end)}", valid_until=end
            )
    released = facts.release_date
    if released is not None and not (
        (terms.maintenance_from or 0)
        <= released
        < (released + 1 if terms.maintenance_to is None else terms.maintenance_to)
    ):
        return _refuse(
            "maintenance_over", f"{what}: this release of {show(released)} is outside the maintenance period"
        )
    if facts.version is not None and terms.max_version is not None:
        limit = version_numbers(terms.max_version)
        if version_numbers(facts.version)[: len(limit)] > limit:
            return _refuse("version_not_licensed", f"{what} is licensed up to {terms.max_version}, not {facts.version}")
    return None


def _lasts(license_: License, usage: Usage, name: str, until: int) -> int:
    """How long what ends at `until` lasts in all: from the issue or the start, the first use, or the last contact."""
    terms, issued = license_.terms, license_.borrowed_at or license_.issued_at
    contact = max(usage.contact, license_.issued_at)
    spans = [(contact, None if terms.check_in is None else contact + terms.check_in + terms.grace)]
    parts: dict[str, Terms | Feature] = {"": terms, name: license_.features.get(name, terms)}
    for counter, part in parts.items():
        spans.append((max(issued, part.not_before or 0), part.expires))
        begun = usage.first_use.get(counter)
        if begun is not None and part.usage_period is not None:
            spans.append((begun, begun + part.usage_period))
    return max(until - begin for begin, end in spans if end == until)


def _end(terms: Terms | Feature, first_use: int | None) -> int | None:
    end = terms.expires
    if terms.usage_period is not None and first_use is not None:
        end = earlier(end, first_use + terms.usage_period)
    return end


def earlier(one: int | None, other: int | None) -> int | None:
    """Return the earlier of two ends, None meaning never."""
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
