# SPDX-License-Identifier: Apache-2.0
"""Reads a flash log: which pages belong to it, what is committed in them, where it goes on.

Reads only. Either the result is what was committed, or it is an error: nothing is guessed, and nothing is erased on
the strength of a guess.
"""

from __future__ import annotations

from typing import Final

from firmware_sim.flash import WORD, Flash, FlashCorrupt
from firmware_sim.flash_code import is_erased
from firmware_sim.flash_page import HEADER_BYTES, LOG, SNAPSHOT, Header, Page, PagePool
from firmware_sim.flash_record import BLANK, ENTRY, PIECE_BYTES, STATE, Piece, read_piece

NEW_BYTES: Final = HEADER_BYTES + PIECE_BYTES + 2 * WORD
"""A new log, without entries and with nothing counted, programs no byte behind these in any page."""


class Link:
    """A page of the log, and how much of it counts."""

    __slots__ = ("end", "header", "page")

    def __init__(self, page: Page, header: Header, end: int | None) -> None:
        self.page = page
        self.header = header
        self.end = end  # None: the newest page, read as far as it goes


class LogState:
    """What a log holds and where it goes on."""

    def __init__(self) -> None:
        self.snapshot: bytes | None = None
        self.entries: list[bytes] = []
        self.number = 0  # of the last committed transaction
        self.chain: list[Link] = []  # pages from the snapshot on
        self.last = 0  # place in the chain of the last committed transaction
        self.end = HEADER_BYTES  # offset behind it
        self.clean = True  # nothing but erased words behind it
        self.unsealed: int | None = None  # offset of a commit pair's second word that was not begun


def read_log(pool: PagePool) -> LogState | None:
    """Read the log.

    Returns:
        Its state; None if the flash holds no log and nothing else either.

    Raises:
        FlashCorrupt: the pages contradict each other.
    """
    pages: dict[int, Page] = {}
    for page in pool.pages:
        if page.header is not None and page.header.kind in (LOG, SNAPSHOT):
            if page.header.number in pages:
                raise FlashCorrupt(f"two pages are number {page.header.number} of the log")
            pages[page.header.number] = page
    if not pages:
        _require_empty(pool)
        return None
    newest = max(pages)
    state = _replay(pool.flash, _walk(pages, newest, None))
    if state.snapshot is None:  # the power failed before the newest snapshot was committed
        root = state.chain[0].header
        if not root.before:
            _require_empty(pool)
            return None
        state = _replay(pool.flash, _walk(pages, root.before, root.before_end))
        if state.snapshot is None:
            raise FlashCorrupt("a committed snapshot is not complete")
        state.clean = False
    for page in pool.pages:
        if page.suspect is not None and page.suspect.kind in (LOG, SNAPSHOT) and page.suspect.number > newest:
            raise FlashCorrupt(f"the header of page {page.index}, the newest of the log, is damaged")
    return state


def _require_empty(pool: PagePool) -> None:
    for page in pool.pages:
        if not is_erased(pool.flash.read(page.index, NEW_BYTES, pool.flash.page_bytes - NEW_BYTES)):
            raise FlashCorrupt("there is no log, but the flash is not empty")


def _walk(pages: dict[int, Page], newest: int, end: int | None) -> list[Link]:
    """Return the pages from the last snapshot's first up to `newest`."""
    chain: list[Link] = []
    number = newest
    while True:
        page = pages.get(number)
        if page is None or page.header is None:
            raise FlashCorrupt(f"page number {number} of the log is missing")
        chain.append(Link(page, page.header, end))
        if page.header.kind == SNAPSHOT:
            chain.reverse()
            return chain
        number, end = page.header.before, page.header.before_end  # numbers only fall, so this ends


class _Transactions:
    """Puts transactions together from pieces."""

    def __init__(self, state: LogState) -> None:
        self.state = state
        self.check = 0
        self.open = False
        self._parts: list[bytes] = []

    def take(self, piece: Piece) -> bool:
        """Add a piece; return whether it completes a transaction."""
        state = self.state
        kind = STATE if state.snapshot is None else ENTRY
        expected = piece.number if state.snapshot is None else state.number + 1
        if piece.first == self.open or piece.kind != kind or piece.number != expected:
            raise FlashCorrupt(f"record {piece.number} is out of place")
        self._parts.append(piece.payload)
        self.open = not piece.last
        self.check = piece.check if self.open else 0
        if self.open:
            return False
        data = b"".join(self._parts)
        self._parts.clear()
        if state.snapshot is None:
            state.snapshot = data
        else:
            state.entries.append(data)
        state.number = piece.number
        return True


def _replay(flash: Flash, chain: list[Link]) -> LogState:
    state = LogState()
    state.chain = chain
    transactions = _Transactions(state)
    for place, link in enumerate(chain):
        raw = flash.read(link.page.index, 0, flash.page_bytes)
        offset = HEADER_BYTES
        while link.end is None or offset < link.end:
            piece = read_piece(raw, offset, transactions.check)
            if not isinstance(piece, Piece):
                if link.end is not None:
                    raise FlashCorrupt(f"page {link.page.index} ends before its last record")
                state.clean = piece is BLANK and not transactions.open
                return state
            offset = piece.end
            if transactions.take(piece):
                state.last, state.end = place, offset
                state.unsealed = None if piece.sealed else offset - WORD
        if offset != link.end:
            raise FlashCorrupt(f"page {link.page.index} ends within a record")
    if transactions.open:
        raise FlashCorrupt("the log ends within a transaction")
    return state
