# SPDX-License-Identifier: Apache-2.0
"""A folder in which ``tally vendor`` is typed: the fixture ``shell``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tallystick.cli import main


class Shell:
    """A folder in which ``tally`` is typed."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys
        self.err = ""

    def tally(self, *arguments: str, status: int = 0) -> str:
        """Run a command; its standard output."""
        self._capsys.readouterr()
        found = main(arguments)
        out, self.err = self._capsys.readouterr()
        assert found == status, (arguments, out, self.err)
        assert "Traceback" not in self.err
        return out.strip()

    def vendor(self, *arguments: str, status: int = 0) -> str:
        """Run ``tally vendor --home v ...``."""
        return self.tally("vendor", "--home", "v", *arguments, status=status)

    def json(self, *arguments: str, status: int = 0) -> dict[str, Any]:
        """Run with ``--json``."""
        found: dict[str, Any] = json.loads(self.vendor(*arguments, "--json", status=status))
        assert found.pop("schema") == 1
        return found
