# SPDX-License-Identifier: Apache-2.0
"""What every test may ask for: a clock, the outside vectors, tools, a PostgreSQL server.

A test that needs something this machine lacks is skipped with the reason, and fails under ``CI=true``: there
everything must run. The vectors fail rather than skip under ``TALLYSTICK_REQUIRE_VECTORS=1``.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, settings

from fakes import FakeClock

ROOT = Path(__file__).resolve().parent.parent
IN_CI = os.environ.get("CI") == "true"

# In CI the same examples each time, so that a failure is the change's; elsewhere new ones, so that bugs are found.
# No deadlines and no word about slow drawing: the machine is shared. ``HYPOTHESIS_PROFILE=thorough`` digs.
settings.register_profile(
    "ci",
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
    database=None,
)
settings.register_profile("dev", deadline=None)
settings.register_profile(
    "thorough", deadline=None, max_examples=2_000, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if IN_CI else "dev"))


def missing(reason: str, required: bool = IN_CI) -> NoReturn:
    """Skip the test for want of something, or fail it where that is required."""
    if required:
        pytest.fail(f"{reason} (required here)", pytrace=False)
    pytest.skip(reason)


@pytest.fixture
def clock() -> FakeClock:
    """A machine's clocks, moved by hand."""
    return FakeClock()


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's folder."""
    return ROOT


@pytest.fixture(scope="session")
def vectors() -> Path:
    """The folder of outside test vectors."""
    folder = ROOT.parent / "shared" / "vectors"
    if not folder.is_dir():
        missing(f"no test vectors in {folder}", os.environ.get("TALLYSTICK_REQUIRE_VECTORS") == "1")
    return folder


@pytest.fixture(scope="session")
def require_tool() -> Callable[[str], str]:
    """``require_tool("zbarimg")``: the program's path, or the test does not run."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            missing(f"the program {name} is not installed")
        return path

    return find


@pytest.fixture(scope="session")
def peer_python() -> str:
    """A Python with python-cwt and pycose, which need an older cbor2 than ours; driven as a process."""
    path = ROOT / ".venv-peers" / "bin" / "python"
    if not path.exists():
        missing("no .venv-peers; ./run test makes it")
    return str(path)


# ------------------------------------------------------------------------------------------------------- PostgreSQL


def _postgres_programs() -> Path | None:
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    versions = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    return max((path.parent for path in versions), key=lambda path: float(path.parent.name), default=None)


def _unprivileged() -> list[str]:
    """The prefix that runs a program as somebody else than root: PostgreSQL insists."""
    return ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd="/", check=False)
    if done.returncode:
        pytest.fail(f"{command}: {done.stdout}{done.stderr}", pytrace=False)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL of a PostgreSQL server of our own, reached by a Unix socket only, gone after the session.

    All tests of one worker share its database ``postgres``; `postgres_database` is a new one for each test.
    """
    programs = _postgres_programs()
    if programs is None:
        missing("PostgreSQL's server programs are not installed")
    if importlib.util.find_spec("psycopg") is None:
        missing("psycopg is not installed")
    folder = Path(tempfile.mkdtemp(prefix="tallystick-pg-", dir="/tmp"))  # short: socket paths end at 107 bytes
    if _unprivileged():
        shutil.chown(folder, "postgres")
    options = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off -c max_connections=40"
    data = str(folder / "data")
    create = f"{programs}/initdb -D {data} -U postgres -A trust -E UTF8 --locale=C -N".split()
    control = [*_unprivileged(), f"{programs}/pg_ctl", "-D", data, "-l", f"{folder}/log", "-w", "-t", "60"]
    try:
        _run(*_unprivileged(), *create)
        _run(*control, "-o", options, "start")
        yield f"postgresql+psycopg://postgres@/postgres?host={folder}"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], capture_output=True, timeout=120, cwd="/", check=False)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_database(postgres_url: str) -> Iterator[str]:
    """The URL of an empty database on that server, dropped after the test."""
    import psycopg

    name = f"t{secrets.token_hex(8)}"
    with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as server:
        server.execute(f'CREATE DATABASE "{name}"')  # the name is hexadecimal
        yield postgres_url.replace("/postgres?", f"/{name}?")
        server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


# ---------------------------------------------------------------------------------------------- the installed command


@pytest.fixture(scope="session")
def command_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PATH on which ``tally`` and ``python3`` are those of the environment under test."""
    beside = Path(sys.executable).parent
    folders = [str(beside), "/usr/local/bin", "/usr/bin", "/bin"]
    if not (beside / "tally").exists():  # run from a source tree, without an installation
        folder = tmp_path_factory.mktemp("bin")
        call = "import sys; from tallystick.cli import main; sys.exit(main())"
        (folder / "tally").write_text(f"#!/bin/sh\nexec '{sys.executable}' -c '{call}' \"$@\"\n", encoding="ascii")
        (folder / "tally").chmod(0o755)
        folders.insert(0, str(folder))
    return ":".join(folders)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many crash states were explored, whichever worker did it (`tests/crash/conftest.py` books them)."""
    rows: list[tuple[str, list[int]]] = sorted(
        (report.nodeid.rpartition("::")[2], numbers)
        for reports in terminalreporter.stats.values()
        for report in reports
        if isinstance(report, pytest.TestReport) and report.when == "call"
        for name, numbers in report.user_properties
        if name == "explored" and isinstance(numbers, list)
    )
    if not rows:
        return
    terminalreporter.section("crash states explored")
    for test, (states, cuts, deepest) in rows:
        terminalreporter.write_line(f"{states:>8} states {cuts:>7} cuts  depth {deepest}  {test}")
    terminalreporter.write_line(f"{sum(numbers[0] for _, numbers in rows):>8} states in all")
