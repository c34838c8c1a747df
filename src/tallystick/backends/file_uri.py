# SPDX-License-Identifier: Apache-2.0
"""URIs of file containers.

    file:                      the default container, in the user's data folder
    file:NAME                  a container by name, there: letters, digits, ``.``, ``_``, ``-``; 64 at most
    file:/abs/path             a container by folder; also file:///abs/path and, on Windows, file:C:/path
    file:./rel  file:../rel    a container by folder, from the current one
    ?identity-file=PATH        the operator-supplied identity the container was, or will be, created with

``%XX`` is decoded in paths and values, so a folder with a question mark in its name can be given. Whatever else a URI
carries is refused by name: a misspelled parameter must not silently make an unbound container. The tolerance is chosen
at creation and kept in the container; it is no part of the URI.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Final

from tallystick.container.places import user_folder
from tallystick.errors import TallystickError, error
from tallystick.record import Record

SCHEME: Final = "file"
DEFAULT_NAME: Final = "default"
IDENTITY_LIMIT: Final = 4096
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DRIVE: Final = re.compile(r"/?([A-Za-z]:[\\/].*)", re.DOTALL)
_CONTROL: Final = re.compile(r"[\0-\x1f\x7f]")
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")


class FileUri(Record):
    """What a ``file:`` URI says.

    Attributes:
        path: the container's folder.
        name: its name, empty where the folder was given.
        identity_file: the file with the operator-supplied identity, None without.
    """

    path: str
    name: str
    identity_file: str | None


def data_folder() -> str:
    """Return the folder of containers given by name, as this system's conventions have it."""
    return user_folder("containers")


def parse_file_uri(
    uri: str, data_dir: Callable[[], str] = data_folder, *, has_drives: bool = os.name == "nt"
) -> FileUri:
    """Read a ``file:`` URI.

    Args:
        uri: as the module describes.
        data_dir: gives the folder of containers named without a path.
        has_drives: whether ``C:/`` begins a path, as on Windows.

    Returns:
        What it says.

    Raises:
        UsageError: ``bad_uri`` naming what is wrong.
    """
    scheme, colon, rest = uri.partition(":")
    if not colon or scheme.lower() != SCHEME:
        raise _bad(uri, "it does not begin with `file:`")
    if "#" in rest:
        raise _bad(uri, "it has a fragment; write `#` in a path as `%23`")
    target, question, query = rest.partition("?")
    parameters = _parameters(uri, query) if question else {}
    name, path = _target(uri, target, has_drives)
    return FileUri(path or os.path.join(data_dir(), name), name, parameters.get("identity-file"))


def read_identity(path: str, what: str = "identity", remedy: str | None = None) -> bytes:
    """Read an operator-supplied identity.

    Args:
        path: the file the operator names, at most 4 KiB: anything unique and kept secret, best 32 random bytes.
        what: it is, for messages.
        remedy: what to do where it cannot be had; that of identities if None.

    Returns:
        Its contents without white space around it, so that an editor's last newline changes nothing.

    Raises:
        BackendError: ``identity_missing`` where it cannot be read, is empty or too large.
    """
    try:
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # a pipe must not stop the start
        try:
            data = os.read(fd, IDENTITY_LIMIT + 1)
        finally:
            os.close(fd)
    except (OSError, ValueError) as cause:
        reason = getattr(cause, "strerror", None) or "not a file name"
        message = f"the {what} file {path!r} cannot be read: {reason}"
        raise error("identity_missing", message, remedy, path=path) from cause
    identity = data.strip()
    if not identity or len(data) > IDENTITY_LIMIT:
        problem = "too large" if identity else "empty"
        raise error("identity_missing", f"the {what} file {path!r} is {problem}", remedy, path=path)
    return identity


def _bad(uri: str, why: str) -> TallystickError:
    return error("bad_uri", f"{uri!r}: {why}")


def decoded(uri: str, text: str) -> str:
    """Undo ``%XX`` in a part of a URI.

    Args:
        uri: named in errors.
        text: the part.

    Returns:
        The text it stands for.

    Raises:
        UsageError: ``bad_uri``.
    """
    if _BAD_ESCAPE.search(text):
        raise _bad(uri, "`%` must be followed by two hexadecimal digits; write `%` itself as `%25`")
    if "%" in text:
        from urllib.parse import unquote

        try:
            text = unquote(text, errors="strict")
        except UnicodeDecodeError as cause:
            raise _bad(uri, "the escaped bytes are not UTF-8") from cause
    if _CONTROL.search(text):
        raise _bad(uri, "it has a control character")
    return text


def _target(uri: str, target: str, has_drives: bool) -> tuple[str, str]:
    """Return (name, path), one of them empty."""
    if target.startswith("//"):
        authority, slash, path = target[2:].partition("/")
        if authority.lower() not in ("", "localhost") or not slash:
            raise _bad(uri, f"containers live on this computer, not on {authority!r}")
        target = "/" + path
    text = decoded(uri, target)
    if not text:
        return DEFAULT_NAME, ""
    if has_drives and (drive := _DRIVE.fullmatch(text)):
        return "", drive[1]
    if text.startswith(("/", "./", "../")) or text in (".", ".."):
        return "", text
    if _NAME.fullmatch(text):
        return text, ""
    raise _bad(uri, f"{text!r} is neither a name nor a path; a path starts with `/`, `./` or `../`")


def _parameters(uri: str, query: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in query.split("&"):
        key, equals, value = item.partition("=")
        if key != "identity-file":
            raise _bad(uri, f"unknown parameter {key!r}; the only one is `identity-file=PATH`")
        if key in found:
            raise _bad(uri, f"parameter {key!r} is given twice")
        if not equals or not value:
            raise _bad(uri, f"parameter {key!r} has no value")
        found[key] = decoded(uri, value)
    return found
