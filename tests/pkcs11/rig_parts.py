# SPDX-License-Identifier: Apache-2.0
"""What the rigs of modules are made of: programs, libraries and shims found or compiled, processes that end."""

from __future__ import annotations

import atexit
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

from conftest import missing

PATIENCE_S = 60.0
HERE = Path(__file__).parent
ROOTS = ("/usr/lib", "/usr/lib/*", "/usr/lib64", "/usr/local/lib", "/usr/libexec")


@functools.cache
def compiled(source: str) -> Path:
    """Compile one of the shims beside this file; its name tells its content."""
    compiler = program("gcc", "gcc")
    folder = Path(tempfile.mkdtemp(prefix="tallystick-shim-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    content = (HERE / source).read_bytes() + (HERE / "p11_abi.h").read_bytes()
    target = folder / f"{source.removesuffix('.c')}-{hashlib.sha256(content).hexdigest()[:16]}.so"
    options = ["-O1", "-shared", "-fPIC", "-o", str(target)]
    run([compiler, *options, str(HERE / source), "-ldl", "-lpthread"])
    return target


def program(name: str, package: str) -> str:
    """Its path, or the test does not run."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    return found or missing(f"the program {name} is not installed (Debian: {package})")


def library(package: str, *names: str) -> str:
    """The path of the first of these files below the folders of libraries, or the test does not run."""
    places = (Path("/").glob(f"{root[1:]}/{name}") for name in names for root in ROOTS)
    found = next((str(path) for place in places for path in sorted(place)), None)
    return found or missing(f"{names[0]} is not installed (Debian: {package})")


def run(command: list[str], environment: Mapping[str, str] | None = None) -> None:
    """Run a program that must succeed."""
    done = tried(command, environment)
    if done.returncode:
        raise RuntimeError(f"{command[0]}: {done.stdout}{done.stderr}")


def answers(command: list[str], environment: Mapping[str, str]) -> None:
    """Run a program again and again until it succeeds: a server that does not say when it is ready is asked."""
    deadline = time.monotonic() + PATIENCE_S
    while (done := tried(command, environment)).returncode:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{command[0]}: {done.stdout}{done.stderr}")


def until(condition: Callable[[], bool]) -> None:
    """Look again and again until it is so."""
    event, deadline = threading.Event(), time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it does not come about"
        event.wait(0.005)


def tried(command: list[str], environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program, with these variables besides the environment."""
    return subprocess.run(
        command, env={**os.environ, **(environment or {})}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=PATIENCE_S, check=False,
    )  # fmt: skip


def tied() -> list[str]:
    """A test process that is killed takes its servers along."""
    found = shutil.which("setpriv")
    return [] if found is None else [found, "--pdeathsig", "KILL"]


def forked(work: Callable[[], None]) -> int:
    """Do something in a forked child; return its status."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
