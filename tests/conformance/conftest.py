# SPDX-License-Identifier: Apache-2.0
"""Lets the asserts of the suite's modules explain themselves, and leaves out of long cases what another one shows."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("conformance")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is beyond a case's slice, unless tests are chosen by ``-k``."""
    if config.getoption("keyword"):
        return
    left_out = [item for item in items if _is_beyond(item)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in set(left_out)]


def _is_beyond(item: pytest.Item) -> bool:
    callspec = getattr(item, "callspec", None)
    case = None if callspec is None else callspec.params.get("case")
    wanted = getattr(case, "slice", frozenset())
    return bool(wanted) and getattr(item.cls, "__name__", "") not in wanted  # type: ignore[attr-defined]
