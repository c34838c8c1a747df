# SPDX-License-Identifier: Apache-2.0
"""Offers: terms before they start, as people type them, as they change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.authority import offer_text
from tallystick.authority.changes import NO_CHANGE, Change, changed
from tallystick.authority.offers import Offer, Spans, resolve
from tallystick.authority.plain import plain, to_json
from tallystick.errors import TallystickError
from tallystick.license.grant_policy import MAY_PULL, MAY_PUSH, MAY_RECALL, MAY_RETURN, GrantPolicy
from tallystick.license.model import EXCLUSIVE, Feature, Terms

DAY = 86_400
NOW = 1_800_000_000
TIMES = st.none() | st.integers(0, 1 << 40)
COUNTS = st.none() | st.integers(0, 1 << 40)

features = st.builds(
    Feature, not_before=TIMES, expires=TIMES, usage_period=TIMES, units=COUNTS, overage=st.integers(0, 1000)
)
spans = st.builds(Spans, valid_for=TIMES, maintenance_for=TIMES)
terms = st.builds(
    Terms,
    expires=TIMES,
    usage_period=TIMES,
    units=COUNTS,
    seats=st.none() | st.integers(0, 1000),
    min_level=st.integers(0, 3),
    lend=st.none() | st.builds(GrantPolicy, allowed=st.integers(0, 31), max_duration=TIMES),
    offline=st.booleans(),
    denied_modes=st.just((EXCLUSIVE,)) | st.just(()),
    touch=st.integers(0, 7),
)
names = st.sampled_from(["pdf", "sim", "render"])
offers = st.builds(
    Offer,
    terms=terms,
    features=st.dictionaries(names, features),
    spans=st.dictionaries(st.just("") | names, spans),
    data=st.dictionaries(names, st.binary(max_size=8)),
)


@given(offers)
def test_an_offer_is_what_was_stored(offer: Offer) -> None:
    assert Offer.from_bytes(offer.to_bytes()) == offer


@given(offers)
def test_no_change_changes_nothing(offer: Offer) -> None:
    assert NO_CHANGE.empty
    assert changed(offer, NO_CHANGE).replace(data=offer.data) == offer


@given(offers, st.integers(0, 1 << 39))
def test_what_is_issued_has_no_spans_and_promises_no_more(offer: Offer, now: int) -> None:
    issued = resolve(offer, now, {}, {})
    assert issued.spans == {}
    assert issued.features.keys() == offer.features.keys()
    pairs: list[tuple[Any, Any]] = [(offer.terms, issued.terms)]
    pairs += zip(offer.features.values(), issued.features.values(), strict=True)
    for before, after in pairs:
        assert after.units == before.units
        assert before.expires is None or (after.expires is not None and after.expires <= before.expires)


@given(st.integers(0, 100), st.integers(0, 20), st.lists(st.integers(0, 40), max_size=8))
def test_units_are_conserved_over_any_number_of_moves(units: int, overage: int, wishes: list[int]) -> None:
    """Whatever is used under one license after another of a slot, all of it together stays within what was sold."""
    offer = Offer(Terms(units=units, overage=overage))
    used = 0
    for wish in wishes:
        held = resolve(offer, NOW, {"": used}, {}).terms
        assert held.units is not None
        available = held.units + held.overage
        assert available == max(0, units + overage - used)
        used += min(wish, available)
    assert used <= units + overage


def test_the_earlier_end_counts() -> None:
    offer = Offer(Terms(expires=NOW + 5 * DAY, usage_period=30 * DAY), spans={"": Spans(valid_for=10 * DAY)})
    assert resolve(offer, NOW, {}, {}).terms.expires == NOW + 5 * DAY
    assert resolve(offer, NOW, {}, {"": NOW - 28 * DAY}).terms.expires == NOW + 2 * DAY
    assert resolve(offer, NOW - 6 * DAY, {}, {}).terms.expires == NOW + 4 * DAY


def test_a_change_means_the_same_before_and_after_issue() -> None:
    offer = Offer(Terms(units=5), {"pdf": Feature()}, {"": Spans(valid_for=10 * DAY)})
    change = Change(
        extend=DAY,
        add_units={"": 3, "sim": 2},
        features={"sim": Feature(units=1)},
        spans={"sim": Spans(valid_for=DAY)},
        drop=("pdf",),
        data={"tier": b"gold"},
    )
    sold = changed(offer, change)
    running = changed(resolve(offer, NOW, {}, {}), change, now=NOW)
    assert resolve(sold, NOW, {}, {}) == running
    assert (running.terms.units, running.terms.expires, list(running.features)) == (8, NOW + 11 * DAY, ["sim"])
    assert running.features["sim"] == Feature(units=3, expires=NOW + 2 * DAY)
    assert changed(sold, Change(data={"tier": b""})).data == {}


def test_a_new_date_replaces_a_span() -> None:
    offer = Offer(spans={"": Spans(valid_for=DAY, maintenance_for=DAY)})
    assert changed(offer, Change(terms={"expires": None})).spans[""] == Spans(maintenance_for=DAY)
    assert changed(offer, Change(terms={"maintenance_to": NOW})).spans[""] == Spans(valid_for=DAY)


# --------------------------------------------------------------------------------------------------------- as typed


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("15m", 900), ("12h", 43_200), ("30D", 30 * DAY), ("2w", 14 * DAY), ("1y", 365 * DAY), ("0", 0)],
)
def test_spans_as_people_type_them(text: str, seconds: int) -> None:
    assert offer_text.span(text) == seconds


def test_a_feature_with_terms_of_its_own() -> None:
    assert offer_text.feature("sim") == ("sim", Feature(), Spans())
    assert offer_text.feature("sim: units=500, expires=2027-01-01,max-version=4.2,maintenance-for=1y") == (
        "sim",
        Feature(units=500, expires=1_798_761_600, max_version="4.2"),
        Spans(maintenance_for=365 * DAY),
    )


def test_a_policy_of_rights_and_limits() -> None:
    assert offer_text.policy("yes") == GrantPolicy(MAY_PULL | MAY_PUSH), "in both directions, where none is named"
    assert offer_text.policy("push,return") == GrantPolicy(MAY_PUSH | MAY_RETURN)
    receiver = "ab" * 32
    text = f"return,recall,max-duration=30d,max-depth=1,min-level=2,low-water=1,max-per-receiver=2,receiver={receiver}"
    assert offer_text.policy(text) == GrantPolicy(
        allowed=MAY_RETURN | MAY_RECALL | MAY_PULL | MAY_PUSH,
        max_duration=30 * DAY,
        max_depth=1,
        min_level=2,
        low_water=1,
        max_per_receiver=2,
        receivers=(bytes.fromhex(receiver),),
    )


def test_amounts_by_counter() -> None:
    assert offer_text.counters(["5", "sim=7"]) == {"": 5, "sim": 7}


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (offer_text.span, ""),
        (offer_text.span, "5"),
        (offer_text.span, "-5d"),
        (offer_text.span, "5 parsecs"),
        (offer_text.span, "9999999999d"),
        (offer_text.number, "-1"),
        (offer_text.number, "1e3"),
        (offer_text.number, "٣"),
        (offer_text.feature, "sim:units"),
        (offer_text.feature, "sim:seats=3"),
        (offer_text.feature, "sim:expires=soon"),
        (offer_text.feature, "sim:max-version=four"),
        (offer_text.policy, "steal"),
        (offer_text.policy, "receiver=xyz"),
        (offer_text.policy, "valid-for=3d"),
        (lambda text: offer_text.data([text]), "tier"),
        (lambda text: offer_text.counters([text]), "sim="),
        (lambda text: offer_text.terms({text: "1"}), "lifetime"),
    ],
)
def test_what_cannot_be_read_is_quoted_with_an_example(read: Callable[[str], Any], text: str) -> None:
    with pytest.raises(TallystickError) as refusal:
        read(text)
    assert refusal.value.code == "usage"
    assert refusal.value.message
    assert refusal.value.remedy


def test_terms_out_of_bounds_are_not_sold() -> None:
    for bad in (Offer(Terms(min_level=9)), Offer(Terms(seats=-1)), Offer(features={"no spaces": Feature()})):
        with pytest.raises(TallystickError, match="cannot be sold") as refusal:
            bad.to_bytes()
        assert refusal.value.code == "usage"


def test_json_has_what_applies_and_nothing_else() -> None:
    offer = Offer(Terms(units=5), {"pdf": Feature()}, data={"tier": b"\x01\xff"})
    assert plain(offer) == {
        "terms": {"units": 5},
        "features": {"pdf": {}},
        "spans": {},
        "data": {"tier": "01ff"},
    }
    assert to_json({"b": (1, b"\x00"), "a": "ü"}) == '{"a":"ü","b":[1,"00"]}'
