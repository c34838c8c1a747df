# SPDX-License-Identifier: Apache-2.0
"""Token status lists: the draft's vectors, bounds before decompression, order in time."""

from __future__ import annotations

import re
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from made import START, Vendor
from tallystick.errors import FormatError, TallystickError, VerificationError
from tallystick.license.status import INVALID, MAX_LIST_BYTES, SUSPENDED_ENTRY, VALID, StatusList, read_status_list

VENDOR = Vendor()

# draft-ietf-oauth-status-list-21: the examples of section 4 and the 2-bit test vector, whose other entries are 0.
SHORT_1_BIT = [1, 0, 0, 1, 1, 1, 0, 1, 1, 1, 0, 0, 0, 1, 0, 1]
SHORT_2_BITS = [1, 2, 0, 3, 0, 1, 0, 1, 1, 2, 3, 3]
LONG_INDEXES = (0, 1993, 25_460, 159_495, 495_669, 554_353, 645_645, 723_232, 854_545, 934_534, 1_000_345)
LONG_2_BITS = dict(zip(LONG_INDEXES, (1, 2, 1, 3, 1, 1, 2, 1, 1, 2, 3), strict=True))


def vector(vectors: Path, name: str) -> StatusList:
    """A list as its issuer encoded it; only trusted bytes are decoded like this, their map is not sorted."""
    text = (vectors / "statuslist" / name).read_text()
    encoded = re.sub(r"\s", "", text.rsplit("encoded:", 1)[-1])
    return StatusList.from_map(cbor2.loads(bytes.fromhex(encoded)))


def test_the_short_vectors_of_the_draft(vectors: Path) -> None:
    for name, bits, wanted in (
        ("status_list_encoding_cbor.md", 1, SHORT_1_BIT),
        ("status_list_encoding2_cbor.md", 2, SHORT_2_BITS),
    ):
        found = vector(vectors, name)
        assert found.bits == bits
        assert [found.status(index) for index in range(len(wanted))] == wanted
        assert StatusList.from_statuses(wanted, bits) == found
        with pytest.raises(FormatError):
            found.status(len(found.data) * 8 // bits)


def test_the_long_vector_of_the_draft(vectors: Path) -> None:
    found = vector(vectors, "status_list_encoding2_long_cbor.md")
    assert (found.bits, len(found.data)) == (2, (1 << 20) // 4)
    assert {index: found.status(index) for index in range(1 << 20) if found.status(index)} == LONG_2_BITS


@given(st.sampled_from([1, 2, 4, 8]), st.data())
def test_lists_round_trip(bits: int, data: st.DataObject) -> None:
    statuses = data.draw(st.lists(st.integers(0, (1 << bits) - 1), max_size=100))
    found = StatusList.from_map(StatusList.from_statuses(statuses, bits).to_map())
    assert [found.status(index) for index in range(len(statuses))] == statuses


@pytest.mark.parametrize("index", [-1, 8, 9, 1 << 24, 1 << 60])
def test_an_index_outside_the_list_is_refused(index: int) -> None:
    with pytest.raises(FormatError) as caught:
        StatusList.from_statuses([0] * 8).status(index)
    assert caught.value.code == "malformed"


def listed(data: bytes, bits: int = 2) -> StatusList:
    return StatusList.from_map({"bits": bits, "lst": data})


def bomb(size: int) -> bytes:
    """A small input that decompresses to `size` zeros."""
    squeeze = zlib.compressobj(9)
    block = bytes(1 << 20)
    return b"".join([*(squeeze.compress(block) for _ in range(size >> 20)), squeeze.flush()])


@pytest.mark.parametrize("size", [MAX_LIST_BYTES + (1 << 20), 1 << 28])
def test_a_decompression_bomb_is_refused_before_it_unfolds(size: int) -> None:
    """Rule R71: memory stays near the limit, whatever the input promises."""
    packed = bomb(size)
    tracemalloc.start()
    with pytest.raises(FormatError) as caught:
        listed(packed)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.code == "too_large"
    assert peak < 4 * MAX_LIST_BYTES


def test_the_largest_list_is_taken() -> None:
    assert len(listed(bomb(MAX_LIST_BYTES)).data) == MAX_LIST_BYTES


GOOD = zlib.compress(b"\x01\x02")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        GOOD[:-1],
        GOOD[:-4],
        GOOD + b"x",
        GOOD + GOOD,
        GOOD[:-1] + b"\x00",
        zlib.compress(b"x")[2:-4],
        b"\x1f\x8b",
    ],
    ids=["empty", "no zlib", "cut", "no checksum", "more", "twice", "checksum", "raw deflate", "gzip"],
)
def test_what_is_not_exactly_one_zlib_stream_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        listed(data)


@pytest.mark.parametrize(
    "claims",
    [
        None,
        [],
        {},
        {"bits": 2},
        {"lst": GOOD},
        {"bits": True, "lst": GOOD},
        {"bits": 2, "lst": "x"},
        {"bits": 3, "lst": GOOD},
        {"bits": 2, "lst": GOOD, "x": 0},
        {1: 2},
    ],
)
def test_other_shapes_are_refused(claims: Any) -> None:
    with pytest.raises(FormatError):
        StatusList.from_map(claims)


# ---------------------------------------------------------------------------------------------------------- tokens


def test_a_signed_list_is_read() -> None:
    token = read_status_list(VENDOR.sign_status(VALID, INVALID, SUSPENDED_ENTRY, expires=START + 9, ttl=3), VENDOR.ring)
    assert [token.status_list.status(index) for index in range(3)] == [0, 1, 2]
    assert (token.subject, token.issued_at) == ("https://acme.example/status/1", START)
    assert (token.expires, token.ttl) == (START + 9, 3)


@pytest.mark.parametrize(("newest", "good"), [(0, True), (START - 1, True), (START, True), (START + 1, False)])
def test_an_older_list_than_the_newest_seen_is_refused(newest: int, good: bool) -> None:
    message = VENDOR.sign_status(0)
    if good:
        assert read_status_list(message, VENDOR.ring, newest).issued_at == START
        return
    with pytest.raises(VerificationError) as caught:
        read_status_list(message, VENDOR.ring, newest)
    assert caught.value.code == "status_list_rollback"


@given(st.binary(max_size=60))
def test_garbage_for_a_list_raises_nothing_but_format_errors(data: bytes) -> None:
    try:
        listed(data)
    except TallystickError as refusal:
        assert refusal.code in {"malformed", "too_large"}
