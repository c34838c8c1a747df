# SPDX-License-Identifier: Apache-2.0
"""Metering by a `TPM_NT_PIN_PASS` index, as the vendor writes it: why no ratchet of `TPM2_PolicyNV` makes it safe.

An index P holds ``count || limit``; each use of the metering key authorizes P once, which raises its count. The vendor
signs writes to P; an attacker with the owner's authorization replays any of them at any time, defines and undefines P,
and increments the ratchet C, which never goes back. What is easily overlooked: **a policy session is a promise kept**.
`TPM2_PolicyNV` compares at once, not when the session is used; a session that was satisfied while C had one value can
be used long after. ``kept`` is how many such sessions the attacker may hold (a chip has 64); 0 is the world in which a
check and its use are one instant, where the ratchet looks safe.

A session's own nonce is the one thing nobody can keep or repeat (`once`): a write that is signed over it happens once.
But a reset of the chip ends all sessions, so that such a first write must arrive before the machine restarts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

ANY = (0, 99)


class Write(NamedTuple):
    """A write the vendor signed.

    ``gate`` is the range of C in which its session can be satisfied. ``onto`` says whether the Name it is bound to is
    that of a written index (None: it is not bound). Without a ``count`` only the limit is written. ``once`` binds it to
    one session. ``grants`` is what the vendor books for it, in the order of the writes.
    """

    gate: tuple[int, int]
    onto: bool | None
    count: int | None
    limit: int
    grants: int = 0
    once: bool = False


class Index(NamedTuple):
    """P, as it is defined: written or not, with its two numbers."""

    written: bool = False
    count: int = 0
    limit: int = 0


class State(NamedTuple):
    """Everything. ``kept`` has the satisfied sessions, by the write they are for, and KEY for one that paid a unit."""

    ratchet: int
    index: Index | None
    kept: tuple[int, ...]
    sent: int
    spent: frozenset[int]
    used: int
    resets: int


KEY = -1


@dataclass(frozen=True)
class PinMeter:
    """One protocol with its bounds."""

    name: str
    writes: tuple[Write, ...]
    keys: tuple[tuple[int, int], ...] = (ANY,)  # the ranges of C in which the metering key's policy can be satisfied
    kept: int = 0
    honest: bool = False  # nobody attacks, and the machine may be restarted once
    highest: int = 5

    def beginning(self) -> State:
        """The ratchet is at 0, and nothing is defined."""
        return State(0, None, (), 0, frozenset(), 0, 0)

    def granted(self, state: State) -> int:
        """What was sold so far."""
        return sum(write.grants for write in self.writes[: state.sent])

    def harm(self, state: State) -> str:
        """Nobody may use more than was sold."""
        granted = self.granted(state)
        return f"{state.used} units used of {granted}" if state.used > granted else ""

    def finished(self, state: State) -> bool:
        """All that was sold can be used."""
        index = state.index
        return index is not None and state.sent == len(self.writes) and index.limit == self.granted(state)

    def moves(self, state: State) -> Iterator[tuple[str, State]]:
        """Everything that can happen next."""
        if state.sent < len(self.writes):
            yield f"the vendor signs write {state.sent}", state._replace(sent=state.sent + 1)
        if state.index is None:
            yield "P is defined", state._replace(index=Index())
        elif not self.honest:
            yield "P is undefined", state._replace(index=None)
        if state.ratchet < self.highest and (not self.honest or (state.index and state.index.written)):
            yield f"C becomes {state.ratchet + 1}", state._replace(ratchet=state.ratchet + 1)
        if self.honest and not state.resets:
            ended = frozenset(n for n, write in enumerate(self.writes) if write.once and n < state.sent)
            lost = state.spent | ended
            yield "the machine is restarted", state._replace(kept=(), resets=1, spent=lost)
        yield from self._writes(state)
        yield from self._uses(state)

    def _writes(self, state: State) -> Iterator[tuple[str, State]]:
        for number in range(state.sent):
            write = self.writes[number]
            if _within(state.ratchet, write.gate) and number not in state.spent:
                spent = state.spent | {number} if write.once else state.spent
                ready = state._replace(spent=spent)
                if len(state.kept) < self.kept:
                    kept = tuple(sorted((*state.kept, number)))
                    yield f"a session for write {number} is satisfied and kept", ready._replace(kept=kept)
                if (index := _written(state.index, write)) is not None:
                    yield f"write {number} is made", ready._replace(index=index)
            if number in state.kept and (index := _written(state.index, write)) is not None:
                yield f"write {number} is made with a kept session", _without(state, number)._replace(index=index)

    def _uses(self, state: State) -> Iterator[tuple[str, State]]:
        index = state.index
        if index and index.written and index.count < index.limit and any(_within(state.ratchet, k) for k in self.keys):
            paid = state._replace(index=index._replace(count=index.count + 1))
            yield "a unit is used", paid._replace(used=state.used + 1)
            if len(state.kept) < self.kept:
                yield "a unit is paid, its session kept", paid._replace(kept=tuple(sorted((*state.kept, KEY))))
        if KEY in state.kept:
            yield "a unit is used with a kept session", _without(state, KEY)._replace(used=state.used + 1)


def _within(value: int, gate: tuple[int, int]) -> bool:
    return gate[0] <= value <= gate[1]


def _without(state: State, number: int) -> State:
    kept = list(state.kept)
    kept.remove(number)
    return state._replace(kept=tuple(kept))


def _written(index: Index | None, write: Write) -> Index | None:
    """What a write makes of the index; None if the chip refuses it."""
    if index is None or (write.onto is not None and write.onto != index.written):
        return None
    if write.count is None and not index.written:
        return Index(True, 0, write.limit)
    return Index(True, index.count if write.count is None else write.count, write.limit)


def pin_meters() -> dict[str, PinMeter]:
    """The protocols; `SOUND` names those that hold."""
    first = Write((0, 0), False, 0, 0)
    refills = (Write((1, 99), True, None, 1, 1), Write((1, 99), True, None, 2, 1))
    exact = (first, *(write._replace(gate=(1, 1)) for write in refills))
    bound = (Write(ANY, False, 0, 0, once=True), *(write._replace(gate=ANY) for write in refills))
    period = tuple(Write((n, n), None, 0, 1, 1) for n in range(2))
    spaced = tuple(Write((2 * n, 2 * n), None, 0, 1, 1) for n in range(2))
    made = (
        PinMeter("a ratchet that steps once for each refill", period, keys=((1, 1), (2, 2))),
        PinMeter("a ratchet of writing and using by turns", spaced, keys=((1, 1), (3, 3))),
        PinMeter("... with sessions that are kept", spaced, keys=((1, 1), (3, 3)), kept=1),
        PinMeter("a first write, then limits, between them a ratchet", exact),
        PinMeter("... with the ratchet anywhere above", (first, *refills)),
        PinMeter("... with sessions that are kept, and the exact ratchet", exact, kept=1),
        PinMeter("... with sessions that are kept, and the ratchet anywhere above", (first, *refills), kept=1),
        PinMeter("a first write without a ratchet", (first._replace(gate=ANY), *refills)),
        PinMeter("limits not bound to a written index", (first, *(w._replace(onto=None) for w in refills))),
        PinMeter("whole writes in one window", (first, *(w._replace(count=0) for w in refills))),
        PinMeter("a first write bound to a session, then limits", bound, kept=3),
        PinMeter("... with the first write signed for two sessions", (bound[0], *bound), kept=1),
    )
    return {machine.name: machine for machine in made}


SOUND = {
    "a ratchet of writing and using by turns",  # only while no session is kept
    "a first write, then limits, between them a ratchet",  # only while no session is kept
    "... with the ratchet anywhere above",  # only while no session is kept
    "a first write bound to a session, then limits",
}
