# SPDX-License-Identifier: Apache-2.0
"""A container's folder: what it refuses, what it leaves alone, and how it fails."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tallystick.container.store_folder import make_folder
from tallystick.container.store_mounts import is_network, mount_kind
from tallystick.container.store_os import CREATE_NEW, READ, Stat, Translated, Vfs, default_vfs, storage_error, write_all
from tallystick.container.vfs import Directory
from tallystick.errors import FormatError, LockedError, NotFoundError, StorageError, TallystickError


def _raising(code: int) -> Callable[..., int]:
    def call(*_: object, **__: object) -> int:
        raise OSError(code, os.strerror(code))

    return call


class Failing(Vfs):
    """The real system, but one call fails or answers otherwise."""

    def __init__(self, **calls: Callable[..., object]) -> None:
        for name, call in calls.items():
            setattr(self, name, call)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "container"
    path.mkdir(mode=0o700)
    return path


def _code(call: Callable[[], object]) -> str:
    with pytest.raises(TallystickError) as caught:
        call()
    assert caught.value.message
    assert caught.value.remedy
    return caught.value.code


# -- opening


def test_open_creates_the_folder_and_its_parents_for_the_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c"
    with Directory.open(str(path), create=True) as directory:
        assert directory.names() == []
    for made in (path, path.parent, path.parent.parent):
        assert stat.S_IMODE(made.stat().st_mode) == 0o700


def test_open_with_create_takes_a_folder_that_is_there(folder: Path) -> None:
    (folder / "f").write_bytes(b"x")
    with Directory.open(str(folder), create=True) as directory:
        assert directory.names() == ["f"]


def test_open_makes_a_relative_path_absolute(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    with Directory.open("container") as directory:
        assert directory.path == str(folder)


def test_parents_may_be_links(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with Directory.open(str(tmp_path / "link" / "new" / "c"), create=True) as directory:
        directory.replace("f", b"x")
    assert (tmp_path / "real" / "new" / "c" / "f").read_bytes() == b"x"


def test_missing_folder_is_not_found_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError) as caught:
        Directory.open(str(tmp_path / "none"))
    assert caught.value.code == "container_not_found"
    assert str(tmp_path / "none") in caught.value.message
    with pytest.raises(NotFoundError):
        Directory.open(str(tmp_path / "none"), create=True, read_only=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o770, 0o777])
def test_folder_others_can_write_to_is_refused_by_name(folder: Path, mode: int) -> None:
    folder.chmod(mode)
    with pytest.raises(StorageError) as caught:
        Directory.open(str(folder))
    assert caught.value.code == "unsafe_path"
    assert str(folder) in caught.value.message
    assert "chmod 0700" in caught.value.remedy


def test_folder_others_can_only_read_is_accepted(folder: Path) -> None:
    folder.chmod(0o755)
    Directory.open(str(folder)).close()


def test_folder_of_another_user_is_refused(folder: Path) -> None:
    vfs = Failing(euid=lambda: os.geteuid() + 1)
    assert _code(lambda: Directory.open(str(folder), vfs)) == "unsafe_path"


def test_link_file_and_nonsense_are_refused_as_a_folder(folder: Path) -> None:
    link, file = folder.parent / "link", folder.parent / "file"
    link.symlink_to(folder)
    file.write_bytes(b"")
    os.mkfifo(folder.parent / "pipe")
    for path in (str(link), str(file), str(folder.parent / "pipe"), str(file / "below"), "nul\0byte"):
        assert _code(lambda path=path: Directory.open(path)) == "unsafe_path"
    assert _code(lambda: Directory.open(str(file / "below"), create=True)) == "unsafe_path"


@pytest.mark.parametrize(
    ("code", "expected"),
    [(errno.EACCES, "no_permission"), (errno.EIO, "io_error"), (errno.ELOOP, "unsafe_path")],
)
def test_error_at_opening_is_typed(folder: Path, code: int, expected: str) -> None:
    for call in ("open_dir", "fstat", "listdir"):
        assert _code(lambda call=call: Directory.open(str(folder), Failing(**{call: _raising(code)}))) == expected


def test_error_at_creating_is_typed(folder: Path) -> None:
    new = str(folder / "x" / "y")
    assert _code(lambda: Directory.open(new, Failing(mkdir=_raising(errno.EROFS)), create=True)) == "no_permission"
    assert _code(lambda: Directory.open(new, Failing(mkdir=_raising(errno.ENOSPC)), create=True)) == "no_space"
    assert _code(lambda: Directory.open(new, Failing(fsync_dir=_raising(errno.EIO)), create=True)) == "io_error"
    assert _code(lambda: Directory.open(new, Failing(stat=_raising(errno.EACCES)), create=True)) == "no_permission"


def test_folder_above_that_cannot_be_opened_need_not_be_made_durable(folder: Path) -> None:
    real = Vfs()

    def open_dir(path: str) -> int:
        if path == str(folder.parent / "."):
            raise PermissionError(errno.EACCES, "denied")
        return real.open_dir(path)

    Directory.open(str(folder / "new"), Failing(open_dir=open_dir), create=True).close()
    other = Failing(open_dir=_raising(errno.EACCES))
    with pytest.raises(StorageError):
        make_folder(other, str(folder / "newer" / "c"))


def test_folder_made_by_another_process_meanwhile_is_fine(folder: Path) -> None:
    def mkdir(path: str) -> None:
        Path(path).mkdir(mode=0o700)
        raise FileExistsError(errno.EEXIST, "exists")

    Directory.open(str(folder / "new"), Failing(mkdir=mkdir), create=True).close()


def test_close_twice_closes_once(folder: Path) -> None:
    directory = Directory.open(str(folder))
    directory.close()
    directory.close()
    for call in (directory.names, lambda: directory.read("f", 1), lambda: directory.replace("f", b"")):
        assert _code(call) == "closed"


def test_folder_is_followed_when_it_is_moved(folder: Path) -> None:
    with Directory.open(str(folder)) as directory:
        folder.rename(folder.parent / "moved")
        directory.replace("f", b"x")
    assert (folder.parent / "moved" / "f").read_bytes() == b"x"


# -- file systems


MOUNTS = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
23 22 0:40 / /srv/my\\040share rw - nfs4 server:/x rw
24 22 0:41 / /srv rw shared:1 - btrfs /dev/sdb rw
garbage
25 22 0:42 / /home/me/ssh rw - fuse.sshfs me@host: rw
"""


@pytest.mark.parametrize(
    ("device", "path", "kind"),
    [
        ((254, 0), "/home/me", "ext4"),
        ((0, 40), "/srv/my share/c", "nfs4"),
        ((0, 99), "/srv/my share/c", "nfs4"),
        ((0, 99), "/srv/c", "btrfs"),
        ((0, 99), "/srv", "btrfs"),
        ((0, 99), "/srvother", "ext4"),
        ((0, 42), "/anything", "fuse.sshfs"),
    ],
)
def test_kind_of_file_system_is_found_by_device_then_by_the_longest_path(
    device: tuple[int, int], path: str, kind: str
) -> None:
    assert mount_kind(MOUNTS, *device, path) == kind


def test_unknown_mount_is_not_guessed() -> None:
    assert mount_kind("", 0, 1, "/x") is None


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p", "ceph", "lustre"])
def test_network_file_system_is_refused_unless_only_looked_at(folder: Path, kind: str) -> None:
    vfs = Failing(file_system=lambda *_: kind)
    with pytest.raises(StorageError) as caught:
        Directory.open(str(folder), vfs)
    assert caught.value.code == "unsafe_filesystem"
    assert kind in caught.value.message
    Directory.open(str(folder), vfs, read_only=True).close()


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "tmpfs", "overlay", "zfs", "fuseblk", "f2fs", "apfs"])
def test_local_file_system_is_accepted(kind: str) -> None:
    assert not is_network(kind)


@pytest.mark.skipif(not Path("/proc/self/mountinfo").exists(), reason="no table of mounts")
def test_real_file_systems_are_recognized() -> None:
    vfs = Vfs()
    fd = os.open("/proc/self", os.O_RDONLY)
    try:
        assert vfs.file_system(fd, "/proc/self") == "proc"
    finally:
        os.close(fd)


def test_table_of_mounts_may_be_missing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.open", _raising(errno.ENOENT))
    monkeypatch.setattr(os, "major", lambda _: 0)
    fd = os.open(folder, os.O_RDONLY)
    try:
        assert Vfs().file_system(fd, str(folder)) is None
    finally:
        os.close(fd)


# -- reading and replacing


def test_replace_then_read_gives_the_bytes_for_the_owner_alone(folder: Path) -> None:
    with Directory.open(str(folder)) as directory:
        for data in (b"one", b"", bytes(range(256)) * 1000):
            directory.replace("f", data)
            assert directory.read("f", 1 << 20) == data
        assert directory.names() == ["f"]
    assert stat.S_IMODE((folder / "f").stat().st_mode) == 0o600


def test_read_of_a_missing_file_is_none(folder: Path) -> None:
    with Directory.open(str(folder)) as directory:
        assert directory.read("none", 10) is None
        assert directory.open_file("none", READ) is None


def test_read_has_a_limit(folder: Path) -> None:
    (folder / "f").write_bytes(bytes(11))
    with Directory.open(str(folder)) as directory:
        assert directory.read("f", 11) == bytes(11)
        with pytest.raises(FormatError) as caught:
            directory.read("f", 10)
    assert caught.value.code == "too_large"


def test_remove_is_idempotent(folder: Path) -> None:
    with Directory.open(str(folder)) as directory:
        directory.replace("f", b"x")
        directory.remove("f")
        directory.remove("f")
        assert directory.names() == []


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc/passwd", "a\0b", "../x"])
def test_only_plain_names_are_taken(folder: Path, name: str) -> None:
    with Directory.open(str(folder)) as directory:
        assert _code(lambda: directory.read(name, 1)) == "unsafe_path"
        assert _code(lambda: directory.replace(name, b"")) == "unsafe_path"
        assert _code(lambda: directory.remove(name)) == "unsafe_path"


def test_read_only_folder_reads_and_never_writes(folder: Path) -> None:
    (folder / "f").write_bytes(b"x")
    (folder / ".f.tmp-1").write_bytes(b"left")
    before = sorted(path.name for path in folder.iterdir())
    with Directory.open(str(folder), read_only=True) as directory:
        assert directory.read("f", 1) == b"x"
        assert directory.names() == ["f"]
        for call in (lambda: directory.replace("f", b"y"), lambda: directory.remove("f")):
            with pytest.raises(LockedError) as caught:
                call()
            assert caught.value.code == "read_only"
    assert sorted(path.name for path in folder.iterdir()) == before


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (errno.ENOSPC, "no_space"),
        (errno.EDQUOT, "no_space"),
        (errno.EROFS, "no_permission"),
        (errno.EACCES, "no_permission"),
        (errno.EPERM, "no_permission"),
        (errno.EIO, "io_error"),
        (errno.EXDEV, "io_error"),
    ],
)
@pytest.mark.parametrize("call", ["pwrite", "fsync", "rename", "flock", "links", "open", "stat"])
def test_failed_replace_keeps_the_old_contents_and_leaves_nothing(
    folder: Path, call: str, code: int, expected: str
) -> None:
    (folder / "f").write_bytes(b"old")
    vfs = Failing()
    with Directory.open(str(folder), vfs) as directory:
        setattr(vfs, call, _raising(code))
        with pytest.raises(StorageError) as caught:
            directory.replace("f", b"new")
        assert caught.value.code == expected
        assert isinstance(caught.value.__cause__, OSError)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"f": b"old"}


def test_failed_sync_of_the_folder_is_reported(folder: Path) -> None:
    vfs = Failing()
    with Directory.open(str(folder), vfs) as directory:
        vfs.fsync_dir = _raising(errno.EIO)  # type: ignore[method-assign, assignment]
        assert _code(lambda: directory.replace("f", b"new")) == "io_error"
        assert _code(lambda: directory.remove("f")) == "io_error"


def test_errors_of_reading_and_removing_are_typed(folder: Path) -> None:
    (folder / "f").write_bytes(b"x")
    for call, code, expected in (
        ("pread", errno.EIO, "io_error"),
        ("open", errno.EACCES, "no_permission"),
        ("fstat", errno.EIO, "io_error"),
    ):
        vfs = Failing()
        with Directory.open(str(folder), vfs) as directory:
            setattr(vfs, call, _raising(code))
            assert _code(lambda directory=directory: directory.read("f", 1)) == expected
    vfs = Failing(unlink=_raising(errno.EACCES))
    with Directory.open(str(folder), vfs) as directory:
        assert _code(lambda: directory.remove("f")) == "no_permission"
    assert (folder / "f").exists()


def test_folder_removed_meanwhile_is_an_error_of_input_and_output(folder: Path) -> None:
    with Directory.open(str(folder)) as directory:
        folder.rmdir()
        assert _code(lambda: directory.replace("f", b"x")) == "io_error"


def test_write_goes_on_after_a_short_one_and_stops_at_none(folder: Path) -> None:
    real = Vfs()
    fd = os.open(folder / "f", os.O_RDWR | os.O_CREAT)
    try:
        write_all(Failing(pwrite=lambda fd, data, offset: real.pwrite(fd, data[:2], offset)), fd, b"abcde", 1)
        assert os.pread(fd, 9, 0) == b"\0abcde"
        takes = iter([1, 0])
        with pytest.raises(OSError, match=r"\[Errno"):
            write_all(Failing(pwrite=lambda *_: next(takes)), fd, b"abc", 0)
    finally:
        os.close(fd)


def test_leftovers_are_removed_unless_their_writer_lives(folder: Path) -> None:
    with Directory.open(str(folder)) as writer:
        temp, fd = writer.stage("f", b"new")
        (folder / ".f.tmp-dead").write_bytes(b"half")
        os.mkfifo(folder / ".f.tmp-pipe")
        (folder / ".f.tmp-link").symlink_to("/etc/passwd")
        Directory.open(str(folder)).close()
        assert {path.name for path in folder.iterdir()} == {temp, ".f.tmp-pipe", ".f.tmp-link"}
        writer.publish((temp, fd), "f")
        assert writer.names() == ["f"]
        assert writer.read("f", 3) == b"new"


def test_leftover_that_cannot_be_removed_is_no_obstacle(folder: Path) -> None:
    (folder / ".f.tmp-1").write_bytes(b"")
    with Directory.open(str(folder), Failing(unlink=_raising(errno.EROFS))) as directory:
        assert directory.names() == []


def test_temporary_file_taken_for_a_leftover_is_made_again(folder: Path) -> None:
    real = Vfs()
    answers = iter([0, 1])

    def links(fd: int) -> int:
        return next(answers) and real.links(fd)

    with Directory.open(str(folder), Failing(links=links)) as directory:
        directory.replace("f", b"x")
        assert directory.read("f", 1) == b"x"


def test_system_that_cannot_rename_open_files_gets_them_closed(folder: Path) -> None:
    vfs = Failing(rename_closed=True)  # type: ignore[arg-type]
    with Directory.open(str(folder), vfs) as directory:
        directory.replace("f", b"x")
        assert directory.read("f", 1) == b"x"


def test_storage_error_names_what_failed() -> None:
    assert storage_error(OSError("odd"), "cannot do it").message == "cannot do it: odd"
    with pytest.raises(StorageError, match="doing: Input/output error"), Translated("doing"):
        raise OSError(errno.EIO, "x")
    with pytest.raises(KeyError), Translated("doing"):
        raise KeyError


# -- what someone may have planted


def _symlink(path: Path, target: Path) -> None:
    path.symlink_to(target)


def _dangling(path: Path, target: Path) -> None:
    path.symlink_to(target.parent / "not there")


def _hardlink(path: Path, target: Path) -> None:
    path.hardlink_to(target)


def _fifo(path: Path, target: Path) -> None:
    os.mkfifo(path)


def _folder(path: Path, target: Path) -> None:
    path.mkdir()


def _device(path: Path, target: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only root makes devices")


PLANTS = [_symlink, _dangling, _hardlink, _fifo, _folder, _device]


@pytest.mark.parametrize("plant", PLANTS)
def test_planted_object_is_refused_and_left_alone(folder: Path, plant: Callable[[Path, Path], None]) -> None:
    target = folder.parent / "precious"
    target.write_bytes(b"precious")
    plant(folder / "f", target)
    before = (folder / "f").lstat()
    with Directory.open(str(folder)) as directory:
        for call in (
            lambda: directory.read("f", 100),
            lambda: directory.replace("f", b"x"),
            lambda: directory.stage("f", b"x"),
            lambda: directory.require_replaceable("f"),
            lambda: directory.open_file("f", CREATE_NEW),
        ):
            with pytest.raises(StorageError) as caught:
                call()
            assert caught.value.code == "unsafe_path"
            assert str(folder / "f") in caught.value.message
    assert target.read_bytes() == b"precious"
    assert (folder / "f").lstat().st_ino == before.st_ino
    assert not (folder.parent / "not there").exists()
    assert sorted(path.name for path in folder.iterdir()) == ["f"]


def test_file_replaced_between_opening_and_looking_is_read_as_it_was(folder: Path) -> None:
    real = Vfs()
    (folder / "f").write_bytes(b"old")

    def fstat(fd: int) -> Stat:
        if (folder / "f").read_bytes() == b"old" and real.fstat(fd).kind == "file":
            (folder / "g").write_bytes(b"new")
            (folder / "g").rename(folder / "f")
        return real.fstat(fd)

    with Directory.open(str(folder), Failing(fstat=fstat)) as directory:
        assert directory.read("f", 3) == b"old"
        assert directory.read("f", 3) == b"new"


# -- the primitives


def test_preallocated_file_is_zeros_even_where_nothing_can_be_reserved(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vfs = Vfs()
    for number, reserve in enumerate((os.posix_fallocate, _raising(errno.EOPNOTSUPP), None)):
        if reserve is None:
            monkeypatch.delattr(os, "posix_fallocate")
        else:
            monkeypatch.setattr(os, "posix_fallocate", reserve)
        path = folder / str(number)
        fd = os.open(path, os.O_RDWR | os.O_CREAT)
        vfs.preallocate(fd, 100_000)
        os.close(fd)
        assert path.read_bytes() == bytes(100_000)


def test_preallocation_reports_a_full_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "posix_fallocate", _raising(errno.ENOSPC))
    fd = os.open(folder / "f", os.O_RDWR | os.O_CREAT)
    try:
        with pytest.raises(OSError, match="space"):
            Vfs().preallocate(fd, 1)
    finally:
        os.close(fd)


def test_durable_means_durable_on_a_mac(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []
    vfs = Vfs()
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr("fcntl.F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr("fcntl.fcntl", lambda fd, command: calls.append((fd, command)))
    for call in (vfs.fsync, vfs.fdatasync, vfs.fsync_dir):
        call(7)
    assert calls == [(7, 51)] * 3


def test_clock_and_chance_are_real() -> None:
    vfs = default_vfs()
    assert type(vfs) is Vfs
    assert vfs.random(12) != vfs.random(12)
    start = vfs.monotonic()
    vfs.sleep(0)
    assert vfs.monotonic() >= start
    assert vfs.pid() == os.getpid()
