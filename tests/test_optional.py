# SPDX-License-Identifier: Apache-2.0
"""Tallystick without its extras: everything imports, and using what is missing names the extra.

Run twice: here with the extras hidden from a child process, and by ``./run test`` in an environment that has none
(``.venv-base``, at the oldest releases pyproject.toml allows; ``TALLYSTICK_EXPECT_BARE=1`` checks that it is so).
Uses pytest alone, no conftest and no plugin.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "tallystick"

# extra -> the modules it brings
EXTRAS = {
    "fast": ["nacl"],
    "vendor": ["sqlalchemy", "alembic"],
    "postgres": ["psycopg"],
    "usb": ["usb"],
    "tpm": ["tpm2_pytss"],
    "pkcs11": ["pkcs11"],
}

HIDE = """
import sys
class Hide:
    def __init__(self, names): self.names = names
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r} (hidden by the test)", name=name)
sys.meta_path.insert(0, Hide({names!r}))
"""


def child(code: str, *hidden: str) -> subprocess.CompletedProcess[str]:
    """Run Python without the modules of some extras (all of them if none is named)."""
    names = {name for extra in hidden or EXTRAS for name in EXTRAS[extra]}
    argv = [sys.executable, "-W", "error", "-c", HIDE.replace("{names!r}", repr(names)) + code]
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)


def tally(folder: Path, *arguments: str, hidden: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run the command line with its home in a new folder."""
    code = f"import os, sys\nos.environ.update(HOME={str(folder)!r}, COLUMNS='100')\n"
    code += "[os.environ.pop(name) for name in list(os.environ) if name.startswith(('XDG_', 'TALLY'))]\n"
    code += f"sys.argv = ['tally', *{arguments!r}]\nfrom tallystick.cli import main\nsys.exit(main())\n"
    return child(code, *hidden)


def module_names() -> list[str]:
    paths = (path.relative_to(ROOT / "src").with_suffix("") for path in sorted(PACKAGE.rglob("*.py")))
    return [".".join(path.parts).removesuffix(".__init__") for path in paths if path.name != "__main__"]


@pytest.mark.skipif(os.environ.get("TALLYSTICK_EXPECT_BARE") != "1", reason="this environment may have extras")
def test_this_environment_is_bare_and_at_the_lower_bounds() -> None:
    found = {name: importlib.util.find_spec(name) for names in EXTRAS.values() for name in names}
    # a folder of that name among the tests has no origin
    assert [name for name, spec in found.items() if spec is not None and spec.origin is not None] == []
    with (ROOT / "pyproject.toml").open("rb") as file:
        bounds = [row.split(">=") for row in tomllib.load(file)["project"]["dependencies"]]
    installed = [metadata.version(name) for name, _ in bounds]
    assert [
        (name, bound, version)
        for (name, bound), version in zip(bounds, installed, strict=True)
        if not f"{version}.0.0.".startswith(f"{bound}.")
    ] == []


def test_the_table_of_extras_is_that_of_the_project() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        assert set(tomllib.load(file)["project"]["optional-dependencies"]) == {*EXTRAS, "dev"}


def test_every_package_imports_without_extras() -> None:
    packages = [name for name in module_names() if (PACKAGE.parent / name.replace(".", "/")).is_dir()]
    done = child(f"import importlib\nfor name in {packages!r}: importlib.import_module(name)")
    assert done.returncode == 0, done.stderr


def test_a_module_that_needs_an_extra_says_which() -> None:
    """A module may need an extra; then it raises BackendUnavailableError naming it, never a bare ImportError."""
    code = f"""
import importlib, json
from tallystick.errors import BackendUnavailableError
needy, wrong = {{}}, {{}}
for name in {module_names()!r}:
    try:
        importlib.import_module(name)
    except BackendUnavailableError as refusal:
        needy[name] = f"{{refusal}} {{refusal.remedy}}"
    except ImportError as defect:
        wrong[name] = str(defect)
print(json.dumps([needy, wrong]))
"""
    done = child(code)
    assert done.returncode == 0, done.stderr
    needy, wrong = json.loads(done.stdout)
    assert wrong == {}
    assert {name: text for name, text in needy.items() if not any(f"tallystick[{x}]" in text for x in EXTRAS)} == {}


def test_every_algorithm_signs_and_verifies_without_extras() -> None:
    """The extra ``fast`` only makes Ed25519 faster, and the oldest ``cryptography`` allowed has ML-DSA."""
    code = """
from tallystick.codec.keys import ALGORITHMS
from tallystick.codec.signing import SoftwareKey
from tallystick.errors import VerificationError
for alg in ALGORITHMS:
    key = SoftwareKey.generate(alg)
    signature = key.sign(b"m")
    key.public_key.verify(b"m", signature)
    try:
        key.public_key.verify(b"n", signature)
    except VerificationError:
        print(alg)
"""
    done = child(code)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) >= {"-9", "-19", "-37", "-48"}


@pytest.mark.parametrize("extra", ["tpm", "pkcs11", "usb"])
def test_opening_a_device_without_its_extra_names_it(extra: str) -> None:
    code = f"""
import tallystick, tallystick.errors
try:
    tallystick.open("{extra}:")
except tallystick.errors.BackendUnavailableError as refusal:
    print(refusal.code, refusal.details["extra"], refusal.remedy)
"""
    done = child(code)
    assert done.returncode == 0, done.stderr
    assert re.match(rf"backend_unavailable {extra} .*tallystick\[{extra}\]", done.stdout)


def test_the_command_line_helps_without_extras(tmp_path: Path) -> None:
    for arguments in (["--help"], ["--version"], ["vendor", "--help"]):
        done = tally(tmp_path, *arguments)
        assert (done.returncode, done.stderr) == (0, ""), arguments
        assert done.stdout


def test_the_doctor_works_without_extras(tmp_path: Path) -> None:
    done = tally(tmp_path, "doctor")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_container_is_made_and_shown_without_extras(tmp_path: Path) -> None:
    assert tally(tmp_path, "create").returncode == 0
    shown = tally(tmp_path, "info")
    assert shown.returncode == 0, shown.stderr
    assert "TS-" in shown.stdout


def test_the_issuing_side_without_its_extra_names_it(tmp_path: Path) -> None:
    done = tally(tmp_path, "vendor", "list")
    assert done.returncode == 6, done.stderr
    assert done.stderr.startswith("error:")
    assert re.search(r"pip install ['\"]tallystick\[vendor\]['\"]", done.stderr)
    assert "Traceback" not in done.stderr
