# SPDX-License-Identifier: Apache-2.0
"""Books how many crash states were explored; `tests/conftest.py` prints the table."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from explore import Report


@pytest.fixture
def explored(request: pytest.FixtureRequest) -> Callable[[Report], Report]:
    """Return a function that books what a driver covered; the report of the test carries it, from any worker."""

    def book(report: Report) -> Report:
        request.node.user_properties.append(("explored", [report.states, report.cuts, report.deepest]))
        return report

    return book
