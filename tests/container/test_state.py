# SPDX-License-Identifier: Apache-2.0
"""`State` and commands: encoded and back, nothing lost; what newer versions wrote is refused by name."""

from __future__ import annotations

import string
from typing import Any

import pytest
from books import Books
from hypothesis import given
from hypothesis import strategies as st

from tallystick.clock import ClockMemory, Reading
from tallystick.codec import cbor
from tallystick.container import commands as c
from tallystick.container.exchanges import Arrival, Given
from tallystick.container.state import Counter, Event, Holding, Pending, State, Tombstone, VendorBook
from tallystick.errors import FormatError, TallystickError
from tallystick.license.grant_policy import GrantPolicy

ids = st.binary(min_size=16, max_size=16)
thumbprints = st.binary(min_size=32, max_size=32)
names = st.text(string.ascii_letters + string.digits + "._+-", min_size=1, max_size=64)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
octets = st.binary(max_size=60)
times = st.integers(0, 1 << 40)
units = st.integers(0, (1 << 53) - 1)
counters = st.just("") | names | st.just("*seats")


def maps(keys: st.SearchStrategy[Any], values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[Any, Any]]:
    return st.dictionaries(keys, values, max_size=3)


def keyed(strategy: st.SearchStrategy[Any], key: str) -> st.SearchStrategy[dict[Any, Any]]:
    """Records by their own key, as a state holds them."""
    return st.lists(strategy, max_size=3).map(lambda items: {getattr(item, key): item for item in items})


holdings = st.builds(
    Holding, ids, names, names, units, octets, times, times,
    maps(counters, st.builds(Counter, units, units, units, units, units)), maps(counters, times),
    maps(ids, st.tuples(counters, units)),
)  # fmt: skip
booked = maps(counters, units)
given_ = st.builds(
    Given, ids, ids, ids, octets, times, booked, st.none() | st.lists(names, max_size=2).map(tuple), st.none() | times,
    st.integers(0, 2), texts, units, octets, booked, booked, times,
)  # fmt: skip
arrivals = st.builds(
    Arrival, ids, ids, names, names, ids, thumbprints, times, booked, st.none() | times, st.integers(0, 2),
    st.booleans(), octets, booked, booked,
)  # fmt: skip
policies = st.builds(
    GrantPolicy, st.integers(0, 31), st.none() | times, st.integers(0, 15), st.integers(0, 3), units,
    st.none() | units, st.lists(thumbprints, max_size=2).map(tuple),
)  # fmt: skip
states = st.builds(
    State, thumbprints, times, units,
    st.builds(ClockMemory, times, times, times, texts, times, times, texts),
    keyed(st.builds(VendorBook, names, octets, octets, units, octets, times), "name"),
    keyed(holdings, "license_id"),
    keyed(st.builds(Tombstone, ids, names, names, times, octets), "license_id"),
    keyed(st.builds(Pending, ids, names, names, st.integers(1, 3), times, octets, st.integers(0, 3), octets, texts,
                    units, units), "request_id"),
    maps(ids, octets),
    maps(octets, st.tuples(octets, units)), maps(names, texts),
    st.lists(st.builds(Event, times, texts, octets, texts), max_size=3).map(tuple),
    keyed(given_, "xid"), keyed(arrivals, "xid"), maps(texts, policies), maps(ids, times), maps(octets, octets),
    maps(names, st.lists(st.binary(min_size=8, max_size=8), min_size=1, max_size=16).map(tuple)),
)  # fmt: skip

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "vendor": names, "root": octets, "request_id": ids, "product": names, "action": st.integers(1, 3),
    "message": octets,
    "about": ids, "license_id": ids, "feature": counters, "units": units, "idempotency_key": octets,
    "reservation_id": ids, "rest": units, "name": names, "value": texts, "kind": texts, "text": texts, "xid": ids,
    "count": units, "request": octets, "part": octets, "amounts": booked, "level": st.integers(0, 3),
    "features": st.none() | st.lists(names, max_size=2), "ends": st.none() | times, "recall": octets, "key": texts,
    "policy": st.dictionaries(st.integers(1, 7), units, max_size=3), "used": units, "proof": octets,
    "secret": octets, "message_id": st.just(b"") | ids,
}  # fmt: skip
commands = st.one_of(*[st.builds(cls, **{field: VALUES[field] for field in cls.fields}) for cls in c.CODES.values()])
readings = st.builds(Reading, st.integers(-(1 << 40), 1 << 40), units, texts)


@given(states)
def test_a_state_is_what_it_encodes(state: State) -> None:
    again = State.from_bytes(state.to_bytes())
    assert again == state
    assert again.to_bytes() == state.to_bytes()
    assert [*again.holdings] == [*state.holdings]
    assert [*again.pending] == [*state.pending]


@given(readings, st.lists(commands, max_size=5))
def test_a_transaction_is_what_it_encodes(reading: Reading, asked: list[c.Command]) -> None:
    body = c.encode(reading, tuple(asked))
    assert c.decode(body) == (reading, tuple(asked))
    assert c.encode(*c.decode(body)) == body


def test_the_order_of_a_state_survives() -> None:
    """Oldest first is how lists are bounded; a map that came back sorted would forget the wrong entries."""
    receipts = {bytes([255 - number]) * 16: b"" for number in range(5)}
    retries = {bytes([255 - number]): (b"", 0) for number in range(5)}
    variables = {name: name for name in ("z", "a", "m")}
    state = State(bytes(32), 0, receipts=receipts, retries=retries, variables=variables)
    again = State.from_bytes(state.to_bytes())
    assert [*again.receipts] == [*receipts]
    assert [*again.retries] == [*retries]


def test_what_a_newer_version_wrote_is_refused_by_name() -> None:
    rows = cbor.decode(State(bytes(32), 0).to_bytes())
    with pytest.raises(TallystickError) as caught:
        State.from_bytes(cbor.encode([2, *rows[1:]]))
    assert caught.value.code == "unsupported_version"
    with pytest.raises(TallystickError) as caught:
        c.decode(cbor.encode([[0, 0, ""], [max(c.CODES) + 1, b"x"]]))
    assert caught.value.code == "unsupported_version"


def test_a_state_from_before_it_had_its_last_rows_opens() -> None:
    full = State(bytes(32), 0, proofs={b"k": b"p"}, written={"acme": (b"12345678",)})
    rows = cbor.decode(full.to_bytes())
    assert len(rows) == 19
    assert State.from_bytes(cbor.encode(rows[:18])) == full.replace(written={})
    assert State.from_bytes(cbor.encode(rows[:17])) == full.replace(written={}, proofs={})
    assert State.from_bytes(full.replace(proofs={}).to_bytes()) == full.replace(proofs={})


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows[:5],
        lambda rows: [*rows[:4], [1, 2, 3, 4, 5, 6, 7, 8], *rows[5:]],
        lambda rows: [*rows[:5], [[]], *rows[6:]],
        lambda rows: [*rows[:10], [[b"k"]], *rows[11:]],
        lambda rows: [*rows[:12], 7],
        lambda rows: rows[:15],
        lambda rows: [*rows[:13], [[b"x"]], *rows[14:]],
        lambda rows: [*rows[:14], [[b"x"]], *rows[15:]],
        lambda rows: [*rows[:15], {"lend": {1: 99}}],
        lambda rows: [*rows[:17], {}, [b"12345678"]],
        lambda rows: [*rows[:17], {}, {"acme": 8}],
        lambda rows: {},
        lambda rows: 1,
    ],
)
def test_a_defect_of_the_writer_is_malformed(change: Any) -> None:
    rows = cbor.decode(State(bytes(32), 0).to_bytes())
    with pytest.raises(FormatError):
        State.from_bytes(cbor.encode(change(rows)))


@pytest.mark.parametrize(
    "value", [[], [7], [[0]], [[0, 0, "", 1]], [[0, 0, ""], [1]], [[0, 0, ""], [12, 1]], [[0, 0, ""], 5], 1]
)
def test_a_transaction_that_is_none_is_malformed(value: Any) -> None:
    with pytest.raises(FormatError):
        c.decode(cbor.encode(value))


def test_a_counter_adds_up() -> None:
    assert Counter(1, 2, 4, 8, 16).gone == 31


def test_usage_is_shared_while_nothing_was_used() -> None:
    books = Books()
    license_ = books.hold(units=5)
    assert books.holding(license_).usage().used == {}
    books.do(c.Consume(license_.license_id, "", 2))
    assert books.holding(license_).usage().used == {"": 2}
    held = State.from_bytes(books.state.to_bytes()).holdings[license_.license_id]
    assert held == books.holding(license_)
