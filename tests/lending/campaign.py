# SPDX-License-Identifier: Apache-2.0
"""Lending at random, for as long as you like: ``python tests/lending/campaign.py --seed 0 --steps 1000000``.

Stories of `LENGTH` steps each, of the seeds from ``--seed`` on, until so many steps are done. A story that breaks a
rule is made as short as it can be, printed with its seed and the numbers of the steps that are left, and told again
with ``--seed SEED --only NUMBERS``.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter as Tally
from pathlib import Path
from typing import Any

LENGTH = 150


def _paths() -> None:
    tests = Path(__file__).resolve().parent.parent
    for folder in (tests.parent / "src", tests / "crash", tests):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))


def failure(seed: int, only: list[int] | None = None, length: int = LENGTH) -> str:
    """Tell one story.

    Args:
        seed: which one.
        only: the steps to do; None for all.
        length: of the whole story.

    Returns:
        What broke; empty if nothing did.
    """
    from lending.machine import Machine, story

    steps = story(seed, length)
    try:
        Machine(seed).run(steps if only is None else [steps[number] for number in only])
    except AssertionError as broken:
        return str(broken)
    return ""


def shortest(seed: int, length: int = LENGTH) -> tuple[list[int], str]:
    """Leave steps out of a story that breaks something, as long as it still does.

    Returns:
        The numbers of the steps that are needed, and what broke.
    """
    left, why = list(range(length)), failure(seed, None, length)
    size = length // 2
    while size:
        at = 0
        while at < len(left):
            tried = left[:at] + left[at + size :]
            told = failure(seed, tried, length)
            if told and _same(told, why):
                left, why = tried, told
            else:
                at += size
        size //= 2
    return left, why


def _same(one: str, other: str) -> bool:
    """Whether two stories break the same rule, whatever the numbers."""
    plain = [" ".join(word for word in text.partition(": ")[2].split()[:8] if word.isalpha()) for text in (one, other)]
    return plain[0] == plain[1]


def report(seed: int, length: int = LENGTH) -> str:
    """Say how a story breaks, in as few steps as possible, and how to tell it again."""
    from lending.machine import story

    left, why = shortest(seed, length)
    steps = story(seed, length)
    lines = [f"seed {seed}: {why}", *(f"  {number:>4}  {steps[number].name}" for number in left)]
    again = f"python tests/lending/campaign.py --seed {seed}" + f" --length {length}" * (length != LENGTH)
    lines.append(f"again: {again} --only {','.join(map(str, left)) or '-'}")
    return "\n".join(lines)


def campaign(seed: int, steps: int, length: int = LENGTH) -> int:
    """Tell stories until so many steps are done, printing how far it is.

    Returns:
        How many broke.
    """
    from lending.machine import Machine, story

    done, broken, told = 0, 0, 0.0
    totals: Tally[Any] = Tally()
    began = time.monotonic()
    crashes, first = 0, seed
    while done < steps:
        machine = Machine(seed)
        try:
            machine.run(story(seed, length))
        except AssertionError:
            broken += 1
            print(report(seed, length), flush=True)
        done += length
        seed += 1
        totals += machine.done
        crashes += machine.crashes
        now = time.monotonic()
        if now - told > 30 or done >= steps:
            told = now
            rate = done / (now - began)
            print(
                f"{done:>9} steps, seeds {first}..{seed - 1}, {crashes} crashes, {broken} broken, {rate:.0f}/s",
                flush=True,
            )
    print(", ".join(f"{name} {count}" for name, count in sorted(totals.items(), key=lambda item: -item[1])))
    return broken


def main() -> int:
    """Tell one story, or many.

    Returns:
        0 if all rules held.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--length", type=int, default=LENGTH)
    parser.add_argument("--only", default="", help="numbers of steps of the story of that seed; - for none")
    asked = parser.parse_args()
    _paths()
    if asked.only:
        why = failure(asked.seed, [int(word) for word in asked.only.split(",") if word != "-"], asked.length)
        print(why or "nothing broke")
        return bool(why)
    return bool(campaign(asked.seed, asked.steps, asked.length))


if __name__ == "__main__":
    sys.exit(main())
