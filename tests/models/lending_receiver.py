# SPDX-License-Identifier: Apache-2.0
"""What a receiver does: ask, take a grant or refuse it, use, give back.

Every rule yields the possible next states, each with a line that says what happened. A step is one durable commit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

from lending_state import (
    ABSENT,
    CLOSED,
    DECLINED,
    GRANT,
    OPEN,
    RECALL,
    REFUSED,
    RETURNED,
    Part,
    Request,
    Scenario,
    State,
    is_open,
    may_run,
    minus,
    outstanding,
    plus,
    total,
)

Step: TypeAlias = tuple[str, State]


def put(items: tuple[Any, ...], index: int, item: object) -> tuple[Any, ...]:
    """Replace one item."""
    return (*items[:index], item, *items[index + 1 :])


def asks(scenario: Scenario, state: State) -> Iterator[Step]:
    """A request is written down, or given up."""
    for index, (owner, count) in enumerate(scenario.requests):
        request = state.requests[index]
        if request.status == ABSENT:
            opened = put(state.requests, index, Request(OPEN, count))
            yield f"{owner} writes down its request {index}, for {count} grants", state._replace(requests=opened)
        elif request.status == OPEN and request.left and scenario.cancels:
            closed = put(state.requests, index, Request(CLOSED, 0))
            yield f"{owner} cancels its request {index}", state._replace(requests=closed)


def takes(scenario: Scenario, state: State) -> Iterator[Step]:
    """A grant arrives."""
    for message in state.net:
        if message[0] == GRANT:
            yield from _arrives(scenario, state, message)


def _arrives(scenario: Scenario, state: State, message: tuple[Any, ...]) -> Iterator[Step]:
    _, slot, seq, amount, end = message
    index = scenario.part_of(slot)
    part, who = state.parts[index], scenario.slots[slot].receiver
    if not _known(scenario, state, slot):
        yield from _first(scenario, state, message)
        return
    grown = seq > part.seq
    if part.status == OPEN and grown:
        available = amount if "an extension restores the amounts" in scenario.broken else part.available
        longer = part._replace(available=available, end=end, seq=seq)
        yield f"{who} imports extension {seq} of grant {slot}: until {end}", _with_part(state, index, longer)
    if part.status == CLOSED and grown and "an extension reopens a closed part" in scenario.broken:
        again = part._replace(status=OPEN, available=amount, end=end, seq=seq)
        yield f"{who} imports extension {seq} of grant {slot} and reopens its part", _with_part(state, index, again)


def _known(scenario: Scenario, state: State, slot: int) -> bool:
    mine = scenario.slots[slot]
    if "no nonce of the receiver" in scenario.broken:
        return state.parts[scenario.part_of(slot)].status == OPEN
    return any(
        state.parts[scenario.part_of(index)].status != ABSENT
        for index, other in enumerate(scenario.slots)
        if other.xid == mine.xid and other.receiver == mine.receiver
    )


def _first(scenario: Scenario, state: State, message: tuple[Any, ...]) -> Iterator[Step]:
    _, slot, seq, amount, end = message
    index, terms = scenario.part_of(slot), scenario.slots[slot]
    who, request = terms.receiver, state.requests[terms.request]
    asked = request.status == OPEN and request.left > 0
    if asked or "no nonce of the receiver" in scenario.broken:
        left = put(state.requests, terms.request, request._replace(left=max(request.left - 1, 0)))
        part = Part(OPEN, amount, scenario.zero(), end, seq, scenario.zero())
        yield f"{who} imports grant {slot}: {amount}", _with_part(state._replace(requests=left), index, part)
    if asked and not scenario.cancels:
        return
    if "a refusal is forgotten" in scenario.broken:
        yield f"{who} refuses grant {slot} and forgets it", state._replace(net=state.net | {(DECLINED, terms.xid)})
    else:
        refused = state.parts[index]._replace(status=REFUSED)
        yield f"{who} refuses grant {slot}", _with_part(state, index, refused)


def uses(scenario: Scenario, state: State) -> Iterator[Step]:
    """A unit is used up."""
    for index, part in enumerate(state.parts):
        who = scenario.owner(index)
        if part.status != OPEN or who not in scenario.consumers or not may_run(scenario, state.now, part.end):
            continue
        for counter, kind in enumerate(scenario.counters):
            if kind == "units" and part.available[counter]:
                one = unit(scenario, counter)
                after = part._replace(available=minus(part.available, one), used=plus(part.used, one))
                reads = min(state.now, part.end - scenario.receiver_tolerance - 1)
                label = f"{who}, whose clock reads {reads}, uses a unit of part {index}"
                yield label, _with_part(state._replace(consumed=plus(state.consumed, one)), index, after)


def returns(scenario: Scenario, state: State) -> Iterator[Step]:
    """A part goes back, in part or for good; for good only when nothing of it is with others."""
    for slot, terms in enumerate(scenario.slots):
        index = scenario.part_of(slot)
        part, who = state.parts[index], terms.receiver
        if part.status != OPEN or (scenario.recalls and (RECALL, slot) not in state.net):
            continue
        out = [book for book, child in zip(state.books, scenario.slots, strict=True) if child.parent == index]
        out = [book for book in out if is_open(book)]
        if not out:
            yield f"{who} closes part {index}", _with_part(state, index, returned(part, part.available, CLOSED))
        elif "what is lent on is given back" in scenario.broken:
            lent = total(part.available, [outstanding(book) for book in out])
            after = returned(part, part.available, CLOSED)._replace(returned=plus(part.returned, lent))
            yield f"{who} closes part {index} with what it lent on", _with_part(state, index, after)
        elif any(part.available):
            after = returned(part, part.available, OPEN)
            yield f"{who} gives back what is left of part {index}", _with_part(state, index, after)
        if scenario.partial:
            yield from _returns_one(scenario, state, index)
        if "a return is emitted before its commit" in scenario.broken:
            receipt = (RETURNED, terms.xid, plus(part.returned, part.available), part.used, True)
            yield f"{who} emits the receipt for part {index}, crashes", state._replace(net=state.net | {receipt})


def _returns_one(scenario: Scenario, state: State, index: int) -> Iterator[Step]:
    part = state.parts[index]
    for counter in range(len(scenario.counters)):
        if part.available[counter]:
            after = returned(part, unit(scenario, counter), OPEN)
            yield f"{scenario.owner(index)} gives back one of part {index}", _with_part(state, index, after)


def returned(part: Part, amount: tuple[int, ...], status: int) -> Part:
    """The part after an amount of it was given back."""
    less, more = minus(part.available, amount), plus(part.returned, amount)
    return part._replace(status=status, available=less, returned=more)


def unit(scenario: Scenario, counter: int) -> tuple[int, ...]:
    """One of one counter."""
    return put(scenario.zero(), counter, 1)


def _with_part(state: State, index: int, part: Part) -> State:
    return state._replace(parts=put(state.parts, index, part))
