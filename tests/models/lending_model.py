# SPDX-License-Identifier: Apache-2.0
"""The lending protocol, checked in every reachable state; `python tests/models/lending_model.py` searches all of it.

Three containers lend and transfer units and seats, at depth 1 and 2. Every message ever emitted may be delivered any
number of times, in any order, or never; a crash lies between a commit and the emission that follows from it; each
reading of a clock is off by up to the tolerance, either way. What a state is: `lending_state.py`; what the two sides
do: `lending_receiver.py`, `lending_giver.py`; what must hold: `lending_checks.py`; the worlds: `lending_scenarios.py`;
the rules broken on purpose: `lending_broken.py`.

    python tests/models/lending_model.py [--small] [--apart] [WORDS]

`--small` takes the amounts of CI; `--apart` emits every message apart from its commit in all worlds, which takes long
and gigabytes; WORDS selects worlds by name. The exit status is 1 if a good world fails, or one with a broken rule does
not.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace

from lending_broken import broken, limits
from lending_scenarios import good
from lending_search import Result, search
from lending_state import Scenario


def show(name: str, scenario: Scenario) -> Result:
    """Search one world and print what was found."""
    start = time.perf_counter()
    result = search(scenario)
    spent = time.perf_counter() - start
    verdict = result.verdict or "holds in every state"
    print(f"{name:52s} {result.states:9,d} states {result.steps:10,d} steps {spent:6.1f} s   {verdict}", flush=True)
    for line in result.trace:
        print(f"        {line}", flush=True)
    return result


def main(arguments: list[str]) -> int:
    """Search the worlds that were asked for; 0 if each ends as it must."""
    parser = argparse.ArgumentParser(description="Search the lending protocol exhaustively.")
    parser.add_argument("--small", action="store_true", help="the amounts of CI")
    parser.add_argument("--apart", action="store_true", help="emit every message apart from its commit (long)")
    parser.add_argument("words", nargs="*", help="only worlds whose name has one of these words")
    asked = parser.parse_args(arguments)

    def wanted(worlds: dict[str, Scenario]) -> dict[str, Scenario]:
        return {name: world for name, world in worlds.items() if not asked.words or any(w in name for w in asked.words)}

    wrong = 0
    print("Every rule kept; nothing may be lost or doubled:")
    for name, world in wanted(good(asked.small)).items():
        wrong += bool(show(name, replace(world, eager=world.eager and not asked.apart)).verdict)
    print("One rule broken; each must fail:")
    for name, world in wanted(broken()).items():
        wrong += not show(name, world).verdict
    print("Beyond what a protocol can promise; each must fail:")
    for name, world in wanted(limits()).items():
        wrong += not show(name, world).verdict
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
