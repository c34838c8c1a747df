# SPDX-License-Identifier: Apache-2.0
"""May this run? Every code, both sides of every boundary, the order of the conditions, and the effective end."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from made import DAY, START, id16
from tallystick.errors import CODES, FormatError, NotLicensedError
from tallystick.license.dates import show
from tallystick.license.model import ACTIVE, PLAIN_FEATURE, REVOKED, SUSPENDED, Feature, License, Terms
from tallystick.license.policy import NOTICES, WARN_AHEAD_S, Facts, Notice, Usage, Verdict, earlier, evaluate

NOW = START
HOUR = 3600


def license_(terms: Terms | None = None, **changes: Any) -> License:
    made = License("acme", "cad", START, id16(1), bytes(32), id16(2), terms=terms or Terms())
    return made.replace(**changes)


def ask(terms: Terms | None = None, render: Feature | None = None, usage: Usage | None = None, **facts: Any) -> Verdict:
    """A question to a license; with the feature ``render``, about that feature."""
    features = {} if render is None else {"render": render, "expired": Feature(expires=0)}
    facts = {"now": NOW, "feature": "" if render is None else "render"} | facts
    return evaluate(license_(terms, features=features), usage or Usage(), Facts(**facts))


T, F, U = Terms, Feature, Usage

# what: (terms, feature, usage, facts, code)
TABLE: dict[str, tuple[Terms | None, Feature | None, Usage | None, dict[str, Any], str]] = {
    "no terms at all": (None, None, None, {}, "ok"),
    "no terms, in the year 36812": (None, None, None, {"now": 1 << 40}, "ok"),
    # not before
    "a second before the start": (T(not_before=NOW + 1), None, None, {}, "not_yet_valid"),
    "at the start": (T(not_before=NOW), None, None, {}, "ok"),
    "a feature a second before its start": (None, F(not_before=NOW + 1), None, {}, "not_yet_valid"),
    "a feature at its start": (None, F(not_before=NOW), None, {}, "ok"),
    # expiration: refused at the instant
    "a second before expiration": (T(expires=NOW + 1), None, None, {}, "ok"),
    "at expiration": (T(expires=NOW), None, None, {}, "expired"),
    "a second after expiration": (T(expires=NOW - 1), None, None, {}, "expired"),
    "expiration in 1970": (T(expires=0), None, None, {}, "expired"),
    "a feature a second before expiration": (None, F(expires=NOW + 1), None, {}, "ok"),
    "a feature at expiration": (None, F(expires=NOW), None, {}, "expired"),
    "a feature that outlives its license": (T(expires=NOW), F(expires=NOW + DAY), None, {}, "expired"),
    "while another feature has expired": (None, F(), None, {}, "ok"),
    "that other feature": (None, F(), None, {"feature": "expired"}, "expired"),
    # usage period: from first use
    "a usage period not begun": (T(usage_period=0), None, None, {}, "ok"),
    "a second before its end": (T(usage_period=HOUR), None, U(first_use={"": NOW - HOUR + 1}), {}, "ok"),
    "at its end": (T(usage_period=HOUR), None, U(first_use={"": NOW - HOUR}), {}, "usage_period_over"),
    "of no length, begun now": (T(usage_period=0), None, U(first_use={"": NOW}), {}, "usage_period_over"),
    "a feature's, not begun": (None, F(usage_period=HOUR), U(first_use={"": NOW - DAY}), {}, "ok"),
    "a feature's, at its end": (
        *(None, F(usage_period=HOUR), U(first_use={"render": NOW - HOUR}), {}),
        "usage_period_over",
    ),
    "begun in the future (clock reset)": (T(usage_period=HOUR), None, U(first_use={"": NOW + DAY}), {}, "ok"),
    # maintenance: from included, to excluded; only for programs that say their date
    "a release before the period": (T(maintenance_from=100), None, None, {"release_date": 99}, "maintenance_over"),
    "a release at its start": (T(maintenance_from=100), None, None, {"release_date": 100}, "ok"),
    "a release a second before its end": (T(maintenance_to=100), None, None, {"release_date": 99}, "ok"),
    "a release at its end": (T(maintenance_to=100), None, None, {"release_date": 100}, "maintenance_over"),
    "a release inside": (
        *(T(maintenance_from=90, maintenance_to=100), None, None, {"release_date": 95}),
        "ok",
    ),
    "an open end": (T(maintenance_from=90), None, None, {"release_date": 1 << 40}, "ok"),
    "a release of 1970 in a period from then": (T(maintenance_to=1), None, None, {"release_date": 0}, "ok"),
    "a period of no length": (T(maintenance_to=0), None, None, {"release_date": 0}, "maintenance_over"),
    "a program that says no date": (T(maintenance_to=100), None, None, {}, "ok"),
    "a feature's period": (None, F(maintenance_to=100), None, {"release_date": 100}, "maintenance_over"),
    "long after the period, an old release runs for ever": (
        *(T(maintenance_to=100), None, None, {"release_date": 99, "now": 1 << 40}),
        "ok",
    ),
    # version: compared as far as the limit is written
    "4 covers 4.9": (T(max_version="4"), None, None, {"version": "4.9.12"}, "ok"),
    "4 covers 3.99": (T(max_version="4"), None, None, {"version": "3.99"}, "ok"),
    "4 does not cover 5": (T(max_version="4"), None, None, {"version": "5"}, "version_not_licensed"),
    "4 does not cover 5.0": (T(max_version="4"), None, None, {"version": "5.0"}, "version_not_licensed"),
    "4.2 covers 4": (T(max_version="4.2"), None, None, {"version": "4"}, "ok"),
    "4.2 covers 4.2.7": (T(max_version="4.2"), None, None, {"version": "4.2.7"}, "ok"),
    "4.2 does not cover 4.3": (T(max_version="4.2"), None, None, {"version": "4.3"}, "version_not_licensed"),
    "4.2 does not cover 4.10: numbers, not text": (
        *(T(max_version="4.2"), None, None, {"version": "4.10"}),
        "version_not_licensed",
    ),
    "4.10 covers 4.9": (T(max_version="4.10"), None, None, {"version": "4.9"}, "ok"),
    "a program that says no version": (T(max_version="4"), None, None, {}, "ok"),
    "a feature's version": (None, F(max_version="4"), None, {"version": "5"}, "version_not_licensed"),
    # level
    "the level needed": (T(min_level=2), None, None, {"level": 2}, "ok"),
    "a higher level": (T(min_level=2), None, None, {"level": 3}, "ok"),
    "a lower level": (T(min_level=2), None, None, {"level": 1}, "level_too_low"),
    "a level only the issuer can tell": (T(min_level=3), None, None, {}, "ok"),
    # check-in and grace: contact or issue, whichever is later
    "a second before it is due": (T(check_in=HOUR), None, None, {"now": NOW + HOUR - 1}, "ok"),
    "due, without grace": (T(check_in=HOUR), None, None, {"now": NOW + HOUR}, "check_in_overdue"),
    "due, in grace": (T(check_in=HOUR, grace=60), None, None, {"now": NOW + HOUR}, "ok"),
    "the last second of grace": (T(check_in=HOUR, grace=60), None, None, {"now": NOW + HOUR + 59}, "ok"),
    "the end of grace": (T(check_in=HOUR, grace=60), None, None, {"now": NOW + HOUR + 60}, "check_in_overdue"),
    "a later contact counts": (T(check_in=HOUR), None, U(contact=NOW + DAY), {"now": NOW + DAY + HOUR - 1}, "ok"),
    "an earlier contact does not": (T(check_in=HOUR), None, U(contact=1), {"now": NOW + HOUR - 1}, "ok"),
    "grace without check-in means nothing": (T(grace=1), None, None, {"now": NOW + DAY}, "ok"),
    # units and overage
    "the last unit": (T(units=10), None, U(used={"": 9}), {"units": 1}, "ok"),
    "one too many": (T(units=10), None, U(used={"": 9}), {"units": 2}, "units_exhausted"),
    "all at once": (T(units=10), None, None, {"units": 10}, "ok"),
    "none left, none asked": (T(units=10), None, U(used={"": 10}), {}, "ok"),
    "none left, one asked": (T(units=10), None, U(used={"": 10}), {"units": 1}, "units_exhausted"),
    "none sold": (T(units=0), None, None, {"units": 1}, "units_exhausted"),
    "into the overage": (T(units=10, overage=2), None, U(used={"": 10}), {"units": 2}, "ok"),
    "beyond the overage": (T(units=10, overage=2), None, U(used={"": 10}), {"units": 3}, "units_exhausted"),
    "overage used up": (T(units=10, overage=2), None, U(used={"": 12}), {"units": 1}, "units_exhausted"),
    "more used than a refresh allows": (T(units=5), None, U(used={"": 9}), {"units": 1}, "units_exhausted"),
    "not counted": (None, None, U(used={"": 1 << 50}), {"units": 1 << 50}, "ok"),
    # a feature's own counter, or the license's
    "a feature on the license's counter": (T(units=1), F(), U(used={"": 1}), {"units": 1}, "units_exhausted"),
    "a feature's own counter": (T(units=1), F(units=1), U(used={"": 1}), {"units": 1}, "ok"),
    "a feature's own counter used up": (
        *(T(units=9), F(units=1), U(used={"render": 1}), {"units": 1}),
        "units_exhausted",
    ),
    "a feature's own overage": (None, F(units=1, overage=1), U(used={"render": 1}), {"units": 1}, "ok"),
    "the license's overage is not the feature's": (
        *(T(units=1, overage=9), F(units=1), U(used={"render": 1}), {"units": 1}),
        "units_exhausted",
    ),
    # seats lent or given away
    "one of two seats is out": (T(seats=2), None, U(used={"*seats": 1}), {}, "ok"),
    "both seats are out": (T(seats=2), None, U(used={"*seats": 2}), {}, "lent_out"),
    "more seats are out than a refresh left": (T(seats=2), None, U(used={"*seats": 5}), {}, "lent_out"),
    "a license without seats, given whole": (None, None, U(used={"*seats": 1}), {}, "lent_out"),
    "given whole, a feature asked": (None, F(), U(used={"*seats": 1}), {}, "lent_out"),
    "units are out, the seats are not": (T(seats=1, units=5), None, U(used={"": 5}), {}, "ok"),
    # features
    "a feature without terms": (None, F(), None, {}, "ok"),
    "a feature not licensed": (None, F(), None, {"feature": "export"}, "feature_not_licensed"),
    "a name in another case": (None, F(), None, {"feature": "Render"}, "feature_not_licensed"),
}


@pytest.mark.parametrize("what", TABLE)
def test_the_table(what: str) -> None:
    terms, feature, usage, facts, code = TABLE[what]
    verdict = ask(terms, feature, usage, **facts)
    assert verdict.code == code
    assert verdict.ok is (code == "ok")
    if code == "ok":
        verdict.require()
        assert (verdict.message, verdict.remedy) == ("licensed", "")
        return
    assert verdict.remedy == CODES[code].remedy
    assert "cad" in verdict.message or "render" in verdict.message  # says what it is about
    with pytest.raises(NotLicensedError) as caught:
        verdict.require()
    assert (caught.value.code, caught.value.message, caught.value.remedy) == (code, verdict.message, verdict.remedy)


def test_the_table_covers_every_code_there_is() -> None:
    decided = {code for *_, code in TABLE.values()} | {"revoked", "suspended"}
    elsewhere = {"not_licensed", "deactivated", "seats_in_use", "mode_denied"}  # for the container and its seats
    assert decided - {"ok"} == {code for code, row in CODES.items() if row.cls is NotLicensedError} - elsewhere


@pytest.mark.parametrize(("status", "code"), [(ACTIVE, "ok"), (SUSPENDED, "suspended"), (REVOKED, "revoked")])
@pytest.mark.parametrize("reason", ["", "payment outstanding"])
def test_status(status: int, code: str, reason: str) -> None:
    verdict = evaluate(license_(status=status, reason=reason), Usage(), Facts(NOW))
    assert verdict.code == code
    if code != "ok":
        assert (reason or f"{code} by the vendor") in verdict.message


# ---------------------------------------------------------------------------------------------------------- the order

ORDER = [
    ("revoked", {"status": ACTIVE}),
    ("level_too_low", {"min_level": 0}),
    ("lent_out", {"seats": None}),
    ("not_yet_valid", {"not_before": None}),
    ("expired", {"expires": None}),
    ("usage_period_over", {"usage_period": None}),
    ("maintenance_over", {"maintenance_to": None}),
    ("version_not_licensed", {"max_version": None}),
    ("feature_not_licensed", {"feature": Feature()}),
    ("check_in_overdue", {"check_in": None}),
    ("units_exhausted", {"units": None}),
]


def test_the_first_condition_that_refuses_decides_in_the_documented_order() -> None:
    """A license that breaks everything, mended one term at a time."""
    terms = Terms(NOW + 1, NOW, 1, None, 1, "1", 0, 0, 7, 3, 1, 0)
    made = license_(terms, issued_at=1, status=REVOKED)
    usage = Usage({"": 5, "*seats": 7}, {"": 1}, 1)
    facts = Facts(NOW, "render", 1, "2", 2, 0)
    found = []
    for code, mended in ORDER:
        verdict = evaluate(made, usage, facts)
        found.append((code, verdict.code))
        for field, value in mended.items():
            if field == "status":
                made = made.replace(status=value)
            elif field == "seats":
                usage = usage.replace(used={"": 5})
            elif field == "feature":
                made = made.replace(features={"render": value})
            else:
                made = made.replace(terms=made.terms.replace(**{field: value}))
    assert [wanted for wanted, _ in found] == [got for _, got in found]
    assert evaluate(made, usage, facts).ok


def test_the_license_is_looked_at_before_the_feature() -> None:
    made = license_(Terms(expires=NOW), features={"render": Feature(not_before=NOW + 1)})
    assert evaluate(made, Usage(), Facts(NOW, "render")).code == "expired"
    assert evaluate(made, Usage(), Facts(NOW, "other")).code == "expired"


# ---------------------------------------------------------------------------------------------------- messages, numbers


def test_refusals_say_both_times_and_what_is_left() -> None:
    early = ask(Terms(not_before=NOW + DAY))
    assert show(NOW + DAY) in early.message
    assert show(NOW) in early.message
    late = ask(Terms(expires=NOW - DAY))
    assert show(NOW - DAY) in late.message
    assert late.valid_until == NOW - DAY
    over = ask(Terms(usage_period=HOUR), usage=Usage(first_use={"": NOW - DAY}))
    assert over.valid_until == NOW - DAY + HOUR
    assert "60 minutes" in over.message or "1 hour" in over.message
    short = ask(Terms(units=10, overage=1), usage=Usage(used={"": 8}), units=4)
    assert (short.available, "4 units asked, 3 left" in short.message) == (3, True)
    assert short.to_error().details == {"available": 3}
    assert late.to_error().details == {"valid_until": NOW - DAY}
    silent = ask(Terms(check_in=HOUR), now=NOW + DAY)
    assert show(NOW) in silent.message


@pytest.mark.parametrize(
    ("units", "overage", "used", "available"),
    [(10, 0, 0, 10), (10, 0, 7, 3), (10, 5, 12, 3), (10, 0, 12, 0), (0, 0, 0, 0)],
)
def test_what_is_left_is_told(units: int, overage: int, used: int, available: int) -> None:
    assert ask(Terms(units=units, overage=overage), usage=Usage(used={"": used})).available == available
    assert ask().available is None


def warned(terms: Terms, now: int, **more: Any) -> bool:
    """Whether the end is announced."""
    return any(notice.code == "ends_soon" for notice in ask(terms, now=now, **more).warnings)


def test_the_end_is_announced_a_tenth_of_the_validity_ahead_and_at_most_30_days() -> None:
    assert WARN_AHEAD_S == 30 * DAY
    year = Terms(expires=NOW + 400 * DAY)
    assert (warned(year, NOW + 370 * DAY - 1), warned(year, NOW + 370 * DAY)) == (False, True)
    month = Terms(expires=NOW + 30 * DAY)
    assert not warned(month, NOW)
    assert (warned(month, NOW + 27 * DAY - 1), warned(month, NOW + 27 * DAY)) == (False, True)
    assert [str(notice) for notice in ask(month, now=NOW + 27 * DAY).warnings] == [
        f"ends {show(NOW + 30 * DAY)}, in 3 days"
    ]
    late = Terms(not_before=NOW + 100 * DAY, expires=NOW + 110 * DAY)
    assert (warned(late, NOW + 109 * DAY - 1), warned(late, NOW + 109 * DAY)) == (False, True)


def test_the_validity_of_a_usage_period_and_of_a_check_in_begin_with_them() -> None:
    used = Usage(first_use={"": NOW + 50 * DAY, "render": NOW + 60 * DAY})
    contact = Usage(contact=NOW + 100 * DAY)
    year = Terms(expires=NOW + 400 * DAY)
    for terms, feature, usage, begin, end in (
        (Terms(usage_period=20 * DAY), None, used, 50, 70),
        (Terms(), Feature(usage_period=10 * DAY), used, 60, 70),
        (year, Feature(expires=NOW + 30 * DAY), None, 0, 30),
        (year, Feature(not_before=NOW + 20 * DAY, expires=NOW + 30 * DAY), None, 20, 30),
        (year.replace(check_in=15 * DAY, grace=5 * DAY), None, contact, 100, 120),
    ):
        at = NOW + end * DAY - (end - begin) * DAY // 10
        assert not warned(terms, at - 1, render=feature, usage=usage)
        assert warned(terms, at, render=feature, usage=usage)


def test_warnings_come_in_grace_and_in_the_overage() -> None:
    due = ask(Terms(check_in=HOUR, grace=DAY), now=NOW + HOUR)
    assert due.warnings[0] == Notice("check_in_due", "contact check-in is due; it runs on for 1 day")
    over = ask(Terms(units=10, overage=5), usage=Usage(used={"": 9}), units=3)
    assert over.warnings == (Notice("overage_used", "2 units over the 10 bought; they are reported"),)
    assert {over.warnings[0].code, due.warnings[0].code, "ends_soon", "loan_ends_soon"} == NOTICES.keys()
    assert ask(Terms(units=10, overage=5), usage=Usage(used={"": 9}), units=1).warnings == ()


def test_a_version_that_is_no_version_is_the_programs_mistake() -> None:
    for version in ("", "4.x", "v4", "latest"):
        with pytest.raises(FormatError):
            ask(Terms(max_version="4"), version=version)


# -------------------------------------------------------------------------------------------------- the effective end

INSTANTS = st.none() | st.integers(NOW - 100, NOW + 100)
SPANS = st.none() | st.integers(0, 200)


def ends(terms: Terms | Feature, first_use: int | None) -> list[int]:
    """The ends one set of terms knows, told as the documentation tells them."""
    found = [] if terms.expires is None else [terms.expires]
    if terms.usage_period is not None and first_use is not None:
        found.append(first_use + terms.usage_period)
    return found


@given(
    expires=INSTANTS,
    period=SPANS,
    check_in=SPANS,
    grace=st.integers(0, 100),
    feature=st.none() | st.builds(Feature, expires=INSTANTS, usage_period=SPANS),
    first=st.dictionaries(st.sampled_from(["", "render"]), st.integers(NOW - 100, NOW)),
    contact=st.integers(NOW - 100, NOW + 50),
)
def test_valid_until_is_the_minimum_of_all_ends_and_nothing_runs_at_it(
    expires: int | None,
    period: int | None,
    check_in: int | None,
    grace: int,
    feature: Feature | None,
    first: dict[str, int],
    contact: int,
) -> None:
    terms = Terms(expires=expires, usage_period=period, check_in=check_in, grace=grace)
    made = license_(terms, issued_at=NOW - 50, features={"render": feature} if feature else {})
    usage = Usage(first_use=first, contact=contact)
    name = "render" if feature else ""
    all_ends = ends(terms, first.get(""))
    if feature is not None:
        all_ends += ends(feature, first.get("render"))
    if check_in is not None:
        all_ends.append(max(contact, NOW - 50) + check_in + grace)
    end = min(all_ends, default=None)
    verdict = evaluate(made, usage, Facts(NOW, name))
    assert verdict.ok is (end is None or end > NOW)
    if verdict.ok:
        assert verdict.valid_until == end
        if end is not None:
            assert evaluate(made, usage, Facts(end - 1, name)).ok
            assert not evaluate(made, usage, Facts(end, name)).ok


@given(INSTANTS, INSTANTS)
def test_earlier_treats_none_as_never(one: int | None, other: int | None) -> None:
    known = [end for end in (one, other) if end is not None]
    assert earlier(one, other) == min(known, default=None)


@given(
    units=st.integers(0, 20),
    overage=st.integers(0, 5),
    used=st.integers(0, 30),
    asked=st.integers(0, 30),
    own=st.booleans(),
)
def test_units_are_refused_exactly_beyond_what_is_left(
    units: int, overage: int, used: int, asked: int, own: bool
) -> None:
    counted = {"units": units, "overage": overage}
    terms, feature = (Terms(units=0), Feature(**counted)) if own else (Terms(**counted), PLAIN_FEATURE)
    verdict = ask(terms, feature, Usage(used={"render" if own else "": used}), units=asked)
    left = max(0, units + overage - used)
    assert verdict.ok is (asked <= left)
    assert verdict.available == left


@pytest.mark.parametrize("wall", [NOW - DAY, NOW, NOW + DAY - 1])
def test_a_loan_runs_until_its_end_on_either_clock(wall: int) -> None:
    lent = license_(Terms(expires=NOW + DAY), borrowed_at=NOW - DAY, borrowed_until=NOW + DAY + 300)
    assert evaluate(lent, Usage(), Facts(NOW, wall=wall)).ok


def test_a_jump_of_the_clock_that_is_not_believed_yet_ends_loans_and_nothing_else() -> None:
    terms, asked = Terms(expires=NOW + DAY), Facts(NOW, wall=NOW + 9 * DAY)
    lent = license_(terms, borrowed_at=NOW - DAY, borrowed_until=NOW + DAY + 300)
    assert evaluate(lent, Usage(), asked).code == "expired"
    assert evaluate(license_(terms), Usage(), asked).ok
    assert evaluate(lent, Usage(), Facts(NOW, wall=NOW)).ok  # the clock was put right: nothing was lost
