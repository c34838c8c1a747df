# SPDX-License-Identifier: Apache-2.0
"""The rule of tolerance and the keys behind it: every combination of change, and every way around the floor."""

from __future__ import annotations

from itertools import combinations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.computer import ALL, UNPRIVILEGED
from tallystick.backends import binding as keys
from tallystick.backends.binding import Binding, Part, bind, minimal_sets, part, recover
from tallystick.backends.comparison import (
    CHANGED,
    MATCH,
    TOLERANCES,
    UNREADABLE,
    Comparison,
    Seen,
    allowed,
    compare,
    digest,
    floor,
    new_names,
    see,
    trait_secret,
)
from tallystick.backends.traits.base import WEIGHTS, Reading, Trait
from tallystick.errors import LockedError, UsageError

MASTER = bytes(range(32))
SALT = b"s" * 32


def bound(reading: Reading, tolerance: str = "medium", salt: bytes = SALT) -> Binding:
    traits = [Trait(name, str(value).encode(), WEIGHTS[name]) for name, value in reading.items()]
    return bind(MASTER, [part(salt, trait) for trait in traits], tolerance, salt)


def judged(binding: Binding, reading: Reading) -> tuple[dict[str, Seen], Comparison]:
    seen = see(binding.salt, reading)
    return seen, compare(binding.tolerance, binding.enrolled, seen)


def opens(binding: Binding, reading: Reading) -> bool:
    seen, comparison = judged(binding, reading)
    if comparison.obstacle:
        return False
    assert recover(binding, seen) == MASTER
    return True


def changed(reading: Reading, *names: str) -> Reading:
    return {name: value + "-new" if name in names else value for name, value in reading.items() if value is not None}


# --------------------------------------------------------------------------------------- one trait, and two, at a time

PAIRS_AS_ROOT_MEDIUM = {  # 43 of 125 may change
    frozenset(pair)
    for pair in (
        ("product-uuid", "cpu"), ("machine-id", "cpu"), ("board-serial", "cpu"), ("nic", "cpu"), ("root-fs", "cpu"),
        ("board-serial", "nic"), ("board-serial", "root-fs"), ("nic", "root-fs"),
    )
}  # fmt: skip
PAIRS_UNPRIVILEGED_LOOSE = {frozenset(pair) for pair in combinations(UNPRIVILEGED, 2)}  # 45 of 75 may change

SINGLES = [
    (ALL, "loose", set(ALL)),
    (ALL, "medium", set(ALL)),
    (ALL, "strict", {"cpu"}),
    (UNPRIVILEGED, "loose", set(UNPRIVILEGED)),
    (UNPRIVILEGED, "medium", set(UNPRIVILEGED)),
    (UNPRIVILEGED, "strict", {"cpu"}),
]
PAIRS = [
    (ALL, "loose", {frozenset(pair) for pair in combinations(ALL, 2)}),
    (ALL, "medium", PAIRS_AS_ROOT_MEDIUM),
    (ALL, "strict", set()),
    (UNPRIVILEGED, "loose", PAIRS_UNPRIVILEGED_LOOSE),
    (UNPRIVILEGED, "medium", set()),
    (UNPRIVILEGED, "strict", set()),
]


@pytest.mark.parametrize(("computer", "tolerance", "survives"), SINGLES)
def test_one_changed_trait(computer: Reading, tolerance: str, survives: set[str]) -> None:
    binding = bound(computer, tolerance)
    assert {name for name in computer if opens(binding, changed(computer, name))} == survives


@pytest.mark.parametrize(("computer", "tolerance", "survives"), PAIRS)
def test_two_changed_traits(computer: Reading, tolerance: str, survives: set[frozenset[str]]) -> None:
    binding = bound(computer, tolerance)
    pairs = {frozenset(pair) for pair in combinations(computer, 2)}
    assert {pair for pair in pairs if opens(binding, changed(computer, *pair))} == survives


@pytest.mark.parametrize("tolerance", TOLERANCES)
@pytest.mark.parametrize("computer", [ALL, UNPRIVILEGED])
def test_a_removed_trait_counts_as_a_changed_one(computer: Reading, tolerance: str) -> None:
    binding = bound(computer, tolerance)
    for name in computer:
        without = {other: value for other, value in computer.items() if other != name}
        assert opens(binding, without) is opens(binding, changed(computer, name)), name


@pytest.mark.parametrize(
    ("tolerance", "one_may_change"), [("loose", True), ("medium", False), ("strict", False)]
)  # fmt: skip
def test_with_two_traits_only_loose_tolerates_a_change(tolerance: str, one_may_change: bool) -> None:
    two: Reading = {"machine-id": "machine-1", "root-fs": "disk-1"}
    binding = bound(two, tolerance)
    assert opens(binding, two)
    assert opens(binding, changed(two, "machine-id")) is one_may_change
    assert opens(binding, changed(two, "root-fs")) is one_may_change
    assert not opens(binding, changed(two, *two))


@pytest.mark.parametrize("tolerance", TOLERANCES)
def test_with_one_trait_it_must_match(tolerance: str) -> None:
    binding = bound({"machine-id": "machine-1"}, tolerance)
    assert opens(binding, {"machine-id": "machine-1"})
    assert not opens(binding, {"machine-id": "machine-2"})
    assert not opens(binding, {})


# --------------------------------------------------------------------------------------------- unreadable, not changed


def test_as_root_and_without_rights_are_the_same_computer() -> None:
    hidden = {**UNPRIVILEGED, "product-uuid": None, "board-serial": None}
    for tolerance in ("loose", "medium"):
        assert opens(bound(ALL, tolerance), hidden)
    comparison = judged(bound(ALL), hidden)[1]
    assert (comparison.matched, comparison.changed, comparison.unreadable) == (75, 0, 50)


def test_too_much_unreadable_is_another_obstacle_than_change() -> None:
    hidden = {**dict.fromkeys(ALL), "cpu": ALL["cpu"], "nic": ALL["nic"]}
    assert judged(bound(ALL), hidden)[1].obstacle == UNREADABLE
    assert judged(bound(ALL), changed(ALL, "product-uuid", "machine-id"))[1].obstacle == CHANGED


def test_every_combination_of_match_change_and_unreadable_follows_the_written_rule() -> None:
    values = {MATCH: lambda name: ALL[name], CHANGED: lambda name: "other", UNREADABLE: lambda name: None}
    seen_obstacles = set()
    for tolerance, (percent_allowed, percent_floor) in TOLERANCES.items():
        binding = bound(ALL, tolerance)
        for verdicts in product(values, repeat=len(ALL)):
            reading = {name: values[verdict](name) for name, verdict in zip(ALL, verdicts, strict=True)}
            weight = {v: sum(WEIGHTS[n] for n, w in zip(ALL, verdicts, strict=True) if w == v) for v in values}
            locked_by_change = weight[CHANGED] * 100 > percent_allowed * 125
            locked_by_silence = weight[MATCH] * 100 < percent_floor * 125
            comparison = judged(binding, reading)[1]
            assert (comparison.matched, comparison.changed, comparison.unreadable) == tuple(weight.values())
            assert comparison.obstacle == (CHANGED if locked_by_change else UNREADABLE if locked_by_silence else "")
            assert opens(binding, reading) is not (locked_by_change or locked_by_silence)
            seen_obstacles.add(comparison.obstacle)
    assert seen_obstacles == {"", CHANGED, UNREADABLE}


@given(total=st.integers(1, 5_000), tolerance=st.sampled_from(sorted(TOLERANCES)))
def test_change_within_the_allowance_alone_never_falls_below_the_floor(total: int, tolerance: str) -> None:
    assert total - allowed(tolerance, total) >= floor(tolerance, total) > 0


# ------------------------------------------------------------------------------------------------------ alternatives


def test_any_of_several_network_cards_matches() -> None:
    binding = bound({"nic": "aa", "machine-id": "m"})
    for value in ("aa", "bb\naa", "aa\nbb", "bb\naa\n"):
        assert judged(binding, {"nic": value, "machine-id": "m"})[1].names(MATCH) == ("machine-id", "nic"), value


def test_a_card_that_may_be_the_one_hidden_is_not_a_changed_one() -> None:
    binding = bound({"nic": "aa", "machine-id": "m"})
    assert judged(binding, {"nic": "bb\n", "machine-id": "m"})[1].names(UNREADABLE) == ("nic",)
    assert judged(binding, {"nic": "bb", "machine-id": "m"})[1].names(CHANGED) == ("nic",)


# --------------------------------------------------------------------------------------------------- keys and copies


@given(
    weights=st.lists(st.integers(1, 40), min_size=1, max_size=8),
    percent=st.sampled_from([40, 50, 75]),
)
def test_minimal_sets_reach_the_floor_and_none_contains_another(weights: list[int], percent: int) -> None:
    needed = -(-sum(weights) * percent // 100)
    sets = minimal_sets(weights, needed)

    def weight(members: int) -> int:
        return sum(one for index, one in enumerate(weights) if members >> index & 1)

    assert sets
    assert all(weight(members) >= needed for members in sets)
    assert not any(one != other and one & other == one for one in sets for other in sets)
    for members in range(1 << len(weights)):  # whoever reaches the floor holds a set, and nobody else does
        assert any(members & one == one for one in sets) is (weight(members) >= needed)
    assert len(sets) <= 70


def test_eight_equal_traits_make_seventy_copies_and_a_ninth_is_not_used() -> None:
    parts = [Part(f"t{index}", 10, bytes([index]) * 32) for index in range(8)]
    light = Part("light", 9, bytes(32))
    binding = bind(MASTER, [light, *parts], "medium", SALT)
    assert len(binding.copies) == 70
    assert "light" not in {row.name for row in binding.enrolled}


def test_without_the_floor_no_copy_can_be_opened_whatever_the_comparison_says() -> None:
    binding = bound(ALL)
    for names in combinations(ALL, 3):
        some = {name: ALL[name] for name in names}
        if sum(WEIGHTS[name] for name in names) < 63:
            with pytest.raises(LockedError) as refused:
                recover(binding, see(SALT, some))
            assert refused.value.code == "tampered"


@pytest.mark.parametrize("edit", ["tolerance", "weight", "name", "digest", "copy", "short copy", "set", "salt"])
def test_an_edited_binding_opens_nothing(edit: str) -> None:
    binding = bound(ALL)
    first, *rest = binding.enrolled
    mask, wrapped = binding.copies[0]
    edited = {
        "tolerance": binding.replace(tolerance="loose"),
        "weight": binding.replace(enrolled=(first.replace(weight=90), *rest)),
        "name": binding.replace(enrolled=(first.replace(name="nic2"), *rest)),
        "digest": binding.replace(enrolled=(first.replace(digest=bytes(8)), *rest)),
        "copy": binding.replace(copies=((mask, bytes(40)),)),
        "short copy": binding.replace(copies=((mask, wrapped[:-1]),)),
        "set": binding.replace(copies=((mask ^ 0b111, wrapped),)),
        "salt": binding.replace(salt=bytes(32)),
    }[edit]
    with pytest.raises(LockedError) as refused:
        recover(edited, see(edited.salt, ALL))
    assert refused.value.code == "tampered"


def test_binding_again_with_the_same_parts_gives_the_same_bytes() -> None:
    assert bound(ALL) == bound(ALL)
    assert bound(ALL) != bound(ALL, salt=b"t" * 32)


def test_nothing_to_bind_to_and_unknown_tolerance_are_refused() -> None:
    with pytest.raises(UsageError, match="nothing to bind"):
        bind(MASTER, [], "medium", SALT)
    with pytest.raises(UsageError, match="'lax' is none of loose, medium, strict"):
        bind(MASTER, [Part("cpu", 10, bytes(32))], "lax", SALT)


# ---------------------------------------------------------------------------------------------------- what is shown


def test_values_and_secrets_are_never_shown() -> None:
    seen, comparison = judged(bound(ALL), ALL)
    one = part(SALT, Trait("cpu", b"cpu-1", 10))
    shown = repr((Trait("cpu", b"cpu-1", 10), one, seen, comparison, bound(ALL)))
    assert "cpu-1" not in shown
    assert one.secret.hex() not in shown
    assert repr(one.secret) not in shown


def test_digests_differ_by_container_by_trait_and_from_the_secret() -> None:
    secret = trait_secret(SALT, "cpu", b"x")
    assert len({trait_secret(SALT, "nic", b"x"), trait_secret(b"t" * 32, "cpu", b"x"), secret}) == 3
    assert len(digest(secret)) == 8
    assert digest(secret) != secret[:8]


def test_new_traits_are_listed_with_the_weight_they_would_have() -> None:
    binding = bound(UNPRIVILEGED)
    seen = see(SALT, {**ALL, "gpu": "g", "tpm": None})
    assert set(new_names(binding.enrolled, seen)) == {"product-uuid", "board-serial", "gpu"}
    rows = compare("medium", binding.enrolled, seen, WEIGHTS).rows
    assert [(row.name, row.weight, row.then) for row in rows if row.verdict == "new"] == [
        ("board-serial", 20, ""),
        ("product-uuid", 30, ""),
    ]
    assert compare("medium", binding.enrolled, seen).names("new") == ()


def test_the_comparison_says_unreadable_and_absent_in_place_of_a_digest() -> None:
    comparison = judged(bound(ALL), {"cpu": None})[1]
    shown = {row.name: (row.now, row.verdict) for row in comparison.rows}
    assert shown["cpu"] == ("unreadable", "unreadable")
    assert shown["nic"] == ("absent", "changed")


def test_the_number_of_traits_keeps_the_sets_within_one_byte() -> None:
    assert 1 << keys.MAX_TRAITS == 256
