# SPDX-License-Identifier: Apache-2.0
"""Containers behind tpm2-abrmd (``tpm:tcti=abrmd``): several programs share one TPM, and the manager may go away."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from abrmd_rig import Abrmd
from desk import Desk, Done
from swtpm_rig import Swtpm

PATIENCE_S = 240.0


class Person(Desk):
    """Somebody with a container in a TPM that a resource manager serves; each command is a process.

    Args:
        folder: for everything.
        tpm: the TPM.
        path: where programs are.
    """

    def __init__(self, folder: Path, tpm: Swtpm, path: str) -> None:
        super().__init__(folder)
        self.manager = Abrmd(folder, tpm)
        self.env |= self.manager.environment
        self.env["TALLY_CONTAINER"] = f"tpm:path={folder / 'container'};tcti={self.manager.tcti}"
        self._path = path

    def tally(self, *arguments: str, input: str | bytes | None = None) -> Done:
        """Run a command in a process of its own."""
        assert not isinstance(input, bytes)
        return self.process(self._path, *arguments, input=input)

    def begun(self, *words: str) -> subprocess.Popen[str]:
        """Begin a command."""
        return subprocess.Popen(["tally", *words], env=self.plain_env(self._path), stdout=subprocess.PIPE, text=True)


@pytest.fixture
def person(tmp_path: Path, tpm: Swtpm, command_path: str) -> Iterator[Person]:
    made = Person(tmp_path, tpm, command_path)
    yield made
    made.manager.close()


def test_a_container_is_made_filled_used_by_several_programs_and_destroyed(person: Person, tpm: Swtpm) -> None:
    person.ok("create")
    person.activate("render", units=40)
    person.ok("check", "render")
    programs = [person.begun("use", "render", "3") for _ in range(6)]
    for program in programs:
        out, _ = program.communicate(timeout=PATIENCE_S)
        assert (program.returncode, "left" in out) == (0, True), out
    (row,) = person.ok("list", "--json").json()["licenses"]
    assert [book["used"] for book in row["books"] if book["counter"] == ""] == [6 * 3]
    assert tpm.handles().objects == ()
    person.ok("destroy", "--force", "--yes")
    assert not (person.folder / "container").exists()


def test_a_manager_that_was_stopped_is_told_and_nothing_was_lost(person: Person) -> None:
    person.ok("create")
    person.manager.kill()
    assert "TPM" in person.tally("info").error
    person.manager.start()
    assert person.ok("info", "--json").json()["details"]["rollback"].startswith("P4")
