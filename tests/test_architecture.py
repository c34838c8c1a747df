# SPDX-License-Identifier: Apache-2.0
"""The rules of the house, held: layers, sizes, one importer per library, light start-up, no test seams in ``src``.

Each rule is a function of ``source_tree.py``; the second half of this file shows that each can fail.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import source_tree
from source_tree import FACADE, Source

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src"

# From the ground up; imports point down. ``registry`` names backends by dotted strings, so that they load when used.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("codes", "record", "version"),
    ("errors",),
    ("clock",),
    ("codec",),
    ("license",),
    ("container",),
    ("backends", "dongle"),
    ("registry",),
    ("exchange",),
    (FACADE,),
    ("authority",),
    ("portal",),
    ("cli",),
)
MODULE_LINES = 300
FUNCTION_LINES = 50

# library -> (where it may be imported, in how many files); None: in any number
FOREIGN: dict[str, tuple[str, int | None]] = {
    "cryptography": ("", None),
    "cbor2": ("codec.cbor.", 1),
    "segno": ("codec.qr.", 1),
    "nacl": ("codec.", 1),
    "platformdirs": ("", 1),
    "usb": ("dongle.", 1),
    "libusb_package": ("dongle.", 1),
    "tpm2_pytss": ("backends.tpm.", 1),
    "pkcs11": ("backends.", 1),
    "sqlalchemy": ("authority.", None),
    "alembic": ("authority.", None),
    "click": ("cli.", None),
    "rich": ("cli.", None),
}

UNPACKERS = {"tarfile", "zipfile", "pickle", "marshal", "shelve", "subprocess"}
INNER = {"codec", "license", "container"}

# What an application that asks "may this run?" must not pay for at each start.
SLOW = {"asyncio", "click", "dataclasses", "json", "logging", "pathlib", "platformdirs", "rich", "segno", "subprocess"}
APPLICATION_PATH = {FACADE, *"errors version record clock codec license container backends registry".split()}

# (component, variable): the only things read from the environment; libtss2 is silenced if its own is not set, SoftHSM's
# tells the doctor where its tokens are
ENVIRONMENT = {
    ("cli", "TALLY_CONTAINER"),
    ("cli", "SOFTHSM2_CONF"),
    ("backends", "TSS2_LOG"),
    ("backends", "TALLYSTICK_PKCS11"),
}


@pytest.fixture(scope="module")
def sources() -> list[Source]:
    return source_tree.read(SRC, SRC / "tallystick")


def test_imports_point_down(sources: list[Source]) -> None:
    assert source_tree.layer_violations(sources, LAYERS) == []


def test_no_modules_import_each_other(sources: list[Source]) -> None:
    assert source_tree.cycles(sources) == []


def test_modules_and_functions_stay_short(sources: list[Source]) -> None:
    simulator = source_tree.read(ROOT, ROOT / "firmware_sim")
    assert source_tree.size_violations(sources + simulator, MODULE_LINES, FUNCTION_LINES) == []


def test_each_foreign_library_has_one_place(sources: list[Source]) -> None:
    assert source_tree.foreign_violations(sources, FOREIGN) == []


def test_the_inner_layers_never_unpack_or_start_programs(sources: list[Source]) -> None:
    inner = [source for source in sources if source.component in INNER]
    assert source_tree.import_violations(inner, UNPACKERS, at_import_time_only=False) == []


def test_nothing_slow_is_imported_at_import_time_on_the_applications_path(sources: list[Source]) -> None:
    path = [source for source in sources if source.component in APPLICATION_PATH]
    banned = SLOW - {"segno"}  # by its one importer, which the next test shows is itself imported late
    assert source_tree.import_violations(path, banned, at_import_time_only=True) == []


def test_importing_the_facade_loads_nothing_slow() -> None:
    code = "import sys; before = set(sys.modules); import tallystick; tallystick.open; tallystick.create; "
    code += "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) & (SLOW | {"nacl", "sqlalchemy", "alembic", "email", "http", "ssl"}) == set()


def test_every_public_name_is_documented(sources: list[Source]) -> None:
    assert source_tree.docstring_violations(sources) == []


def test_there_is_no_simulator_and_no_test_seam_in_src(sources: list[Source]) -> None:
    assert source_tree.seam_violations(sources) == []


def test_the_environment_is_read_in_one_place_for_each_variable(sources: list[Source]) -> None:
    reads = [
        (s.component, variable, s.name, line) for s in sources for line, variable in source_tree.environment_reads(s)
    ]
    assert [read for read in reads if read[:2] not in ENVIRONMENT] == []


def test_nothing_is_named_for_having_no_name(sources: list[Source]) -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "misc"}
    assert [source.name for source in sources if vague & set(source.name.split("."))] == []


def test_every_package_says_that_it_is_one() -> None:
    folders = {path.parent for path in (SRC / "tallystick").rglob("*.py")}
    assert [str(folder) for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []


def test_every_file_names_its_license() -> None:
    folders = ("src", "tests", "benchmarks", "examples", "firmware_sim")
    files = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    files += [ROOT / "run", ROOT / ".ci" / "run", ROOT / "pyproject.toml", ROOT / "mkdocs.yml"]
    expected = "# SPDX-License-Identifier: Apache-2.0"
    assert [str(path) for path in files if expected not in path.read_text(encoding="utf-8").splitlines()[:2]] == []


def test_what_tests_share_has_one_name_each() -> None:
    paths = [path for path in (ROOT / "tests").rglob("*.py") if not re.match("test_|conftest|__init__", path.name)]
    names = [path.stem for path in paths]
    assert sorted(name for name in set(names) if names.count(name) > 1) == []
    with (ROOT / "pyproject.toml").open("rb") as file:
        listed = tomllib.load(file)["tool"]["pytest"]["ini_options"]["pythonpath"]
    assert {str(path.parent.relative_to(ROOT)) for path in paths} <= set(listed)


def test_tests_never_sleep() -> None:
    tests = source_tree.read(ROOT, ROOT / "tests")
    assert [
        f"{t.name}:{n}" for t in tests for n, line in enumerate(t.text.splitlines(), 1) if _SLEEP.search(line)
    ] == []


_SLEEP = re.compile(r"\b(time|asyncio)\.sleep\(")


def test_the_version_is_said_once() -> None:
    import tallystick

    with (ROOT / "pyproject.toml").open("rb") as file:
        assert tallystick.__version__ == tomllib.load(file)["project"]["version"]


# ------------------------------------------------------------------------------------------- each rule is able to fail


def module(name: str, text: str, is_package: bool = False) -> Source:
    return Source(f"tallystick.{name}", text, is_package)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("codec.cbor", "from tallystick.license import model"),
        ("codec.cbor", "from ..license.model import License"),
        ("codec.cbor", "import tallystick.container"),
        ("errors", "def late():\n    from tallystick.clock import Reading"),
        ("container.base", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from tallystick import registry"),
        ("backends.software", "from tallystick.dongle import usb"),
        ("authority.issue", "from importlib import import_module\nimport_module('tallystick.cli')"),
        ("exchange.files", "import tallystick"),
        ("novelty", "x = 1"),
    ],
)
def test_an_import_that_does_not_point_down_is_found(name: str, text: str) -> None:
    assert source_tree.layer_violations([module(name, text)], LAYERS) != []


def test_imports_that_point_down_are_fine() -> None:
    good = [
        module("container.base", "from tallystick.codec import cbor\nfrom . import anchor\nimport os"),
        module("container.anchor", "from tallystick.errors import error"),
        module("cli.main", "import tallystick\nfrom tallystick.authority.issue import issue"),
    ]
    assert source_tree.layer_violations(good, LAYERS) == []
    assert source_tree.cycles(good) == []


def test_a_cycle_is_found_through_function_level_imports() -> None:
    first = module("codec.one", "from tallystick.codec import two")
    second = module("codec.two", "def f():\n    from tallystick.codec.one import g")
    for_types = module("codec.two", "if TYPE_CHECKING:\n    from tallystick.codec.one import g")
    assert len(source_tree.cycles([first, second])) == 1
    assert source_tree.cycles([first, for_types]) == []


def test_long_modules_and_functions_are_found() -> None:
    long = module("codec.long", "def f():\n" + "    x = 1\n" * 50 + "\n" * 250)
    assert len(source_tree.size_violations([long], MODULE_LINES, FUNCTION_LINES)) == 2
    short = module("codec.short", "def f():\n" + "    x = 1\n" * 49)
    assert source_tree.size_violations([short], MODULE_LINES, FUNCTION_LINES) == []


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["codec.keys"], "import segno"),
        (["container.sealed"], "def f():\n    from click import echo"),
        (["codec.ed25519", "codec.keys"], "import nacl.bindings"),
        (["codec.keys"], "import requests"),
        (["codec.keys"], "import importlib\nimportlib.import_module('rich.table')"),
    ],
)
def test_a_library_out_of_its_place_is_found(names: list[str], text: str) -> None:
    assert source_tree.foreign_violations([module(name, text) for name in names], FOREIGN) != []


def test_banned_modules_are_found_wherever_they_hide() -> None:
    hidden = [
        module("codec.a", "def f():\n    import zipfile"),
        module("codec.b", "try:\n    from pickle import loads\nexcept ImportError:\n    pass"),
        module("codec.c", "class C:\n    import subprocess"),
    ]
    assert len(source_tree.import_violations(hidden, UNPACKERS, at_import_time_only=False)) == 3
    assert len(source_tree.import_violations(hidden, UNPACKERS, at_import_time_only=True)) == 2


def test_missing_docstrings_are_found() -> None:
    text = '"""M."""\nclass A:\n    """A."""\n    def b(self): ...\n    def _c(self): ...\ndef d(): ...\n'
    complaints = source_tree.docstring_violations([module("codec.a", text), module("codec.b", "x = 1")])
    assert [complaint.split()[-1] for complaint in complaints] == ["b", "d", "module"]


@pytest.mark.parametrize(
    "text",
    [
        "import firmware_sim",
        "scheme = 'firmware_sim.backend:open'",
        "def open_insecure(): ...",
        "class FakeAnchor: ...",
        "def seal(key, *, mock_time=None): ...",
        "x = y.for_testing",
    ],
)
def test_a_test_seam_is_found(text: str) -> None:
    assert source_tree.seam_violations([module("backends.a", text)]) != []


@pytest.mark.parametrize(
    ("text", "variable"),
    [
        ("import os\nos.environ['A']", "A"),
        ("import os\nos.environ.get('A', '')", "A"),
        ("import os\nos.getenv('A')", "A"),
        ("import os\nx = dict(os.environ)", None),
        ("from os import environ", None),
        ("import os\n'A' in os.environ", None),
        ("import click\nclick.option('--a', envvar='A')", "A"),
    ],
)
def test_reading_the_environment_is_found(text: str, variable: str | None) -> None:
    assert [found for _, found in source_tree.environment_reads(module("cli.a", text))] == [variable]


def test_a_harmless_word_is_no_test_seam() -> None:
    text = '"""Nothing insecure, no mock; firmware_sim imports this."""\nlatest = contest = attested = 1'
    assert source_tree.seam_violations([module("codec.a", text)]) == []
