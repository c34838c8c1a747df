# SPDX-License-Identifier: Apache-2.0
"""Marks on a token and states in files, in every reachable world.

    python tests/models/mark_model.py [--trace] [NAME ...]

A token keeps objects that are made and destroyed, never changed. A state is written into one of two slots; then a mark
that names it is made on the token and read back; then the marks before it are destroyed; then its effect is let out. In
ratchet mode a mark is signed by a key that lives from one import to the next, and that the state names in its header;
the key before is destroyed when the new mark is there. To open: the highest mark counts; the state it names is taken,
or else the one that follows it is finished. Between any two steps every program may be killed.

Two things must hold. Whoever takes a state, or lets an effect out, has in it everything that was let out before: what
lacks something is ``ROLLBACK``, of another copy of the files ``FORK``. And kills alone never leave a container that
does not open: ``BRICK``.

Not promised, and shown: without ratchet, somebody with the PIN brings an old mark back, or signs one anew, and old
files open again. With it, the same is possible back to the last import, not beyond; but somebody with the PIN also
reads the state key, writes any state, and signs a mark for it. Modules that show what other processes did only when
they are loaded afresh let a program that runs go by what it saw.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import Flag, auto
from typing import Any, NamedTuple

from meter_search import Result
from meter_search import search as search_states
from nv_world import BRICK, ROLLBACK, Chains

FORK, LITTER = "FORK", "LITTER"
ORDER = ("tear", "write", "check", "sign", "make", "read back", "destroy keys", "destroy marks", "let out")
IDENTITY = 0


class Attacker(Flag):
    """What somebody does besides running the program."""

    NOBODY = 0
    FILES = auto()
    """Puts any state ever written into any slot, or removes it."""
    COPIES = auto()
    """Copies a folder over another."""
    REPLAYS = auto()
    """With the PIN: leaves on the token one mark, any that was ever made."""
    SIGNS = auto()
    """With the PIN: has any key that is there sign a mark for any state ever written."""
    FORGES = auto()
    """With the PIN: reads the state key, and writes any state ever written again, naming any key that is there."""


class Effect(NamedTuple):
    """A transaction: of which container, and whether it is an import or transfer."""

    number: int
    box: int
    moves: bool


class State(NamedTuple):
    """What a slot holds.

    Attributes:
        generation: its number.
        follows: the chain before it.
        done: the effects in it.
        key: that its header names; `IDENTITY` without ratchet.
        box: the container's number.
    """

    generation: int
    follows: int
    done: tuple[Effect, ...]
    key: int
    box: int


class Mark(NamedTuple):
    """What a mark says, and which key signed it."""

    generation: int
    chain: int
    key: int
    box: int


class Sight(NamedTuple):
    """What is on a token: marks, and ratchet keys as (number, container)."""

    marks: frozenset[Mark]
    keys: frozenset[tuple[int, int]]


class Program(NamedTuple):
    """Where a program stands.

    Attributes:
        todo: the steps before it is ready again; it holds its folder's lock while there are any.
        state: what it works with.
        slot: where that is, or goes.
        files: its folder, as it saw it last.
        view: of the token, for modules that look once; else None.
        doomed: marks and keys it saw that are to be destroyed.
    """

    todo: tuple[str, ...]
    state: State
    slot: int
    files: tuple[State | None, ...]
    view: Sight | None
    doomed: tuple[tuple[Mark, ...], tuple[tuple[int, int], ...]] = ((), ())


class World(NamedTuple):
    """One state of everything.

    Attributes:
        token: what is on it.
        folders: two slots each.
        written: states that ever were on a disk.
        made: marks that ever were on the token.
        out: effects that were let out or seen.
        keys: how many ratchet keys were made.
        begun, opened, swallowed: how many transactions, openings, and marks the token did not keep.
        programs: those that run.
        verdict: what went wrong.
    """

    token: Sight
    folders: tuple[tuple[State | None, ...], ...]
    written: frozenset[State]
    made: frozenset[Mark]
    out: frozenset[Effect]
    keys: int
    begun: int
    opened: int
    swallowed: int
    programs: tuple[Program | None, ...]
    verdict: str = ""


Moves = Iterator[tuple[str, World]]


@dataclass(frozen=True)
class Machine:
    """The protocol, or one that lacks something, in a world.

    Attributes:
        name: what the table calls it.
        ratchet: whether imports are marked by a new key.
        attacker: who else is there.
        boxes: the container of each folder; the same number twice: copies of its files.
        seats: the folder of each program.
        caches: the modules show what others did only when loaded afresh.
        swallows: how many marks the token says it took and did not.
        kills: whether programs are killed.
        turns: whether programs of different folders wait for each other, too.
        spares: losing what came after the last import is not held against it.
        transactions, opens: how many there are.
        order: the steps of a commit.
        highest: the highest mark counts; else any that names a state that is there.
        bound: marks of other containers do not count.
        header: the state must name the key that signed its mark.
        alone: the mark is read back with all others: no other of its generation or a later one may be there.
        tidies: whoever looks destroys what the highest mark makes needless before it goes on; else who opens does.
        clears: before a key is made, others than the one in force are destroyed.
        locks: one program at a time works in a folder.
        chains: the chain's values.
    """

    name: str
    ratchet: bool = False
    attacker: Attacker = Attacker.NOBODY
    boxes: tuple[int, ...] = (0,)
    seats: tuple[int, ...] = (0,)
    caches: bool = False
    swallows: int = 0
    kills: bool = True
    turns: bool = False
    spares: bool = False
    transactions: int = 2
    opens: int = 3
    order: tuple[str, ...] = ORDER
    highest: bool = True
    bound: bool = True
    header: bool = True
    alone: bool = True
    tidies: bool = True
    clears: bool = False
    locks: bool = True
    chains: Chains = field(default_factory=Chains, compare=False)

    def beginning(self) -> World:
        """Containers that were just made; of each there may be copies."""
        first = {box: State(1, self.chains.extend(0, f"box {box}"), (), int(self.ratchet), box) for box in self.boxes}
        marks = frozenset(map(self._mark, first.values()))
        keys = frozenset((1, box) for box in first) if self.ratchet else frozenset()
        folders = tuple((first[box], None) for box in self.boxes)
        programs = (None,) * len(self.seats)
        return World(Sight(marks, keys), folders, frozenset(first.values()), marks, frozenset(), 1, 0, 0, 0, programs)

    def harm(self, world: World) -> str:
        """Say what nobody may ever see."""
        return world.verdict

    def moves(self, world: World) -> Moves:
        """Everything that can happen next."""
        yield from self._attacks(world)
        for number, program in enumerate(world.programs):
            if program is not None and self.kills:
                yield f"{number} is killed", _with(world, number, None)
            if not (program and program.todo) and self._is_busy(world, number):
                continue
            if program is None:
                if world.opened < self.opens:
                    for label, after in self._opens(world._replace(opened=world.opened + 1), number, None):
                        yield f"{number} {label}", after
            elif program.todo:
                for label, after in self._steps(world, number, program):
                    yield f"{number} {label}", after
            else:
                for label, after in self._begins(world, number, program):
                    yield f"{number} {label}", after

    # -- opening, and looking again

    def _opens(self, world: World, number: int, program: Program | None) -> Moves:
        """Take what is committed, or finish what follows; what was interrupted is destroyed."""
        opened = self._opening(world, number, program)
        if opened is None:
            yield "does not open", self._refused(world, number)
            return
        rolled_back = opened.todo[0] != "check" and self._lost(world, opened.state)
        yield "opens", world._replace(verdict=ROLLBACK) if rolled_back else _with(world, number, opened)

    def _opening(self, world: World, number: int, program: Program | None = None) -> Program | None:
        folder = self.seats[number]
        box, files = self.boxes[folder], world.folders[folder]
        there = sorted((state for state in files if state is not None), reverse=True)
        sight = (program.view if program is not None else None) or world.token
        if sight is not world.token and not (there and self._is_committed(there[0], sight)):
            sight = world.token  # what it saw last is not what the files tell: somebody else moved on
        marks = self._valid(sight, box)
        for mark in [] if _are_rivals(marks) else marks[: 1 if self.highest else None]:
            kept = sight if self.caches else None
            for state in (one for one in there if self._is_at(one, mark)):
                tidies = program is None or self.tidies
                todo: tuple[str, ...] = ("destroy keys", "destroy marks", "take") if tidies else ("take",)
                return self._condemning(Program(todo, state, files.index(state), files, kept), sight)
            for state in (one for one in there if (one.follows, one.generation) == (mark.chain, mark.generation + 1)):
                todo = (*self.order[self.order.index("check") : -1], "take")
                return Program(todo, state, files.index(state), files, kept)
        return None

    def _begins(self, world: World, number: int, program: Program) -> Moves:
        folder = self.seats[number]
        if world.folders[folder] != program.files:
            yield from self._opens(world, number, program)
        elif world.begun < self.transactions:
            for moves in (False, True) if self.ratchet else (False,):
                state = program.state
                effect = Effect(world.begun, state.box, moves)
                next_one = State(state.generation + 1, self._after(state), (*state.done, effect), state.key, state.box)
                todo = (*(("clear", "generate")[not self.clears :] if moves else ()), *self.order)
                begun = program._replace(todo=todo, state=next_one, slot=1 - program.slot)
                label = "begins an import" if moves else "begins"
                yield label, _with(world._replace(begun=world.begun + 1), number, begun)

    # -- the steps of a commit

    def _steps(self, world: World, number: int, program: Program) -> Moves:
        step, state = program.todo[0], program.state
        then = program._replace(todo=program.todo[1:])
        sight, mark = program.view or world.token, self._mark(state)
        match step:
            case "tear" | "write":
                yield step, self._writes(world, number, then, None if step == "tear" else state)
            case "check":
                yield self._checks(world, number, program, sight)
            case "sign":
                signs = not self.ratchet or (state.key, state.box) in sight.keys
                yield (step, _with(world, number, then)) if signs else ("cannot sign", self._refused(world, number))
            case "make":
                yield step, self._changed(world._replace(made=world.made | {mark}), number, then, marks={mark})
                if world.swallowed < self.swallows:
                    yield "makes nothing", _with(world._replace(swallowed=world.swallowed + 1), number, then)
            case "read back":
                yield self._reads_back(world, number, then, sight)
            case "clear":
                yield self._destroys_key(world, number, self._condemning(program, sight))
            case "destroy keys":
                yield self._destroys_key(world, number, program)
            case "generate":
                made = then._replace(state=state._replace(key=world.keys + 1))
                world = world._replace(keys=world.keys + 1)
                yield step, self._changed(world, number, made, keys={(world.keys, state.box)})
            case "destroy marks":
                yield self._destroys_mark(world, number, program)
            case _:
                yield step, self._let_out(world, number, then)

    def _checks(self, world: World, number: int, program: Program, sight: Sight) -> tuple[str, World]:
        """The token stands where the new state begins, or at it already."""
        state, todo = program.state, program.todo
        marks = self._valid(sight, state.box)
        if marks[:1] == [self._mark(state)]:
            rest = tuple(step for step in todo if step in ("destroy keys", "destroy marks", "let out", "take"))
            return "finds it made", _with(world, number, self._condemning(program._replace(todo=rest), sight))
        if [(one.generation, one.chain) for one in marks[:1]] == [(state.generation - 1, state.follows)]:
            return "checks", _with(world, number, self._condemning(program._replace(todo=todo[1:]), sight))
        return "finds the token moved", self._refused(world, number)

    def _reads_back(self, world: World, number: int, then: Program, sight: Sight) -> tuple[str, World]:
        mark = self._mark(then.state)
        if not self.alone:
            if mark in sight.marks:
                return "reads back", _with(world, number, then)
            return "misses its mark", _with(world, number, None)
        marks = self._valid(sight, mark.box)
        if mark in marks and not any(one.generation >= mark.generation for one in marks if one != mark):
            return "reads back", _with(world, number, self._condemning(then, sight))
        return "takes its mark back", self._changed(world, number, None, marks={mark}, gone=True)

    def _destroys_key(self, world: World, number: int, program: Program) -> tuple[str, World]:
        marks, keys = program.doomed
        left = program._replace(doomed=(marks, keys[1:]), todo=program.todo[not keys[1:] :])
        return "destroys a key", self._changed(world, number, left, keys={*keys[:1]}, gone=True)

    def _destroys_mark(self, world: World, number: int, program: Program) -> tuple[str, World]:
        marks, keys = program.doomed
        left = program._replace(doomed=(marks[1:], keys), todo=program.todo[not marks[1:] :])
        return "destroys a mark", self._changed(world, number, left, marks={*marks[:1]}, gone=True)

    def _condemning(self, program: Program, sight: Sight) -> Program:
        """Have everything destroyed that is not of the program's state."""
        mark, (key, box) = self._mark(program.state), program.state[3:]
        marks = (one for one in sight.marks - {mark} if not self.bound or one.box == box)
        keys = (one for one in sight.keys if one[1] == box and one[0] != key)
        return program._replace(doomed=(tuple(sorted(marks)), tuple(sorted(keys))))

    def _writes(self, world: World, number: int, then: Program, state: State | None) -> World:
        folder = self.seats[number]
        slots = (*world.folders[folder][: then.slot], state, *world.folders[folder][then.slot + 1 :])
        folders = (*world.folders[:folder], slots, *world.folders[folder + 1 :])
        written = world.written | {state} if state is not None else world.written
        return _with(world._replace(folders=folders, written=written), number, then._replace(files=slots))

    # -- what must hold

    def _let_out(self, world: World, number: int, then: Program) -> World:
        """A state is taken, or its effect let out: it has everything in it that was before, or was all let out."""
        if self._lost(world, then.state) and {*then.state.done} - world.out:
            return world._replace(verdict=FORK if self.boxes.count(then.state.box) > 1 else ROLLBACK)
        world = _with(world._replace(out=world.out | {*then.state.done}), number, then)
        return self._require_tidy(world, then.state)

    def _lost(self, world: World, state: State) -> bool:
        lost = {effect for effect in world.out if effect.box == state.box} - {*state.done}
        return any(effect.moves or not self.spares for effect in lost)

    def _require_tidy(self, world: World, state: State) -> World:
        """One mark and one key are left, where nobody else is in the middle of something."""
        if not self.honest or len(self.seats) > 1:
            return world
        littered = len(world.token.marks) > 1 or len(world.token.keys) > int(self.ratchet)
        return world._replace(verdict=LITTER) if littered else world

    # -- smaller parts

    @property
    def honest(self) -> bool:
        """Whether a container that does not open, or litter, is the protocol's fault."""
        return not self.attacker and len({*self.boxes}) == len(self.boxes)

    def _is_busy(self, world: World, number: int) -> bool:
        if not self.locks:
            return False
        others = [one for at, one in enumerate(world.programs) if at != number and self._share(at, number)]
        return any(one is not None and one.todo for one in others)

    def _share(self, one: int, other: int) -> bool:
        return self.turns or self.seats[one] == self.seats[other]

    def _after(self, state: State) -> int:
        return self.chains.extend(state.follows, state)

    def _mark(self, state: State) -> Mark:
        return Mark(state.generation, self._after(state), state.key, state.box)

    def _is_at(self, state: State, mark: Mark) -> bool:
        if (state.generation, self._after(state)) != (mark.generation, mark.chain):
            return False
        return not (self.ratchet and self.header) or state.key == mark.key

    def _is_committed(self, state: State, sight: Sight) -> bool:
        return any(self._is_at(state, mark) for mark in self._valid(sight, state.box)[:1])

    def _valid(self, sight: Sight, box: int) -> list[Mark]:
        """Marks that verify, the highest first."""
        signed = [one for one in sight.marks if not self.ratchet or (one.key, one.box) in sight.keys]
        return sorted((one for one in signed if not self.bound or one.box == box), reverse=True)

    def _refused(self, world: World, number: int) -> World:
        """A program gives up; nobody may be locked out by kills, or by copies that take turns."""
        if self.attacker or (len({*self.boxes}) < len(self.boxes) and not self.turns):
            return _with(world, number, None)
        if len({*self.boxes}) == len(self.boxes) or not any(self._opening(world, at) for at in range(len(self.seats))):
            return world._replace(verdict=BRICK)
        return _with(world, number, None)

    def _changed(
        self,
        world: World,
        number: int,
        program: Program | None,
        marks: set[Mark] | None = None,
        keys: set[tuple[int, int]] | None = None,
        *,
        gone: bool = False,
    ) -> World:
        """The world with objects made or destroyed on the token, and so in what the program sees of it."""

        def changed(sight: Sight) -> Sight:
            if gone:
                return Sight(sight.marks - (marks or set()), sight.keys - (keys or set()))
            return Sight(sight.marks | (marks or set()), sight.keys | (keys or set()))

        if program is not None and program.view is not None:
            program = program._replace(view=changed(program.view))
        return _with(world._replace(token=changed(world.token)), number, program)

    def _attacks(self, world: World) -> Moves:
        if Attacker.FILES in self.attacker:
            contents: list[State | None] = [*sorted(world.written), None]
            for at, slots in itertools.product(range(len(self.boxes)), itertools.product(contents, repeat=2)):
                folders = (*world.folders[:at], slots, *world.folders[at + 1 :])
                yield "files are put back", world._replace(folders=folders)
        for at, files in itertools.product(range(len(self.boxes)), world.folders):
            if Attacker.COPIES in self.attacker:
                folders = (*world.folders[:at], files, *world.folders[at + 1 :])
                yield "files are copied", world._replace(folders=folders)
        marks = set(world.made) if Attacker.REPLAYS in self.attacker else set()
        if Attacker.SIGNS in self.attacker:
            keys = sorted(key for key, _ in world.token.keys) or [IDENTITY]
            marks |= {self._mark(state)._replace(key=key) for state in world.written for key in keys}
        for mark in sorted(marks):
            yield "a mark is put back", world._replace(token=world.token._replace(marks=frozenset([mark])))
        if Attacker.FORGES in self.attacker:
            for state, (key, _) in itertools.product(sorted(world.written), sorted(world.token.keys)):
                yield "a state is forged", world._replace(written=world.written | {state._replace(key=key)})


def _are_rivals(marks: list[Mark]) -> bool:
    return len(marks) > 1 and marks[0].generation == marks[1].generation and marks[0].chain != marks[1].chain


def _with(world: World, number: int, program: Program | None) -> World:
    return world._replace(programs=(*world.programs[:number], program, *world.programs[number + 1 :]))


def search(machine: Machine) -> Result:
    """Visit every world, the nearest first."""
    return search_states(machine)


# ------------------------------------------------------------------------------------------------------- the table


def _without(step: str) -> tuple[str, ...]:
    return tuple(one for one in ORDER if one != step)


def _moved(step: str, before: str) -> tuple[str, ...]:
    rest = _without(step)
    at = rest.index(before)
    return (*rest[:at], step, *rest[at:])


FILES = Attacker.FILES
PLAIN = Machine("marks")
RATCHET = Machine("ratchet", ratchet=True)
_TWO: dict[str, Any] = {"seats": (0, 0)}
_COPIES: dict[str, Any] = {"boxes": (0, 0), "seats": (0, 1)}
_BOXES: dict[str, Any] = {"boxes": (0, 1), "seats": (0, 1)}
_IMPORTS: dict[str, Any] = {"ratchet": True, "spares": True, "transactions": 1}


def _built() -> Iterator[tuple[Machine, str]]:
    """What must hold."""
    for model in (PLAIN, RATCHET):
        yield replace(model, transactions=3, opens=4), ""
        yield replace(model, name=f"{model.name}, files put back", attacker=FILES), ""
        yield replace(model, name=f"{model.name}, two programs", **_TWO, transactions=3), ""
        yield replace(model, name=f"{model.name}, two programs, files put back", **_TWO, attacker=FILES, opens=2), ""
        yield replace(model, name=f"{model.name}, two programs, a module that looks once", **_TWO, caches=True), ""
        yield replace(model, name=f"{model.name}, two containers", **_BOXES), ""
        yield replace(model, name=f"{model.name}, copies by turns", **_COPIES, turns=True, transactions=3), ""
        yield replace(model, name=f"{model.name}, marks that are not kept", swallows=2), ""
    yield replace(PLAIN, name="marks, copies at once", **_COPIES), ""
    yield replace(PLAIN, name="marks, copies at once, copied over", **_COPIES, attacker=Attacker.COPIES), ""
    late = _moved("let out", "destroy marks")
    yield replace(PLAIN, name="marks, old ones left a while", order=late, attacker=FILES), ""
    for powers, name in (
        (FILES | Attacker.REPLAYS, "marks brought back"),
        (FILES | Attacker.REPLAYS | Attacker.SIGNS, "marks signed anew"),
    ):
        yield Machine(f"ratchet, imports, {name}", attacker=powers, **_IMPORTS), ""
    two = Machine("ratchet, imports, two programs, marks brought back", attacker=FILES | Attacker.REPLAYS, **_IMPORTS)
    yield replace(two, **_TWO), ""


def _broken() -> Iterator[tuple[Machine, str]]:
    """What fails for the lack of one thing."""
    for model in (PLAIN, RATCHET):
        first = _moved("destroy marks", "make")
        yield replace(model, name=f"{model.name}: the old destroyed first", order=first), BRICK
        yield replace(model, name=f"{model.name}: not read back", swallows=1, order=_without("read back")), BRICK
        yield replace(model, name=f"{model.name}: the mark before the state", order=_marked_first()), BRICK
        yield replace(model, name=f"{model.name}: no lock", **_TWO, locks=False), BRICK
        yield replace(model, name=f"{model.name}: not bound to the container", **_BOXES, bound=False), BRICK
        early = _moved("let out", "check")
        yield replace(model, name=f"{model.name}: the effect before the mark", attacker=FILES, order=early), ROLLBACK
        yield replace(model, name=f"{model.name}: read back alone, copies at once", **_COPIES, alone=False), FORK
    late = _moved("let out", "destroy marks")
    yield replace(PLAIN, name="marks: a lower one counts", order=late, highest=False, attacker=FILES), ROLLBACK
    untidy = replace(PLAIN, name="marks: a lower one counts, two programs, not tidied up first", highest=False, **_TWO)
    yield replace(untidy, tidies=False, attacker=FILES), ROLLBACK
    yield replace(RATCHET, name="ratchet: the key before the mark", order=_moved("destroy keys", "make")), BRICK
    cleared = replace(RATCHET, name="ratchet: keys destroyed before the state is known to be the newest", clears=True)
    yield replace(cleared, **_COPIES, turns=True), BRICK
    signs = FILES | Attacker.SIGNS
    yield Machine("ratchet: the header not looked at", attacker=signs, header=False, **_IMPORTS), ROLLBACK
    brought = FILES | Attacker.REPLAYS
    untidied = Machine("ratchet: two programs, not tidied up first", attacker=brought, tidies=False, **_IMPORTS)
    yield replace(untidied, **_TWO), ROLLBACK


def _marked_first() -> tuple[str, ...]:
    return tuple(step for step in (*ORDER[2:6], *ORDER[:2], *ORDER[6:]))


def _not_promised() -> Iterator[tuple[Machine, str]]:
    """What nobody should believe."""
    for powers, name in ((Attacker.REPLAYS, "mark brought back"), (Attacker.SIGNS, "mark signed anew")):
        yield replace(PLAIN, name=f"marks, a {name}", attacker=FILES | powers), ROLLBACK
        yield replace(RATCHET, name=f"ratchet, a {name} since the last import", attacker=FILES | powers), ROLLBACK
    forges = FILES | Attacker.SIGNS | Attacker.FORGES
    yield Machine("ratchet, imports, a state forged", attacker=forges, opens=2, **_IMPORTS), ROLLBACK
    yield replace(RATCHET, name="ratchet, copies at once", **_COPIES), ROLLBACK
    for model in (PLAIN, RATCHET):
        once = replace(model, caches=True)
        name = f"{model.name}, a module that looks once, files put back"
        yield replace(once, name=name, **_TWO, attacker=FILES, opens=2), ROLLBACK
        yield replace(once, name=f"{model.name}, a module that looks once, copies", **_COPIES), FORK


def table() -> list[tuple[Machine, str]]:
    """Every machine, and how it ends."""
    return [*_built(), *_broken(), *_not_promised()]


def main(arguments: list[str]) -> int:
    """Search the machines of the table, or those named, and print what was found.

    Returns:
        0 if each ends as it must.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--trace", action="store_true", help="print the way to each violation")
    parser.add_argument("names", nargs="*", metavar="NAME", help="how names begin")
    asked = parser.parse_args(arguments)
    wrong = 0
    for machine, expected in table():
        if asked.names and not machine.name.startswith(tuple(asked.names)):
            continue
        begun = time.perf_counter()
        result = search(machine)
        wrong += result.verdict != expected
        spent, verdict = time.perf_counter() - begun, result.verdict or "holds in every state"
        print(f"{machine.name:70s} {result.states:9,d} states {spent:6.1f} s   {verdict}", flush=True)
        for line in result.trace if asked.trace else ():
            print(f"        {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
