# SPDX-License-Identifier: Apache-2.0
"""Explores whole containers without the limits of a quick run; takes hours.

Run from the project's folder: ``PYTHONPATH=src:tests:tests/crash python tests/crash/container_full.py [NAME ...]``
"""

from __future__ import annotations

import sys

from containercases import SCRIPTS
from explore import Report, explore, explore_errors
from lendingcases import LENDING
from simfs import Limits


def main(names: list[str]) -> int:
    """Explore the named scripts, all if none is named, and print what was covered.

    Returns:
        0; a violation ends the run with its story.
    """
    total = 0

    def show(kind: str, name: str, report: Report) -> None:
        nonlocal total
        total += report.states
        print(f"{report.states:>8} states {report.cuts:>7} cuts  depth {report.deepest}  {kind} {name}", flush=True)

    for script in (*SCRIPTS, *LENDING):
        if not names or script.name in names:
            show("power cut", script.name, explore(*script.prepared(), limits=Limits(samples=64, tears=64)))
            for lose in (False, True):
                limits = Limits(samples=8, tears=8)
                report = explore_errors(*script.prepared(), lose_names=lose, limits=limits)
                show("I/O error", script.name, report)
    print(f"{total:>8} states in all")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
