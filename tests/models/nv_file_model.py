# SPDX-License-Identifier: Apache-2.0
"""Protocols with a counter alone, in every reachable world: which of the obvious ones lock out or roll back.

    python tests/models/nv_file_model.py [--small] [--trace]

P0: increment, then write the file; a file that is one behind is accepted.
P1: write the file for the next value, then increment; a file that is one ahead is taken, and the counter follows.
P2: P1, and every opening writes what it chose once more, for a value of its own, before anything is let out.
P3: P2 with a transport that sends the increment again when the answer was lost.

P2 is what a TPM without room for a second index gets: it needs a lock, which root can pass by.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace

from nv_world import BRICK, ROLLBACK, Attacker, Model, Moves, Program, Snapshot, World, accepted, show

FIRST = Snapshot(1, ())


def p0(model: Model, world: World, number: int, program: Program) -> Moves:
    """Increment, then write; accept the counter's value or one less."""
    snapshot, slot = program.snapshot, program.slot
    if program.at == "open":
        good = [one for one in world.slots if one is not None and one.counter in (world.counter, world.counter - 1)]
        if not good:
            if model.honest:
                yield "opens", BRICK
            return
        newest = max(good)
        if not accepted(world, newest):
            yield "opens", ROLLBACK
            return
        ready = Program("ready", newest, world.slots.index(newest), world.counter)
        yield "opens", world.moved(number, ready)
        return
    assert snapshot is not None
    if program.at == "ready":
        if world.begun < model.transactions:
            after = Snapshot(program.counter + 1, (*snapshot.done, world.begun + 1))
            begun = Program("increment", after, 1 - slot, program.counter)
            yield "begins", world.moved(number, begun, begun=world.begun + 1)
    elif program.at == "increment":
        yield "increments", world.moved(number, program._replace(at="tear"), counter=world.counter + 1)
    elif program.at == "tear":
        yield "tears a slot", world.moved(number, program._replace(at="write"), slots=world.with_slot(slot, None))
    else:
        yield (
            "writes, and lets the effect out",
            world.moved(
                number,
                Program("ready", snapshot, slot, snapshot.counter),
                slots=world.with_slot(slot, snapshot),
                written=world.written | {snapshot},
                released=world.released | {snapshot.done[-1]},
            ),
        )


def ahead(*, burns: bool, repeats: bool) -> Callable[[Model, World, int, Program], Moves]:
    """Write, then increment: P1, P2 and P3.

    Args:
        burns: every opening writes what it chose for a value of its own.
        repeats: an increment may be executed twice.
    """

    def step(model: Model, world: World, number: int, program: Program) -> Moves:
        if program.at == "open":
            yield from _opens(model, world, number)
        elif program.snapshot is None:
            raise AssertionError(program)
        elif program.at == "chosen":
            yield from _chosen(world, number, program, program.snapshot, burns)
        elif program.at == "increment":
            for times in (1, 2) if repeats else (1,):
                counter = world.counter + times
                yield f"increments, {times}", world.moved(number, program._replace(at="check"), counter=counter)
        elif program.at == "check":
            yield from _checks(world, number, program, program.snapshot)
        else:
            yield from _writes(model, world, number, program, program.snapshot)

    return step


def _chosen(world: World, number: int, program: Program, snapshot: Snapshot, burns: bool) -> Moves:
    if world.counter != program.counter or world.counter != snapshot.counter:
        yield "finds the counter moved", world.moved(number, None)
    elif burns:
        anew = Snapshot(world.counter + 1, snapshot.done)
        yield "writes anew", world.moved(number, Program("tear", anew, 1 - program.slot, program.counter))
    elif accepted(world, snapshot):
        yield "is ready", world.moved(number, program._replace(at="ready"))
    else:
        yield "is ready", ROLLBACK


def _writes(model: Model, world: World, number: int, program: Program, snapshot: Snapshot) -> Moves:
    slot = program.slot
    if program.at == "follow":
        value = world.counter + 1
        chosen = Program("chosen", snapshot, slot, value)
        yield "lets the counter follow", world.moved(number, chosen, counter=value)
    elif program.at == "ready":
        if world.begun < model.transactions:
            after = Snapshot(program.counter + 1, (*snapshot.done, world.begun + 1))
            begun = Program("tear", after, 1 - slot, program.counter, releases=True)
            yield "begins", world.moved(number, begun, begun=world.begun + 1)
    elif program.at == "tear":
        yield "tears a slot", world.moved(number, program._replace(at="write"), slots=world.with_slot(slot, None))
    else:
        written, slots = world.written | {snapshot}, world.with_slot(slot, snapshot)
        yield "writes", world.moved(number, program._replace(at="increment"), slots=slots, written=written)


def _opens(model: Model, world: World, number: int) -> Moves:
    pending = [one for one in world.slots if one is not None and one.counter == world.counter + 1]
    current = [one for one in world.slots if one is not None and one.counter == world.counter]
    if pending:
        yield "opens", world.moved(number, Program("follow", pending[0], world.slots.index(pending[0])))
    elif current:
        chosen = Program("chosen", current[0], world.slots.index(current[0]), world.counter)
        yield "opens", world.moved(number, chosen)
    elif model.honest:
        yield "opens", BRICK


def _checks(world: World, number: int, program: Program, snapshot: Snapshot) -> Moves:
    ready = Program("ready", snapshot, program.slot, world.counter)
    if world.counter != snapshot.counter:
        yield "finds the counter moved", world.moved(number, None)
    elif program.releases:
        released = world.released | {snapshot.done[-1]}
        yield "lets the effect out", world.moved(number, ready, released=released)
    elif accepted(world, snapshot):
        yield "is ready", world.moved(number, ready)
    else:
        yield "is ready", ROLLBACK


P0 = Model(p0, FIRST, "P0")
P1 = Model(ahead(burns=False, repeats=False), FIRST, "P1")
P2 = Model(ahead(burns=True, repeats=False), FIRST, "P2")
P3 = Model(ahead(burns=True, repeats=True), FIRST, "P3")


def table() -> list[tuple[Model, str]]:
    """Every model, and how it ends."""
    edits, counts = Attacker.EDITS, Attacker.EDITS | Attacker.COUNTS
    two = replace(P2, name="P2, two programs", processes=2, counts=6, transactions=2, opens=3)
    return [
        (P0, BRICK),
        (replace(P0, name="P0, files edited", attacker=edits), ROLLBACK),
        (P1, ""),
        (replace(P1, name="P1, files edited", attacker=edits), ROLLBACK),
        (P2, ""),
        (replace(P2, name="P2, files edited", attacker=edits), ""),
        (replace(P2, name="P2, files edited, counted", attacker=counts), ""),
        (P3, BRICK),
        (two, ROLLBACK),
        (replace(two, name="P2, two programs, files edited", attacker=edits), ROLLBACK),
    ]


if __name__ == "__main__":
    sys.exit(show(table(), sys.argv[1:]))
