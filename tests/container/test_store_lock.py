# SPDX-License-Identifier: Apache-2.0
"""The container's lock among threads, forked children and other processes."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tallystick.container.store_lock import APPENDING, SETTLED, Held, StoreLock
from tallystick.container.store_os import Vfs
from tallystick.container.vfs import Directory
from tallystick.errors import TallystickError


class Clock(Vfs):
    """The real system with a clock that moves only when someone waits, and calls that can be replaced."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []
        self.waiting: Callable[[], None] = lambda: None

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.waits.append(seconds)
        self.waiting()


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    with Directory.open(str(tmp_path / "container"), Clock(), create=True) as directory:
        yield directory


@pytest.fixture
def vfs(directory: Directory) -> Clock:
    assert isinstance(directory.vfs, Clock)
    return directory.vfs


def _code(call: Callable[[], object]) -> str:
    with pytest.raises(TallystickError) as caught:
        call()
    return caught.value.code


def test_one_holder_at_a_time(directory: Directory, vfs: Clock) -> None:
    one, two = StoreLock(directory), StoreLock(directory)
    with Held(one, 0):
        assert one.held
        assert not two.held
        assert _code(lambda: two.acquire(0)) == "busy"
        assert _code(lambda: two.acquire(1)) == "busy"
        assert vfs.now == pytest.approx(1)
        assert vfs.waits[0] < 0.001 < max(vfs.waits) <= 0.01
    with Held(two, 0):
        assert two.held
    one.close()
    two.close()


def test_waiting_ends_when_the_holder_lets_go(directory: Directory, vfs: Clock) -> None:
    one, two = StoreLock(directory), StoreLock(directory)
    one.acquire(0)
    vfs.waiting = one.release
    two.acquire(5)
    assert vfs.now < 0.01
    two.close()
    one.close()


def test_same_thread_cannot_hold_it_twice(directory: Directory) -> None:
    lock = StoreLock(directory)
    with Held(lock, 0):
        assert _code(lambda: lock.acquire(0)) == "usage"
    lock.close()


def test_threads_take_turns(directory: Directory) -> None:
    lock = StoreLock(directory)
    codes: list[str] = []

    def try_it(timeout_s: float) -> None:
        codes.append(_code(lambda: lock.acquire(timeout_s)))
        lock.release()  # not the holder: nothing happens

    with Held(lock, 0):
        for timeout_s in (0, 0.01):
            thread = threading.Thread(target=try_it, args=(timeout_s,))
            thread.start()
            thread.join()
        assert lock.held
    assert codes == ["busy", "busy"]
    counter = 0

    def count() -> None:
        nonlocal counter
        for _ in range(200):
            with Held(lock, 30):
                seen = counter
                counter = seen + 1

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter == 800
    lock.close()


def test_session_differs_each_time(directory: Directory) -> None:
    lock = StoreLock(directory)
    sessions = []
    for _ in range(3):
        with Held(lock, 0):
            sessions.append(lock.session)
    assert len(set(sessions)) == 3
    lock.close()


def test_very_long_timeout_is_no_error(directory: Directory) -> None:
    lock = StoreLock(directory)
    with Held(lock, float("inf")):
        done = threading.Event()

        def wait() -> None:
            with Held(lock, float("inf")):
                done.set()

        thread = threading.Thread(target=wait)
        thread.start()
    thread.join(60)
    assert done.is_set()
    lock.close()


def test_removed_lock_file_is_made_anew_before_anyone_relies_on_it(directory: Directory) -> None:
    path = Path(directory.path) / "lock"
    one, two = StoreLock(directory), StoreLock(directory)
    one.acquire(0)
    one.release()
    path.unlink()
    two.acquire(0)
    assert _code(lambda: one.acquire(0)) == "busy"
    two.release()
    one.acquire(0)
    path.unlink()
    one.release()
    one.acquire(1)
    assert path.exists()
    one.close()
    two.close()


def test_lock_file_that_keeps_vanishing_ends_in_busy(directory: Directory, vfs: Clock) -> None:
    vfs.links = lambda fd: vfs.sleep(0.1) or 0  # type: ignore[method-assign]
    lock = StoreLock(directory)
    assert _code(lambda: lock.acquire(1)) == "busy"
    lock.close()


@pytest.mark.parametrize(
    ("call", "code", "expected"),
    [
        ("flock", errno.ENOLCK, "unsafe_filesystem"),
        ("flock", errno.EOPNOTSUPP, "unsafe_filesystem"),
        ("flock", errno.EIO, "io_error"),
        ("links", errno.EIO, "io_error"),
        ("open", errno.EACCES, "no_permission"),
        ("open", errno.ENOSPC, "no_space"),
        ("open", errno.ENOENT, "container_not_found"),
    ],
)
def test_errors_are_typed_and_leave_the_lock_free(
    directory: Directory, vfs: Clock, call: str, code: int, expected: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    lock = StoreLock(directory)
    setattr(vfs, call, fail)
    assert _code(lambda: lock.acquire(0)) == expected
    delattr(vfs, call)
    with Held(lock, 0):
        assert lock.held
    lock.close()


def test_unlocking_that_fails_closes_the_file(directory: Directory, vfs: Clock) -> None:
    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "x")

    one, two = StoreLock(directory), StoreLock(directory)
    vfs.unlock = fail  # type: ignore[method-assign]
    one.acquire(0)
    one.release()
    two.acquire(0)
    del vfs.unlock  # type: ignore[misc]
    two.close()


def test_closing_releases(directory: Directory) -> None:
    one, two = StoreLock(directory), StoreLock(directory)
    one.acquire(0)
    one.close()
    assert not one.held
    with Held(two, 0):
        pass
    two.close()
    one.close()


def test_mark_is_kept_in_the_file(directory: Directory, vfs: Clock) -> None:
    one, two = StoreLock(directory), StoreLock(directory)
    with Held(one, 0):
        assert one.read_mark() == SETTLED
        one.write_mark(APPENDING)
    with Held(two, 0):
        assert two.read_mark() == APPENDING
        for call in ("pread", "pwrite"):

            def fail(*_: object) -> None:
                raise OSError(errno.EIO, "x")

            setattr(vfs, call, fail)
        assert _code(two.read_mark) == "io_error"
        assert _code(lambda: two.write_mark(SETTLED)) == "io_error"
    one.close()
    two.close()


def _in_child(body: Callable[[], bool]) -> bool:
    """Run in a forked child and tell whether it answered True."""
    pid = os.fork()
    if not pid:
        good = False
        try:
            good = body()
        finally:
            os._exit(0 if good else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_child_forked_while_the_lock_is_held_does_not_hold_it(directory: Directory) -> None:
    lock = StoreLock(directory)
    with Held(lock, 0):

        def child() -> bool:
            if lock.held or _code(lambda: lock.acquire(0)) != "busy":
                return False
            lock.release()
            return True

        assert _in_child(child)
        other = StoreLock(directory)
        assert _code(lambda: other.acquire(0)) == "busy"  # what the child did released nothing
    with Held(lock, 0):
        pass
    lock.close()


def test_child_that_leaves_the_parents_block_leaves_the_lock(directory: Directory) -> None:
    lock = StoreLock(directory)
    with Held(lock, 0):
        pid = os.fork()
        if not pid:
            lock.release()
            os._exit(0)
        os.waitpid(pid, 0)
        assert _code(lambda: StoreLock(directory).acquire(0)) == "busy"
    lock.close()


def test_child_locks_for_itself_and_excludes_its_parent(directory: Directory) -> None:
    lock = StoreLock(directory)
    with Held(lock, 0):
        pass
    ready, go = os.pipe(), os.pipe()
    pid = os.fork()
    if not pid:
        with Held(lock, 0):
            os.write(ready[1], b"x")
            os.read(go[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    assert _code(lambda: lock.acquire(0)) == "busy"
    os.write(go[1], b"x")
    assert os.waitpid(pid, 0)[1] == 0
    with Held(lock, 0):
        pass
    lock.close()
    for fd in (*ready, *go):
        os.close(fd)


def test_lock_of_a_killed_process_is_free_at_once(directory: Directory) -> None:
    ready = os.pipe()
    pid = os.fork()
    if not pid:
        StoreLock(directory).acquire(0)
        os.write(ready[1], b"x")
        threading.Event().wait()
        os._exit(0)
    os.read(ready[0], 1)
    lock = StoreLock(directory)
    assert _code(lambda: lock.acquire(0)) == "busy"
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    with Held(lock, 0):
        pass
    lock.close()
    os.close(ready[0])
    os.close(ready[1])


def test_a_holder_that_takes_its_time_gives_way_to_who_has_waited(directory: Directory, vfs: Clock) -> None:
    """Who takes the lock again at once would otherwise keep it from everybody, where each commit takes long."""
    busy, waiting = StoreLock(directory), StoreLock(directory)
    served: list[float] = []

    def take_turns() -> None:
        vfs.waiting = lambda: None
        waiting.acquire(0)
        served.append(vfs.now)
        waiting.release()

    busy.acquire(0)
    assert _code(lambda: waiting.acquire(1)) == "busy"
    busy.release()
    vfs.waiting = take_turns
    busy.acquire(0)
    assert len(served) == 1
    busy.release()
    vfs.now += 1
    waits = len(vfs.waits)
    busy.acquire(0)
    assert len(vfs.waits) == waits, "nobody waits any more"
    busy.close()
    waiting.close()


def test_who_holds_it_shortly_looks_at_nobody(directory: Directory, vfs: Clock) -> None:
    lock, waiting = StoreLock(directory), StoreLock(directory)
    lock.acquire(0)
    lock.release()
    waiting._open_file()
    waiting._want()
    waits = len(vfs.waits)
    lock.acquire(0)
    assert len(vfs.waits) == waits
    lock.close()
    waiting.close()


def test_a_courtesy_that_fails_stops_nobody(directory: Directory, vfs: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    busy, waiting = StoreLock(directory), StoreLock(directory)

    def broken(*_: object) -> bytes:
        raise OSError(errno.EIO, "broken")

    busy.acquire(0)
    with monkeypatch.context() as patch:
        patch.setattr(vfs, "pwrite", broken)
        assert _code(lambda: waiting.acquire(1)) == "busy"
    busy.release()
    with monkeypatch.context() as patch:
        patch.setattr(vfs, "pread", broken)
        busy.acquire(0)
    assert busy.held
    busy.close()
    waiting.close()
