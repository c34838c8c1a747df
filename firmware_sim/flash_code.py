# SPDX-License-Identifier: Apache-2.0
"""Codes on flash: a checked header that one wrong bit does not hide, and pairs of words that cannot be half written.

Interrupted programming leaves some bits 1 that should be 0; erasing halfway sets some bits to 1; rot turns a bit
either way. A *pair* holds a number v as two words: (v, not v), then (not v, v). Whatever subset of the zeros in a
word has been programmed, it is that word only when it is complete. The second word is begun when the first was read
back right: if the second has been begun, the number was once written, even if one of the two has rotted since.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from typing import Final

from firmware_sim.flash import WORD, FlashCorrupt

CHECK_BYTES: Final = 4
PAIR_BYTES: Final = 2 * WORD
ERASED_WORD: Final = b"\xff" * WORD
_WORD: Final = struct.Struct(">II")
_ALL: Final = 0xFFFFFFFF


def is_erased(data: bytes) -> bool:
    """Return whether every bit is 1."""
    return data.count(0xFF) == len(data)


def add_check(body: bytes) -> bytes:
    """Return `body` and its checksum."""
    return body + zlib.crc32(body).to_bytes(CHECK_BYTES, "big")


def check(raw: bytes) -> bytes | None:
    """Return the body before a checksum, None if the checksum is wrong."""
    if len(raw) <= CHECK_BYTES:
        return None
    body = raw[:-CHECK_BYTES]
    return body if zlib.crc32(body).to_bytes(CHECK_BYTES, "big") == raw[-CHECK_BYTES:] else None


def _syndromes(size: int) -> Mapping[int, int]:
    """Map what one wrong bit does to the checksum of `size` bytes (checksum included) to the place of the bit."""
    zeros = zlib.crc32(bytes(size - CHECK_BYTES))
    found = {}
    for bit in range(size * 8):
        error = (1 << bit).to_bytes(size, "big")
        found[zlib.crc32(error[:-CHECK_BYTES]) ^ zeros ^ int.from_bytes(error[-CHECK_BYTES:], "big")] = bit
    return found


_SYNDROMES: Final[Mapping[int, Mapping[int, int]]] = {size: _syndromes(size) for size in (12, 16)}


def mend(raw: bytes) -> bytes | None:
    """Return checked bytes (12 or 16) with the one wrong bit put right, None if they are not one bit off."""
    syndrome = zlib.crc32(raw[:-CHECK_BYTES]) ^ int.from_bytes(raw[-CHECK_BYTES:], "big")
    bit = _SYNDROMES[len(raw)].get(syndrome)
    if bit is None:
        return None
    return (int.from_bytes(raw, "big") ^ 1 << bit).to_bytes(len(raw), "big")


def pair(value: int) -> bytes:
    """Return the two words that hold a number of 32 bits."""
    return _WORD.pack(value, value ^ _ALL) + _WORD.pack(value ^ _ALL, value)


def begun(raw: bytes) -> bool:
    """Return whether the second word of a pair was begun, so that the first was complete."""
    return raw[WORD:PAIR_BYTES] != ERASED_WORD


def read_pair(raw: bytes) -> int | None:
    """Return the number a pair holds, None if it was never completely written.

    Raises:
        FlashCorrupt: it was, and cannot be read any more.
    """
    value, inverse = _WORD.unpack_from(raw)
    if value ^ inverse == _ALL:
        return int(value)
    if not begun(raw):
        return None
    inverse, value = _WORD.unpack_from(raw, WORD)
    if value ^ inverse == _ALL:
        return int(value)
    raise FlashCorrupt("both words of a pair are damaged")
