# SPDX-License-Identifier: Apache-2.0
"""Messages as text: armored for e-mail and paste, base 45 for QR codes.

    -----BEGIN TALLYSTICK REQUEST-----
    0oRYQaMBKAQ...                         base64, 64 characters a line
    =hLZfJw==                              CRC-32 of the message, big-endian, base64
    -----END TALLYSTICK REQUEST-----

A QR code carries ``TS45:`` and the message in base 45 (RFC 9285): its alphanumeric mode holds 4,296 characters, so
messages up to 2,860 bytes fit one symbol, and any telephone's scanner hands over text that can be pasted.

Reading forgives what mail programs do (quoting, indentation, CR LF, text around the block) and nothing else.
"""

from __future__ import annotations

import binascii
import re
from typing import Final

from tallystick.codec.kinds import BY_ARMOR, Kind
from tallystick.errors import error

_BEGIN: Final = re.compile(r"-----BEGIN TALLYSTICK ([A-Z ]{3,20})-----")
_END: Final = re.compile(r"-----END TALLYSTICK ([A-Z ]{3,20})-----")
_LINE: Final = 48  # bytes: 64 base64 characters, as PEM
QR_PREFIX: Final = "TS45:"
_QR_SYMBOLS: Final = 4296  # alphanumeric characters in version 40-L (ISO/IEC 18004)
QR_MAX_BYTES: Final = 2860  # (4296 - 5 of the prefix) // 3 * 2
_ALPHABET45: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"
_VALUES45: Final = {symbol: value for value, symbol in enumerate(_ALPHABET45)}
MAX_TEXT: Final = 2 << 20


def to_text(message: bytes, kind: Kind) -> str:
    """Armor a message.

    Args:
        message: its bytes.
        kind: names the block.

    Returns:
        The block, newline at the end.
    """
    lines = [
        binascii.b2a_base64(message[at : at + _LINE], newline=False).decode() for at in range(0, len(message), _LINE)
    ]
    check = binascii.b2a_base64(binascii.crc32(message).to_bytes(4), newline=False).decode()
    label = f"TALLYSTICK {kind.armor}"
    return "\n".join((f"-----BEGIN {label}-----", *lines, f"={check}", f"-----END {label}-----", ""))


def from_text(text: str) -> bytes:
    """Read an armored block or a scanned QR text.

    Args:
        text: the block, with anything around it, or ``TS45:...``.

    Returns:
        The message's bytes, checked against the CRC (QR codes correct errors themselves).

    Raises:
        FormatError: ``armor_damaged``, ``too_large``, or ``malformed`` if there is no block at all.
    """
    if len(text) > MAX_TEXT:
        raise error("too_large", "more text than any message", limit=MAX_TEXT)
    if text.strip().startswith(QR_PREFIX):
        scanned = text.strip()[len(QR_PREFIX) :]
        if len(scanned) > _QR_SYMBOLS:
            raise error("too_large", "more text than one QR code holds", limit=_QR_SYMBOLS)
        return from_base45(scanned)
    # Two searches, each once over the text: one pattern for the whole block would start anew at every dashed line.
    begin = _BEGIN.search(text)
    if begin is None:
        if "BEGIN TALLYSTICK" in text:
            raise error("armor_damaged", "the first dashed line is damaged")
        raise error("malformed", "no Tallystick block in this text")
    end = _END.search(text, begin.end())
    if end is None:
        raise error("armor_damaged", "the end of the block is missing")
    if begin[1] != end[1] or begin[1] not in BY_ARMOR:
        raise error("armor_damaged", "the dashed lines do not belong together")
    body = text[begin.end() : end.start()]
    joined = "".join(line.strip().lstrip(">| ").strip() for line in body.splitlines())
    return _checked(*_split(joined))


def _split(joined: str) -> tuple[str, str]:
    """Separate data from the CRC line: the CRC is the last 8 characters, behind its equals sign."""
    if len(joined) < 10 or joined[-9] != "=":
        raise error("armor_damaged", "the check line is missing")
    return joined[:-9], joined[-8:]


def _checked(data: str, check: str) -> bytes:
    try:
        message = binascii.a2b_base64(data, strict_mode=True)
        crc = binascii.a2b_base64(check, strict_mode=True)
    except (binascii.Error, ValueError) as cause:
        raise error("armor_damaged", "a character is missing or wrong") from cause
    if binascii.crc32(message).to_bytes(4) != crc:
        raise error("armor_damaged", "the text was changed on its way")
    return message


def to_base45(message: bytes) -> str:
    """Encode in base 45 (RFC 9285).

    Args:
        message: its bytes.

    Returns:
        The text without prefix.
    """
    out = []
    for at in range(0, len(message), 2):
        pair = message[at : at + 2]
        number = int.from_bytes(pair)
        for _ in range(len(pair) + 1):
            number, symbol = divmod(number, 45)
            out.append(_ALPHABET45[symbol])
    return "".join(out)


def from_base45(text: str) -> bytes:
    """Decode base 45 (RFC 9285).

    Args:
        text: without prefix.

    Returns:
        The bytes.

    Raises:
        FormatError: ``armor_damaged``.
    """
    out = bytearray()
    for at in range(0, len(text), 3):
        group = [_VALUES45.get(symbol, -1) for symbol in text[at : at + 3]]
        number = sum(value * 45**place for place, value in enumerate(group))
        size = len(group) - 1
        if min(group) < 0 or size == 0 or number >= 256**size:
            raise error("armor_damaged", "a character is missing or wrong")
        out += number.to_bytes(size)
    return bytes(out)
