# SPDX-License-Identifier: Apache-2.0
"""The three forms of a message: file, text, QR code; and how its file is named."""

from __future__ import annotations

import os
from typing import Final

from tallystick.codec import armor, cose, kinds
from tallystick.codec.ident import container_id
from tallystick.container.view import REPAIR_EXTENSION, read_repair_request
from tallystick.errors import TallystickError, error
from tallystick.exchange.files import read_message, read_source, target, write_file
from tallystick.exchange.identify import REPAIR, identify

FILE: Final = "file"
TEXT: Final = "text"
QR: Final = "qr"


def rendered(message: bytes, form: str) -> bytes:
    """Return what a file of a form holds.

    Args:
        message: a message or repair request.
        form: ``file`` (the bytes), ``text`` (armored) or ``qr`` (a PNG picture).

    Returns:
        The file's contents.

    Raises:
        FormatError: ``qr_too_large``, or as `identify`.
        ContainerError: ``not_supported`` for the text of what has no armored form.
    """
    if form == TEXT:
        return as_text(message).encode("ascii")
    if form == QR:
        from tallystick.codec import qr

        return qr.to_png(message)
    return message


def as_text(message: bytes) -> str:
    """Return the armored form.

    Args:
        message: a signed message or repair request.

    Returns:
        The block.

    Raises:
        FormatError: as `identify`.
        ContainerError: ``not_supported`` for what has none, such as encrypted content.
    """
    found = identify(message)
    kind = kinds.REPAIR if found is REPAIR else found.kind
    if kind is None or not kind.armor:
        raise error("not_supported", f"{found.name} has no text form", "Leave out `--text`, or use `--qr`.")
    return armor.to_text(message, kind)


def default_name(message: bytes, form: str = FILE) -> str:
    """Name a file for a message: container, message id, extension of its kind.

    Args:
        message: a message or repair request.
        form: as `rendered`.

    Returns:
        For example ``TS-0123A-BCDEF-GHJK5-1a2b3c4d.tallyreq``.

    Raises:
        FormatError: as `identify`.
    """
    found = identify(message)
    if found is REPAIR:
        stem, extension = container_id(read_repair_request(message)["container"]), REPAIR_EXTENSION
    else:
        header, claims = cose.peek(message)
        extension = header.kind.extension or ".tally"
        match claims.get(8):
            case {5: bytes(thumbprint)}:
                stem = container_id(thumbprint)
            case _:
                stem = container_id(header.kid)
        match claims.get(7):
            case bytes(message_id):
                stem += f"-{message_id[:4].hex()}"
    return stem + {FILE: extension, TEXT: extension, QR: ".png"}[form]


def written_before(message: bytes) -> str | None:
    """Tell whether a message stands in the current folder already, under its default name.

    Args:
        message: a message.

    Returns:
        The path; None where there is no such file, or it holds something else.

    Raises:
        FormatError: as `identify`.
    """
    name = default_name(message)
    try:
        return name if read_message(name) == message else None
    except TallystickError:
        return None


def write_message(message: bytes, path: str | None, form: str = FILE, *, force: bool = False) -> str:
    """Write a message into a file.

    Args:
        message: a message or repair request.
        path: a file, a folder, or None for the current folder; the default name where no file is named.
        form: as `rendered`.
        force: replace an existing file. One that holds the same already is left as it is.

    Returns:
        The path written.

    Raises:
        UsageError: ``file_exists``, ``file_not_found``.
        StorageError: ``no_permission``, ``no_space`` or ``io_error``.
        FormatError: as `rendered`.
    """
    where = target(path, default_name(message, form))
    if force or not is_written(message, where, form):
        write_file(where, rendered(message, form), force=force)
    return where


def is_written(message: bytes, path: str, form: str = FILE) -> bool:
    """Tell whether a message stands in a file already.

    Args:
        message: a message or repair request.
        path: a file or folder, as `write_message`.
        form: as `rendered`.

    Raises:
        FormatError: as `rendered`.
    """
    where, data = target(path, default_name(message, form)), rendered(message, form)
    try:
        return os.path.isfile(where) and read_source(where, None, len(data)) == data
    except TallystickError:
        return False
