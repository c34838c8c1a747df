# SPDX-License-Identifier: Apache-2.0
"""Records on flash: the pieces of a transaction, written and read back.

The format stands in `flash_log`. A transaction is one piece, or several in consecutive pages; only the last carries
the commit pair. Checksums run on from piece to piece, so the commit pair vouches for all of them.
"""

from __future__ import annotations

import struct
import zlib
from typing import Final

from firmware_sim.flash import WORD, FlashCorrupt
from firmware_sim.flash_code import CHECK_BYTES, PAIR_BYTES, add_check, begun, check, is_erased, mend, pair
from firmware_sim.flash_page import HEADER_BYTES, Miswritten, Page, PagePool
from tallystick.record import Record

ENTRY: Final = 0x65
STATE: Final = 0x73
TABLE: Final = 0x74

_FIRST: Final = 1
_LAST: Final = 2
_HEAD: Final = struct.Struct(">BBHI")
HEAD_BYTES: Final = _HEAD.size + CHECK_BYTES + 4
PIECE_BYTES: Final = HEAD_BYTES + PAIR_BYTES
"""What a piece takes beside its payload; with less room than that a page counts as full."""


class Piece(Record):
    """One piece of a transaction, read back without fault."""

    kind: int
    first: bool
    last: bool
    number: int  # of the transaction
    payload: bytes
    check: int  # running checksum of the transaction up to here
    end: int  # offset behind it
    sealed: bool = True  # the second word of its commit pair was begun


class Blank:
    """Nothing was written here."""


class Torn:
    """Something was being written here when the power failed."""


BLANK: Final = Blank()
TORN: Final = Torn()


def padded(size: int) -> int:
    """Return the bytes that `size` bytes take in whole words."""
    return -(-size // WORD) * WORD


def pieces(size: int, offset: int, page_bytes: int) -> int:
    """Return how many more pages a transaction of `size` bytes needs that starts at `offset` of a page."""
    room = page_bytes - offset
    pages = 0
    while True:
        if room >= PIECE_BYTES:
            if padded(size) + PIECE_BYTES <= room:
                return pages
            size -= min(size, room - HEAD_BYTES)
        pages += 1
        room = page_bytes - HEADER_BYTES


def room(offset: int, pages: int, page_bytes: int) -> int:
    """Return the size of the largest transaction from `offset` on and into `pages` more pages; negative: not any."""
    here = page_bytes - offset
    inner = page_bytes - HEADER_BYTES - HEAD_BYTES
    begun_here = here - HEAD_BYTES if here >= PIECE_BYTES else 0
    if not pages:
        return here - PIECE_BYTES
    return begun_here + pages * inner - PAIR_BYTES


class Writer:
    """Writes one transaction into pages, piece by piece.

    Args:
        pool: where pages come from.
        kind: of the transaction.
        number: of the transaction.
    """

    def __init__(self, pool: PagePool, kind: int, number: int) -> None:
        self._pool = pool
        self._kind = kind
        self._number = number
        self._check = 0
        self._flags = _FIRST

    def put(self, page: Page, offset: int, data: bytes) -> tuple[int, int]:
        """Write as much of `data` as fits behind `offset`; if that is all, commit.

        Args:
            page: an open page.
            offset: of its first free word.
            data: what is left of the transaction.

        Returns:
            The bytes written, -1 when all were and the transaction is durable; the offset behind them.

        Raises:
            Miswritten: the page did not take it; the transaction is not committed.
        """
        space = self._pool.flash.page_bytes - offset
        if space < PIECE_BYTES:
            return 0, offset
        if padded(len(data)) + PIECE_BYTES <= space:
            self._flags |= _LAST
        data = data if self._flags & _LAST else data[: space - HEAD_BYTES]
        head = _HEAD.pack(self._kind, self._flags, len(data), self._number)
        body = data + bytes(padded(len(data)) - len(data))
        self._check = zlib.crc32(body, zlib.crc32(head, self._check))
        self._pool.write(page.index, offset, add_check(head) + self._check.to_bytes(4, "big") + body)
        offset += HEAD_BYTES + len(body)
        if not self._flags & _LAST:
            self._flags = 0
            return len(data), offset
        commit = pair(self._check)
        self._pool.write(page.index, offset, commit[:WORD])
        try:
            self._pool.write(page.index, offset + WORD, commit[WORD:])
        except Miswritten:
            pass  # the first word says it all; the second only guards it against rot
        return -1, offset + PAIR_BYTES


def read_piece(raw: bytes, offset: int, before: int) -> Piece | Blank | Torn:
    """Read what stands at `offset` of a page.

    Args:
        raw: the page.
        offset: where a piece may begin.
        before: checksum of the transaction's pieces before this one; 0 if it begins here.

    Returns:
        The piece; or that nothing is there; or that something is which was never completed.

    Raises:
        FlashCorrupt: it was completed once, and does not read right any more.
    """
    if len(raw) - offset < PIECE_BYTES or raw[offset : offset + WORD] == b"\xff" * WORD:
        return BLANK if is_erased(raw[offset:]) else TORN
    checked = raw[offset : offset + _HEAD.size + CHECK_BYTES]
    head = check(checked)
    sound = head is not None
    if head is None:
        head = check(mend(checked) or b"")
        if head is None:
            return TORN
    kind, flags, size, number = _HEAD.unpack(head)
    end = offset + HEAD_BYTES + padded(size)
    last = bool(flags & _LAST)
    if end + (PAIR_BYTES if last else 0) > len(raw) or (not last and len(raw) - end >= PAIR_BYTES):
        return TORN
    body = raw[offset + HEAD_BYTES : end]
    running = zlib.crc32(body, zlib.crc32(head, before if not flags & _FIRST else 0))
    sound = sound and raw[end - len(body) - 4 : end - len(body)] == running.to_bytes(4, "big")
    commit = raw[end : end + PAIR_BYTES] if last else b""
    if last and not _committed(commit, running, sound):
        return TORN
    if not sound:
        return TORN
    return Piece(
        kind,
        bool(flags & _FIRST),
        last,
        number,
        body[:size],
        running,
        end + len(commit),
        not last or begun(commit),
    )


def _committed(commit: bytes, running: int, sound: bool) -> bool:
    expected = pair(running)
    exact = commit[:WORD] == expected[:WORD] or commit[WORD:] == expected[WORD:]
    if sound and exact:
        return True
    if begun(commit) or exact:
        raise FlashCorrupt("a committed record does not read as it was written")
    return False
