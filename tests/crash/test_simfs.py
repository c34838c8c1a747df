# SPDX-License-Identifier: Apache-2.0
"""The simulated file system is as forgetful as a real one, no more and no less."""

from __future__ import annotations

import errno

import pytest
from explore import Acknowledge, explore, explore_errors
from simfs import Fault, Limits, PowerCut, SimFs, SimVfs

from tallystick.container.store_os import CREATE, CREATE_NEW, READ, WRITE
from tallystick.container.vfs import Directory
from tallystick.errors import TallystickError


def _start() -> tuple[SimFs, SimVfs, int]:
    fs = SimFs()
    vfs = SimVfs(fs)
    return fs, vfs, vfs.open_dir("/")


def _contents(fs: SimFs, name: str = "f", limits: Limits | None = None) -> set[bytes | None]:
    """Return all that may be in a file after a power cut, None for no file."""
    found: set[bytes | None] = set()
    for _, disk in fs.crashes(limits or Limits()):
        vfs = SimVfs(SimFs(disk))
        root = vfs.open_dir("/")
        try:
            fd = vfs.open(name, READ, root)
        except FileNotFoundError:
            found.add(None)
            continue
        found.add(vfs.pread(fd, 1 << 20, 0))
    return found


def test_unsynced_write_is_kept_dropped_or_torn_anywhere() -> None:
    fs, vfs, root = _start()
    fd = vfs.open("f", CREATE, root)
    vfs.fsync_dir(root)
    vfs.pwrite(fd, b"abcd", 0)
    # the size may be durable before the bytes are
    assert _contents(fs) == {b"", b"abcd", bytes(4), b"a\0\0\0", b"ab\0\0", b"abc\0"}
    vfs.fdatasync(fd)
    assert _contents(fs) == {b"abcd"}


def test_each_sector_is_kept_or_dropped_on_its_own() -> None:
    fs, vfs, root = _start()
    fd = vfs.open("f", CREATE, root)
    vfs.pwrite(fd, bytes(1536), 0)
    vfs.fsync(fd)
    vfs.fsync_dir(root)
    vfs.pwrite(fd, b"x" * 1536, 0)
    whole = {
        bytes(first) + bytes(second) + bytes(third)
        for first in (b"x" * 512, bytes(512))
        for second in (b"x" * 512, bytes(512))
        for third in (b"x" * 512, bytes(512))
    }
    assert _contents(fs, limits=Limits(tears=1)) >= whole


def test_synced_file_may_lack_its_name_and_a_name_its_contents() -> None:
    fs, vfs, root = _start()
    fd = vfs.open("f", CREATE_NEW, root)
    vfs.pwrite(fd, b"x", 0)
    assert {None, b"", b"x"} <= _contents(fs)
    vfs.fsync(fd)
    assert _contents(fs) == {None, b"x"}
    vfs.fsync_dir(root)
    assert _contents(fs) == {b"x"}


def test_renaming_is_atomic_and_independent_of_the_data() -> None:
    fs, vfs, root = _start()
    old = vfs.open("f", CREATE, root)
    vfs.pwrite(old, b"o", 0)
    fs.sync()
    new = vfs.open("t", CREATE, root)
    vfs.pwrite(new, b"n", 0)
    vfs.rename("t", "f", root)
    assert _contents(fs) == {b"o", b"n", b"", b"\0"}
    assert vfs.links(old) == 0


def test_failed_sync_leaves_the_data_readable_and_lost() -> None:
    fs = SimFs()
    vfs = SimVfs(fs, fault=Fault(1, errno.EIO, only=frozenset({"fsync"})))
    root = vfs.open_dir("/")
    fd = vfs.open("f", CREATE, root)
    vfs.fsync_dir(root)
    vfs.pwrite(fd, b"x", 0)
    with pytest.raises(OSError, match="f"):
        vfs.fsync(fd)
    vfs.fsync(fd)
    assert vfs.pread(fd, 9, 0) == b"x"
    assert _contents(fs) == {b""}
    vfs.pwrite(fd, b"x", 0)
    vfs.fsync(fd)
    assert _contents(fs) == {b"x"}


def test_short_write_takes_half() -> None:
    fs = SimFs()
    vfs = SimVfs(fs, fault=Fault(3, 0))
    root = vfs.open_dir("/")
    fd = vfs.open("f", CREATE, root)
    assert vfs.pwrite(fd, b"abcd", 0) == 2
    assert vfs.pread(fd, 9, 0) == b"ab"


def test_power_stays_cut() -> None:
    fs = SimFs()
    vfs = SimVfs(fs, cut_at=2)
    root = vfs.open_dir("/")
    fd = vfs.open("f", CREATE, root)
    for _ in range(2):
        with pytest.raises(PowerCut):
            vfs.pwrite(fd, b"x", 0)
    vfs.close(fd)
    assert fs.files[vfs._open[fd]].cache.size == 0


def test_locks_exclude_processes_and_end_with_them() -> None:
    fs, one, root = _start()
    fd = one.open("f", CREATE, root)
    other = SimVfs(fs)
    theirs = other.open("f", WRITE, other.open_dir("/"))
    assert one.flock(fd, exclusive=True)
    assert not other.flock(theirs, exclusive=True)
    assert not other.flock(theirs, exclusive=False)
    one.kill()
    assert other.flock(theirs, exclusive=True)
    other.unlock(theirs)
    third = SimVfs(fs)
    shared = third.open("f", READ, third.open_dir("/"))
    assert other.flock(theirs, exclusive=False)
    assert third.flock(shared, exclusive=False)
    assert not third.flock(shared, exclusive=True)


def test_errors_are_those_of_an_operating_system() -> None:
    fs, vfs, root = _start()
    vfs.mkdir("/d")
    fd = vfs.open("f", CREATE, root)
    assert set(fs.folders) == {0, vfs.stat("/d").inode}
    for code, call in (
        (errno.EEXIST, lambda: vfs.mkdir("/d")),
        (errno.EEXIST, lambda: vfs.open("f", CREATE_NEW, root)),
        (errno.ENOENT, lambda: vfs.open("g", READ, root)),
        (errno.ENOENT, lambda: vfs.unlink("g", root)),
        (errno.ENOENT, lambda: vfs.rename("g", "h", root)),
        (errno.ENOENT, lambda: vfs.stat("g", root)),
        (errno.ENOENT, lambda: vfs.identity("g", root)),
        (errno.ENOENT, lambda: vfs.open_dir("/g")),
        (errno.ENOTDIR, lambda: vfs.open_dir("/f")),
        (errno.ENOTDIR, lambda: vfs.open_dir("/f/g")),
        (errno.ENOTDIR, lambda: vfs.open("g", READ, fd)),
    ):
        with pytest.raises(OSError, match=r"\[Errno") as caught:
            call()
        assert caught.value.errno == code


def test_large_reads_and_allocations_are_zeros_where_nothing_was_written() -> None:
    fs, vfs, root = _start()
    fd = vfs.open("f", CREATE, root)
    vfs.preallocate(fd, 1 << 18)
    vfs.pwrite(fd, b"x" * 700, 5000)
    assert vfs.pread(fd, 1 << 20, 0) == bytes(5000) + b"x" * 700 + bytes((1 << 18) - 5700)
    assert vfs.pread(fd, 10, 1 << 18) == b""
    sizes = {len(data) for data in _contents(fs, limits=Limits(samples=64)) if data is not None}
    assert {0, 1 << 18} <= sizes
    assert len(sizes) > 4


def _replace_setup(vfs: SimVfs) -> None:
    vfs.mkdir("/home")
    Directory.open("/home/c", vfs, create=True).replace("f", b"old")


def _replace(vfs: SimVfs, acknowledge: Acknowledge) -> None:
    with Directory.open("/home/c", vfs) as directory:
        directory.replace("f", b"new")
        acknowledge("new")


def _replaced(vfs: SimVfs, acknowledged: tuple[str, ...], acknowledge: Acknowledge) -> None:
    with Directory.open("/home/c", vfs) as directory:
        data = directory.read("f", 9)
        assert data in ((b"new",) if acknowledged else (b"old", b"new"))
        assert directory.vfs.listdir(directory.fd) == ["f"], "a leftover was not removed"


def test_directory_replace_is_atomic_and_durable() -> None:
    report = explore(_replace_setup, _replace, _replaced)
    assert report.states > 4
    assert report.deepest == 2
    explore_errors(_replace_setup, _replace, _replaced)


def _recreate(vfs: SimVfs, acknowledge: Acknowledge) -> None:
    Directory.open("/home/a/b/c", vfs, create=True).replace("f", b"new")
    acknowledge("new")


def _recreated(vfs: SimVfs, acknowledged: tuple[str, ...], acknowledge: Acknowledge) -> None:
    try:
        directory = Directory.open("/home/a/b/c", vfs)
    except TallystickError as exc:
        assert exc.code == "container_not_found"
        assert not acknowledged
    else:
        assert directory.read("f", 9) in ((b"new",) if acknowledged else (None, b"new"))


def test_directory_and_its_parents_are_created_durably() -> None:
    assert explore(lambda vfs: vfs.mkdir("/home"), _recreate, _recreated).states > 10
    explore_errors(lambda vfs: vfs.mkdir("/home"), _recreate, _recreated)


def test_drivers_report_what_goes_wrong() -> None:
    def rewrite(vfs: SimVfs, acknowledge: Acknowledge) -> None:
        root = vfs.open_dir("/home/c")
        fd = vfs.open("f", WRITE, root)
        vfs.pwrite(fd, b"new", 0)
        vfs.fsync(fd)

    with pytest.raises(AssertionError, match="cut before change 2 of 2"):
        explore(_replace_setup, rewrite, _replaced)
    with pytest.raises(AssertionError, match="a bare OSError"):
        explore_errors(_replace_setup, rewrite, _replaced)

    def lying(vfs: SimVfs, acknowledge: Acknowledge) -> None:
        raise TallystickError("io_error", "nothing happened")

    with pytest.raises(AssertionError, match="though nothing failed"):
        explore_errors(_replace_setup, lying, _replaced)
