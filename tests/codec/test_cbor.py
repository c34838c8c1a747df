# SPDX-License-Identifier: Apache-2.0
"""Strict CBOR: what is accepted, what is refused, and that there is one encoding of everything."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cbor2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tallystick.codec import cbor
from tallystick.errors import FormatError

# RFC 8949, appendix A: the examples inside the profile ...
APPENDIX_A = {
    "00": 0,
    "01": 1,
    "0a": 10,
    "17": 23,
    "1818": 24,
    "1819": 25,
    "1864": 100,
    "1903e8": 1000,
    "1a000f4240": 1_000_000,
    "1b000000e8d4a51000": 1_000_000_000_000,
    "1bffffffffffffffff": 18_446_744_073_709_551_615,
    "3bffffffffffffffff": -18_446_744_073_709_551_616,
    "20": -1,
    "29": -10,
    "3863": -100,
    "3903e7": -1000,
    "f4": False,
    "f5": True,
    "f6": None,
    "40": b"",
    "4401020304": b"\x01\x02\x03\x04",
    "60": "",
    "6161": "a",
    "6449455446": "IETF",
    "62225c": '"\\',
    "62c3bc": "\u00fc",
    "63e6b0b4": "\u6c34",
    "64f0908591": "\U00010151",
    "80": [],
    "83010203": [1, 2, 3],
    "8301820203820405": [1, [2, 3], [4, 5]],
    "98190102030405060708090a0b0c0d0e0f101112131415161718181819": list(range(1, 26)),
    "a0": {},
    "a201020304": {1: 2, 3: 4},
    "a26161016162820203": {"a": 1, "b": [2, 3]},
    "826161a161626163": ["a", {"b": "c"}],
    "a56161614161626142616361436164614461656145": {"a": "A", "b": "B", "c": "C", "d": "D", "e": "E"},
}
# ... and those outside: bignums, floats, undefined, other simple values, tags, indefinite lengths.
APPENDIX_A_OUTSIDE = """
    c249010000000000000000 c349010000000000000000 f90000 f98000 f93c00 fb3ff199999999999a f93e00 f97bff fa47c35000
    fa7f7fffff fb7e37e43c8800759c f90001 f90400 f9c400 fbc010666666666666 f97c00 f97e00 f9fc00 fa7f800000 fa7fc00000
    faff800000 fb7ff0000000000000 fb7ff8000000000000 fbfff0000000000000 f7 f0 f8ff
    c074323031332d30332d32315432303a30343a30305a c11a514b67b0 c1fb41d452d9e8200000 d74401020304 d818456449455446
    d82076687474703a2f2f7777772e6578616d706c652e636f6d 5f42010243030405ff 7f657374726561646d696e67ff 9fff
    9f018202039f0405ffff 9f01820203820405ff 83018202039f0405ff 83019f0203ff820405
    9f0102030405060708090a0b0c0d0e0f101112131415161718181819ff bf61610161629f0203ffff 826161bf61626163ff
    bf6346756ef563416d7421ff
""".split()


def head(major: int, argument: int) -> bytes:
    """The head of an item (RFC 8949, 3), in shortest form."""
    for limit, extra in ((24, 0), (1 << 8, 1), (1 << 16, 2), (1 << 32, 4), (1 << 64, 8)):
        if argument < limit:
            if not extra:
                return bytes([major << 5 | argument])
            return bytes([major << 5 | 24 + extra.bit_length() - 1]) + argument.to_bytes(extra)
    raise AssertionError(argument)


def written(value: Any) -> bytes:
    """Encode by the specification alone, without the library under test: the oracle of this file."""
    match value:
        case bool() | None:
            return bytes([{False: 0xF4, True: 0xF5, None: 0xF6}[value]])
        case int():
            return head(0, value) if value >= 0 else head(1, -1 - value)
        case bytes():
            return head(2, len(value)) + value
        case str():
            return head(3, len(value.encode())) + value.encode()
        case list():
            return head(4, len(value)) + b"".join(map(written, value))
        case dict():
            rows = sorted((written(key), written(item)) for key, item in value.items())
            return head(5, len(rows)) + b"".join(key + item for key, item in rows)
    raise AssertionError(value)


KEYS = st.one_of(st.integers(-(1 << 64), (1 << 64) - 1), st.text(max_size=6), st.binary(max_size=6))
LEAVES = st.one_of(KEYS, st.booleans(), st.none())
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(KEYS, inner, max_size=5)),
    max_leaves=20,
)


def refused(data: bytes) -> bool:
    try:
        cbor.decode(data)
    except FormatError as refusal:
        assert refusal.code in {"malformed", "too_large"}
        return True
    return False


def test_the_vectors_of_strictness(vectors: Path) -> None:
    cases = json.loads((vectors / "cbor_strict.json").read_text())
    assert len(cases["reject"]) == 49
    assert len(cases["accept"]) == 11
    assert [name for name, text in cases["reject"].items() if not refused(bytes.fromhex(text))] == []
    for name, text in cases["accept"].items():
        assert cbor.encode(cbor.decode(bytes.fromhex(text))) == bytes.fromhex(text), name


@pytest.mark.parametrize(("text", "value"), APPENDIX_A.items())
def test_the_examples_of_rfc_8949_inside_the_profile(text: str, value: Any) -> None:
    decoded = cbor.decode(bytes.fromhex(text))
    assert decoded == value
    assert type(decoded) is type(value)
    assert cbor.encode(value).hex() == text


@pytest.mark.parametrize("text", APPENDIX_A_OUTSIDE)
def test_the_examples_of_rfc_8949_outside_the_profile(text: str) -> None:
    assert refused(bytes.fromhex(text))


# Content on which cbor2's own decoders work: dates, bignums, regular expressions, MIME, sets, references ...
TAGGED = [b"\x01", b"\x61a", b"\x41\x01", b"\x80", b"\xa0", b"\x82\x01\x02", b"\x81\xd8\x1d\x00"]


INTERPRETED = {*range(1100), 43000, 55799, 55800}  # all tags for which cbor2 has, or may get, a decoder of its own


def modules_called(work: Callable[[], object]) -> set[str]:
    """The modules whose Python functions run during some work."""
    called: set[str] = set()
    sys.setprofile(lambda frame, event, _: called.add(frame.f_globals.get("__name__", "")) if event == "call" else None)
    try:
        work()
    finally:
        sys.setprofile(None)
    return called


def test_every_tag_up_to_70000_is_refused() -> None:
    accepted = [
        (tag, content.hex())
        for tag in (*range(70_000), (1 << 32) - 1, 1 << 32, 1 << 63, (1 << 64) - 1)
        for content in (TAGGED if tag in INTERPRETED else TAGGED[:1])
        if not refused(head(6, tag) + content) or (tag in INTERPRETED and not refused(b"\x81" + head(6, tag) + content))
    ]
    assert accepted == []


def test_no_decoder_of_a_tag_runs_before_the_refusal() -> None:
    seen = modules_called(lambda: cbor2.loads(bytes.fromhex("82d8236161d8246178")))
    assert {"re", "email.parser"} <= seen  # what cbor2 does by itself: the measurement works

    def refuse_all() -> None:
        for tag in INTERPRETED:
            for content in TAGGED:
                assert refused(head(6, tag) + content)
                with pytest.raises(FormatError):
                    cbor.decode_trusted(b"\xa1\x01" + head(6, tag) + content)

    assert not modules_called(refuse_all) & {"re", "re._compiler", "email.parser", "datetime", "decimal", "fractions"}


@pytest.mark.parametrize("tag", ["00", "1c", "23", "24"])  # a date, a cycle, a regular expression, MIME
def test_a_tag_in_a_map_key_is_refused(tag: str) -> None:
    assert refused(bytes.fromhex("a1d8" + tag + "616101"))


@given(VALUES)
def test_encoding_agrees_with_the_specification(value: Any) -> None:
    assert cbor.encode(value) == written(value)


@given(VALUES)
def test_what_is_encoded_decodes_to_the_same_value_and_types(value: Any) -> None:
    decoded = cbor.decode(cbor.encode(value))
    assert decoded == value
    assert written(decoded) == written(value)  # tells true from 1, which compare equal
    assert cbor.decode_trusted(cbor.encode(value)) == value


@given(st.binary(max_size=64))
@example(bytes.fromhex("a20100f500"))
def test_whatever_is_accepted_encodes_to_the_bytes_received(data: bytes) -> None:
    if not refused(data):
        assert cbor.encode(cbor.decode(data)) == data


@given(VALUES, st.data())
def test_a_changed_encoding_is_refused_or_is_another_value(value: Any, data: st.DataObject) -> None:
    good = cbor.encode(value)
    at = data.draw(st.integers(0, len(good) - 1))
    bad = good[:at] + bytes([data.draw(st.integers(0, 255))]) + good[at + 1 :]
    if bad != good and not refused(bad):
        assert cbor.encode(cbor.decode(bad)) == bad  # therefore no two encodings of one value are accepted


def test_keys_are_sorted_by_their_encoded_bytes() -> None:
    mixed = {"a": 1, b"a": 2, -1: 3, 100: 4, 10: 5, "": 6, "aa": 7, -100: 8, 1000: 9}
    keys = list(cbor.decode(cbor.encode(mixed)))
    assert keys == [10, 100, 1000, -1, -100, b"a", "", "a", "aa"]
    assert cbor.encode({-1: 0, 100: 0}) == bytes.fromhex("a21864002000")  # not the shorter key first


@pytest.mark.parametrize("around", [b"\x81", b"\xa1\x01", b"\x82\x00", b"\xa1\x61a"])
@pytest.mark.parametrize("innermost", [b"\x00", b"\x80", b"\xa0", b"\x41a", b"\xf6"])
def test_an_item_lies_inside_at_most_16_others(around: bytes, innermost: bytes) -> None:
    assert not refused(around * 16 + innermost)
    assert refused(around * 17 + innermost)
    assert refused(around * 10_000 + innermost)


def test_integers_end_at_64_bits() -> None:
    assert cbor.decode(cbor.encode(-(1 << 64))) == -(1 << 64)
    for beyond in (1 << 64, -(1 << 64) - 1):
        with pytest.raises(TypeError):
            cbor.encode(beyond)


def test_size_is_checked_before_anything_else() -> None:
    assert cbor.decode(cbor.encode(b"x" * 100), 102) == b"x" * 100
    with pytest.raises(FormatError) as caught:
        cbor.decode(cbor.encode(b"x" * 100), 101)
    assert caught.value.code == "too_large"
    assert caught.value.details == {"size": 102, "limit": 101}
    with pytest.raises(FormatError):
        cbor.decode(b"\xff" * (cbor.MAX_BYTES + 1))


@pytest.mark.parametrize(
    "value", [1.0, {1, 2}, {True: 1}, {None: 1}, {1.5: 1}, {(1,): 1}, bytearray(b"x"), object(), [[{"a": 1.0}]]]
)
def test_values_outside_the_profile_are_a_defect_of_the_caller(value: Any) -> None:
    with pytest.raises(TypeError):
        cbor.encode(value)


def test_a_tuple_is_an_array() -> None:
    assert cbor.encode((1, (2,))) == cbor.encode([1, [2]])


def test_the_same_value_encodes_alike_whatever_order_it_was_made_in() -> None:
    one = {1: {"a": 1, 5: 2}, 0: [{b"": 0, "": 1}]}
    other = {0: [{"": 1, b"": 0}], 1: {5: 2, "a": 1}}
    assert cbor.encode(one) == cbor.encode(other)


@given(st.binary(max_size=80))
def test_trusted_decoding_of_garbage_raises_nothing_but_format_errors(data: bytes) -> None:
    try:
        cbor.decode_trusted(data)
    except FormatError as refusal:
        assert refusal.code == "malformed"
