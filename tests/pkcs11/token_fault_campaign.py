# SPDX-License-Identifier: Apache-2.0
"""Disturbs every call of every operation on a token in every way, each time from the same scene; takes hours.

Run from the project's folder: ``python tests/pkcs11/token_fault_campaign.py [OPERATION ...]``, with ``--drawn N`` to
disturb N times instead, drawn from ``--seed``; ``--where here`` or ``--where elsewhere`` for a module in the process of
its user, or in one of its own; ``--fault NAME`` for one way alone; ``--ratchet`` for containers whose imports destroy
keys.

What must hold: the application gets a typed error or its result; a process that is started afterwards opens the
container, and so does the same one where it goes on; what was acknowledged is there, what was not is there entirely or
not at all; units are conserved between the containers; the right PIN is sent twice at most; and the token holds what
belongs to the container and nothing else. Prints what applications were told; CONTRIBUTING.md has
the last long runs.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

if __name__ == "__main__":
    tests = Path(__file__).resolve().parents[1]
    folders = ("pkcs11", "tpm", "lending", "conformance")
    sys.path[:0] = [str(tests.parent), str(tests), *(str(tests / name) for name in folders)]

from swtpm_rig import in_memory
from token_fault_operations import OPERATIONS
from token_fault_stage import ELSEWHERE, HERE, Case, Operation, Stage, calls_of, disturb


def every(operation: Operation, calls: int, faults: Sequence[str], *, isolated: bool) -> Iterator[Case]:
    """Everything that can be done to an operation with so many calls."""
    for number, fault in itertools.product(range(1, calls + 1), faults):
        for same in (False, True) if not operation.ends_container else (False,):
            yield Case(number, fault, isolated, same)


def disturbed(stage: Stage, operation: Operation, cases: Iterable[Case]) -> tuple[Counter[str], int]:
    """Disturb, and print what was wrong.

    Returns:
        How often the application was told what, and how often something was wrong.
    """
    told: Counter[str] = Counter()
    wrong = 0
    for case in cases:
        try:
            told[disturb(stage, operation, case)] += 1
        except AssertionError as reason:
            wrong += 1
            print(f"WRONG {operation.name}: {case}\n{reason}", flush=True)
    return told, wrong


def run(stage: Stage, operation: Operation, given: argparse.Namespace) -> tuple[int, int]:
    """Disturb one operation, here and elsewhere; return how often, and how often something was wrong."""
    cases = wrong = 0
    for isolated in (False, True):
        if given.where == ("here" if isolated else "elsewhere"):
            continue
        begun = time.perf_counter()
        calls = len(calls_of(stage, operation, isolated=isolated))
        possible = [one for one in (ELSEWHERE if isolated else HERE) if one != "pin" or not operation.ends_container]
        faults = [one for one in possible if given.fault in ("", one)]
        chosen = list(every(operation, calls, faults, isolated=isolated))
        if given.drawn:
            source = random.Random(f"{operation.name} {isolated} {given.seed}" if given.seed else None)
            chosen = source.sample(chosen, min(given.drawn, len(chosen)))
        told, bad = disturbed(stage, operation, chosen)
        cases, wrong = cases + told.total() + bad, wrong + bad
        shown = ", ".join(f"{count} {code}" for code, count in told.most_common())
        where, spent = "elsewhere" if isolated else "here", time.perf_counter() - begun
        print(f"{operation.name:10s} {where:9s} {calls:4d} calls {told.total():6d} cases {spent:7.1f} s; told: {shown}")
        sys.stdout.flush()
    return cases, wrong


def main(words: list[str]) -> int:
    """Disturb the operations named, all of them if none is; 0 if nothing was wrong."""
    parser = argparse.ArgumentParser()
    parser.add_argument("operations", nargs="*", choices=[one.name for one in OPERATIONS] + [[]])
    parser.add_argument("--drawn", type=int, default=0)
    parser.add_argument("--seed", default="")
    parser.add_argument("--where", choices=["here", "elsewhere"], default="")
    parser.add_argument("--fault", choices=ELSEWHERE, default="")
    parser.add_argument("--ratchet", action="store_true")
    parser.add_argument("--noise", action="store_true", help="show what modules and destructors print")
    given = parser.parse_args(words)
    if not given.noise:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    cases = wrong = 0
    with in_memory() as folder:
        stage = Stage(folder, "ratchet=yes" if given.ratchet else "")
        for operation in OPERATIONS:
            if not given.operations or operation.name in given.operations:
                more, bad = run(stage, operation, given)
                cases, wrong = cases + more, wrong + bad
    print(f"{cases} cases, {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
