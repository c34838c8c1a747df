# SPDX-License-Identifier: Apache-2.0
"""QR codes of messages, drawn by segno (the one importer)."""

from __future__ import annotations

import io

import segno

from tallystick.codec import armor
from tallystick.errors import error


def _code(message: bytes) -> segno.QRCode:
    if len(message) > armor.QR_MAX_BYTES:
        raise error(
            "qr_too_large",
            f"{len(message)} bytes do not fit one QR code (at most {armor.QR_MAX_BYTES})",
            size=len(message),
            limit=armor.QR_MAX_BYTES,
        )
    text = armor.QR_PREFIX + armor.to_base45(message)
    return segno.make_qr(text, mode="alphanumeric", error="l", boost_error=False)


def to_terminal(message: bytes) -> str:
    """Draw a message as a QR code for a terminal.

    Args:
        message: its bytes, at most `armor.QR_MAX_BYTES`.

    Returns:
        Lines of block characters.

    Raises:
        FormatError: ``qr_too_large`` with the size.
    """
    out = io.StringIO()
    _code(message).terminal(out, compact=True)
    return out.getvalue()


def to_png(message: bytes, scale: int = 4) -> bytes:
    """Draw a message as a QR code picture.

    Args:
        message: its bytes, at most `armor.QR_MAX_BYTES`.
        scale: pixels a module.

    Returns:
        A PNG file.

    Raises:
        FormatError: ``qr_too_large`` with the size.
    """
    out = io.BytesIO()
    _code(message).save(out, kind="png", scale=scale, border=4)
    return out.getvalue()
