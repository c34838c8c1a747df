# SPDX-License-Identifier: Apache-2.0
"""Records to claims to bytes and back: nothing is lost, nothing is added, defaults are not sent."""

from __future__ import annotations

import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from made import Device, Vendor, id16
from tallystick.codec import cbor, cose, kinds
from tallystick.codec.keys import ALGORITHMS
from tallystick.codec.signing import SoftwareKey
from tallystick.errors import FormatError
from tallystick.license.answers import Refusal, TimeToken, Update
from tallystick.license.grant_policy import GrantPolicy
from tallystick.license.messages import Account, Request, read_request
from tallystick.license.model import PLAIN_FEATURE, Feature, License, Terms
from tallystick.license.receipts import Receipt, read_receipt
from tallystick.license.trust import KeyRecord, KeyRing, KeySet, read_keyset

VENDOR, DEVICE = Vendor(), Device()
KEYS = [SoftwareKey.generate(alg).public_key for alg in ALGORITHMS]

TIMES = st.integers(0, 1 << 40)
UNITS = st.integers(0, (1 << 53) - 1)
IDS = st.binary(min_size=16, max_size=16)
THUMBPRINTS = st.binary(min_size=32, max_size=32)
NAMES = st.text(string.ascii_letters + string.digits + "._+-", min_size=1, max_size=64)
VERSIONS = st.lists(st.integers(0, 999), min_size=1, max_size=8).map(lambda parts: ".".join(map(str, parts)))


def texts(size: int) -> st.SearchStrategy[str]:
    return st.text(max_size=size)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


POLICIES = st.builds(
    GrantPolicy,
    st.integers(0, 31),
    maybe(TIMES),
    st.integers(0, 15),
    st.integers(0, 3),
    UNITS,
    maybe(UNITS),
    st.lists(THUMBPRINTS, max_size=3).map(tuple),
)
COMMON = (*[maybe(TIMES)] * 5, maybe(VERSIONS), maybe(UNITS), UNITS)
FEATURES = st.builds(Feature, *COMMON)
TERMS = st.builds(
    Terms,
    *COMMON,
    maybe(st.integers(0, 1 << 20)),
    st.integers(0, 3),
    maybe(TIMES),
    TIMES,
    maybe(POLICIES),
    maybe(POLICIES),
    st.booleans(),
    st.lists(st.integers(1, 4), max_size=4).map(tuple),
    TIMES,
    st.integers(0, 7),
)
LICENSES = st.builds(
    License,
    NAMES,
    NAMES,
    TIMES,
    IDS,
    THUMBPRINTS,
    IDS,
    st.integers(0, 1 << 32),
    TERMS,
    st.dictionaries(NAMES, FEATURES, max_size=4),
    st.dictionaries(NAMES, st.binary(max_size=50), max_size=3),
    st.dictionaries(NAMES, st.binary(min_size=1, max_size=50), max_size=3),
    texts(60),
    texts(60),
    st.integers(0, 2),
    texts(60),
    texts(60),
    maybe(st.integers(0, 1 << 24)),
)
COUNTS = st.dictionaries(texts(8), UNITS, max_size=3)
ACCOUNTS = st.lists(
    st.builds(Account, IDS, st.integers(0, 1 << 32), COUNTS, st.dictionaries(texts(8), TIMES, max_size=3)), max_size=3
).map(tuple)
VARIABLES = st.dictionaries(NAMES, texts(30), max_size=3)
PREVIOUS = maybe(st.lists(st.binary(min_size=8, max_size=8), max_size=16).map(tuple))
REQUESTS = st.builds(
    Request,
    NAMES,
    TIMES,
    IDS,
    st.just(DEVICE.identity.public_key),
    st.sampled_from([1, 2]),
    texts(30),
    st.just("") | NAMES,
    st.integers(0, 1000),
    maybe(st.just(DEVICE.agreement.public_key)),
    ACCOUNTS,
    VARIABLES,
    UNITS,
    texts(32),
    st.dictionaries(texts(8), st.binary(max_size=40), max_size=3),
    st.integers(0, 1 << 32),
    texts(64),
    previous=PREVIOUS,
)
RECEIPTS = st.builds(
    Receipt,
    NAMES,
    TIMES,
    IDS,
    st.just(DEVICE.thumbprint),
    st.sampled_from([1, 2]),
    maybe(IDS),
    ACCOUNTS,
    VARIABLES,
    UNITS,
    previous=PREVIOUS,
)
PARTS = st.binary(min_size=1, max_size=60)
UPDATES = st.builds(
    Update,
    NAMES,
    TIMES,
    IDS,
    THUMBPRINTS,
    maybe(IDS),
    maybe(PARTS),
    st.lists(PARTS, max_size=3).map(tuple),
    maybe(PARTS),
    maybe(PARTS),
    st.booleans(),
    texts(60),
)
REFUSALS = st.builds(Refusal, NAMES, TIMES, IDS, THUMBPRINTS, IDS, NAMES, texts(60), texts(60), maybe(PARTS))
TOKENS = st.builds(TimeToken, NAMES, TIMES, IDS)
KEYSETS = st.builds(
    KeySet,
    st.just("acme"),
    TIMES,
    IDS,
    st.integers(0, 1 << 32),
    st.lists(
        st.builds(KeyRecord, st.sampled_from(KEYS), st.integers(0, 3), maybe(TIMES), maybe(TIMES)), max_size=4
    ).map(tuple),
)


@given(LICENSES)
def test_a_license_survives_claims_and_bytes(license_: License) -> None:
    claims = license_.to_claims()
    read = License.from_claims(cbor.decode(cbor.encode(claims)))
    read.require_complete()
    assert read == license_
    assert read.to_claims() == claims


@given(TERMS)
def test_terms_survive(terms: Terms) -> None:
    assert Terms.from_map(cbor.decode(cbor.encode(terms.to_map()))) == terms


@given(REQUESTS)
def test_a_request_survives_signing(request: Request) -> None:
    assert read_request(request.sign(DEVICE.identity)) == request


@pytest.mark.parametrize(
    "wrong", [[bytes(8)] * 17, [bytes(7)], [bytes(9)], [8], ["12345678"], [None], bytes(8), {}, 0, None]
)
@pytest.mark.parametrize(("paper", "label"), [(DEVICE.request(), -65568), (DEVICE.receipt(), -65592)])
def test_what_names_the_messages_before_is_16_beginnings_of_ids_at_most(
    paper: Request | Receipt, label: int, wrong: Any
) -> None:
    claims = paper.table().write(paper)
    assert label not in claims
    for good in ((), (bytes(8),), (bytes(8),) * 16):
        assert type(paper).from_claims(claims | {label: list(good)}).previous == good
    with pytest.raises(FormatError) as refusal:
        type(paper).from_claims(claims | {label: wrong})
    assert refusal.value.code == "malformed"


@given(RECEIPTS)
def test_a_receipt_survives_signing(receipt: Receipt) -> None:
    assert read_receipt(receipt.sign(DEVICE.identity), DEVICE.identity.public_key) == receipt


@given(UPDATES | REFUSALS | TOKENS)
def test_an_answer_survives_signing(answer: Update | Refusal | TimeToken) -> None:
    signer = VENDOR.keys["time" if isinstance(answer, TimeToken) else "license"]
    claims, record = VENDOR.ring.open(answer.sign(signer), answer.kind())
    assert type(answer).from_claims(claims) == answer
    assert record.key == signer.public_key


@given(KEYSETS)
def test_a_key_set_survives_signing(keyset: KeySet) -> None:
    assert read_keyset(keyset.sign(VENDOR.root), VENDOR.trust) == keyset
    assert KeyRing(keyset).vendor == "acme"


def test_what_equals_its_default_is_not_sent() -> None:
    plain = License("acme", "cad", 1, id16(1), bytes(32), id16(2))
    assert set(plain.to_claims()) == {1, 2, 6, 7, 8, -65537, -65538, -65539}
    assert plain.to_claims()[-65539] == {15: True}  # whether offline activation is allowed is always said
    assert Feature().to_map() == {}
    assert Terms(units=0).to_map() == {7: 0, 15: True}  # none allowed is not the same as not counted


@pytest.mark.parametrize("touch", [8, -1, True, None, [1]])
def test_acts_that_no_button_is_known_for_are_refused(touch: Any) -> None:
    """A newer version's acts restrict: they must not be overlooked."""
    with pytest.raises(FormatError):
        Terms.from_map({15: True, 18: touch})


def test_a_feature_without_terms_costs_nothing() -> None:
    read = License.from_claims(VENDOR.license(DEVICE).to_claims())
    assert read.features["base"] is PLAIN_FEATURE
    assert read.features["render"] == Feature(units=10, max_version="4.2")


def test_features_are_a_map_like_any_other_until_one_is_wrong() -> None:
    claims = VENDOR.license(DEVICE).to_claims()
    claims[-65540] = {"good": {7: 5}, "bad": {7: -1}, "worse": []}
    features = License.from_claims(claims).features
    assert set(features) == {"good", "bad", "worse"}
    assert len(features) == 3
    assert "good" in features
    assert "other" not in features
    assert features.get("other") is None
    assert features.get("other", PLAIN_FEATURE) is PLAIN_FEATURE
    assert features.get("good") is features["good"] is features.get("good")
    assert features["good"].units == 5
    with pytest.raises(KeyError):
        features["other"]
    for name in ("bad", "worse"):
        with pytest.raises(FormatError):
            features[name]
    with pytest.raises(FormatError):
        License.from_claims(claims).require_complete()
    claims[-65540] = {"good": {7: 5}}
    assert repr(License.from_claims(claims).features) == repr({"good": Feature(units=5)})


def test_the_challenge_of_a_request_is_what_its_evidence_must_cover() -> None:
    request = DEVICE.request(evidence={"quote": b"x"})
    bare = request.replace(evidence={})
    assert request.challenge() == bare.challenge() == cbor.encode(cose.peek(bare.sign(DEVICE.identity))[1])
    assert request.challenge() != request.replace(generation=10).challenge()


def test_each_message_knows_its_kind() -> None:
    assert {message: message.kind() for message in (Request, Receipt, Update, Refusal, TimeToken)} == {
        Request: kinds.REQUEST,
        Receipt: kinds.RECEIPT,
        Update: kinds.UPDATE,
        Refusal: kinds.REFUSAL,
        TimeToken: kinds.TIME,
    }
