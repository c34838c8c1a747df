# SPDX-License-Identifier: Apache-2.0
"""Every claim of every message by every other type, at and beyond every bound, missing, unknown (rules R61, R62)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from made import DAY, Device, Vendor, id16
from tallystick.codec import cose, kinds
from tallystick.codec.signing import SoftwareKey
from tallystick.errors import FormatError, VerificationError
from tallystick.license.answers import Refusal, TimeToken, Update
from tallystick.license.grant_policy import GrantPolicy
from tallystick.license.grants import Grant, Move, Recall
from tallystick.license.messages import BORROW, Account, Request
from tallystick.license.meter import MeterClaim
from tallystick.license.model import Feature, License, Terms
from tallystick.license.receipts import RETURNED, Receipt, Share
from tallystick.license.status import read_status_list
from tallystick.license.trust import KeyRecord, KeySet, read_keyset
from tallystick.license.want import Want

VENDOR, DEVICE = Vendor(), Device()
FULL_POLICY = GrantPolicy(31, DAY, 2, 1, 3, 4, (bytes(32), b"x" * 32))
FULL_FEATURE = Feature(1, 2, 3, 4, 5, "4.2", 6, 7)
FULL_TERMS = Terms(1, 2, 3, 4, 5, "4.2", 6, 7, 8, 1, 9, 10, FULL_POLICY, FULL_POLICY, False, (1, 3), 11)


FULL_WANT = Want("cad", id16(3), {"": 5, "*seats": 1}, ("f",), 9, True, 2, bytes(32))
SHARE = Share(id16(51), bytes(32), {"": 3}, {"": 2}, True)


def read_license(claims: dict[Any, Any]) -> License:
    license_ = License.from_claims(claims)
    license_.require_complete()
    return license_


def signed_by_root(claims: dict[Any, Any]) -> KeySet:
    return read_keyset(cose.sign(kinds.KEYSET, claims, VENDOR.root), VENDOR.trust)


def full_license() -> License:
    return VENDOR.license(
        DEVICE, terms=FULL_TERMS, features={"f": FULL_FEATURE, "g": Feature()}, status=1, reason="unpaid"
    )


def claims_of(message: bytes) -> dict[Any, Any]:
    return cose.peek(message)[1]


METER = MeterClaim(VENDOR.root.public_key, b"\x00\x0b" + bytes(32), 9)
KEYS = KeySet("acme", 1, id16(1), 2, (KeyRecord(VENDOR.root.public_key, 0, 3, 4),))

Read = Callable[[dict[Any, Any]], object]
MESSAGES: dict[str, tuple[dict[Any, Any], Read]] = {
    "license": (full_license().to_claims(), read_license),
    "terms": (FULL_TERMS.to_map(), Terms.from_map),
    "request": (claims_of(DEVICE.request().sign(DEVICE.identity)), Request.from_claims),
    "receipt": (claims_of(DEVICE.receipt().sign(DEVICE.identity)), Receipt.from_claims),
    "want": (FULL_WANT.to_map(), Want.from_map),
    "loan request": (
        claims_of(DEVICE.request(action=BORROW, want=FULL_WANT).sign(DEVICE.identity)),
        Request.from_claims,
    ),
    "share receipt": (
        claims_of(DEVICE.receipt(purpose=RETURNED, shares=(SHARE,)).sign(DEVICE.identity)),
        Receipt.from_claims,
    ),
    "metered license": (full_license().replace(meter=METER).to_claims(), read_license),
    "given back": (
        claims_of(DEVICE.receipt(given_back={id16(1): (b"proof",)}).sign(DEVICE.identity)),
        Receipt.from_claims,
    ),
    "grant": (claims_of(DEVICE.grant(b"license").sign(DEVICE.identity)), Grant.from_claims),
    "recall": (claims_of(DEVICE.recall().sign(DEVICE.identity)), Recall.from_claims),
    "move": (claims_of(DEVICE.move().sign(DEVICE.identity)), Move.from_claims),
    "update": (claims_of(VENDOR.update(DEVICE, clock_reset=True).sign(VENDOR.root)), Update.from_claims),
    "refusal": (claims_of(VENDOR.refusal(DEVICE).sign(VENDOR.root)), Refusal.from_claims),
    "time token": (claims_of(VENDOR.time().sign(VENDOR.root)), TimeToken.from_claims),
    "key set": (claims_of(KEYS.sign(VENDOR.root)), signed_by_root),
}
EVERY = pytest.mark.parametrize("what", MESSAGES)

Path = tuple[Any, ...]


def paths(value: Any, at: Path = ()) -> Iterator[Path]:
    """Every place in decoded claims, by the keys and indexes that lead there."""
    if at:
        yield at
    if isinstance(value, dict):
        for key in value:
            yield from paths(value[key], (*at, key))
    elif isinstance(value, list):
        for index in range(len(value)):
            yield from paths(value[index], (*at, index))


def found(claims: Any, path: Path) -> Any:
    for step in path:
        claims = claims[step]
    return claims


def replaced(claims: dict[Any, Any], path: Path, value: Any) -> dict[Any, Any]:
    changed = copy.deepcopy(claims)
    found(changed, path[:-1])[path[-1]] = value
    return changed


def removed(claims: dict[Any, Any], path: Path) -> dict[Any, Any]:
    changed = copy.deepcopy(claims)
    del found(changed, path[:-1])[path[-1]]
    return changed


# One or more values of every type that CBOR can carry, those the strict decoder refuses included: a vendor's signature
# lets them reach this layer.
OTHERS = [
    None,
    False,
    True,
    0,
    1,
    -1,
    1.0,
    float("nan"),
    b"",
    b"x" * 16,
    b"x" * 32,
    "",
    "x",
    "4.2",
    [],
    [0],
    {},
    {1: 1},
]


def refused(read: Read, claims: dict[Any, Any]) -> str:
    try:
        read(claims)
    except (FormatError, VerificationError) as refusal:
        return refusal.code
    return ""


@EVERY
def test_the_claims_are_accepted_as_they_are(what: str) -> None:
    claims, read = MESSAGES[what]
    assert refused(read, claims) == ""
    assert len(list(paths(claims))) >= 3


@EVERY
def test_every_claim_replaced_by_every_other_type_is_refused(what: str) -> None:
    claims, read = MESSAGES[what]
    if what == "key set":  # our own encoder refuses to sign floats; the strict decoder refuses to read them
        others = [value for value in OTHERS if not isinstance(value, float)]
    else:
        others = OTHERS
    accepted = [
        (path, value)
        for path in paths(claims)
        for value in others
        if type(value) is not type(found(claims, path)) and not refused(read, replaced(claims, path, value))
    ]
    assert accepted == []


@EVERY
def test_every_claim_missing_is_refused_or_takes_its_default(what: str) -> None:
    claims, read = MESSAGES[what]
    required = {
        "license": {1, 2, 6, 7, 8, -65537, -65538, -65539},
        "terms": {15},
        "request": {3, 6, 7, 8, -65553},
        "receipt": {3, 6, 7, 8, -65585},
        "want": set(),
        "loan request": {3, 6, 7, 8, -65553},
        "share receipt": {3, 6, 7, 8, -65585},
        "metered license": {1, 2, 6, 7, 8, -65537, -65538, -65539},
        "given back": {3, 6, 7, 8, -65585},
        "grant": {3, 6, 7, 8, -65617, -65618, -65619, -65620},
        "recall": {3, 6, 7, 8, -65617},
        "move": {6, 7, 8, -65617, -65628},
        "update": {1, 6, 7, 8},
        "refusal": {1, 6, 7, 8, -65569, -65601, -65602},
        "time token": {1, 6, 7},
        "key set": {1, 6, 7, -65601, -65602},
    }[what]
    for label in claims:
        code = refused(read, removed(claims, (label,)))
        assert code == ("malformed" if label in required else ""), label


@EVERY
@pytest.mark.parametrize("label", [0, 9, 10, 999, -1, -2, -70_000, -(1 << 63), "kid", "", b"x"])
def test_an_unknown_label_is_refused_because_it_might_restrict(what: str, label: Any) -> None:
    claims, read = MESSAGES[what]
    if label not in claims:
        assert refused(read, claims | {label: 0}) == "unsupported_version"


@EVERY
@pytest.mark.parametrize("label", [1000, 1001, 65_535, (1 << 64) - 1])
@pytest.mark.parametrize("value", [0, "x", {}, [None]])
def test_a_label_from_1000_is_ignored(what: str, label: int, value: Any) -> None:
    claims, read = MESSAGES[what]
    if label not in claims:
        assert refused(read, claims | {label: value}) == ""


@pytest.mark.parametrize(
    ("what", "path"),
    [
        ("license", (-65539,)),
        ("license", (-65539, 13)),
        ("license", (-65539, 14)),
        ("license", (-65540, "f")),
        ("license", (-65540, "g")),
        ("request", (-65558, 0)),
        ("receipt", (-65587, 0)),
        ("loan request", (-65565,)),
        ("share receipt", (-65590, 0)),
        ("metered license", (-65549,)),
        ("key set", (-65602, 0)),
    ],
)
def test_unknown_labels_inside_are_treated_alike(what: str, path: Path) -> None:
    claims, read = MESSAGES[what]
    assert refused(read, replaced(claims, (*path, 999), 0)) == "unsupported_version"
    assert refused(read, replaced(claims, (*path, "x"), 0)) == "unsupported_version"
    assert refused(read, replaced(claims, (*path, 1000), 0)) == ""


def test_the_message_names_what_is_missing_and_what_is_unknown() -> None:
    claims, read = MESSAGES["license"]
    with pytest.raises(FormatError, match="license without license id"):
        read(removed(claims, (-65537,)))
    with pytest.raises(FormatError, match="terms with a field this version does not know: 999"):
        read(replaced(claims, (-65539, 999), 0))
    with pytest.raises(FormatError) as caught:
        read(claims | {"k" * 10_000: 0})
    assert len(caught.value.message) < 200


TIME, UNITS, SEQ = 1 << 40, (1 << 53) - 1, 1 << 32
NAMES = [("a", True), ("A-1.b_c+d", True), ("x" * 64, True), ("x" * 65, False), ("", False), ("a b", False)]
NAMES += [("ä", False), ("a/b", False), ("a\u202eb", False), ("a\n", False), ("a\0", False), ("\u0430", False)]


def integers(maximum: int) -> list[tuple[Any, bool]]:
    return [(0, True), (maximum, True), (-1, False), (maximum + 1, False), ((1 << 64) - 1, False)]


def choices(*values: int) -> list[tuple[Any, bool]]:
    return [(value, value in values) for value in range(-1, max(values) + 3)]


def texts(maximum: int) -> list[tuple[Any, bool]]:
    return [("", True), ("ü" * maximum, True), ("ü" * (maximum + 1), False)]


def sized(minimum: int, maximum: int) -> list[tuple[Any, bool]]:
    sizes = [(minimum, True), (maximum, True), (maximum + 1, False), *([(minimum - 1, False)] if minimum else [])]
    return [(b"x" * size, good) for size, good in sizes]


def arrays(item: Any, maximum: int) -> list[tuple[Any, bool]]:
    return [([], True), ([item] * maximum, True), ([item] * (maximum + 1), False)]


def maps(item: Any, maximum: int) -> list[tuple[Any, bool]]:
    full = {f"n{number}": item for number in range(maximum)}
    return [({}, True), (full, True), (full | {"more": item}, False)]


VERSIONS: list[tuple[Any, bool]] = [
    *[(text, True) for text in ("0", "4", "4.2", "1.2.3.4.5.6.7.8", "999999999.0", "007")],
    *[(text, False) for text in ("", ".", "4.", ".4", "4..2", "4.x", "-1", "4,2", "1.2.3.4.5.6.7.8.9", "v4", "\u0664")],
    *[(text, False) for text in ("1234567890", "4" * 33, " 4", "4\n")],
]
ACCOUNT = Account(id16(1), 1).to_map()
BOUNDS: dict[tuple[str, Path], list[tuple[Any, bool]]] = {
    **{("license", (label,)): NAMES for label in (1, 2)},
    ("license", (6,)): integers(TIME),
    **{("license", (label,)): sized(16, 16) for label in (7, -65537)},
    ("license", (8, 5)): sized(32, 32),
    ("license", (-65538,)): integers(SEQ),
    ("license", (-65540,)): maps({}, 256),
    ("license", (-65541,)): maps(b"", 32),
    ("license", (-65541, "tier")): sized(0, 4096),
    ("license", (-65542,)): maps(b"x", 32),
    ("license", (-65542, "manual")): sized(1, 512),
    ("license", (-65543,)): texts(512),
    ("license", (-65544,)): texts(128),
    ("license", (-65545,)): choices(0, 1, 2),
    ("license", (-65546,)): texts(512),
    ("license", (-65547,)): texts(64),
    ("license", (-65548,)): integers(1 << 24),
    ("metered license", (-65549, 2)): sized(34, 34)[:1] + sized(34, 34)[2:],
    ("metered license", (-65549, 3)): integers(UNITS),
    ("given back", (-65591, id16(1))): arrays(b"x", 256),
    ("given back", (-65591, id16(1), 0)): sized(1, 1024),
    **{("terms", (label,)): integers(TIME) for label in (1, 2, 3, 4, 5, 11, 12, 17)},
    ("terms", (6,)): VERSIONS,
    **{("terms", (label,)): integers(UNITS) for label in (7, 8)},
    ("terms", (9,)): integers(1 << 20),
    ("terms", (10,)): integers(3),
    ("terms", (16,)): arrays(1, 4),
    ("terms", (16, 0)): choices(1, 2, 3, 4),
    **{("license", (-65540, "f", label)): integers(TIME) for label in (1, 2, 3, 4, 5)},
    ("license", (-65540, "f", 6)): VERSIONS,
    **{("license", (-65540, "f", label)): integers(UNITS) for label in (7, 8)},
    ("terms", (13, 1)): integers(31),
    ("terms", (13, 2)): integers(TIME),
    ("terms", (13, 3)): integers(15),
    ("terms", (13, 4)): integers(3),
    **{("terms", (13, label)): integers(UNITS) for label in (5, 6)},
    ("terms", (13, 7)): arrays(bytes(32), 64),
    ("terms", (13, 7, 0)): sized(32, 32),
    ("request", (3,)): NAMES,
    ("request", (6,)): integers(TIME),
    ("request", (7,)): sized(16, 16),
    ("request", (-65553,)): choices(1, 2, 3, 4),
    ("request", (-65554,)): texts(64),
    ("request", (-65555,)): NAMES,
    ("request", (-65556,)): integers(1000),
    ("request", (-65558,)): arrays(ACCOUNT, 1000),
    ("request", (-65558, 0, 1)): sized(16, 16),
    ("request", (-65558, 0, 2)): integers(SEQ),
    ("request", (-65558, 0, 3)): maps(1, 257),
    ("request", (-65558, 0, 3, "")): integers(UNITS),
    ("request", (-65558, 0, 4)): maps(1, 257),
    ("request", (-65558, 0, 4, "")): integers(TIME),
    ("request", (-65559,)): maps("x", 32),
    ("request", (-65559, "host")): texts(256),
    ("request", (-65560,)): integers(UNITS),
    ("request", (-65561,)): texts(32),
    ("request", (-65562,)): maps(b"", 16),
    ("request", (-65562, "none")): sized(0, 16_384),
    ("request", (-65563,)): integers(SEQ),
    ("request", (-65564,)): texts(64),
    ("receipt", (-65585,)): choices(1, 2, 3, 4, 5, 6),
    ("want", (1,)): NAMES,
    ("want", (2,)): sized(16, 16),
    ("want", (3,)): maps(1, 257),
    ("want", (3, "")): integers(UNITS),
    ("want", (4,)): arrays("x", 256),
    ("want", (4, 0)): NAMES,
    ("want", (5,)): integers(TIME),
    ("want", (7,)): integers(1000),
    ("want", (8,)): sized(32, 32),
    ("share receipt", (-65590,)): arrays(SHARE.to_map(), 1000),
    ("share receipt", (-65590, 0, 1)): sized(16, 16),
    ("share receipt", (-65590, 0, 2)): sized(32, 32),
    **{("share receipt", (-65590, 0, label)): maps(1, 257) for label in (3, 4)},
    **{("share receipt", (-65590, 0, label, "")): integers(UNITS) for label in (3, 4)},
    ("grant", (3,)): NAMES,
    ("grant", (6,)): integers(TIME),
    ("grant", (7,)): sized(16, 16),
    ("grant", (-65618,)): sized(1, 1 << 18),
    ("grant", (-65619,)): sized(16, 16),
    ("grant", (-65620,)): maps(1, 257),
    ("grant", (-65620, "")): integers(UNITS),
    ("grant", (-65621,)): integers(1 << 16),
    ("grant", (-65622,)): arrays("x", 256),
    ("grant", (-65622, 0)): NAMES,
    ("grant", (-65623,)): integers(TIME),
    ("grant", (-65624,)): maps(1, 257),
    ("grant", (-65624, "")): integers(TIME),
    ("grant", (-65625,)): integers(TIME),
    ("grant", (-65626,)): maps(b"x", 32),
    ("grant", (-65626, "manual")): sized(1, 512),
    ("grant", (-65627,)): sized(1, 1 << 16),
    ("recall", (3,)): NAMES,
    ("recall", (7,)): sized(16, 16),
    ("move", (7,)): sized(16, 16),
    ("move", (-65628,)): arrays(b"x", 1000),
    ("move", (-65628, 0)): sized(1, 1 << 18),
    ("receipt", (-65586,)): sized(16, 16),
    ("receipt", (-65589,)): integers(UNITS),
    ("update", (-65569,)): sized(16, 16),
    ("update", (-65570,)): sized(1, 1 << 16),
    ("update", (-65571,)): arrays(b"x", 1000),
    ("update", (-65571, 0)): sized(1, 1 << 18),
    ("update", (-65572,)): sized(1, 1 << 19),
    ("update", (-65573,)): sized(1, 8192),
    ("update", (-65575,)): texts(1024),
    ("refusal", (-65570,)): sized(1, 1 << 16),
    ("refusal", (-65601,)): NAMES,
    ("refusal", (-65602,)): texts(1024),
    ("refusal", (-65603,)): texts(1024),
    ("key set", (-65601,)): integers(SEQ),
    ("key set", (-65602,)): arrays(KeyRecord(VENDOR.root.public_key, 0).to_map(), 16),
    ("key set", (-65602, 0, 2)): integers(3),
    **{("key set", (-65602, 0, label)): integers(TIME) for label in (3, 4)},
}


@pytest.mark.parametrize(("what", "path"), BOUNDS, ids=lambda value: value if isinstance(value, str) else str(value))
def test_bounds(what: str, path: Path) -> None:
    claims, read = MESSAGES[what]
    for value, good in BOUNDS[what, path]:
        code = refused(read, replaced(claims, path, value))
        assert code == ("" if good else "malformed"), value


@pytest.mark.parametrize("path", [(-65540,), (-65541,), (-65542,)])
def test_names_inside_a_license_look_the_same_everywhere(path: Path) -> None:
    claims, read = MESSAGES["license"]
    item = next(iter(found(claims, path).values()))
    for name, good in NAMES:
        assert refused(read, replaced(claims, path, {name: item})) == ("" if good else "malformed"), name
    for key in (1, b"x", None, True):
        assert refused(read, replaced(claims, path, {key: item})) == "malformed"


def test_a_status_list_is_read_by_the_same_rules() -> None:
    claims = VENDOR.status_token(expires=5, ttl=6).to_claims()

    def read(changed: dict[Any, Any]) -> object:
        return read_status_list(cose.sign(kinds.STATUS_LIST, changed, VENDOR.keys["status"]), VENDOR.ring)

    assert refused(read, claims) == ""
    others = [value for value in OTHERS if not isinstance(value, float)]
    for path in paths(claims):
        for value in others:
            if type(value) is not type(found(claims, path)):
                assert refused(read, replaced(claims, path, value)), (path, value)
    for label in (2, 6, 65_533):
        assert refused(read, removed(claims, (label,))) == "malformed"
    for label in (4, 65_534):
        assert refused(read, removed(claims, (label,))) == ""
    assert refused(read, replaced(claims, (65_533, "aggregation_uri"), "https://acme.example/")) == ""
    assert refused(read, replaced(claims, (65_533, "more"), 0)) == "malformed"
    for bits in (0, 3, 5, 6, 7, 9, 16, -1, True):
        assert refused(read, replaced(claims, (65_533, "bits"), bits)) == "malformed"


def test_an_embedded_key_is_checked_as_any_key() -> None:
    claims, read = MESSAGES["request"]
    other = SoftwareKey.generate().public_key.to_map()
    for path in ((8, 1), (-65557,)):
        assert refused(read, replaced(claims, path, other)) == ""
        assert refused(read, replaced(claims, path, other | {3: -7})) == "bad_key"
        assert refused(read, replaced(claims, path, other | {-2: bytes(32)})) == "bad_key"
        assert refused(read, replaced(claims, path, other | {-4: bytes(32)})) == "bad_key"
    assert refused(read, replaced(claims, (8,), {1: other, 5: bytes(32)})) == "malformed"
    assert refused(MESSAGES["license"][1], replaced(MESSAGES["license"][0], (8,), {1: other})) == "malformed"
