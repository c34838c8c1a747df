# SPDX-License-Identifier: Apache-2.0
"""The primitives by path keep the contract of a folder; their locks are tried with a stand-in for the C library's."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest

from tallystick.container import store_windows
from tallystick.container.store import Store
from tallystick.container.store_os import default_vfs
from tallystick.container.store_windows import WindowsVfs
from tallystick.container.vfs import Directory
from tallystick.errors import TallystickError

KEY = bytes(32)


class Locking:
    """``msvcrt`` as far as it is used: a byte of a file is locked by one descriptor at a time."""

    LK_NBLCK = 2
    LK_UNLCK = 0

    def __init__(self) -> None:
        self.held: dict[tuple[int, int], int] = {}
        self.error = errno.EACCES

    def locking(self, fd: int, mode: int, size: int) -> None:
        where = (os.fstat(fd).st_ino, os.lseek(fd, 0, os.SEEK_CUR))
        assert size == 1
        assert where[1] > 1 << 20, "a locked range must not cover the contents"
        if mode == self.LK_UNLCK:
            del self.held[where]
        elif self.held.setdefault(where, fd) != fd or self.error != errno.EACCES:
            raise OSError(self.error, os.strerror(self.error))


@pytest.fixture
def locking(monkeypatch: pytest.MonkeyPatch) -> Locking:
    stand_in = Locking()
    monkeypatch.setattr(store_windows, "msvcrt", stand_in)
    return stand_in


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "container"


def test_store_works_by_path(locking: Locking, folder: Path) -> None:
    with Directory.open(str(folder), WindowsVfs(), create=True) as directory:
        store = Store(directory, KEY)
        with store.lock(1):
            store.slots()
            store.checkpoint(1, bytes(32), b"h", b"one")
            store.append(b"a")
            store.checkpoint(2, bytes(32), b"h", b"two")
            store.append(b"b")
        store.close()
        assert (folder / "lock").stat().st_ino not in {inode for inode, _ in locking.held}
    with Directory.open(str(folder), WindowsVfs()) as directory:
        store = Store(directory, KEY)
        with store.lock(1):
            assert store.load(store.slots()[0]) == (b"two", [b"b"])
            assert store.refresh() == []
            other = Store(directory, KEY)
            with pytest.raises(TallystickError) as caught, other.lock(0):
                pass
            assert caught.value.code == "busy"
            other.close()
        store.close()
        directory.remove("journal.2")
        assert directory.names() == ["lock", "state.A", "state.B"]


def test_links_are_refused(locking: Locking, tmp_path: Path, folder: Path) -> None:
    (tmp_path / "target").write_bytes(b"precious")
    with Directory.open(str(folder), WindowsVfs(), create=True) as directory:
        (folder / "f").symlink_to(tmp_path / "target")
        for call in (lambda: directory.read("f", 9), lambda: directory.replace("f", b"x")):
            with pytest.raises(TallystickError) as caught:
                call()
            assert caught.value.code == "unsafe_path"
    (tmp_path / "link").symlink_to(folder)
    for path, code in (("link", "unsafe_path"), ("target", "unsafe_path"), ("none", "container_not_found")):
        with pytest.raises(TallystickError) as caught:
            Directory.open(str(tmp_path / path), WindowsVfs())
        assert caught.value.code == code
    assert (tmp_path / "target").read_bytes() == b"precious"


def test_network_paths_are_told_by_their_beginning() -> None:
    vfs = WindowsVfs()
    assert vfs.file_system(0, r"\\server\share\c") == "cifs"
    assert vfs.file_system(0, r"\\?\C:\c") is None
    assert vfs.file_system(0, r"C:\Users\me\c") is None
    assert vfs.euid() is None


def test_lock_that_fails_otherwise_is_an_error(locking: Locking, folder: Path) -> None:
    locking.error = errno.EIO
    with Directory.open(str(folder), WindowsVfs(), create=True) as directory, pytest.raises(TallystickError) as caught:
        directory.replace("f", b"x")
    assert caught.value.code == "io_error"


def test_windows_gets_these_primitives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert isinstance(default_vfs(), WindowsVfs)
