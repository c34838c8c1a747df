# SPDX-License-Identifier: Apache-2.0
"""``docs/cli.md`` is what the help texts say."""

from __future__ import annotations

from pathlib import Path

import pytest

from tallystick.cli.reference import markdown
from tallystick.cli.root import COMMANDS


def test_the_reference_is_made_from_the_help_texts(root: Path) -> None:
    pytest.importorskip("sqlalchemy", reason="the vendor's side is part of the page")
    written = (root / "docs" / "cli.md").read_text(encoding="utf-8")
    assert written == markdown(), "run: python -m tallystick.cli.reference > docs/cli.md"


def test_every_command_has_its_section() -> None:
    page = markdown()
    for section in COMMANDS.values():
        for name in section:
            assert f"\n### tally {name}\n" in page


def test_the_page_does_not_depend_on_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    before = markdown()
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TALLY_CONTAINER", "file:elsewhere")
    assert markdown() == before
