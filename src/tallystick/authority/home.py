# SPDX-License-Identifier: Apache-2.0
"""The vendor's folder: everything that is secret or must be backed up, in one place.

    vendor.db       the database, unless `database.url` names another
    database.url    the URL of a PostgreSQL database
    pepper          32 bytes: without it, activation codes cannot be checked and content keys not read
    root.key        signs key sets only; take it away (a stick in a safe) and bring it back to rotate keys
    keys/           signing keys: PKCS #8, or what is kept of a key in a TPM or on a token

The folder is 0700 and its files 0600, made with O_EXCL; a secret that others may read is refused rather than
used. Key files kept elsewhere are as private as the place they are kept in.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from tallystick.backends.file_uri import data_folder
from tallystick.errors import TallystickError, error

DATABASE: Final = "vendor.db"
DATABASE_URL: Final = "database.url"
PEPPER: Final = "pepper"
ROOT_KEY: Final = "root.key"
KEYS: Final = "keys"
PEPPER_BYTES: Final = 32
_MAX_SECRET: Final = 65_536
_OTHERS: Final = 0o077


def default_home() -> Path:
    """Return the vendor folder of this user, as the system's conventions have it."""
    return Path(data_folder()).parent / "vendor"


class Home:
    """A vendor's folder.

    Args:
        path: where; the user's own if omitted.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path = default_home() if path is None else Path(path).absolute()

    def prepare(self) -> None:
        """Make the folder, or check the one that is there.

        Raises:
            StorageError: ``unsafe_path``, ``no_permission`` or ``io_error``.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self.path / KEYS).mkdir(mode=0o700, exist_ok=True)
        except OSError as cause:
            raise _storage_error(self.path, cause) from cause
        for folder in (self.path, self.path / KEYS):
            _require_private(folder)

    def has(self, name: str) -> bool:
        """Tell whether a file is there.

        Args:
            name: one of the module's names, or a path below the folder.
        """
        return (self.path / name).exists()

    def resolve(self, name: str) -> Path:
        """Return the path of a file given below this folder, or absolutely."""
        return self.path / name

    def write_new(self, name: str, data: bytes) -> None:
        """Write a secret that does not exist yet, durably.

        Args:
            name: path below the folder, or absolute.
            data: its contents.

        Raises:
            AuthorityError: ``record_exists``; nothing is ever overwritten.
            StorageError: ``no_permission``, ``no_space`` or ``io_error``.
        """
        path = self.resolve(name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        try:
            with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            _sync_folder(path.parent)
        except FileExistsError as cause:
            raise error("record_exists", f"{path} exists already; it is never overwritten", path=str(path)) from cause
        except OSError as cause:
            raise _storage_error(path, cause) from cause

    def read_secret(self, name: str) -> bytes:
        """Read a secret.

        Args:
            name: path below the folder, or absolute.

        Returns:
            Its contents.

        Raises:
            AuthorityError: ``key_missing``.
            StorageError: ``unsafe_path`` where others may read a file of the folder, ``no_permission`` or ``io_error``.
        """
        path = self.resolve(name)
        try:
            if path.is_relative_to(self.path):  # a key brought on a stick has whatever mode the stick was mounted with
                _require_private(path)
            with path.open("rb") as file:
                return file.read(_MAX_SECRET)
        except FileNotFoundError as cause:
            raise error("key_missing", f"{path} is not there", path=str(path)) from cause
        except OSError as cause:
            raise _storage_error(path, cause) from cause

    def database_url(self) -> str:
        """Return where the vendor's records are.

        Returns:
            A database URL.

        Raises:
            AuthorityError: ``record_not_found`` where no vendor lives in this folder.
            StorageError: the folder cannot be read, or not safely.
        """
        if self.has(DATABASE_URL):
            return self.read_secret(DATABASE_URL).decode("utf-8", "replace").strip()
        path = self.resolve(DATABASE)
        if not path.exists():
            remedy = "Make one: `tally vendor init NAME`, or name its folder with `--home`."
            raise error("record_not_found", f"no vendor lives in {self.path}", remedy, path=str(self.path))
        _require_private(path)
        return sqlite_url(path)


def sqlite_url(path: Path) -> str:
    """Return the URL of a SQLite file.

    Args:
        path: absolute.
    """
    from urllib.parse import quote

    return f"sqlite:///{quote(str(path))}"


def _require_private(path: Path) -> None:
    """Refuse what others may read or replace.

    Raises:
        OSError: it is not there.
        StorageError: ``unsafe_path``.
    """
    if os.name == "nt":  # access lists, not mode bits; the profile's folder is private
        return
    found = path.stat()
    if stat.S_IMODE(found.st_mode) & _OTHERS:
        remedy = f"Take it back: chmod go= {path}"
        raise error("unsafe_path", f"other users may read or change {path}", remedy, path=str(path))
    if found.st_uid not in (os.geteuid(), 0):
        raise error("unsafe_path", f"{path} belongs to another user", f"Make it yours: chown {path}", path=str(path))


def _sync_folder(path: Path) -> None:
    if os.name == "nt":  # folders cannot be opened there; NTFS journals the entry
        return
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _storage_error(path: Path, cause: OSError) -> TallystickError:
    import errno

    reason = cause.strerror or "input/output error"
    if cause.errno in (errno.ENOSPC, errno.EDQUOT):
        return error("no_space", f"no space left to write {path}", path=str(path))
    if cause.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return error("no_permission", f"{path}: {reason}", "Check its owner and mode.", path=str(path))
    return error("io_error", f"{path}: {reason}", path=str(path))
