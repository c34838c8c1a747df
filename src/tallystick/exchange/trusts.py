# SPDX-License-Identifier: Apache-2.0
"""Reading a vendor's trust text: as it is, or from the file that holds it."""

from __future__ import annotations

from typing import BinaryIO

from tallystick.errors import error
from tallystick.exchange.files import read_source, unwrapped
from tallystick.exchange.identify import MAX_TRUST_BYTES, identify, with_article
from tallystick.license.trust import TRUST_PREFIX, Trust


def read_trust(source: str, stdin: BinaryIO | None = None) -> Trust:
    """Read a trust text.

    Args:
        source: ``tallytrust:...`` itself, a path, ``@`` and a path, or ``-``.
        stdin: where ``-`` reads from.

    Returns:
        The trust.

    Raises:
        UsageError: ``usage`` for a damaged text, ``file_not_found``.
        FormatError: ``wrong_kind`` for a file that holds something else, ``too_large``.
        StorageError: ``no_permission`` or ``io_error``.
    """
    if source.strip().startswith(f"{TRUST_PREFIX}:"):
        return Trust.from_text(source)
    path = source.removeprefix("@")
    data = read_source(path, stdin, MAX_TRUST_BYTES)
    text = data.decode("utf-8-sig", "replace").strip()
    if not text.startswith(f"{TRUST_PREFIX}:"):
        found = identify(unwrapped(data))
        message = f"{path} is {with_article(found.name)}; a vendor's trust text is needed here"
        raise error("wrong_kind", message, "It is one line, `tallytrust:NAME:...`, from the vendor.")
    return Trust.from_text(text)
