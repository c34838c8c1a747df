# SPDX-License-Identifier: Apache-2.0
"""Real processes on one store: they lose nothing, double nothing, and survive each other's death."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tallystick.container.store import Store
from tallystick.container.vfs import Directory

KEY = bytes(range(32))
PREV = bytes(32)
SRC = Path(__file__).resolve().parents[2] / "src"

# A program of its own: opens the store and adds numbered words, by the journal while it has room, else by a snapshot.
PROGRAM = """
import sys
from tallystick.container.store import Store
from tallystick.container.vfs import Directory

path, name, count, size = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
store = Store(Directory.open(path), bytes(range(32)))
words, generation = [], 0

def catch_up():
    global words, generation
    appended = store.refresh()
    if appended is None:
        slot = store.slots()[0]
        body, appended = store.load(slot)
        words, generation = body.decode().split(), slot.generation
    words += [body.decode().strip() for body in appended]

print("ready", flush=True)
sys.stdin.readline()
for number in range(count):
    word = f"{name}{number}"
    with store.lock(60):
        catch_up()
        if word in words:
            continue
        data = word.encode().ljust(size)
        if store.fits(len(data)):
            store.append(data)
        else:
            store.checkpoint(generation + 1, bytes(32), b"", " ".join([*words, word]).encode())
            generation += 1
        words.append(word)
    print(word, flush=True)
"""


def _start(folder: Path, name: str, count: int, size: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder), name, str(count), str(size)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SRC)},
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "container"
    with Directory.open(str(path), create=True) as directory:
        store = Store(directory, KEY)
        with store.lock(1):
            store.slots()
            store.checkpoint(1, PREV, b"", b"made")
        store.close()
    return path


def _words(folder: Path) -> list[str]:
    with Directory.open(str(folder)) as directory:
        store = Store(directory, KEY)
        with store.lock(1):
            body, appended = store.load(store.slots()[0])
        store.close()
    return body.decode().split() + [word.decode().strip() for word in appended]


@pytest.mark.parametrize("size", [10, 9000], ids=["journal", "snapshots"])
def test_two_processes_appending_at_once_lose_and_double_nothing(folder: Path, size: int) -> None:
    processes = [_start(folder, name, 150, size) for name in ("x", "y")]
    said: set[str] = set()
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0
        said |= set(out.split())
    words = _words(folder)
    assert words[0] == "made"
    assert len(words) == len(set(words)) == 301
    assert set(words[1:]) == said
    for name in ("x", "y"):
        own = [word for word in words if word.startswith(name)]
        assert own == [f"{name}{number}" for number in range(150)]


def test_processes_killed_in_the_middle_lose_nothing_they_said(folder: Path) -> None:
    said: set[str] = set()
    for lines in (1, 7, 20, 33, 58):
        process = _start(folder, "k", 100, 6000)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("go\n")
        process.stdin.flush()
        assert process.stdout.readline() == "ready\n"
        for _ in range(lines):
            said.add(process.stdout.readline().strip())
            if len(said) == 100:
                break
        process.send_signal(signal.SIGKILL)
        out, _ = process.communicate(timeout=60)
        said |= set(out.split("\n")[:-1])
        words = _words(folder)
        assert len(words) == len(set(words))
        assert said - {""} <= set(words)


def test_forked_child_and_parent_share_a_store(folder: Path) -> None:
    directory = Directory.open(str(folder))
    store = Store(directory, KEY)
    with store.lock(1):
        store.load(store.slots()[0])
        store.append(b"before")
    pid = os.fork()
    if not pid:
        status = 1
        try:
            for number in range(40):
                with store.lock(30):
                    if store.refresh() is None:
                        break
                    store.append(b"child%d" % number)
            else:
                status = 0
        finally:
            os._exit(status)
    for number in range(40):
        with store.lock(30):
            assert store.refresh() is not None
            store.append(b"parent%d" % number)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    store.close()
    directory.close()
    words = _words(folder)
    assert len(words) == len(set(words)) == 82
    assert [word for word in words if word.startswith("child")] == [f"child{number}" for number in range(40)]
