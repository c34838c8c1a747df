# SPDX-License-Identifier: Apache-2.0
"""The journal's records: every rule of the module's docstring, byte by byte."""

from __future__ import annotations

from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.container.journal import BODY_LIMIT, OVERHEAD, PREFIX, RECORD_LIMIT, Journal
from tallystick.errors import LockedError

KEY = bytes(range(32))
DIGEST = b"d" * 32
BODIES = [b"first", b"", b"third" * 30]


def _journal(generation: int = 3, digest: bytes = DIGEST, key: bytes = KEY) -> Journal:
    return Journal(key, generation, digest)


def _write(bodies: list[bytes], journal: Journal | None = None) -> list[bytes]:
    journal = journal or _journal()
    records = []
    for number, body in enumerate(bodies):
        record, journal.tail = journal.seal(body, number.to_bytes(12, "big"))
        records.append(record)
    return records


def _tampered(data: bytes, journal: Journal | None = None) -> str:
    journal = journal or _journal()
    tail = journal.tail
    with pytest.raises(LockedError) as caught:
        journal.read(data)
    assert caught.value.code == "tampered"
    assert journal.tail is tail
    return caught.value.message


def test_records_come_back_in_order() -> None:
    journal = _journal()
    assert journal.read(b"".join(_write(BODIES)) + bytes(1000)) == (BODIES, 0)
    assert journal.tail.seq == 3
    assert journal.tail.end == sum(len(body) + OVERHEAD for body in BODIES)
    assert journal.tail.begin == journal.tail.end - len(BODIES[-1]) - OVERHEAD


def test_reading_goes_on_where_it_ended() -> None:
    records = _write(BODIES)
    journal = _journal()
    assert journal.read(records[0]) == ([BODIES[0]], 0)
    assert journal.read(b"".join(records[1:])) == (BODIES[1:], 0)
    assert journal.read(bytes(10)) == ([], 0)
    assert journal.read(b"") == ([], 0)


def test_record_is_framed_as_documented() -> None:
    record = _write([b"x" * 10])[0]
    assert int.from_bytes(record[:4], "big") == 10 + 16
    assert int.from_bytes(record[4:12], "big") == 1
    assert record[12:PREFIX] == bytes(12)
    assert int.from_bytes(record[-4:], "big") == crc32(record[:-4])


def test_largest_record_is_64_kib() -> None:
    record = _write([bytes(BODY_LIMIT)])[0]
    assert len(record) == RECORD_LIMIT
    assert _journal().read(record + bytes(50)) == ([bytes(BODY_LIMIT)], 0)


@pytest.mark.parametrize(
    "other", [{"generation": 4}, {"digest": b"e" * 32}, {"key": bytes(32)}], ids=["generation", "snapshot", "key"]
)
def test_record_belongs_to_its_generation_snapshot_and_key(other: dict[str, object]) -> None:
    assert "was changed" in _tampered(_write([b"x"])[0], _journal(**other))  # type: ignore[arg-type]


def test_records_cannot_be_moved_repeated_or_left_out() -> None:
    one, two, three = _write(BODIES)
    for data in (two + one + three, one + one, one + three, two, one + two + two):
        _tampered(data + bytes(100))


def test_every_truncation_is_a_torn_tail() -> None:
    records = _write(BODIES)
    whole = b"".join(records)
    ends = [len(records[0]), len(records[0] + records[1]), len(whole)]
    for cut in range(len(whole)):
        journal = _journal()
        bodies, torn = journal.read(whole[:cut] + bytes(len(whole) + 500 - cut))
        count = sum(end <= cut for end in ends)
        assert bodies == BODIES[:count]
        assert journal.tail.end + torn == len(whole[:cut].rstrip(b"\0")) or torn == 0


def test_every_changed_byte_before_the_last_record_is_tampering() -> None:
    whole = b"".join(_write(BODIES))
    last = len(whole) - len(BODIES[-1]) - OVERHEAD
    for at in range(last):
        changed = bytearray(whole)
        changed[at] ^= 0x41
        _tampered(bytes(changed) + bytes(3000))


def test_every_changed_byte_of_the_last_record_drops_that_record_alone() -> None:
    whole = b"".join(_write(BODIES))
    last = len(whole) - len(BODIES[-1]) - OVERHEAD
    for at in range(last, len(whole)):
        changed = bytearray(whole)
        changed[at] ^= 0x41
        journal = _journal()
        bodies, torn = journal.read(bytes(changed) + bytes(10_000))
        assert bodies == BODIES[:-1]
        assert last + torn == len(bytes(changed).rstrip(b"\0"))


def test_wiped_record_before_others_is_tampering() -> None:
    one, two, three = _write(BODIES)
    assert "records follow" in _tampered(bytes(len(one)) + two + three + bytes(9000))
    assert "records follow" in _tampered(one + bytes(len(two)) + three)
    assert "records follow" in _tampered(one + b"\xff" * len(two) + three)


def test_record_pushed_back_is_tampering() -> None:
    one, two, _ = _write(BODIES)
    assert "records follow" in _tampered(one + b"\0" + two + bytes(5000))


def test_right_crc_with_a_wrong_tag_is_tampering_even_at_the_end() -> None:
    record = bytearray(_write([b"x" * 40])[0][:-4])
    record[-1] ^= 1
    assert "was changed" in _tampered(bytes(record) + crc32(record).to_bytes(4, "big") + bytes(100))


def test_right_crc_with_a_wrong_number_is_tampering() -> None:
    record = bytearray(_write([b"x" * 40])[0][:-4])
    record[11] = 9
    assert "another record" in _tampered(bytes(record) + crc32(record).to_bytes(4, "big"))


def test_old_record_behind_the_end_is_no_evidence() -> None:
    one, two, _ = _write(BODIES)
    journal = _journal()
    assert journal.read(one + two + b"\xff" + one + bytes(6000)) == (BODIES[:2], 1 + len(one))


@given(st.binary(max_size=200))
def test_garbage_is_a_torn_tail_or_tampering(data: bytes) -> None:
    one = _write(BODIES[:1])[0]
    journal = _journal()
    bodies, torn = journal.read(one + data)
    assert bodies == BODIES[:1]
    assert torn == len(data.rstrip(b"\0"))


@given(st.lists(st.binary(max_size=300), max_size=8), st.integers(0, 8))
def test_any_bodies_come_back_however_they_are_read(bodies: list[bytes], split: int) -> None:
    records = _write(bodies)
    journal = _journal()
    first, _ = journal.read(b"".join(records[:split]))
    rest, torn = journal.read(b"".join(records[split:]) + bytes(7))
    assert first + rest == bodies
    assert torn == 0
