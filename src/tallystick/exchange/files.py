# SPDX-License-Identifier: Apache-2.0
"""Messages in and out of files, pipes and pasted text.

Reading takes a binary message, an armored block in any text around it, or the text of a scanned QR code, from a path,
from standard input (``-``) or from the argument itself. The name of a file decides nothing. Sizes are limited before
anything is read. Writing never replaces a file unless told to, and a file appears whole or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import BinaryIO, Final

from tallystick.codec import armor
from tallystick.errors import TallystickError, error

STDIN: Final = "-"
MAX_INPUT: Final = armor.MAX_TEXT  # a message of 1 MiB is 1.4 MiB of text
_BEGIN: Final = "-----BEGIN TALLYSTICK"
_END: Final = "-----END TALLYSTICK"
_CHUNK: Final = 1 << 16
_BOMS: Final = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


def read_message(source: str, stdin: BinaryIO | None = None, limit: int = MAX_INPUT) -> bytes:
    """Read a file, standard input or pasted text, and take the armor off.

    Args:
        source: a path, ``-``, an armored block, or the text of a QR code.
        stdin: where ``-`` reads from.
        limit: largest accepted size in bytes, armor included.

    Returns:
        The bytes, whatever they are; `identify` tells.

    Raises:
        UsageError: ``file_not_found``: no such file, or a folder.
        StorageError: ``no_permission`` or ``io_error``.
        FormatError: ``too_large``, ``armor_damaged``, or ``malformed`` for an empty file.
    """
    if is_pasted(source):
        return armor.from_text(source)
    data = read_source(source, stdin, limit)
    if not data.strip():
        raise error("malformed", f"{_named(source)} is empty")
    return unwrapped(data)


def is_pasted(source: str) -> bool:
    """Tell whether an argument is a message itself rather than the name of a file."""
    return _BEGIN in source or source.lstrip().startswith(armor.QR_PREFIX)


def read_source(source: str, stdin: BinaryIO | None, limit: int) -> bytes:
    """Read a file or standard input, at most `limit` bytes.

    Args:
        source: a path, or ``-``.
        stdin: where ``-`` reads from.
        limit: largest accepted size in bytes.

    Returns:
        The contents.

    Raises:
        UsageError: ``file_not_found``.
        StorageError: ``no_permission`` or ``io_error``.
        FormatError: ``too_large``.
    """
    what = _named(source)
    try:
        if source == STDIN:
            if stdin is None:
                raise error("usage", "there is no standard input here", "Name a file.")
            return _bounded(stdin.read, limit, what)
        fd = os.open(source, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0))
        try:
            size = os.fstat(fd).st_size
            if size > limit:
                raise _too_large(what, limit)
            return _bounded(lambda count: os.read(fd, count), limit, what)
        finally:
            os.close(fd)
    except (OSError, ValueError) as cause:
        raise _unreadable(source, cause) from cause


def read_pasted(lines: Iterable[str], limit: int = MAX_INPUT) -> bytes:
    """Read what somebody pastes at a terminal: to the last dashed line, the end of a QR text, or the end of input.

    Args:
        lines: as they come.
        limit: largest accepted number of characters.

    Returns:
        The message.

    Raises:
        FormatError: ``armor_damaged``, ``malformed`` or ``too_large``.
    """
    text = ""
    for line in lines:
        text += line
        if _END in line or text.lstrip().startswith(armor.QR_PREFIX):
            break
        if len(text) > limit:
            raise _too_large("the pasted text", limit)
    return armor.from_text(text)


def unwrapped(data: bytes) -> bytes:
    """Take the armor off, if there is one.

    Args:
        data: a file's contents.

    Returns:
        The message inside a text block or QR text, else the bytes as they are.

    Raises:
        FormatError: ``armor_damaged`` or ``too_large``.
    """
    encoding = next((name for bom, name in _BOMS if data.startswith(bom)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        if b"BEGIN TALLYSTICK" not in data:
            return data
        text = data.decode("latin-1")  # a mail in an old encoding; the block itself is ASCII
    if "BEGIN TALLYSTICK" in text or text.lstrip().startswith(armor.QR_PREFIX):
        return armor.from_text(text)
    return data


def target(path: str | None, name: str) -> str:
    """Decide where a file goes.

    Args:
        path: what the user named: a file, a folder, or nothing.
        name: the default name.

    Returns:
        The path of the file.
    """
    if path is None:
        return name
    return os.path.join(path, name) if os.path.isdir(path) else path


def check_target(path: str | None, *, force: bool = False) -> None:
    """Refuse a place where nothing can be written, before anything is made that would have to go there.

    Args:
        path: a file that may not exist, a folder, or None for the current folder.
        force: an existing file may be replaced.

    Raises:
        UsageError: ``file_exists``, ``file_not_found`` where the folder is missing.
        StorageError: ``no_permission``.
    """
    here = path or "."
    if os.path.isdir(here):
        folder = here
    else:
        folder = os.path.dirname(os.path.abspath(here))
        if os.path.lexists(here) and not force:
            raise _exists(here)
        if not os.path.isdir(folder):
            raise error("file_not_found", f"there is no folder {folder}", "Make the folder first.", path=folder)
    if not os.access(folder, os.W_OK | os.X_OK):
        message = f"no permission to write into {os.path.abspath(folder)}"
        raise error("no_permission", message, "Choose another place with `--output`.", path=folder)


def write_file(path: str, data: bytes, *, force: bool = False) -> None:
    """Write a file: whole or not at all, readable by its owner only, because requests hold activation codes.

    Args:
        path: where.
        data: its contents.
        force: replace an existing file.

    Raises:
        UsageError: ``file_exists``, ``file_not_found``.
        StorageError: ``no_permission``, ``no_space`` or ``io_error``.
    """
    check_target(path, force=force)
    temporary = f"{path}.{os.urandom(4).hex()}.part"
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
        try:
            with open(fd, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(fd)
            _place(temporary, path, force)
        except BaseException:
            _discard(temporary)
            raise
    except FileExistsError as cause:
        raise _exists(path) from cause
    except OSError as cause:
        raise _unwritable(path, cause) from cause


def _place(temporary: str, path: str, force: bool) -> None:
    if force:
        os.replace(temporary, path)
        return
    try:
        os.link(temporary, path)  # fails if the name was taken meanwhile, which rename does not
    except FileExistsError:
        raise
    except OSError:  # no hard links: FAT, as on most USB sticks
        if os.path.lexists(path):
            raise FileExistsError(path) from None
        os.rename(temporary, path)
    else:
        os.unlink(temporary)


def _discard(temporary: str) -> None:
    try:
        os.unlink(temporary)
    except OSError:  # gone already, or the disk is failing: the first error is the one to report
        return


def _bounded(read: Callable[[int], bytes], limit: int, what: str) -> bytes:
    data = bytearray()
    while piece := read(min(_CHUNK, limit + 1 - len(data))):
        data += piece
        if len(data) > limit:
            raise _too_large(what, limit)
    return bytes(data)


def _named(source: str) -> str:
    return "the input" if source == STDIN else source


def _too_large(what: str, limit: int) -> TallystickError:
    return error("too_large", f"{what} is larger than {limit} bytes", limit=limit)


def _exists(path: str) -> TallystickError:
    return error("file_exists", f"{path} exists already", path=path)


def _unreadable(source: str, cause: Exception) -> TallystickError:
    if isinstance(cause, TallystickError):
        return cause
    what = _named(source)
    if isinstance(cause, IsADirectoryError) or (isinstance(cause, PermissionError) and os.path.isdir(source)):
        remedy = "Name a file in it; a container is opened with `--container file:/path`."
        return error("file_not_found", f"{what} is a folder, not a file", remedy, path=source)
    if isinstance(cause, FileNotFoundError | NotADirectoryError | ValueError):
        return error("file_not_found", f"there is no file {what}", path=source)
    if isinstance(cause, PermissionError):
        return error("no_permission", f"no permission to read {what}", "Check the file's owner and mode.", path=source)
    return error("io_error", f"{what} cannot be read: {getattr(cause, 'strerror', None) or 'input error'}", path=source)


def _unwritable(path: str, cause: OSError) -> TallystickError:
    import errno

    reason = cause.strerror or "output error"
    if cause.errno in (errno.ENOSPC, errno.EDQUOT):
        return error("no_space", f"no space left to write {path}", path=path)
    if cause.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        remedy = "Choose another place with `--output`."
        return error("no_permission", f"{path} cannot be written: {reason}", remedy, path=path)
    return error("io_error", f"{path} cannot be written: {reason}", "Choose another place with `--output`.", path=path)
