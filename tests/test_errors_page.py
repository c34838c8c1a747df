# SPDX-License-Identifier: Apache-2.0
"""``docs/errors.md`` says what the table of conditions says: every code once, none that is gone."""

from __future__ import annotations

import re
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tallystick import errors
from tallystick.codes import TABLE
from tallystick.license.policy import NOTICES

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "errors.md"


@pytest.fixture(scope="module")
def maker() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "docs" / "make_errors.py"), run_name="make_errors")


def test_the_page_is_what_the_table_says(maker: dict[str, Any]) -> None:
    page: Callable[[], str] = maker["page"]
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python docs/make_errors.py"


def test_every_code_has_one_row() -> None:
    rows = re.findall(r"^\| `([a-z_]+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(rows) == sorted([*TABLE, *NOTICES])


def test_every_exit_status_of_the_table_is_explained(maker: dict[str, Any]) -> None:
    assert {row[1] for row in TABLE.values()} <= set(maker["EXITS"])


def test_no_cell_breaks_the_table() -> None:
    assert [code for code, row in TABLE.items() if any("|" in cell or "\n" in cell for cell in row[3:])] == []


def test_every_class_is_in_the_tree() -> None:
    names = {name for name, value in vars(errors).items() if isinstance(value, type) and name.endswith("Error")}
    text = PAGE.read_text(encoding="utf-8")
    assert {name for name in names if f"\n| `{name}` | `" not in text} == set()


def test_a_page_out_of_date_is_noticed(maker: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    main: Callable[[list[str]], int] = maker["main"]
    other = tmp_path / "errors.md"
    monkeypatch.setitem(main.__globals__, "PAGE", other)
    other.write_text("something else", encoding="utf-8")
    assert main(["--check"]) == 1
    assert main([]) == 0
    assert main(["--check"]) == 0
    assert other.read_text(encoding="utf-8") == PAGE.read_text(encoding="utf-8")
