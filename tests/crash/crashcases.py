# SPDX-License-Identifier: Apache-2.0
"""The operations of a store whose every moment is explored; `full` explores them without the limits of a quick run."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from explore import ERRORS, Check, Operation, Setup
from simfs import Limits
from storecases import append, check, checkpoint, create, empty, operation, prepared

_FILLING = tuple(append(f"fill{number}", 65492) for number in range(4))
_FILLED = ["made", *(f"fill{number}" for number in range(4))]
_QUICK = Limits(samples=24, tears=12)


@dataclass(frozen=True)
class Case:
    """One operation.

    Attributes:
        name: for people.
        setup: what was there before, durably.
        operation: what is interrupted.
        check: what must hold.
        quick: how much a quick run looks at.
        every: follow each so-manieth disk into a second cut in a quick run.
        errors: what is injected in a quick run.
    """

    name: str
    setup: Setup
    operation: Operation
    check: Check
    quick: Limits = _QUICK
    every: int = 4
    errors: tuple[int, ...] = ERRORS


@dataclass(frozen=True)
class KillCase:
    """One operation, and what the next process does after the first was killed."""

    name: str
    setup: Setup
    operation: Operation
    then: Operation
    check: Check


CASES = (
    Case(
        "append",
        prepared(append("a"), append("b", 700)),
        operation(append("c", 300)),
        check(["made", "a", "b"], ["c"]),
        Limits(tears=24),
        1,
    ),
    Case(
        "append-several",
        prepared(append("a")),
        operation(append("b", 40), append("c", 1500), append("d", 10)),
        check(["made", "a"], ["b", "c", "d"]),
    ),
    Case(
        "append-largest",
        prepared(append("a")),
        operation(append("b", 65492)),
        check(["made", "a"], ["b"]),
        Limits(samples=8),
        256,
        errors=(errno.EIO, 0),
    ),
    Case("checkpoint", prepared(append("a")), operation(checkpoint("b")), check(["made", "a"], ["b"])),
    Case(
        "append-checkpoint-append",
        prepared(append("a"), checkpoint(), append("b")),
        operation(append("c"), checkpoint("d"), append("e", 600)),
        check(["made", "a", "b"], ["c", "d", "e"]),
        every=8,
        errors=(errno.EIO, 0),
    ),
    Case(
        "two-checkpoints",
        prepared(checkpoint()),
        operation(checkpoint("a"), checkpoint("b")),
        check(["made"], ["a", "b"]),
        every=8,
        errors=(errno.ENOSPC,),
    ),
    Case(
        "journal-full",
        prepared(*_FILLING),
        operation(append("a")),
        check(_FILLED, ["a"]),
        every=8,
        errors=(errno.EIO,),
    ),
    Case(
        "create",
        empty,
        operation(create("made"), append("a"), create=True),
        check([], ["made", "a"], optional=True),
        every=8,
    ),
)

_TWO = check(["made", "a"], ["b", "c", "d", "e"], gaps=True)

KILLS = (
    KillCase("append-append", prepared(append("a")), operation(append("b", 900)), operation(append("d", 30)), _TWO),
    KillCase(
        "append-checkpoint",
        prepared(append("a")),
        operation(append("b"), append("c")),
        operation(checkpoint("d")),
        _TWO,
    ),
    KillCase(
        "checkpoint-append",
        prepared(append("a")),
        operation(checkpoint("b")),
        operation(append("d"), append("e")),
        _TWO,
    ),
    KillCase(
        "checkpoint-checkpoint", prepared(append("a")), operation(checkpoint("b")), operation(checkpoint("d")), _TWO
    ),
    KillCase(
        "create-append",
        empty,
        operation(create("made"), create=True),
        operation(create("made"), append("a"), create=True),
        check([], ["made", "a"], optional=True),
    ),
)
