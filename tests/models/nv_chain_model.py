# SPDX-License-Identifier: Apache-2.0
"""P4, the protocol of containers in a TPM: a counter and a hash chain, in every reachable world.

    python tests/models/nv_chain_model.py [--small] [--trace]

A snapshot is committed when the counter has its value and the chain ends with it. To commit: write the snapshot;
increment; check; extend the chain by it; check; let the effect out. To open: take what is committed; otherwise finish
what was interrupted, extending where the counter has its value, incrementing and extending where it is one behind.

It holds against kills, edited files, increments and garbage in the chain, and for two programs without a lock. It does
not hold against an owner of the TPM who makes the chain anew: that one can fork within one value of the counter, and
is found at the next contact with the issuer.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from nv_world import BRICK, ROLLBACK, Attacker, Model, Moves, Program, Snapshot, World, accepted, show


def p4(model: Model, world: World, number: int, program: Program) -> Moves:
    """The steps of a program."""
    snapshot, slot = program.snapshot, program.slot
    if program.at == "open":
        yield from _opens(model, world, number)
        return
    assert snapshot is not None
    if program.at == "ready":
        if world.begun < model.transactions:
            chain = model.chains.extend(snapshot.follows, snapshot)
            after = Snapshot(snapshot.counter + 1, (*snapshot.done, world.begun + 1), chain)
            begun = Program("tear", after, 1 - slot, releases=True)
            yield "begins", world.moved(number, begun, begun=world.begun + 1)
    elif program.at == "tear":
        yield "tears a slot", world.moved(number, program._replace(at="write"), slots=world.with_slot(slot, None))
    elif program.at == "write":
        yield (
            "writes",
            world.moved(
                number,
                program._replace(at="increment"),
                slots=world.with_slot(slot, snapshot),
                written=world.written | {snapshot},
            ),
        )
    elif program.at == "increment":
        yield "increments", world.moved(number, program._replace(at="look"), counter=world.counter + 1)
    elif program.at == "look":
        if (world.counter, world.chain) == (snapshot.counter, snapshot.follows):
            yield "finds the counter its own", world.moved(number, program._replace(at="extend"))
        else:
            yield "finds the counter moved", world.moved(number, None)
    elif program.at == "extend":
        chain = model.chains.extend(world.chain, snapshot)
        yield "extends the chain", world.moved(number, program._replace(at="check"), chain=chain)
    else:
        yield from _checks(model, world, number, program, snapshot)


def _opens(model: Model, world: World, number: int) -> Moves:
    there = [one for one in world.slots if one is not None]
    here = [one for one in there if one.counter == world.counter]
    committed = [one for one in here if model.chains.extend(one.follows, one) == world.chain]
    half = [one for one in here if one.follows == world.chain]
    pending = [one for one in there if one.counter == world.counter + 1 and one.follows == world.chain]
    for at, found in (("ready", committed), ("extend", half), ("increment", pending)):
        if found:
            program = Program(at, found[0], world.slots.index(found[0]))
            lost = at == "ready" and not accepted(world, found[0])
            yield f"opens, to {at}", ROLLBACK if lost else world.moved(number, program)
            return
    if model.honest:
        yield "opens", BRICK


def _checks(model: Model, world: World, number: int, program: Program, snapshot: Snapshot) -> Moves:
    ready = Program("ready", snapshot, program.slot)
    if (world.counter, world.chain) != (snapshot.counter, model.chains.extend(snapshot.follows, snapshot)):
        yield "finds the chain moved", world.moved(number, None)
    elif program.releases:
        released = world.released | {snapshot.done[-1]}
        yield "lets the effect out", world.moved(number, ready, released=released)
    elif accepted(world, snapshot):
        yield "is ready", world.moved(number, ready)
    else:
        yield "is ready", ROLLBACK


P4 = Model(p4, Snapshot(1, ()), "P4")


def table() -> list[tuple[Model, str]]:
    """Every model, and how it ends."""
    edits = Attacker.EDITS
    two = replace(P4, name="P4, two programs", processes=2, counts=5, transactions=2, opens=3)
    return [
        (P4, ""),
        (replace(P4, name="P4, files edited", attacker=edits), ""),
        (replace(P4, name="P4, files edited, counted", attacker=edits | Attacker.COUNTS), ""),
        (replace(P4, name="P4, files edited, extended", attacker=edits | Attacker.EXTENDS), ""),
        (replace(P4, name="P4, chain made anew", attacker=edits | Attacker.REDEFINES), ROLLBACK),
        (two, ""),
        (replace(two, name="P4, two programs, files edited", attacker=edits), ""),
    ]


if __name__ == "__main__":
    sys.exit(show(table(), sys.argv[1:]))
