# SPDX-License-Identifier: Apache-2.0
"""May this much be given? Every refusal of `license.lending`, both sides of every boundary, and their order."""

from __future__ import annotations

from typing import Any

import pytest

from made import DAY, RECEIVER, START, id16
from tallystick.errors import LendingError
from tallystick.license.grant_policy import MAX_DEPTH, MAY_ALL, MAY_PULL, MAY_PUSH, SEATS, GrantPolicy
from tallystick.license.lending import SHORTEST_LOAN_S, Offer, check_duration, check_offer, measure_of
from tallystick.license.model import License, Terms

ANY = GrantPolicy(MAY_ALL)
OTHER = bytes(32)


def license_(depth: int = 0, borrowed_until: int | None = None, **terms: Any) -> License:
    made = License("acme", "cad", START, id16(1), bytes(32), id16(2), terms=Terms(**terms))
    return made.replace(depth=depth, borrowed_until=borrowed_until)


def offer(**changes: Any) -> Offer:
    """Three of ten seats for a week, asked for by the receiver."""
    made = Offer(license_(seats=10), {SEATS: 3}, {SEATS: 10}, START + 7 * DAY, START, RECEIVER, 0, True, 0)
    return made.replace(**changes)


def code(offered: Offer, terms: GrantPolicy | None = ANY, local: GrantPolicy | None = None) -> str:
    """The code of the refusal; empty where it may be given."""
    try:
        check_offer(offered, terms, local)
    except LendingError as refusal:
        assert refusal.message
        assert refusal.remedy
        return refusal.code
    return ""


# what: (offer, policy, code of the refusal); a policy of the administrator refuses alike but for the first two
TABLE: dict[str, tuple[dict[str, Any], GrantPolicy, str]] = {
    "a loan": ({}, ANY, ""),
    "a transfer": ({"ends": None}, ANY, ""),
    # directions
    "neither direction": ({}, GrantPolicy(MAY_ALL & ~(MAY_PULL | MAY_PUSH)), "denied"),
    "a pull where pulls are allowed": ({}, GrantPolicy(MAY_PULL), ""),
    "a pull where pushes are": ({}, GrantPolicy(MAY_PUSH), "direction_denied"),
    "a push where pushes are allowed": ({"pull": False}, GrantPolicy(MAY_PUSH), ""),
    "a push where pulls are": ({"pull": False}, GrantPolicy(MAY_PULL), "direction_denied"),
    # duration
    "as long as allowed": ({}, ANY.replace(max_duration=7 * DAY), ""),
    "a second longer": ({}, ANY.replace(max_duration=7 * DAY - 1), "duration_too_long"),
    "a transfer has no duration": ({"ends": None}, ANY.replace(max_duration=1), ""),
    # depth
    "the first grant": ({}, ANY.replace(max_depth=0), ""),
    "the second grant": ({"license_": license_(1, seats=10)}, ANY.replace(max_depth=1), ""),
    "one grant too many": ({"license_": license_(1, seats=10)}, ANY.replace(max_depth=0), "depth_exceeded"),
    # receivers
    "a receiver named": ({}, ANY.replace(receivers=(OTHER, RECEIVER)), ""),
    "a receiver not named": ({}, ANY.replace(receivers=(OTHER,)), "receiver_denied"),
    "the level asked for": ({"level": 2}, ANY.replace(min_level=2), ""),
    "a lower level": ({"level": 1}, ANY.replace(min_level=2), "receiver_level"),
    # what stays, and what one may have
    "what must stay stays": ({}, ANY.replace(low_water=7), ""),
    "one too few stay": ({}, ANY.replace(low_water=8), "low_water"),
    "others are out already": ({"available": {SEATS: 9}}, ANY.replace(low_water=7), "low_water"),
    "no seat is given, none need stay": (
        {"license_": license_(units=9), "amounts": {"render": 5}, "available": {"": 0}}, ANY.replace(low_water=7), "",
    ),
    "units, where no seats are counted": (
        {"license_": license_(units=9), "amounts": {"": 5}, "available": {"": 9}}, ANY.replace(low_water=4), "",
    ),
    "one unit too few stays": (
        {"license_": license_(units=9), "amounts": {"": 5}, "available": {"": 9}}, ANY.replace(low_water=5),
        "low_water",
    ),
    "units do not matter beside seats": (
        {"amounts": {SEATS: 1, "": 99}, "available": {SEATS: 10}}, ANY.replace(low_water=9), "",
    ),
    "as much as one may have": ({"out": 2}, ANY.replace(max_per_receiver=5), ""),
    "one more": ({"out": 3}, ANY.replace(max_per_receiver=5), "receiver_limit"),
    "nobody may have any": ({}, ANY.replace(max_per_receiver=0), "receiver_limit"),
}  # fmt: skip


@pytest.mark.parametrize("what", TABLE)
def test_what_the_license_allows(what: str) -> None:
    changes, policy, expected = TABLE[what]
    assert code(offer(**changes), policy) == ("lending_denied" if expected == "denied" else expected)


@pytest.mark.parametrize("what", TABLE)
def test_the_administrator_may_only_allow_less(what: str) -> None:
    changes, policy, expected = TABLE[what]
    assert code(offer(**changes), ANY.replace(max_depth=15), policy) == (
        "lending_restricted" if expected == "denied" else expected
    )


@pytest.mark.parametrize("ends", [START + 7 * DAY, None], ids=["loan", "transfer"])
def test_without_a_policy_nothing_is_given(ends: int | None) -> None:
    assert code(offer(ends=ends), None) == "lending_denied"
    assert code(offer(ends=ends), None, ANY) == "lending_denied", "the administrator allows nothing the vendor does not"


def test_what_is_borrowed_is_not_given_away_for_good() -> None:
    borrowed = license_(1, START + 20 * DAY, seats=10)
    assert code(offer(license_=borrowed, ends=None), ANY.replace(max_depth=4)) == "lending_denied"
    assert code(offer(license_=borrowed), ANY.replace(max_depth=4)) == ""


def test_a_chain_has_an_end_whatever_the_license_says() -> None:
    policy = ANY.replace(max_depth=15)
    assert code(offer(license_=license_(MAX_DEPTH - 1, seats=10)), policy) == ""
    assert code(offer(license_=license_(MAX_DEPTH, seats=10)), policy) == "depth_exceeded"


def test_a_loan_lasts_long_enough_for_two_clocks() -> None:
    assert code(offer(ends=START + SHORTEST_LOAN_S)) == ""
    assert code(offer(ends=START + SHORTEST_LOAN_S - 1)) == "loan_too_short"
    assert code(offer(ends=START)) == code(offer(ends=0)) == "loan_too_short"


def test_a_loan_ends_with_its_license_at_the_latest() -> None:
    made = license_(seats=10, expires=START + 7 * DAY)
    assert code(offer(license_=made)) == ""
    assert code(offer(license_=made, ends=START + 7 * DAY + 1)) == "duration_too_long"


ORDER: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    # code, what of the policy mends it, what of the offer does
    ("loan_too_short", {}, {"ends": START + 20 * DAY}),
    ("duration_too_long", {}, {"license_": license_(3, seats=10)}),  # of the license itself
    ("lending_denied", {"allowed": MAY_PUSH}, {}),
    ("direction_denied", {"allowed": MAY_PULL}, {}),
    ("duration_too_long", {"max_duration": None}, {}),
    ("depth_exceeded", {"max_depth": 3}, {}),
    ("receiver_denied", {"receivers": ()}, {}),
    ("receiver_level", {"min_level": 0}, {}),
    ("low_water", {"low_water": 0}, {}),
    ("receiver_limit", {"max_per_receiver": None}, {}),
]


def test_the_first_rule_that_refuses_decides_in_the_documented_order() -> None:
    """An offer that breaks every rule, mended one at a time."""
    policy = GrantPolicy(0, 1, 0, 3, 8, 1, (OTHER,))
    offered = offer(license_=license_(3, seats=10, expires=START + DAY), ends=START)
    found = []
    for _, mended, changed in ORDER:
        found.append(code(offered, policy))
        policy, offered = policy.replace(**mended), offered.replace(**changed)
    assert found == [wanted for wanted, _, _ in ORDER]
    assert code(offered, policy) == ""


def test_the_license_speaks_before_the_administrator() -> None:
    limited = ANY.replace(max_duration=1)
    with pytest.raises(LendingError, match="the license allows"):
        check_offer(offer(), limited, limited)
    with pytest.raises(LendingError, match="this container's administrator allows"):
        check_offer(offer(), ANY, limited)


def test_limits_are_of_seats_or_of_units_where_only_those_are_counted() -> None:
    assert measure_of(license_(seats=3, units=9)) == SEATS
    assert measure_of(license_(units=9)) == ""
    assert measure_of(license_()) == SEATS
    assert offer().measure == SEATS


def test_a_duration_is_checked_by_itself_for_extensions() -> None:
    check_duration(ANY, "the license", 1 << 40)
    check_duration(ANY.replace(max_duration=DAY), "the license", DAY)
    with pytest.raises(LendingError) as caught:
        check_duration(ANY.replace(max_duration=DAY), "the license", DAY + 1)
    assert caught.value.code == "duration_too_long"
    assert "the license allows 1 day" in caught.value.message


def test_every_code_has_a_row() -> None:
    codes = {expected for *_, expected in TABLE.values()} - {"", "denied"}
    codes |= {wanted for wanted, _, _ in ORDER} | {"lending_restricted"}
    assert codes == {
        "lending_denied", "lending_restricted", "direction_denied", "duration_too_long", "loan_too_short",
        "depth_exceeded", "receiver_denied", "receiver_level", "low_water", "receiver_limit",
    }  # fmt: skip
