# SPDX-License-Identifier: Apache-2.0
"""Files that decide which code runs: whether only root and the user can have written them.

Of each step of the path, symbolic links followed one by one, the owner must be root or the user, and nobody else may
be able to write there; so nobody else can put another file in its place. On the way, not around the file itself, a
folder such as ``/tmp`` may pass, where all can write and nobody can replace what is another's.
"""

from __future__ import annotations

import os
import stat
from typing import Final

MISSING: Final = "there is no such file"
_LIMIT: Final = 65536
_MOST_LINKS: Final = 40  # as many as Linux follows
_ROOT: Final = 0
_LIST: Final = "system.posix_acl_access"  # acl(5)


def examined(path: str, user: int) -> tuple[str, str]:
    """Follow a path to its file.

    Args:
        path: absolute.
        user: whose files are trusted besides root's; -1 where files have no such owners, and nothing but being there
            is examined.

    Returns:
        The path without symbolic links, and why the file is not to be trusted; empty where it is.
    """
    if not os.path.isabs(path):
        return path, "its path is not absolute"
    try:
        if user < 0:
            real = os.path.realpath(path, strict=True)
            return real, "" if os.path.isfile(real) else "it is no file"
        return _followed(path, user)
    except (FileNotFoundError, NotADirectoryError):
        return path, MISSING
    except (OSError, ValueError) as cause:
        return path, f"it cannot be examined: {getattr(cause, 'strerror', None) or 'not a file name'}"


def read_trusted(path: str, user: int) -> tuple[bytes, str]:
    """Read a file that is to be trusted, at most 64 KiB.

    Args:
        path: absolute.
        user: as in `examined`.

    Returns:
        Its contents, and why it is not read; empty where it was.
    """
    real, problem = examined(path, user)
    if problem:
        return b"", problem
    try:
        with open(real, "rb") as file:
            data = file.read(_LIMIT + 1)
    except OSError as cause:
        return b"", f"it cannot be read: {cause.strerror}"
    return (data, "") if len(data) <= _LIMIT else (b"", f"it is larger than {_LIMIT} bytes")


def _followed(path: str, user: int) -> tuple[str, str]:
    at, links = os.sep, 0
    steps = path.split(os.sep)[::-1]
    state = os.lstat(at)
    while steps:
        step = steps.pop()
        if step in ("", os.curdir, os.pardir):
            at = os.path.dirname(at) if step == os.pardir else at
            continue
        here = os.path.join(at, step)
        state = os.lstat(here)
        if state.st_uid not in (_ROOT, user):
            return path, f"{here!r} belongs to another user ({state.st_uid})"
        if stat.S_ISLNK(state.st_mode):
            links += 1
            if links > _MOST_LINKS:
                return path, "it has too many symbolic links"
            target = os.readlink(here)
            at = os.sep if os.path.isabs(target) else at
            steps += target.split(os.sep)[::-1]
            continue
        if _open_to_others(here, state) and not (stat.S_ISDIR(state.st_mode) and state.st_mode & stat.S_ISVTX):
            return path, _writable(here, state)
        at = here
    if not stat.S_ISREG(state.st_mode):
        return path, "it is no regular file"
    folder = os.path.dirname(at)
    state = os.lstat(folder)
    return (path, _writable(folder, state)) if _open_to_others(folder, state) else (at, "")


def _open_to_others(path: str, state: os.stat_result) -> bool:
    """Tell whether somebody besides the owner and root may write; root's group is root.

    Where there is an access control list, the group's bits are its mask: what anybody in the list may do at most.
    """
    if state.st_mode & stat.S_IWOTH:
        return True
    return bool(state.st_mode & stat.S_IWGRP) and (state.st_gid != _ROOT or _has_list(path))


def _has_list(path: str) -> bool:
    try:
        return _LIST in os.listxattr(path)
    except (AttributeError, OSError):  # no such lists on this system, or on this file system
        return False


def _writable(path: str, state: os.stat_result) -> str:
    mode = stat.S_IMODE(state.st_mode)
    return f"others may write to {path!r} (mode {mode:04o}): `chmod go-w` it, or move the file elsewhere"
