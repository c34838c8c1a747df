# SPDX-License-Identifier: Apache-2.0
"""The vendor's folder: private, never overwritten, and clear about what is wrong with it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from shop import Shop

from tallystick.authority.home import Home, default_home
from tallystick.authority.keysets import rotate
from tallystick.authority.office import Office
from tallystick.errors import TallystickError


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """An empty folder."""
    made = Home(tmp_path / "vendor")
    made.prepare()
    return made


def code_of(refusal: pytest.ExceptionInfo[TallystickError]) -> str:
    """The code of a refusal."""
    return refusal.value.code


def test_the_default_is_in_the_users_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_home() == tmp_path / "tallystick" / "vendor"
    assert Home().path == default_home()


def test_a_secret_is_written_once_and_for_its_owner(home: Home) -> None:
    home.write_new("pepper", b"secret")
    assert home.read_secret("pepper") == b"secret"
    assert home.resolve("pepper").stat().st_mode & 0o777 == 0o600
    with pytest.raises(TallystickError, match="never overwritten") as refusal:
        home.write_new("pepper", b"other")
    assert code_of(refusal) == "record_exists"
    assert home.read_secret("pepper") == b"secret"


def test_a_link_planted_in_its_place_is_not_followed(home: Home, tmp_path: Path) -> None:
    home.resolve("pepper").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TallystickError):
        home.write_new("pepper", b"secret")
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_that_others_may_write_to_is_refused(home: Home) -> None:
    home.path.chmod(0o777)
    with pytest.raises(TallystickError) as refusal:
        home.prepare()
    assert (code_of(refusal), "chmod go=" in refusal.value.remedy) == ("unsafe_path", True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_secret_of_another_user_is_refused(home: Home) -> None:
    home.write_new("pepper", b"secret")
    os.chown(home.resolve("pepper"), 12345, -1)
    with pytest.raises(TallystickError, match="another user") as refusal:
        home.read_secret("pepper")
    assert code_of(refusal) == "unsafe_path"


@pytest.mark.parametrize(
    ("number", "code"), [(errno.ENOSPC, "no_space"), (errno.EACCES, "no_permission"), (errno.EIO, "io_error")]
)
def test_what_the_disk_says_is_named(home: Home, monkeypatch: pytest.MonkeyPatch, number: int, code: str) -> None:
    def fail(_fd: int) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(TallystickError) as refusal:
            home.write_new("pepper", b"secret")
    assert code_of(refusal) == code


def test_what_is_not_there_or_no_file_is_named(home: Home, tmp_path: Path) -> None:
    with pytest.raises(TallystickError) as refusal:
        home.read_secret("pepper")
    assert code_of(refusal) == "key_missing"
    with pytest.raises(TallystickError) as refusal:
        home.read_secret("keys")
    assert code_of(refusal) == "io_error"
    (tmp_path / "file").touch()
    with pytest.raises(TallystickError) as refusal:
        Home(tmp_path / "file").prepare()
    assert code_of(refusal) == "io_error"


def test_a_root_key_on_a_stick_has_the_mode_of_the_stick(sqlite_shop: Shop, tmp_path: Path) -> None:
    """FAT knows no modes: what is mounted there is readable for others by its mount, and still the right key."""
    stick = tmp_path / "stick.key"
    (sqlite_shop.home / "root.key").rename(stick)
    stick.chmod(0o755)
    assert rotate(sqlite_shop.office, "time", root_key=stick).keyset_seq == 2


def test_an_office_is_closed_by_its_block(sqlite_shop: Shop) -> None:
    with Office.open(sqlite_shop.home) as office:
        assert office.vendor == "acme"
        assert office.actor == ""
