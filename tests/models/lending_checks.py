# SPDX-License-Identifier: Apache-2.0
"""What must hold in every state, and when the books are settled.

``harm`` is what nobody may ever see: a unit or seat that works at two places at one real instant, a use that is booked
twice, a grant both accepted and declined. ``imbalance`` is the exact account: what is usable, on its way and used is
what was issued, no more and no less.
"""

from __future__ import annotations

from lending_state import (
    ABSENT,
    ACCEPTED,
    CLOSED,
    DECLINED,
    HELD,
    OPEN,
    REFUSED,
    Scenario,
    State,
    Vector,
    fits,
    is_open,
    may_run,
    minus,
    outstanding,
    plus,
    total,
)


def harm(scenario: Scenario, state: State) -> str:
    """Say what went wrong; empty while all is well."""
    issued = scenario.issued()
    for counter, kind in enumerate(scenario.counters):
        held = [
            (scenario.owner(index), part.available[counter])
            for index, part in enumerate(state.parts)
            if part.status == OPEN and (kind == "units" or may_run(scenario, state.now, part.end))
        ]
        if sum(amount for _, amount in held) + state.consumed[counter] > issued[counter]:
            places = " + ".join(f"{who} can use {amount}" for who, amount in held if amount)
            return f"doubled: {places} + {state.consumed[counter]} used, of {issued[counter]} {kind}"
    told = total(scenario.zero(), [part.used for part in state.parts[: len(scenario.roots)]])
    if not fits(told, state.consumed):
        return f"counted twice: the books say {told} were used, {state.consumed} were"
    for slot in scenario.slots:
        if (ACCEPTED, slot.xid) in state.net and (DECLINED, slot.xid) in state.net:
            return f"both an acceptance and a refusal exist of grant {slot.xid}"
    return ""


def imbalance(scenario: Scenario, state: State) -> str:
    """Say what does not add up; empty while the account is exact."""
    everything = [part.available for part in state.parts] + [outstanding(book) for book in state.books]
    if any(amount < 0 for vector in everything for amount in vector):
        return "below zero"
    found = state.consumed
    for index, part in enumerate(state.parts):
        found = plus(found, _where_it_counts(scenario, state, index, part.available))
    for slot in range(len(scenario.slots)):
        on_its_way = _where_it_counts(scenario, state, scenario.part_of(slot), _in_transit(scenario, state, slot))
        found = plus(found, on_its_way)
    if found != scenario.issued():
        return f"usable, in transit and used are {found}, issued were {scenario.issued()}"
    if all(book.status in {ABSENT, CLOSED} for book in state.books):
        roots = state.parts[: len(scenario.roots)]
        told = total(scenario.zero(), [part.used for part in roots])
        if told != state.consumed:
            return f"all is closed, and the books say {told} were used, {state.consumed} were"
    return ""


def settled(scenario: Scenario, state: State) -> bool:
    """Whether nothing is under way: every loan is closed, every transfer closed or arrived."""
    for slot, (book, terms) in enumerate(zip(state.books, scenario.slots, strict=True)):
        arrived = state.parts[scenario.part_of(slot)].status in {OPEN, CLOSED}
        if is_open(book) and not (book.status == HELD and not terms.ends and arrived):
            return False
    return True


def _in_transit(scenario: Scenario, state: State, slot: int) -> Vector:
    """What left the giver and did not arrive, or left the receiver and was not booked."""
    book, part = state.books[slot], state.parts[scenario.part_of(slot)]
    if part.status in {ABSENT, REFUSED}:
        return outstanding(book)
    return minus(part.returned, book.back)


def _where_it_counts(scenario: Scenario, state: State, index: int, amount: Vector) -> Vector:
    """The amount, without seats of a loan that its giver ended, or of one taken from such a loan."""
    while index >= len(scenario.roots):
        slot = index - len(scenario.roots)
        if state.books[slot].ended:
            return tuple(0 if kind == "seats" else count for kind, count in zip(scenario.counters, amount, strict=True))
        index = scenario.slots[slot].parent
    return amount
