# SPDX-License-Identifier: Apache-2.0
"""The mistakes of ``docs/mistakes.md`` that a transcript cannot make: a folder without permission, a full disk, another
computer, a wrong clock, a killed import. Each is made for real, and the page quotes what is then said.

A quote is a plain fenced block right below ``<!-- made by tests/test_mistakes.py: NAME -->``; ``...`` stands for any
text, as in transcripts.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from computer import Computer

import staged
import tallystick
from conftest import missing
from fakes import START, FakeClock
from issuer import DAY, Issuer
from tallystick.backends.file import FileBackend
from transcripts import matches

TESTS = Path(__file__).resolve().parent
SOURCE = TESTS.parent / "src"
PAGE = TESTS.parent / "docs" / "mistakes.md"
QUOTE = re.compile(r"^<!-- made by tests/test_mistakes\.py: (.+?) -->\n+```\n(.*?)^```$", re.DOTALL | re.MULTILINE)
QUOTES = {name: tuple(body.splitlines()) for name, body in QUOTE.findall(PAGE.read_text(encoding="utf-8"))}
TALLY = (sys.executable, "-m", "tallystick.cli")
KILLS = 16
CLOCK_LINES = ("time used", "computer's clock")
SMALL_DISK = """mount -t tmpfs -o size=1200k,mode=0700 none "$1" && shift && exec sh -c "$@" """


def quoted(name: str, lines: Sequence[str]) -> bool:
    """Whether the page quotes exactly these lines."""

    return matches(QUOTES[name], list(lines), {})


class Person:
    """Who types ``tally``: a home of their own, and a license for ``tallyplot`` in the default container.

    Args:
        home: an empty folder.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environment = {
            "HOME": str(home),
            "PATH": os.defpath,
            "LC_ALL": "C.UTF-8",
            "COLUMNS": "100",
            "PYTHONPATH": f"{SOURCE}:{TESTS}:{TESTS / 'backends'}:{home}",
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self.uri = f"file:{home / 'container'}"
        self.acme = Issuer()
        self.acme.now = int(time.time())

    def create(self) -> None:
        """Make the container."""
        tallystick.create(self.uri, self.acme.trust).close()

    def ordered(self, **terms: int) -> Path:
        """Request a license and have it issued: the update's file."""
        with tallystick.open(self.uri, self.acme.trust, background=False) as container:
            request = container.request(code="a code", product="tallyplot")
        path = self.home / "answer.tallyupd"
        path.write_bytes(self.acme.answer(request, **({"units": 100} | terms)))
        return path

    def install(self, update: Path) -> None:
        """Install an update."""
        with tallystick.open(self.uri, self.acme.trust, background=False) as container:
            container.install(update.read_bytes())

    def left(self) -> int | None:
        """Units left; None without a license."""
        with tallystick.open(self.uri, self.acme.trust, background=False) as container:
            verdicts = [view.verdict for view in container.licenses()]
        return verdicts[0].available if verdicts and verdicts[0] else None

    def tally(self, *arguments: str) -> tuple[list[str], int]:
        """Type ``tally``: the lines shown, and the exit status."""
        return self.run([*TALLY, *arguments])

    def run(self, command: Sequence[str]) -> tuple[list[str], int]:
        """Run a command in the home."""
        done = subprocess.run(
            command,
            cwd=self.home,
            env={**self.environment, "TALLY_CONTAINER": self.uri},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        return [line.rstrip() for line in done.stdout.splitlines()], done.returncode


@pytest.fixture
def person(tmp_path: Path) -> Person:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    return Person(home)


def test_the_page_quotes_what_is_made_here() -> None:
    made = {"read-only folder", "read-only container", "full disk", "changed machine-id", "another computer"}
    assert set(QUOTES) == made | {"clock set back", "clock set ahead", "killed during import"}


# ---------------------------------------------------------------------------------------------------- no permission


@pytest.fixture
def bound(require_tool: Callable[[str], str]) -> tuple[str, ...]:
    """The prefix of a command that permissions hold for: root does without its capabilities."""
    return () if os.geteuid() else (require_tool("setpriv"), "--bounding-set=-all", "--inh-caps=-all")


def test_a_request_into_a_read_only_folder_is_refused_before_it_is_made(person: Person, bound: tuple[str, ...]) -> None:
    person.create()
    person.install(person.ordered())
    person.home.chmod(0o555)
    shown, status = person.run([*bound, *TALLY, "request", "--refresh"])
    person.home.chmod(0o755)
    assert status == 9
    assert quoted("read-only folder", anonymous(shown, person)), shown
    assert "refresh" not in "\n".join(person.tally("show", "--requests")[0])


def test_a_read_only_container_loses_nothing(person: Person, bound: tuple[str, ...]) -> None:
    person.create()
    person.install(person.ordered())
    container = person.home / "container"
    container.chmod(0o500)
    for path in container.iterdir():
        path.chmod(0o400)
    shown, status = person.run([*bound, *TALLY, "use", "tallyplot", "3"])
    assert status == 9
    assert quoted("read-only container", anonymous(shown, person)), shown
    container.chmod(0o700)
    for path in container.iterdir():
        path.chmod(0o600)
    assert person.tally("use", "tallyplot", "3") == (["tallyplot: used 3, 97 left"], 0)


def anonymous(lines: Sequence[str], person: Person) -> list[str]:
    """The lines, with the home as people write it."""
    return [line.replace(str(person.home), "/home/user") for line in lines]


# --------------------------------------------------------------------------------------------------------- full disk


def small_disk(person: Person, script: str) -> tuple[list[str], int]:
    """Run a script with a disk of 1.2 MB at ``disk``, in a mount namespace of its own."""
    for namespace in (["unshare", "-m"], ["unshare", "-rm"]):
        if subprocess.run([*namespace, "true"], capture_output=True, timeout=60, check=False).returncode == 0:
            break
    else:
        missing("this system lets nobody mount a small disk (unshare -m, unshare -rm)")
    (person.home / "disk").mkdir()
    return person.run([*namespace, "sh", "-c", SMALL_DISK, "sh", str(person.home / "disk"), script])


def test_a_full_disk_refuses_loses_nothing_and_counts_on(person: Person) -> None:
    person.create()
    update = person.ordered()
    empty = shutil.copytree(person.home / "container", person.home / "empty")
    person.install(update)
    tally = f"{sys.executable} -m tallystick.cli"
    script = f"""
        cp -a container {empty} disk/ && export TALLY_CONTAINER=file:./disk/empty
        dd if=/dev/zero of=disk/filler bs=4096 2>/dev/null
        echo "-- full"; {tally} import {update}; echo "status $?"
        echo "-- held"; {tally} list; {tally} use tallyplot 3 --container file:./disk/container
        echo "-- again"; rm disk/filler; {tally} import {update}; {tally} use tallyplot 3
    """
    shown, status = small_disk(person, script)
    assert status == 0, shown
    full, held, again = (shown.index(f"-- {name}") for name in ("full", "held", "again"))
    assert quoted("full disk", anonymous(shown[full + 1 : held - 1], person)), shown
    assert shown[held - 1] == "status 9"
    assert "holds no licenses" in shown[held + 1]
    assert shown[again - 1] == "tallyplot: used 3, 97 left"
    assert shown[again + 1 :] == ["tallyplot: installed", "tallyplot: used 3, 97 left"]


# ------------------------------------------------------------------------------------------- another computer or time


class Stage:
    """A license in a container on a computer, and at a time, that can be changed.

    Args:
        person: who types.
        tolerance: of the container.
    """

    def __init__(self, person: Person, tolerance: str) -> None:
        self.person = person
        self.computer = Computer(person.home / "computer")
        self.uri = f"staged:{person.home / 'container'}"
        person.acme.now = START
        staged.announce(person.home)
        backend = FileBackend(FakeClock(START), [self.computer.source])
        with backend.create(person.uri, [person.acme.trust], tolerance=tolerance) as container:
            request = container.request(code="a code", product="tallyplot")
            container.install(person.acme.answer(request, units=100, expires=START + 365 * DAY))

    def tally(self, *arguments: str, at: int = START) -> tuple[list[str], int]:
        """Type ``tally`` on this computer at a time."""
        self.person.uri = self.uri
        self.person.environment |= {"STAGED_COMPUTER": str(self.computer.root), "STAGED_TIME": str(at)}
        return self.person.tally(*arguments)


@pytest.fixture
def stage(person: Person) -> Callable[[str], Stage]:
    return lambda tolerance: Stage(person, tolerance)


def test_a_changed_machine_id_is_within_the_tolerance(stage: Callable[[str], Stage]) -> None:
    here = stage("medium")
    here.computer.write("/etc/machine-id", "0f" * 16 + "\n")
    shown, status = here.tally("check", "tallyplot")
    history, _ = here.tally("history")
    assert status == 0
    assert quoted("changed machine-id", [*shown, history[-1].split("  ", 1)[1].strip()])


def test_another_computer_locks_and_the_old_one_opens_again(stage: Callable[[str], Stage]) -> None:
    here = stage("medium")
    before = {name: here.computer.path(name).read_text() for name in ("/etc/machine-id", "/proc/cpuinfo")}
    for name in ("/etc/machine-id", "/sys/class/dmi/id/product_uuid", "/sys/class/dmi/id/board_serial"):
        before[name] = here.computer.path(name).read_text()
        here.computer.write(name, "another computer's\n")
    shown, status = here.tally("check", "tallyplot")
    assert status == 8
    assert quoted("another computer", shown)
    assert here.tally("explain")[1] == 0
    assert here.tally("request", "--repair", "--output", "case.tallyrepair")[1] == 0
    assert "tallyplot" in "\n".join(here.tally("list")[0])
    for name, text in before.items():
        here.computer.write(name, text)
    assert here.tally("use", "tallyplot", "1") == (["tallyplot: used 1, 99 left"], 0)


def test_a_clock_set_back_locks_nobody_out(stage: Callable[[str], Stage]) -> None:
    here = stage("medium")
    shown, status = here.tally("check", "tallyplot", at=START - 40 * DAY)
    clock = [line for line in here.tally("info", at=START - 40 * DAY)[0] if line.startswith(CLOCK_LINES)]
    assert status == 0
    assert quoted("clock set back", [*shown, *clock]), [*shown, *clock]


def test_a_clock_far_ahead_expires_nothing(stage: Callable[[str], Stage]) -> None:
    here = stage("medium")
    shown, status = here.tally("check", "tallyplot", at=START + 700 * DAY)
    clock = [line for line in here.tally("info", at=START + 700 * DAY)[0] if line.startswith(CLOCK_LINES)]
    assert status == 0
    assert quoted("clock set ahead", [*shown, *clock]), [*shown, *clock]
    assert here.tally("check", "tallyplot", at=START + DAY)[1] == 0


# ------------------------------------------------------------------------------------------------------------- killed


def test_a_killed_import_is_whole_or_was_never(person: Person) -> None:
    """SIGKILL at any moment of a real process: the license is held with all its units, or the file imports again."""
    person.create()
    update = person.ordered()
    fresh = shutil.copytree(person.home / "container", person.home / "fresh")
    begun = time.monotonic()
    assert person.tally("import", str(update))[0] == ["tallyplot: installed"]
    whole_s = time.monotonic() - begun
    moments = random.Random(whole_s)
    killed = 0
    for attempt in range(KILLS):
        shutil.rmtree(person.home / "container")
        shutil.copytree(fresh, person.home / "container")
        # most moments late, where the writing is: the first two thirds of the process are Python starting
        lasted_s, was_killed = interrupted(person, update, moments.uniform(0.3 if attempt % 4 else 0, 1) * whole_s)
        killed += was_killed
        # one that ended by itself was faster than the one that was measured: machines have moods
        whole_s = whole_s if was_killed else min(whole_s, lasted_s)
        assert person.left() in (None, 100)
        shown, status = person.tally("import", str(update))
        assert status == 0
        assert shown[0] == "tallyplot: installed" or quoted("killed during import", shown)
        assert person.left() == 100
    assert killed >= KILLS // 4


def interrupted(person: Person, update: Path, after_s: float) -> tuple[float, bool]:
    """Import, and kill the process after a while: how long it lasted, and whether it was still running."""
    begun = time.monotonic()
    process = subprocess.Popen(
        [*TALLY, "import", str(update)],
        cwd=person.home,
        env={**person.environment, "TALLY_CONTAINER": person.uri},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        process.wait(after_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
    status = process.wait()
    return time.monotonic() - begun, status == -signal.SIGKILL
