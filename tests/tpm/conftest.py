# SPDX-License-Identifier: Apache-2.0
"""TPMs in software: ``tpm`` is powered on and empty, ``make_tpm`` makes more, ``factory`` has endorsement certificates.

Without swtpm these tests are skipped, and fail under ``CI=true``. Whatever happens in a test, its TPMs end with it.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from swtpm_rig import Prepared, Swtpm, prepare

from conftest import missing

MakeTpm = Callable[..., Swtpm]


@pytest.fixture(scope="session")
def swtpm(require_tool: Callable[[str], str]) -> str:
    """The program; with the library that reaches it."""
    if importlib.util.find_spec("tpm2_pytss") is None:
        missing("tpm2-pytss is not installed")
    return require_tool("swtpm")


@pytest.fixture
def make_tpm(swtpm: str, tmp_path: Path) -> Iterator[MakeTpm]:
    """``make_tpm("name", template=...)``: one more TPM, running."""
    made: list[Swtpm] = []

    def make(name: str = "tpm", template: Path | None = None) -> Swtpm:
        made.append(Swtpm(tmp_path / name, template))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def tpm(make_tpm: MakeTpm) -> Swtpm:
    """A TPM nobody has used yet, running."""
    return make_tpm()


@pytest.fixture(scope="session")
def factory(swtpm: str, require_tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """A TPM as its maker sells it, made once for all workers: ``make_tpm(template=factory.state)``."""
    for tool in ("swtpm_setup", "swtpm_localca", "swtpm_cert"):
        require_tool(tool)
    base = tmp_path_factory.getbasetemp()
    return prepare((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "tpm-factory")
