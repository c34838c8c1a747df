# SPDX-License-Identifier: Apache-2.0
"""Metering by an attested counter of the chip; `python tests/models/meter_model.py [WORDS]` searches all of it.

The application makes a fresh challenge for each unit and accepts it against one statement, signed by a restricted key
of the chip: *in one audit session I was given this challenge, then incremented counter C, then read C: n*, with n not
above the ceiling of the license. An attacker owns the machine: runs any command in any session at any time, keeps
sessions, redefines C (it starts above every value any counter had), keeps every license and every statement, and runs
as many copies of the application as there are challenges. Nobody may have more units accepted than the vendor sold. As
the challenge comes first, not even a chip that lets a kept session be loaded twice would help (``forks``).

`BROKEN` takes away one property at a time; each must fail. `Using` is the honest side: crashes at each command lose the
unit under way, never add one, and never stop the next. `Making` is how a meter is set up and removed: what the chip
keeps is in the container's record at every instant, so that nothing is left behind. The protocols with an index that
the vendor writes, and why none was taken: `meter_pin_model.py`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from meter_pin_model import SOUND, pin_meters
from meter_search import Result, search

# The property taken away, and the chain of commands an application then accepts.
CHAINS = {
    "": "cir",
    "the value is read before the step": "cri",
    "the challenge is not in the chain": "ir",
    "the value is not in the chain": "ci",
    "the challenge comes after the step": "icr",
}
BROKEN = (
    *list(CHAINS)[1:],
    "one command counts in two sessions",
    "a value is attested that was not read",
    "a counter begins anew when it is redefined",
    "the key outlives a clear that forgets counters",
    "a ceiling is lowered to take units back",
)


class Session(NamedTuple):
    """An audit session: the commands it attests, the challenge and the value among them."""

    chain: str = ""
    challenge: int = -1
    value: int = -1


class Count(NamedTuple):
    """Everything. ``statements`` may be shown at any time; ``read`` has values attested without their order."""

    counter: int
    sold: int
    sessions: tuple[Session, ...]
    statements: frozenset[Session]
    accepted: frozenset[int]
    taken_back: int = 0


@dataclass(frozen=True)
class Attacked:
    """The attacker's world, with its bounds: one unit is sold at first, one more later."""

    broken: str = ""
    challenges: int = 3
    sessions: int = 2
    extra: int = 1
    forks: bool = True

    @property
    def name(self) -> str:
        """What is broken."""
        return self.broken or "an attested counter"

    def beginning(self) -> Count:
        """The counter stands at 0, where it was certified to the vendor, who sold one unit."""
        return Count(0, 1, (), frozenset(), frozenset())

    def harm(self, state: Count) -> str:
        """Nobody may have more accepted than was sold and not taken back."""
        good = state.sold - state.taken_back
        return f"{len(state.accepted)} units accepted of {good}" if len(state.accepted) > good else ""

    def moves(self, state: Count) -> Iterator[tuple[str, Count]]:
        """Everything that can happen next."""
        if state.sold < 2:
            yield "one more unit is sold", state._replace(sold=2)
        if state.counter < 2 + self.extra:
            yield "C is incremented, or redefined", state._replace(counter=state.counter + 1)
        if self.broken == "a counter begins anew when it is redefined" and state.counter:
            yield "C is redefined", state._replace(counter=0)
        if self.broken == "the key outlives a clear that forgets counters" and state.counter:
            yield "the chip is cleared", state._replace(counter=0, sessions=())
        if self.broken == "a ceiling is lowered to take units back" and not state.taken_back and not state.accepted:
            yield "a license with a lower ceiling replaces it", state._replace(taken_back=1)
        if len(state.sessions) < self.sessions:
            yield "a session begins", _sessions(state, (*state.sessions, Session()))
            if self.forks:
                for session in set(state.sessions):
                    yield "a kept session is loaded again", _sessions(state, (*state.sessions, session))
        yield from self._commands(state)
        yield from self._statements(state)

    def _commands(self, state: Count) -> Iterator[tuple[str, Count]]:
        wanted = CHAINS.get(self.broken, "cir")
        for number, session in enumerate(state.sessions):
            rest = state.sessions[:number] + state.sessions[number + 1 :]
            yield "a session ends", _sessions(state, rest)
            command = wanted[len(session.chain) : len(session.chain) + 1]  # any other leads to no accepted chain
            longer = session._replace(chain=session.chain + command)
            if command == "c":
                for challenge in range(self.challenges):
                    yield "a challenge is given", _sessions(state, (*rest, longer._replace(challenge=challenge)))
            elif command == "r":
                yield "C is read", _sessions(state, (*rest, longer._replace(value=state.counter)))
                if self.broken == "a value is attested that was not read":
                    yield "C is read, it seems", _sessions(state, (*rest, longer._replace(value=0)))
            elif command == "i" and state.counter < 2 + self.extra:
                stepped = state._replace(counter=state.counter + 1)
                yield "C is incremented in a session", _sessions(stepped, (*rest, longer))
                if self.broken == "one command counts in two sessions" and rest:
                    beside = [one for one in rest if one.chain != session.chain]
                    both = [one._replace(chain=longer.chain) for one in rest if one.chain == session.chain]
                    yield "C is incremented in all sessions", _sessions(stepped, (*beside, *both, longer))

    def _statements(self, state: Count) -> Iterator[tuple[str, Count]]:
        for session in state.sessions:
            if session.chain == CHAINS.get(self.broken, "cir") and session not in state.statements:
                yield "a session is attested", state._replace(statements=state.statements | {session})
        for statement in state.statements:
            for challenge in range(self.challenges):
                bound = "c" not in statement.chain or statement.challenge == challenge
                if bound and statement.value <= state.sold and challenge not in state.accepted:
                    yield "a unit is accepted", state._replace(accepted=state.accepted | {challenge})


def _sessions(state: Count, sessions: tuple[Session, ...]) -> Count:
    return state._replace(sessions=tuple(sorted(sessions)))


class Use(NamedTuple):
    """The honest side: where it is in a unit, what it used, how often it crashed."""

    step: int
    counter: int
    used: int
    crashes: int


@dataclass(frozen=True)
class Using:
    """Units used one after another; any step may be the last before a crash."""

    ceiling: int = 6
    crashes: int = 4
    name: str = "units used, with crashes"

    def beginning(self) -> Use:
        """All is there."""
        return Use(0, 0, 0, 0)

    def harm(self, state: Use) -> str:
        """A crash costs one unit or none, and no unit comes from nowhere."""
        under_way = 1 if state.step >= 2 else 0
        lost = state.counter - state.used - under_way
        return f"{lost} units lost by {state.crashes} crashes" if not 0 <= lost <= state.crashes else ""

    def finished(self, state: Use) -> bool:
        """Every unit that was not lost was used."""
        return state.counter == self.ceiling and state.step == 0

    def moves(self, state: Use) -> Iterator[tuple[str, Use]]:
        """Challenge, increment, read and attest, accept."""
        if state.crashes < self.crashes:
            yield "crash", Use(0, state.counter, state.used, state.crashes + 1)
        if state.step == 0 and state.counter < self.ceiling:
            yield "the challenge is given", state._replace(step=1)
        elif state.step == 1:
            yield "C is incremented", state._replace(step=2, counter=state.counter + 1)
        elif state.step == 2:
            yield "C is read, the session attested", state._replace(step=3)
        elif state.step == 3:
            yield "the unit is used", state._replace(step=0, used=state.used + 1)


class Meter(NamedTuple):
    """A meter being made or removed: ``record`` is what the folder says, ``index`` what the chip has."""

    step: int
    record: str
    index: str
    crashes: int
    removing: bool = False


@dataclass(frozen=True)
class Making:
    """A meter is made and removed; after a crash the same is done again from the beginning."""

    recorded_first: bool = True
    crashes: int = 4
    name: str = "a meter made and removed, with crashes"

    def beginning(self) -> Meter:
        """There is nothing."""
        return Meter(0, "", "", 0)

    def harm(self, state: Meter) -> str:
        """What the chip keeps is in the record, so that it can be found and removed."""
        return "an index that no record knows" if state.index and not state.record else ""

    def finished(self, state: Meter) -> bool:
        """It is removed, completely."""
        return state.removing and not state.record and not state.index

    def moves(self, state: Meter) -> Iterator[tuple[str, Meter]]:
        """Each step does what is still to do, which may be nothing."""
        if state.crashes < self.crashes:
            yield "crash", state._replace(step=0, crashes=state.crashes + 1)
        if state.removing:
            if state.step == 0:
                yield "C is undefined", state._replace(step=1, index="")
            elif state.step == 1:
                yield "the record is removed", state._replace(step=2, record="")
            return
        plan = [
            ("the plan is recorded", state._replace(record=state.record or "plan")),
            ("C is defined", state._replace(index=state.index or "defined")),
            ("C is incremented", state._replace(index="counting")),
            ("the meter is recorded", state._replace(record="ready")),
        ]
        if not self.recorded_first:
            plan[0], plan[1] = plan[1], plan[0]
        if state.step < len(plan):
            label, after = plan[state.step]
            yield label, after._replace(step=state.step + 1)
        if state.record:
            yield "it shall be removed", state._replace(step=0, removing=True)


def worlds() -> dict[str, tuple[Any, bool, bool]]:
    """Every machine with whether it must hold, and whether it must always come to its end."""
    made: dict[str, tuple[Any, bool, bool]] = {"an attested counter": (Attacked(), True, False)}
    made["... of a chip that loads no session twice"] = (Attacked(forks=False), True, False)
    made |= {name: (Attacked(name), False, False) for name in BROKEN}
    made["units used, with crashes"] = (Using(), True, True)
    made["a meter made and removed, with crashes"] = (Making(), True, True)
    made["an index defined before it is recorded"] = (Making(recorded_first=False), False, False)
    return made | {f"PIN: {name}": (machine, name in SOUND, False) for name, machine in pin_meters().items()}


def run(name: str) -> Result:
    """Search one world."""
    machine, _, ends = worlds()[name]
    return search(machine, machine.finished if ends else None)


def main(words: list[str]) -> int:
    """Search the worlds whose names have one of the words; 0 if each ends as it must."""
    wrong = 0
    for name, (_, holds, _) in worlds().items():
        if words and not any(word in name for word in words):
            continue
        start = time.perf_counter()
        result = run(name)
        wrong += holds != (not result.verdict)
        spent = time.perf_counter() - start
        print(f"{name:76s} {result.states:9,d} states {spent:5.1f} s   {result.verdict or 'holds'}", flush=True)
        for line in result.trace:
            print(f"        {line}", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
