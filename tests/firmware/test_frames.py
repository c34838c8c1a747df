# SPDX-License-Identifier: Apache-2.0
"""Frames: whole messages out of any pieces, nothing out of anything else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.dongle import frames
from tallystick.dongle.frames import Frame, FrameReader
from tallystick.errors import FormatError

KINDS = st.sampled_from(sorted(frames.TYPES))
MESSAGES = st.tuples(KINDS, st.integers(0, 65_535), st.binary(max_size=3 * frames.MAX_PAYLOAD))


@given(st.lists(MESSAGES, min_size=1, max_size=4), st.lists(st.integers(1, 1500), min_size=1, max_size=8))
def test_messages_come_out_whole_however_they_were_cut(messages: list[tuple[int, int, bytes]], cuts: list[int]) -> None:
    data = b"".join(frames.encode(*message) for message in messages)
    reader, found, at = FrameReader(), [], 0
    while at < len(data):
        size = cuts[at % len(cuts)]
        found += reader.feed(data[at : at + size])
        at += size
    assert found == [Frame(*message) for message in messages]
    assert reader.idle


@pytest.mark.parametrize("size", [0, 1, frames.MAX_PAYLOAD, frames.MAX_PAYLOAD + 1, 2 * frames.MAX_PAYLOAD])
def test_no_frame_is_larger_than_allowed(size: int) -> None:
    data = frames.encode(frames.MESSAGE, 7, bytes(size))
    count = max(1, -(-size // frames.MAX_PAYLOAD))
    assert len(data) == size + count * frames.HEAD
    assert FrameReader().feed(data) == [Frame(frames.MESSAGE, 7, bytes(size))]


def test_a_message_beyond_the_limit_is_neither_sent_nor_taken() -> None:
    with pytest.raises(FormatError) as caught:
        frames.encode(frames.MESSAGE, 1, bytes(frames.MAX_MESSAGE + 1))
    assert caught.value.code == "too_large"
    endless = frames.encode(frames.MESSAGE, 1, bytes(2 * frames.MAX_PAYLOAD))[: frames.MAX_FRAME]
    reader = FrameReader()
    for _ in range(frames.MAX_MESSAGE // frames.MAX_PAYLOAD):
        assert reader.feed(endless) == []
    with pytest.raises(FormatError) as caught:
        reader.feed(endless)
    assert caught.value.code == "too_large"
    assert reader.idle


@pytest.mark.parametrize("at", range(frames.HEAD))
def test_every_changed_byte_of_a_head_loses_the_place(at: int) -> None:
    good = frames.encode(frames.MESSAGE, 0x1234, b"payload")
    for value in range(256):
        data = good[:at] + bytes((value,)) + good[at + 1 :]
        reader = FrameReader()
        if data == good:
            assert reader.feed(data)
            continue
        with pytest.raises(FormatError):
            reader.feed(data)
        assert reader.idle
        assert reader.feed(good) == [Frame(frames.MESSAGE, 0x1234, b"payload")]


def head(kind: int, transaction: int, length: int, flags: int) -> bytes:
    first = bytes((frames.MAGIC, kind)) + transaction.to_bytes(2) + length.to_bytes(2) + bytes((flags,))
    return first + bytes((~sum(first) & 0xFF,))


@pytest.mark.parametrize(
    "data",
    [
        head(9, 1, 0, 0),
        head(frames.MESSAGE, 1, 0, 2),
        head(frames.MESSAGE, 1, frames.MAX_PAYLOAD + 1, 0),
        head(frames.MESSAGE, 1, 5, 1) + b"short",
        head(frames.MESSAGE, 1, frames.MAX_PAYLOAD, 1) + bytes(frames.MAX_PAYLOAD) + head(frames.MESSAGE, 2, 0, 0),
        head(frames.MESSAGE, 1, frames.MAX_PAYLOAD, 1) + bytes(frames.MAX_PAYLOAD) + head(frames.HELLO, 1, 0, 0),
    ],
    ids=["type", "flags", "length", "not full", "other transaction", "other type"],
)
def test_what_is_no_frame_of_a_message_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        FrameReader().feed(data)


@given(st.binary(max_size=4000))
def test_garbage_raises_format_errors_only(data: bytes) -> None:
    reader = FrameReader()
    try:
        reader.feed(data)
    except FormatError:
        assert reader.idle
