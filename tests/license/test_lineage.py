# SPDX-License-Identifier: Apache-2.0
"""A license held by grants: every numbered step of `license.lineage` refuses what it should, and rights only shrink."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from made import DAY, RECEIVER, START, Device, Vendor, id16
from tallystick.codec import cbor, cose, kinds
from tallystick.errors import FormatError, TallystickError, VerificationError
from tallystick.license.grant_policy import MAX_DEPTH, MAY_ALL, SEATS, TOLERANCE_S, GrantPolicy, held
from tallystick.license.grants import Grant
from tallystick.license.lineage import read_chain
from tallystick.license.model import ACTIVE, REVOKED, TOUCH_LEND, TOUCH_USE, Feature, License, Terms
from tallystick.license.policy import NO_USAGE, Facts, evaluate
from tallystick.license.status import INVALID, SUSPENDED_ENTRY, VALID, StatusList
from tallystick.license.verify import LicenseVerifier

ACME, GLOBEX = Vendor("acme"), Vendor("globex")
DEVICES = [Device() for _ in range(MAX_DEPTH + 2)]  # each holds by a grant of the one before it
FREE = GrantPolicy(MAY_ALL, max_depth=MAX_DEPTH)
TERMS = Terms(expires=START + 30 * DAY, units=100, overage=9, seats=10, lend=FREE, transfer=FREE)
FEATURES = {"render": Feature(units=20, overage=3, max_version="4.2"), "pdf": Feature(), "sim": Feature(expires=START)}
LOAN_ENDS = START + 10 * DAY


def root(vendor: Vendor = ACME, holder: Device = DEVICES[0], **changes: Any) -> bytes:
    """The issuer's license for the first device; terms may be changed beside fields."""
    terms = TERMS.replace(**{name: changes.pop(name) for name in Terms.fields & changes.keys()})
    values: dict[str, Any] = {"terms": terms, "features": FEATURES, "content_keys": {}, "status_index": 2}
    return vendor.sign_license(vendor.license(holder, **(values | changes)))


def grant(parent: bytes, number: int = 0, **changes: Any) -> Grant:
    """A loan of the device of that number to the next one: a little less than the parent may have."""
    values: dict[str, Any] = {
        "receiver": DEVICES[number + 1].thumbprint,
        "xid": id16(60 + number),
        "amounts": {"": 50 - number, SEATS: 5 - number, "render": 10 - number},
        "features": None,
        "ends": LOAN_ENDS - number * DAY,
    }
    return DEVICES[number].grant(parent, **(values | changes))


def signed(parent: bytes, number: int = 0, **changes: Any) -> bytes:
    return grant(parent, number, **changes).sign(DEVICES[number].identity)


def chain(depth: int, parent: bytes | None = None, **changes: Any) -> bytes:
    """A license, or grants in a row."""
    message = root() if parent is None else parent
    for number in range(depth):
        message = signed(message, number, **changes)
    return message


def verifier(number: int, vendor: Vendor = ACME, statuses: StatusList | None = None) -> LicenseVerifier:
    return LicenseVerifier(vendor.ring, DEVICES[number].thumbprint, statuses)


def accept(message: bytes, number: int = 1) -> License:
    return verifier(number).accept(message)


def refused(
    message: bytes, number: int = 1, *, code: str = "grant_invalid", step: int | None = None
) -> TallystickError:
    with pytest.raises((FormatError, VerificationError)) as caught:
        accept(message, number)
    assert caught.value.code == code, caught.value
    assert caught.value.details.get("step") == step
    assert caught.value.remedy
    return caught.value


# ------------------------------------------------------------------------------------------------- what comes out of it


@pytest.mark.parametrize("depth", range(MAX_DEPTH + 1))
def test_a_license_is_held_through_grants_up_to_the_deepest(depth: int) -> None:
    license_ = accept(chain(depth), depth)
    assert license_.container == DEVICES[depth].thumbprint
    assert (license_.depth, license_.license_id, license_.product) == (depth, id16(3), "cad")
    assert license_.part == (id16(59 + depth) if depth else id16(3))
    if depth:
        last = depth - 1
        assert (license_.terms.units, license_.terms.seats) == (50 - last, 5 - last)
        assert license_.features["render"].units == 10 - last
        assert license_.borrowed_until == LOAN_ENDS - last * DAY
        assert license_.terms.expires == LOAN_ENDS - last * DAY - TOLERANCE_S
    else:
        assert (license_.xid, license_.borrowed_at, license_.borrowed_until) == (None, None, None)


def test_what_is_not_granted_is_not_there() -> None:
    license_ = accept(signed(root(), amounts={SEATS: 1}))
    assert (license_.terms.units, license_.terms.seats, license_.features["render"].units) == (0, 1, 0)
    assert license_.terms.overage == license_.features["render"].overage == 0, (
        "what may be overdrawn stays at the giver"
    )
    assert license_.features["render"].max_version == "4.2"
    assert (license_.features["pdf"], license_.features["sim"]) == (FEATURES["pdf"], FEATURES["sim"])
    assert license_.content_keys == {"manual": b"sealed"}, "those of the grant, never the giver's"
    assert license_.licensee == "Müller & Söhne"
    assert license_.protected_data == {"tier": b"gold"}


def test_a_license_without_numbers_is_given_whole() -> None:
    license_ = accept(signed(root(units=None, seats=None, features={}), amounts={SEATS: 1}))
    assert (license_.terms.units, license_.terms.seats) == (None, None)
    assert held(license_, SEATS) == 1
    refused(signed(root(units=None, seats=None, features={}), amounts={SEATS: 2}), step=5)


def test_a_transfer_has_no_end_of_its_own() -> None:
    license_ = accept(signed(root(), ends=None))
    assert (license_.borrowed_at, license_.borrowed_until, license_.terms.expires) == (None, None, TERMS.expires)
    never = accept(signed(root(expires=None), ends=None))
    assert never.terms.expires is None


def test_a_loan_of_a_transferred_part_is_a_loan() -> None:
    license_ = accept(signed(signed(root(), ends=None), 1), 2)
    assert (license_.borrowed_at, license_.borrowed_until, license_.depth) == (START, LOAN_ENDS - DAY, 2)


def test_the_end_of_the_license_stays_the_end() -> None:
    late = TERMS.expires
    assert late is not None
    assert accept(signed(root(), ends=late + 5 * TOLERANCE_S)).terms.expires == late


@pytest.mark.parametrize(
    ("own", "first", "second", "expected"),
    [(0, 0, 0, 0), (1, 0, 0, 1), (0, 2, 0, 2), (1, 2, 0, 2), (3, 1, 0, 3), (0, 1, 3, 3)],
)
def test_the_level_is_the_highest_anybody_asked_for(own: int, first: int, second: int, expected: int) -> None:
    """The loan's policy and the transfer's may ask for different levels."""
    lend, transfer = FREE.replace(min_level=first), FREE.replace(min_level=second)
    parent = root(min_level=own, lend=lend, transfer=transfer)
    one = accept(signed(parent, ends=None if second else LOAN_ENDS))
    two = accept(signed(signed(parent, ends=None), 1), 2)
    assert one.terms.min_level == max(own, second if second else first)
    assert two.terms.min_level == expected


@pytest.mark.parametrize("depth", range(MAX_DEPTH + 1))
def test_what_needs_a_touch_needs_it_wherever_it_is_given_on(depth: int) -> None:
    license_ = verifier(depth).accept(chain(depth, root(touch=TOUCH_USE | TOUCH_LEND), ends=None))
    assert (license_.depth, license_.terms.touch) == (depth, TOUCH_USE | TOUCH_LEND)


def test_a_license_that_needs_a_level_does_not_run_below_it_wherever_it_came_through() -> None:
    license_ = accept(signed(root(lend=FREE.replace(min_level=2))))
    assert evaluate(license_, NO_USAGE, Facts(START, level=0)).code == "level_too_low"
    assert evaluate(license_, NO_USAGE, Facts(START, level=2)).ok


def test_the_same_bytes_are_verified_once() -> None:
    judge = verifier(2)
    message = chain(2)
    assert judge.accept(message) is judge.accept(message)


# ------------------------------------------------------------------------------------------------- (0) shape and length


def test_more_grants_in_a_row_than_allowed_are_refused() -> None:
    refused(chain(MAX_DEPTH + 1), MAX_DEPTH + 1, step=0)


@pytest.mark.parametrize("parent", [b"\0", b"license", b"\xd2\x84", cbor.encode({1: 2})], ids=repr)
def test_a_parent_that_is_no_message_is_malformed(parent: bytes) -> None:
    refused(signed(parent), code="malformed")


@pytest.mark.parametrize("kind", [kinds.UPDATE, kinds.RECEIPT, kinds.RECALL, kinds.STATE], ids=lambda kind: kind.name)
def test_a_parent_of_another_kind_is_refused(kind: kinds.Kind) -> None:
    parent = cose.sign(kind, {1: "acme"}, ACME.keys["license"])
    refused(signed(parent), code="wrong_kind")


def test_a_field_nobody_knows_might_restrict() -> None:
    claims = cose.peek(signed(root()))[1]
    refused(cose.sign(kinds.GRANT, claims | {99: 1}, DEVICES[0].identity), code="unsupported_version")
    assert accept(cose.sign(kinds.GRANT, claims | {1000: 1}, DEVICES[0].identity)).depth == 1


def test_a_feature_nobody_can_read_is_refused_before_it_is_given_on() -> None:
    claims = cose.peek(root())[1]
    claims[-65540]["pdf"] = {99: 1}
    parent = cose.sign(kinds.LICENSE, claims, ACME.keys["license"])
    refused(signed(parent), code="unsupported_version")


# -------------------------------------------------------------------------------------------- (1) giver, (2) signature


def test_only_the_container_that_holds_it_gives() -> None:
    stranger = Device()
    refused(grant(root(), giver=stranger.identity.public_key).sign(stranger.identity), step=1)


def test_a_grant_in_the_middle_signed_by_somebody_else_spoils_the_chain() -> None:
    thief = Device()
    middle = grant(signed(root()), 1, giver=thief.identity.public_key).sign(thief.identity)
    refused(signed(middle, 2), 3, step=1)


def test_the_first_holder_cannot_give_what_it_gave_away() -> None:
    """The parent's `cnf` is the second device by now."""
    message = grant(signed(root()), 0, receiver=DEVICES[2].thumbprint).sign(DEVICES[0].identity)
    refused(message, 2, step=1)


def test_a_grant_signed_by_another_key_than_it_names_is_refused() -> None:
    refused(grant(root()).sign(Device().identity), code="unknown_issuer")
    refused(grant(root()).sign(DEVICES[1].identity), code="unknown_issuer")


def test_another_device_does_not_hold_it() -> None:
    refused(chain(2), 1, code="wrong_container", step=6)
    refused(chain(1), 0, code="wrong_container", step=6)


# ------------------------------------------------------------------------------------------------------- (3) the vendor


def test_a_grant_of_one_vendor_for_a_license_of_another_is_refused() -> None:
    refused(signed(root(), vendor="globex"), code="wrong_vendor", step=3)


def test_another_vendors_license_counts_for_nobody_here() -> None:
    refused(signed(root(GLOBEX), vendor="globex"), code="unknown_issuer", step=1)
    with pytest.raises(VerificationError) as caught:
        verifier(1, GLOBEX).accept(chain(1))
    assert caught.value.code == "unknown_issuer"
    assert verifier(1, GLOBEX).accept(signed(root(GLOBEX), vendor="globex")).vendor == "globex"


def test_a_license_key_of_another_purpose_does_not_help_through_a_grant() -> None:
    license_ = ACME.license(DEVICES[0], terms=TERMS)
    parent = cose.sign(kinds.LICENSE, license_.to_claims(), ACME.keys["time"])
    refused(signed(parent), code="key_use", step=1)


# --------------------------------------------------------------------------------------------------- (4) the permission

PERMISSION: dict[str, tuple[dict[str, Any], dict[str, Any], bool]] = {
    # what: (terms of the license, the grant, permitted)
    "no loans": ({"lend": None}, {}, False),
    "no loans, but a transfer": ({"lend": None}, {"ends": None}, True),
    "no transfers": ({"transfer": None}, {"ends": None}, False),
    "no transfers, but a loan": ({"transfer": None}, {}, True),
    "a loan as long as allowed": ({"lend": FREE.replace(max_duration=10 * DAY)}, {}, True),
    "a loan a second longer": ({"lend": FREE.replace(max_duration=10 * DAY - 1)}, {}, False),
    "a transfer knows no duration": ({"transfer": FREE.replace(max_duration=1)}, {"ends": None}, True),
    "a receiver named": ({"lend": FREE.replace(receivers=(RECEIVER, DEVICES[1].thumbprint))}, {}, True),
    "a receiver not named": ({"lend": FREE.replace(receivers=(RECEIVER,))}, {}, False),
    "the first grant at depth 0": ({"lend": FREE.replace(max_depth=0)}, {}, True),
}


@pytest.mark.parametrize("what", PERMISSION)
def test_what_the_license_permits(what: str) -> None:
    terms, changes, permitted = PERMISSION[what]
    message = signed(root(**terms), **changes)
    if permitted:
        assert accept(message).depth == 1
    else:
        refused(message, step=4)


@pytest.mark.parametrize("allowed", range(MAX_DEPTH))
def test_grants_in_a_row_are_as_many_as_the_license_allows(allowed: int) -> None:
    parent = root(lend=FREE.replace(max_depth=allowed))
    assert accept(chain(allowed + 1, parent), allowed + 1).depth == allowed + 1
    if allowed + 2 <= MAX_DEPTH:
        refused(chain(allowed + 2, parent), allowed + 2, step=4)


def test_what_is_borrowed_is_not_transferred() -> None:
    refused(signed(signed(root()), 1, ends=None), 2, step=4)
    assert accept(signed(signed(root(), ends=None), 1, ends=None), 2).depth == 2


def test_a_duration_counts_from_the_grant() -> None:
    parent = root(lend=FREE.replace(max_duration=DAY))
    assert accept(signed(parent, issued_at=LOAN_ENDS - DAY, seq=7)).borrowed_until == LOAN_ENDS
    refused(signed(parent, issued_at=LOAN_ENDS - DAY - 1), step=4)


# ------------------------------------------------------------------------------------------- (5) amounts, (6) features


@pytest.mark.parametrize(
    "amounts",
    [
        {},
        {"": 0, SEATS: 0},
        {"": 101, SEATS: 1},
        {SEATS: 11},
        {SEATS: 1, "render": 21},
        {SEATS: 1, "pdf": 1},
        {SEATS: 1, "nowhere": 1},
        {"": 5},
        {"": 5, SEATS: 0},
    ],
    ids=repr,
)
def test_no_more_is_given_than_is_held(amounts: dict[str, int]) -> None:
    refused(signed(root(), amounts=amounts), step=5)


@pytest.mark.parametrize("name", ["", SEATS, "render"])
def test_amounts_only_shrink(name: str) -> None:
    first: dict[str, int] = {"": 50, SEATS: 5, "render": 10}
    parent = signed(root(), amounts=first)
    assert held(accept(signed(parent, 1, amounts=first), 2), name) == first[name]
    refused(signed(parent, 1, amounts=first | {name: first[name] + 1}), 2, step=5)


def test_what_the_license_allows_to_overdraw_is_not_given() -> None:
    assert accept(signed(root(), amounts={"": 100, SEATS: 1})).terms.units == 100
    refused(signed(root(), amounts={"": 101, SEATS: 1}), step=5)


def test_units_alone_are_given_where_no_seats_are_counted() -> None:
    license_ = accept(signed(root(seats=None), amounts={"": 5}))
    assert (license_.terms.units, license_.terms.seats) == (5, None)


def test_features_only_shrink() -> None:
    parent = signed(root(), features=("render", "pdf"))
    assert set(accept(parent).features) == {"render", "pdf"}
    assert set(accept(signed(parent, 1, features=("pdf",)), 2).features) == {"pdf"}
    assert set(accept(signed(parent, 1), 2).features) == {"render", "pdf"}
    refused(signed(parent, 1, features=("sim",)), 2, step=6)
    refused(signed(root(), features=("nowhere",)), step=6)
    assert accept(signed(root(), features=())).features == {}


# ------------------------------------------------------------------------------------------------------------- (7) ends


def test_a_loan_ends_no_later_than_the_one_it_comes_from() -> None:
    parent = signed(root())
    assert accept(signed(parent, 1, ends=LOAN_ENDS), 2).borrowed_until == LOAN_ENDS
    refused(signed(parent, 1, ends=LOAN_ENDS + 1), 2, step=7)
    through = signed(signed(root(), ends=None), 1, ends=LOAN_ENDS)
    refused(signed(through, 2, ends=LOAN_ENDS + 1), 3, step=7)


# ----------------------------------------------------------------------------------- what ends a parent ends the child


@pytest.mark.parametrize("depth", range(1, MAX_DEPTH + 1))
@pytest.mark.parametrize(("status", "code"), [(VALID, ""), (INVALID, "revoked"), (SUSPENDED_ENTRY, "suspended")])
def test_the_vendors_status_list_reaches_the_end_of_the_chain(depth: int, status: int, code: str) -> None:
    judge = verifier(depth, statuses=StatusList.from_statuses([0, 0, status, 0]))
    if not code:
        assert judge.accept(chain(depth)).depth == depth
        return
    for _ in range(2):  # what was verified is remembered, what was revoked is not
        with pytest.raises(TallystickError) as caught:
            judge.accept(chain(depth))
        assert (caught.value.code, caught.value.details["step"]) == (code, 7)


def test_a_license_revoked_in_itself_gives_nothing_that_runs() -> None:
    license_ = accept(signed(root(status=REVOKED)))
    assert license_.status != ACTIVE
    assert evaluate(license_, NO_USAGE, Facts(START)).code == "revoked"


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_an_expired_parent_has_expired_children(depth: int) -> None:
    over = root(expires=START + DAY)
    license_ = accept(chain(depth, over), depth)
    assert evaluate(license_, NO_USAGE, Facts(START + DAY - 1)).ok
    assert evaluate(license_, NO_USAGE, Facts(START + DAY)).code == "expired"


def test_a_borrower_stops_five_minutes_before_the_end() -> None:
    license_ = accept(chain(2), 2)
    ends = LOAN_ENDS - DAY
    assert TOLERANCE_S == 300
    assert evaluate(license_, NO_USAGE, Facts(ends - TOLERANCE_S - 1)).ok
    assert evaluate(license_, NO_USAGE, Facts(ends - TOLERANCE_S)).code == "expired"


def test_a_key_set_that_dropped_the_license_key_ends_the_chain() -> None:
    vendor = Vendor("acme")
    message = signed(root(vendor))
    assert verifier(1, vendor).accept(message).depth == 1
    vendor.keys["license"] = Vendor().keys["license"]
    rotated = type(vendor.ring)(vendor.key_set(2))
    with pytest.raises(VerificationError) as caught:
        LicenseVerifier(rotated, DEVICES[1].thumbprint).accept(message)
    assert caught.value.code == "unknown_issuer"


# ----------------------------------------------------------------------------------------------------------- every bit


def test_every_single_bit_flip_of_a_grant_of_a_grant_is_refused() -> None:
    """Exhaustive: both grants' envelopes, and the issuer's license inside them."""
    parent = root(features={"pdf": Feature()})
    small: dict[str, Any] = {"content_keys": {}, "keyset": None, "amounts": {"": 5, SEATS: 1}, "first_use": {}}
    message = chain(2, parent, **small)
    judge = verifier(2)
    assert judge.accept(message).depth == 2
    codes = set()
    flipped = bytearray(message)
    for bit in range(8 * len(flipped)):
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises((FormatError, VerificationError)) as caught:
            judge.accept(bytes(flipped))
        codes.add(caught.value.code)
        flipped[bit // 8] ^= 1 << bit % 8
    assert bytes(flipped) == message
    assert {"malformed", "bad_signature"} <= codes


@pytest.mark.parametrize("level", [0, 1, 2], ids=["license", "first grant", "second grant"])
def test_a_good_part_of_another_chain_does_not_fit(level: int) -> None:
    """Each message of the chain exchanged for a good one of another license: the signatures cover what is inside."""
    other = root(license_id=id16(4))
    parts = [root(), chain(1), chain(2)]
    strange = [other, chain(1, other), chain(2, other)]
    parent = strange[level]
    rebuilt: list[Callable[[], bytes]] = [
        lambda: _inside(chain(2), _inside(chain(1), parent)),
        lambda: _inside(chain(2), parent),
        lambda: _inside(chain(3), parent),
    ]
    number = 3 if level == 2 else 2
    refused(rebuilt[level](), number, code="bad_signature")
    assert accept(parts[level], level).license_id == id16(3)


def _inside(message: bytes, parent: bytes) -> bytes:
    """The same grant, its signature and all, around another parent."""
    head, body, signature, _ = cose.cut(message)
    claims: dict[int, Any] = cbor.decode(body)
    payload = cbor.encode(claims | {-65618: parent})
    return b"\xd2\x84" + cbor.encode(head) + b"\xa0" + cbor.encode(payload) + cbor.encode(signature)


def test_the_issuers_license_is_verified_by_whoever_is_trusted_with_that() -> None:
    asked: list[bytes] = []

    def nobody(message: bytes) -> License:
        asked.append(message)
        return License.from_claims(cose.peek(message)[1])

    assert read_chain(chain(3), nobody).depth == 3
    assert asked == [asked[0]]
    assert not cose.seems(asked[0], kinds.GRANT)
