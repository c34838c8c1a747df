# SPDX-License-Identifier: Apache-2.0
"""The page that holds a flash log's counters: how it is laid out, written and read.

The format stands in `flash_log`, the rules in `flash_counters`.
"""

from __future__ import annotations

import struct
from typing import Final

from firmware_sim.flash import WORD, FlashCorrupt, FlashError
from firmware_sim.flash_code import ERASED_WORD, PAIR_BYTES, pair, read_pair
from firmware_sim.flash_page import COUNTERS, HEADER_BYTES, Miswritten, Page, PagePool
from firmware_sim.flash_record import PIECE_BYTES, TABLE, Piece, Writer, padded, read_piece

_ROW: Final = struct.Struct(">HII")
MARK: Final = struct.Struct(">BxH")
HALF_CLEARED: Final = 32
_LEAST_STEPS: Final = 2
_TRIES: Final = 3
_MOST_NAME_BYTES: Final = 32
_MOST_NAMES: Final = 64
COMMITS: Final = "*"
"""The counter of transactions, which belongs to the log."""


class Strip:
    """One counter in a page."""

    __slots__ = ("base", "count", "mark", "next", "start", "words")

    def __init__(self, base: int, mark: int, start: int, words: int) -> None:
        self.base = base  # value when the page was begun
        self.mark = mark  # value when the epoch began
        self.start = start
        self.words = words
        self.count = 0
        self.next = 0  # place of the first word never programmed

    @property
    def value(self) -> int:
        """Steps counted in all."""
        return self.base + self.count


class Content:
    """What a page of counters holds."""

    def __init__(self) -> None:
        self.strips: dict[str, Strip] = {}
        self.next_mark = 0
        self.doubtful = False  # a word is neither erased nor as it was meant to be


def cleared(word: bytes) -> int:
    """Return how many bits of a word are 0."""
    return 8 * WORD - int.from_bytes(word, "big").bit_count()


def marks(pool: PagePool) -> int:
    """Return how many marks a page has room for."""
    return max(1, pool.flash.page_bytes // WORD // 32)


def marks_start(pool: PagePool, content: Content) -> int:
    """Return the offset of the first mark in a page of some counters."""
    first = min([strip.start for strip in content.strips.values()])
    return first - marks(pool) * PAIR_BYTES


def _table(pool: PagePool, values: dict[str, tuple[int, int]], hot: str | None) -> bytes:
    """Return the table of a new page: the counter that filled the last page and that of transactions get most of it."""
    rows = sum(1 + len(name.encode()) + _ROW.size for name in values)
    taken = HEADER_BYTES + PIECE_BYTES + padded(1 + rows) + marks(pool) * PAIR_BYTES
    words = (pool.flash.page_bytes - taken) // WORD
    if words < _LEAST_STEPS * len(values) or len(values) > _MOST_NAMES:
        raise FlashError(f"{len(values)} counters with such names do not fit in a page")
    least = max(_LEAST_STEPS, words // (4 * len(values))) if values else 0
    favored = {COMMITS, hot or COMMITS} & values.keys()
    most = (words - least * (len(values) - len(favored))) // max(1, len(favored))
    out = bytes([len(values)])
    for name, (value, mark) in values.items():
        raw = name.encode()
        if not 1 <= len(raw) <= _MOST_NAME_BYTES:
            raise FlashError(f"a counter's name has 1 to {_MOST_NAME_BYTES} bytes")
        out += bytes([len(raw)]) + raw + _ROW.pack(most if name in favored else least, value, mark)
    return out


def write_counters(
    pool: PagePool, values: dict[str, tuple[int, int]], hot: str | None, before: int
) -> tuple[Page, Content]:
    """Write counters into a new page and commit it.

    Args:
        pool: the pages.
        values: value and mark by name.
        hot: the counter that needs most room.
        before: number of the page that held them.

    Returns:
        The page and what it holds.

    Raises:
        FlashWorn: no page is left.
        FlashError: the names do not fit.
        Miswritten: no page takes them.
    """
    table = _table(pool, values, hot)
    for _ in range(_TRIES):
        try:
            page = pool.take(COUNTERS, before, 0)
            Writer(pool, TABLE, pool.number).put(page, HEADER_BYTES, table)
        except Miswritten:
            continue  # the page is garbage, and found as such when the log is opened next
        content = read_counters(pool, page)
        if content is not None:
            return page, content
    raise Miswritten("three pages in turn do not take the counters")


def read_counters(pool: PagePool, page: Page) -> Content | None:
    """Return what a page of counters holds, None if it was never committed.

    Raises:
        FlashCorrupt: it was committed, and cannot be read any more.
    """
    raw = pool.flash.read(page.index, 0, pool.flash.page_bytes)
    table = read_piece(raw, HEADER_BYTES, 0)
    if not isinstance(table, Piece) or table.kind != TABLE or not table.last:
        return None
    content = Content()
    content.doubtful = not table.sealed
    try:
        _read_table(table.payload, table.end + marks(pool) * PAIR_BYTES, content)
    except (IndexError, UnicodeDecodeError, struct.error):
        raise FlashCorrupt("the table of the counters makes no sense") from None
    for strip in content.strips.values():
        if strip.start + strip.words * WORD > len(raw):
            raise FlashCorrupt("the table of the counters exceeds its page")
        _count(raw, strip, content)
    _read_marks(raw, table.end, content, marks(pool))
    return content


def _read_table(table: bytes, at: int, content: Content) -> None:
    place = 1
    for _ in range(table[0]):
        size = table[place]
        name = table[place + 1 : place + 1 + size].decode()
        words, base, mark = _ROW.unpack_from(table, place + 1 + size)
        place += 1 + size + _ROW.size
        content.strips[name] = Strip(base, mark, at, words)
        at += words * WORD


def _count(raw: bytes, strip: Strip, content: Content) -> None:
    for place in range(strip.words):
        at = strip.start + place * WORD
        word = raw[at : at + WORD]
        if word == ERASED_WORD:
            continue
        zeros = cleared(word)
        strip.count += zeros >= HALF_CLEARED
        content.doubtful |= zeros != 8 * WORD
        strip.next = place + 1


def _read_marks(raw: bytes, start: int, content: Content, most: int) -> None:
    strips = list(content.strips.values())
    for place in range(most):
        words = raw[start + place * PAIR_BYTES :][:PAIR_BYTES]
        if words == ERASED_WORD * 2:
            continue
        content.next_mark = place + 1
        value = read_pair(words)
        if value is None or words != pair(value):
            content.doubtful = True
        if value is None:
            continue
        index, count = MARK.unpack(value.to_bytes(4, "big"))
        if index >= len(strips):
            raise FlashCorrupt("a mark is about a counter that is not there")
        strips[index].mark = max(strips[index].mark, strips[index].base + count)
