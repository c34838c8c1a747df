# SPDX-License-Identifier: Apache-2.0
"""Prints, at the end of a run, how many crash states were explored."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from explore import Report

_REPORTS = pytest.StashKey[dict[str, Report]]()


@pytest.fixture
def explored(request: pytest.FixtureRequest) -> Callable[[Report], Report]:
    """Return a function that books what a driver covered."""
    reports = request.config.stash.setdefault(_REPORTS, {})

    def book(report: Report) -> Report:
        known = reports.setdefault(request.node.name, Report())
        known.cuts += report.cuts
        known.states += report.states
        known.deepest = max(known.deepest, report.deepest)
        return report

    return book


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table."""
    reports = config.stash.get(_REPORTS, {})
    if not reports:
        return
    terminalreporter.section("crash states explored")
    for name, report in sorted(reports.items()):
        terminalreporter.write_line(f"{report.states:>8} states {report.cuts:>7} cuts  depth {report.deepest}  {name}")
    terminalreporter.write_line(f"{sum(report.states for report in reports.values()):>8} states in all")
