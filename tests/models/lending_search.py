# SPDX-License-Identifier: Apache-2.0
"""Every reachable state of a scenario, breadth first, so that a counter-example is as short as can be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import lending_giver as giver
import lending_receiver as receiver
from lending_checks import harm, imbalance, settled
from lending_receiver import Step, put
from lending_state import (
    ABSENT,
    ACCEPTED,
    CLOSED,
    DECLINED,
    GRANT,
    REFUSED,
    REQUEST,
    RETURNED,
    Message,
    Scenario,
    State,
    beginning,
)

NAMES = ("request", "grant", "acceptance", "refusal", "return receipt", "recall")
DIGITS = str.maketrans("", "", "0123456789")
RULES = (
    receiver.asks,
    receiver.takes,
    receiver.uses,
    receiver.returns,
    giver.grants,
    giver.extends,
    giver.recalls,
    giver.hears,
    giver.ends,
)


@dataclass(frozen=True)
class Result:
    """What a search found.

    Attributes:
        states: how many there are; at the end of a counter-example, how many were met.
        steps: from a state to a next one.
        verdict: empty if all holds in every state, else what is wrong in the last state of ``trace``.
        trace: the shortest way there.
        stuck: states from which the books can never be settled again.
        situations: states that differ in more than in what was emitted.
        happened: what the steps said, without numbers.
    """

    states: int
    steps: int
    verdict: str
    trace: tuple[str, ...] = ()
    stuck: int = 0
    situations: int = 0
    happened: frozenset[str] = frozenset()


def search(scenario: Scenario, limit: int = 5_000_000) -> Result:
    """Visit every state.

    Args:
        scenario: the world; if a rule of it is broken or a container restored, only ``harm`` is looked for.
        limit: of states, so that a mistake in a scenario does not eat the machine.

    Returns:
        What was found; the search of a good scenario also asks whether the books can be settled from every state.

    Raises:
        RuntimeError: there are more states than the limit.
    """
    exact = not scenario.broken and not scenario.restored
    states = [beginning(scenario)]
    index = {states[0]: 0}
    came_from: list[tuple[int, str]] = [(0, "")]
    before: list[list[int]] = [[]]
    steps, labels = 0, set[str]()
    for number, state in enumerate(states):  # grows while it is walked
        verdict = harm(scenario, state) or (exact and imbalance(scenario, state)) or ""
        if verdict:
            return Result(len(states), steps, verdict, _trace(came_from, number))
        for label, after in moves(scenario, state):
            steps += 1
            labels.add(label)
            place = index.setdefault(after, len(states))
            if place == len(states):
                states.append(after)
                came_from.append((number, label))
                before.append([])
            before[place].append(number)
        if len(states) > limit:
            raise RuntimeError(f"{scenario.name}: more than {limit} states")
    happened = frozenset(label.translate(DIGITS) for label in labels)
    situations = len({state._replace(net=frozenset()) for state in states})
    stuck = _stuck(scenario, states, before)
    if not stuck:
        return Result(len(states), steps, "", situations=situations, happened=happened)
    trace = _trace(came_from, stuck[0])
    return Result(len(states), steps, "stuck: it can never be settled", trace, len(stuck), situations, happened)


def _stuck(scenario: Scenario, states: list[State], before: list[list[int]]) -> list[int]:
    """Walk backwards from the settled states: what is not reached is stuck."""
    todo = [number for number, state in enumerate(states) if settled(scenario, state)]
    reached = bytearray(len(states))
    for number in todo:
        reached[number] = 1
    while todo:
        for number in before[todo.pop()]:
            if not reached[number]:
                reached[number] = 1
                todo.append(number)
    return [number for number, seen in enumerate(reached) if not seen]


def moves(scenario: Scenario, state: State) -> Iterator[Step]:
    """Everything that can happen next."""
    for rule in RULES:
        for label, after in rule(scenario, state):
            yield label, _emitted(scenario, after) if scenario.eager else after
    if state.now < scenario.horizon:
        yield f"time passes: {state.now + 1}", state._replace(now=state.now + 1)
    if not scenario.eager:
        for message in messages(scenario, state):
            if message not in state.net:
                yield f"emitted: {NAMES[message[0]]} {message[1:]}", state._replace(net=state.net | {message})
    if scenario.restored:
        yield from _copies(scenario, state)


def messages(scenario: Scenario, state: State) -> Iterator[tuple[int, *tuple[object, ...]]]:
    """What follows from what is durable, and so can be emitted again at any time, after a crash too."""
    for number, request in enumerate(state.requests):
        if request.status != ABSENT:
            yield REQUEST, number
    for slot, book in enumerate(state.books):
        if book.status != ABSENT:
            yield GRANT, slot, book.seq, book.amount, book.end
        part, xid = state.parts[scenario.part_of(slot)], scenario.slots[slot].xid
        if part.status == REFUSED:
            if "nothing is said about a refusal" not in scenario.broken:
                yield DECLINED, xid
        elif part.status != ABSENT:
            yield ACCEPTED, xid
            if part.status == CLOSED or any(part.returned):
                yield RETURNED, xid, part.returned, part.used, part.status == CLOSED


def _emitted(scenario: Scenario, state: State) -> State:
    fresh: list[Message] = [message for message in messages(scenario, state) if message not in state.net]
    return state._replace(net=state.net.union(fresh)) if fresh else state


def _copies(scenario: Scenario, state: State) -> Iterator[Step]:
    """An old copy of a container is made once, and put back any number of times."""
    who = scenario.restored
    requests = [number for number, (owner, _) in enumerate(scenario.requests) if owner == who]
    books = [number for number, slot in enumerate(scenario.slots) if slot.giver == who]
    parts = [number for number in range(len(state.parts)) if scenario.owner(number) == who]
    now = (_pick(state.requests, requests), _pick(state.books, books), _pick(state.parts, parts))
    if not state.saved:
        yield f"{who}'s files are copied", state._replace(saved=now)
    elif state.saved != now:
        old: Any = state.saved
        yield (
            f"{who}'s old files are put back",
            state._replace(
                requests=_mix(state.requests, requests, old[0]),
                books=_mix(state.books, books, old[1]),
                parts=_mix(state.parts, parts, old[2]),
            ),
        )


def _pick(items: tuple[Any, ...], numbers: list[int]) -> tuple[Any, ...]:
    return tuple(items[number] for number in numbers)


def _mix(items: tuple[Any, ...], numbers: list[int], old: tuple[Any, ...]) -> tuple[Any, ...]:
    for number, item in zip(numbers, old, strict=True):
        items = put(items, number, item)
    return items


def _trace(came_from: list[tuple[int, str]], number: int) -> tuple[str, ...]:
    """The steps that led to a state."""
    lines = []
    while number:
        number, label = came_from[number]
        lines.append(label)
    return tuple(reversed(lines))
