# SPDX-License-Identifier: Apache-2.0
"""Every reachable state of a small machine, breadth first, so that a counter-example is as short as can be."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

S = TypeVar("S", bound=Hashable)
LIMIT = 3_000_000


class Machine(Protocol[S]):
    """What is searched: a beginning, what can happen next, what must hold, and what must stay reachable."""

    name: str

    def beginning(self) -> S:
        """The state in which nothing happened yet."""

    def moves(self, state: S) -> Iterator[tuple[str, S]]:
        """Everything that can happen next, each with a line that says what."""

    def harm(self, state: S) -> str:
        """Say what nobody may ever see; empty while all is well."""


@dataclass(frozen=True)
class Result:
    """What a search found.

    Attributes:
        states: how many there are; at the end of a counter-example, how many were met.
        steps: from a state to a next one.
        verdict: empty if nothing is wrong in any state, else what is wrong in the last state of ``trace``.
        trace: the shortest way there.
        happened: what the steps said.
    """

    states: int
    steps: int
    verdict: str
    trace: tuple[str, ...] = ()
    happened: frozenset[str] = frozenset()


def search(machine: Machine[S], goal: Callable[[S], bool] | None = None) -> Result:
    """Visit every state of a machine.

    Args:
        machine: the machine.
        goal: where given, a state from which no state with this goal can be reached is wrong too.

    Returns:
        What was found.

    Raises:
        RuntimeError: there are more states than `LIMIT`, so that a mistake does not eat the computer.
    """
    states = [machine.beginning()]
    index = {states[0]: 0}
    came_from: list[tuple[int, str]] = [(0, "")]
    before: list[list[int]] = [[]]
    steps, happened = 0, set[str]()
    for number, state in enumerate(states):  # grows while it is walked
        if verdict := machine.harm(state):
            return Result(len(states), steps, verdict, _trace(came_from, number))
        for label, after in machine.moves(state):
            steps += 1
            happened.add(label)
            place = index.setdefault(after, len(states))
            if place == len(states):
                states.append(after)
                came_from.append((number, label))
                before.append([])
            before[place].append(number)
        if len(states) > LIMIT:
            raise RuntimeError(f"{machine.name}: more than {LIMIT} states")
    stuck = _stuck([n for n, state in enumerate(states) if goal(state)], before) if goal else -1
    if stuck >= 0:
        return Result(len(states), steps, "stuck: it can never be finished", _trace(came_from, stuck))
    return Result(len(states), steps, "", happened=frozenset(happened))


def _stuck(goals: Iterable[int], before: list[list[int]]) -> int:
    """Walk backwards from the goals; the first state not reached, or -1."""
    todo = list(goals)
    reached = bytearray(len(before))
    for number in todo:
        reached[number] = 1
    while todo:
        for number in before[todo.pop()]:
            if not reached[number]:
                reached[number] = 1
                todo.append(number)
    return reached.find(0)


def _trace(came_from: list[tuple[int, str]], number: int) -> tuple[str, ...]:
    labels = []
    while number:
        number, label = came_from[number]
        labels.append(label)
    return tuple(reversed(labels))
