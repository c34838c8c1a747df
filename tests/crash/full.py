# SPDX-License-Identifier: Apache-2.0
"""Explores every case without the limits of a quick run; takes hours.

Run from the project's folder: ``PYTHONPATH=src:tests/crash python tests/crash/full.py [NAME ...]``
"""

from __future__ import annotations

import sys

from crashcases import CASES, KILLS
from explore import Report, explore, explore_errors, explore_kills
from simfs import Limits


def main(names: list[str]) -> int:
    """Explore the named cases, all if none is named, and print what was covered.

    Returns:
        0; a violation ends the run with its story.
    """
    total = 0

    def show(kind: str, name: str, report: Report) -> None:
        nonlocal total
        total += report.states
        print(f"{report.states:>8} states {report.cuts:>7} cuts  depth {report.deepest}  {kind} {name}", flush=True)

    for case in CASES:
        if not names or case.name in names:
            show("power cut", case.name, explore(case.setup, case.operation, case.check, limits=Limits()))
            for lose in (False, True):
                run = explore_errors(case.setup, case.operation, case.check, lose_names=lose, limits=Limits())
                show("I/O error", case.name, run)
    for kill in KILLS:
        if not names or kill.name in names:
            run = explore_kills(kill.setup, kill.operation, kill.then, kill.check, limits=Limits())
            show("kill, then power cut", kill.name, run)
    print(f"{total:>8} states in all")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
