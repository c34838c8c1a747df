# SPDX-License-Identifier: Apache-2.0
"""The world of a container whose state is in files and whose position is in a TPM's non-volatile memory.

There are a counter that only grows, a chain that can only be extended, two places for snapshots on a disk, and programs
that open the container and commit transactions. Between any two steps every program may be killed; a snapshot that is
being replaced is gone until it is written. Attackers rearrange the disk out of everything ever written, at any time,
and may have more powers (`Attacker`).

Two things must hold. A program that accepts a snapshot finds every transaction in it whose effect was let out
(otherwise: ``ROLLBACK``). And kills alone never leave a container that does not open (otherwise: ``BRICK``).

The protocols are in `nv_file_model.py` (a counter alone) and `nv_chain_model.py` (counter and chain).
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Flag, auto
from typing import NamedTuple

BRICK, ROLLBACK = "BRICK", "ROLLBACK"


class Attacker(Flag):
    """What somebody may do besides running the program."""

    NOBODY = 0
    EDITS = auto()
    """Puts any snapshot ever written into any place, or removes it."""
    COUNTS = auto()
    """Increments the counter."""
    EXTENDS = auto()
    """Extends the chain by garbage."""
    REDEFINES = auto()
    """Makes the chain anew and plays any earlier beginning of it into it."""


class Snapshot(NamedTuple):
    """What a slot holds.

    Attributes:
        counter: the counter's value it belongs to.
        done: the transactions it contains.
        follows: the chain before it; 0 in protocols without one.
    """

    counter: int
    done: tuple[int, ...]
    follows: int = 0


class Program(NamedTuple):
    """Where a running program stands.

    Attributes:
        at: the step it takes next.
        snapshot: what it works with.
        slot: where that is, or goes.
        counter: what it last believed the counter to be.
        releases: an effect waits for this commit.
    """

    at: str
    snapshot: Snapshot | None = None
    slot: int = 0
    counter: int = 0
    releases: bool = False


class World(NamedTuple):
    """One state of everything."""

    counter: int
    chain: int
    slots: tuple[Snapshot | None, ...]
    written: frozenset[Snapshot]
    released: frozenset[int]
    begun: int
    opened: int
    programs: tuple[Program | None, ...]

    def moved(self, number: int, program: Program | None, **changes: object) -> World:
        """The world after a step of one program."""
        programs = (*self.programs[:number], program, *self.programs[number + 1 :])
        return self._replace(programs=programs, **changes)

    def with_slot(self, slot: int, snapshot: Snapshot | None) -> tuple[Snapshot | None, ...]:
        """The disk with another snapshot in one place."""
        return (*self.slots[:slot], snapshot, *self.slots[slot + 1 :])


class Chains:
    """Values of the chain as numbers, so that worlds compare fast: equal numbers are equal histories."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[int, object], int] = {}
        self._before = [0]

    def extend(self, chain: int, by: object) -> int:
        """The value after it was extended."""
        number = self._numbers.setdefault((chain, by), len(self._before))
        if number == len(self._before):
            self._before.append(chain)
        return number

    def beginnings(self, chain: int) -> list[int]:
        """Every value it had, itself and nothing included."""
        found = [chain]
        while chain:
            chain = self._before[chain]
            found.append(chain)
        return found


Moves = Iterator[tuple[str, "World | str"]]


@dataclass(frozen=True)
class Model:
    """A protocol in a world.

    Attributes:
        step: the next steps of one program: ``step(model, world, number, program)``.
        first: the snapshot a new container begins with.
        attacker: who else is there.
        processes: how many programs run, without a lock between them.
        counts: the largest value of the counter that is looked at.
        transactions, opens: how many there are.
        chains: the chain's values.
        name: what the table calls it.
    """

    step: Callable[[Model, World, int, Program], Moves]
    first: Snapshot
    name: str = ""
    attacker: Attacker = Attacker.NOBODY
    processes: int = 1
    counts: int = 7
    transactions: int = 3
    opens: int = 4
    chains: Chains = field(default_factory=Chains)

    def beginning(self) -> World:
        """A container that was just made."""
        chain = self.chains.extend(self.first.follows, self.first)
        slots = (self.first, None)
        return World(1, chain, slots, frozenset({self.first}), frozenset(), 0, 0, (None,) * self.processes)

    def moves(self, world: World) -> Moves:
        """Everything that can happen next."""
        if world.counter > self.counts:
            return
        yield from self._attacks(world)
        for number, program in enumerate(world.programs):
            if program is None:
                if world.opened < self.opens:
                    yield f"{number} starts", world.moved(number, Program("open"), opened=world.opened + 1)
                continue
            yield f"{number} is killed", world.moved(number, None)
            for label, after in self.step(self, world, number, program):
                yield f"{number} {label}", after

    @property
    def honest(self) -> bool:
        """Whether a container that does not open is the protocol's fault."""
        return not self.attacker and self.processes == 1

    def _attacks(self, world: World) -> Moves:
        if not self.attacker:
            return
        contents: tuple[Snapshot | None, ...] = (*world.written, None)
        for slots in itertools.product(contents, repeat=2):
            yield "the disk is rearranged", world._replace(slots=slots)
        if Attacker.COUNTS in self.attacker:
            yield "the counter is incremented", world._replace(counter=world.counter + 1)
        if Attacker.EXTENDS in self.attacker:
            junk = self.chains.extend(world.chain, "junk")
            if junk not in self._junk_twice(world.chain):
                yield "the chain is extended by garbage", world._replace(chain=junk)
        if Attacker.REDEFINES in self.attacker:
            for value in self.chains.beginnings(world.chain):
                yield "the chain is made anew", world._replace(chain=value)
                for snapshot in world.written:
                    if snapshot.follows == value:
                        forged = self.chains.extend(value, snapshot)
                        yield "the chain is made anew, with another end", world._replace(chain=forged)

    def _junk_twice(self, chain: int) -> tuple[int, ...]:
        """Garbage after garbage shows nothing new."""
        before = self.chains.beginnings(chain)[1:2]
        return (self.chains.extend(chain, "junk"),) if before and self.chains.extend(before[0], "junk") == chain else ()


@dataclass(frozen=True)
class Result:
    """What a search found.

    Attributes:
        states: how many there are; where something is wrong, how many were met.
        verdict: empty, `BRICK` or `ROLLBACK`.
        trace: the shortest way there.
    """

    states: int
    verdict: str = ""
    trace: tuple[str, ...] = ()


def search(model: Model, limit: int = 5_000_000) -> Result:
    """Visit every world, the nearest first.

    Args:
        model: protocol, attacker and bounds.
        limit: of worlds, so that a mistake does not eat the machine.

    Raises:
        RuntimeError: there are more worlds than the limit.
    """
    start = model.beginning()
    came_from: dict[World, tuple[World, str] | None] = {start: None}
    worlds = [start]
    for world in worlds:  # grows while it is walked
        for label, after in model.moves(world):
            if isinstance(after, str):
                return Result(len(worlds), after, (*_trace(came_from, world), f"{label}: {after}"))
            if after not in came_from:
                came_from[after] = (world, label)
                worlds.append(after)
        if len(worlds) > limit:
            raise RuntimeError(f"{model.name}: more than {limit} worlds")
    return Result(len(worlds))


def _trace(came_from: Mapping[World, tuple[World, str] | None], world: World) -> tuple[str, ...]:
    lines = []
    while (step := came_from[world]) is not None:
        disk = ", ".join("-" if slot is None else str(slot.counter) for slot in world.slots)
        world, label = step[0], f"{step[1]}; the counter is {world.counter}, on the disk: {disk}"
        lines.append(label)
    return tuple(reversed(lines))


def accepted(world: World, snapshot: Snapshot) -> bool:
    """Whether a snapshot contains everything whose effect was let out."""
    return world.released <= set(snapshot.done)


def show(rows: Iterable[tuple[Model, str]], arguments: list[str]) -> int:
    """Search the models of a table, and print what was found; 0 if each ends as it must."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trace", action="store_true", help="print the way to each violation")
    parser.add_argument("--small", action="store_true", help="the bounds of CI")
    asked = parser.parse_args(arguments)
    wrong = 0
    for model, expected in rows:
        begun = time.perf_counter()
        result = search(small(model) if asked.small else model)
        spent = time.perf_counter() - begun
        wrong += result.verdict != expected
        verdict = result.verdict or "holds in every state"
        print(f"{model.name:34s} {result.states:9,d} states {spent:6.1f} s   {verdict}", flush=True)
        for line in result.trace if asked.trace else ():
            print(f"        {line}")
    return 1 if wrong else 0


def small(model: Model, counts: int = 5, transactions: int = 2, opens: int = 3) -> Model:
    """The model with lower bounds: those of CI, unless others are given."""
    return replace(
        model,
        counts=min(model.counts, counts),
        transactions=min(model.transactions, transactions),
        opens=min(model.opens, opens),
    )
