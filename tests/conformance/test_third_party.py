# SPDX-License-Identifier: Apache-2.0
"""``docs/backends.md`` is right: its backend, in a folder of its own, runs the suite as the page says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conformance import suite

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "backends.md").read_text(encoding="utf-8")


def test_a_backend_of_somebody_elses_runs_the_suite(tmp_path: Path) -> None:
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        name = re.match(r"# (\S+)\n", block)
        assert name is not None
        (tmp_path / name[1]).write_text(block, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n", encoding="utf-8")
    paths = [ROOT / "tests", *[Path(path) for path in sys.path if path]]
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "not TestProcesses and not TestMany"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
    env.pop("COV_CORE_SOURCE", None)
    done = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    counted = {word: int(number) for number, word in re.findall(r"(\d+) (passed|skipped)", done.stdout)}
    assert counted["passed"] >= 100, done.stdout
    assert counted["skipped"] > 0


def test_every_class_of_the_suite_is_taken_over_by_the_star() -> None:
    here = Path(__file__).parent
    classes = {
        name for path in here.glob("suite_*.py") for name in re.findall(r"^class (Test\w+)", path.read_text(), re.M)
    }
    assert classes == {name for name in suite.__all__ if name.startswith("Test")}


def test_the_page_names_every_hook_of_a_case() -> None:
    from conformance.cases import BackendCase

    optional = {name for name, field in BackendCase.__dataclass_fields__.items() if field.default is None}
    assert optional == set(re.findall(r"^\| `([a-z]\w+)\([a-z]", PAGE, re.MULTILINE))


@pytest.mark.parametrize("folder", ["tests", "docs", "src"])
def test_the_source_distribution_has_what_the_page_needs(folder: str) -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    included = re.search(r"\[tool\.hatch\.build\.targets\.sdist\]\ninclude = (\[[^]]*\])", text)
    assert included is not None
    assert f'"/{folder}"' in included[1]
