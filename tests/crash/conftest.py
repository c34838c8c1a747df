# SPDX-License-Identifier: Apache-2.0
"""Prints, at the end of a run, how many crash states were explored."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from explore import Report

_BOOKED = "explored"


@pytest.fixture
def explored(request: pytest.FixtureRequest) -> Callable[[Report], Report]:
    """Return a function that books what a driver covered; the report of the test carries it, from any worker."""

    def book(report: Report) -> Report:
        request.node.user_properties.append((_BOOKED, [report.states, report.cuts, report.deepest]))
        return report

    return book


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    rows = sorted(
        (report.nodeid.rpartition("::")[2], *numbers)
        for report in reports
        if isinstance(report, pytest.TestReport) and report.when == "call"
        for name, numbers in report.user_properties
        if name == _BOOKED
    )
    if not rows:
        return
    terminalreporter.section("crash states explored")
    for test, states, cuts, deepest in rows:
        terminalreporter.write_line(f"{states:>8} states {cuts:>7} cuts  depth {deepest}  {test}")
    terminalreporter.write_line(f"{sum(row[1] for row in rows):>8} states in all")
