# SPDX-License-Identifier: Apache-2.0
"""The pages of a flash log: their headers, which are erased and ready, and how worn they are.

The format stands in `flash_log`. `PagePool` looks at all pages when the log is opened, hands out erased ones, the
least worn first, and takes back garbage. It never erases what its callers have not given up durably.
"""

from __future__ import annotations

import struct
from typing import Final

from firmware_sim.flash import WORD, Flash, FlashError, FlashWorn
from firmware_sim.flash_code import CHECK_BYTES, add_check, check, is_erased, mend
from tallystick.record import Record

HEADER_BYTES: Final = 4 * WORD  # two words "ready", two words "in use"
LOG: Final = 0x4C
SNAPSHOT: Final = 0x53
COUNTERS: Final = 0x43

_VERSION: Final = 1
_MAGIC: Final = 0x54_53_4C_47  # "TSLG"
_READY: Final = struct.Struct(">III")
_IN_USE: Final = struct.Struct(">BBHII")
_HALF: Final = _READY.size + CHECK_BYTES


class Miswritten(FlashError):  # noqa: N818
    """What was programmed does not read back: bits rotted in the erased page, or the page is bad."""


class Header(Record):
    """What makes a page part of something: its kind, number, and where the log before it ends."""

    kind: int
    number: int
    before: int  # number of the page the log continues from; 0: none
    before_end: int  # bytes of that page that count; what stands behind is abandoned


def ready_words(erases: int, flash: Flash) -> bytes:
    """Return the words that say: erased completely, for the n-th time."""
    geometry = flash.pages << 16 | flash.page_bytes // WORD
    return add_check(_READY.pack(_MAGIC, erases, geometry))


def in_use_words(header: Header) -> bytes:
    """Return the words that put a ready page to use."""
    return add_check(_IN_USE.pack(header.kind, _VERSION, header.before_end, header.number, header.before))


def read_in_use(raw: bytes) -> Header | None:
    """Return the header in a page's third and fourth word, None if there is none."""
    body = check(raw)
    if body is None:
        return None
    kind, version, before_end, number, before = _IN_USE.unpack(body)
    if version != _VERSION or kind not in (LOG, SNAPSHOT, COUNTERS) or before >= number:
        return None
    return Header(kind, number, before, before_end)


class Page:
    """What the pool knows of one page."""

    __slots__ = ("bad", "blank", "erases", "header", "index", "ready", "suspect")

    def __init__(self, index: int) -> None:
        self.index = index
        self.erases = 0
        self.header: Header | None = None
        self.suspect: Header | None = None  # a header with one bit wrong
        self.ready = False
        self.blank = False  # nothing programmed behind the header
        self.bad = False


class PagePool:
    """All pages of a flash; reads only, until asked to take, reclaim or prepare.

    Args:
        flash: the memory.

    Raises:
        FlashError: its geometry is none the log can use.
    """

    def __init__(self, flash: Flash) -> None:
        if flash.word_bytes != WORD or flash.pages < 6 or not 24 * WORD <= flash.page_bytes < 1 << 16:
            raise FlashError("the log needs words of 8 bytes, 6 or more pages, each of 192 to 65,528 bytes")
        self.flash = flash
        self.pages: list[Page] = []
        self.number = 0  # the highest given to a page so far
        self._boots = flash.boots
        self._look()

    def _look(self) -> None:
        unknown = []
        for index in range(self.flash.pages):
            page = Page(index)
            raw = self.flash.read(index, 0, self.flash.page_bytes)
            page.header = read_in_use(raw[_HALF:HEADER_BYTES])
            page.blank = is_erased(raw[HEADER_BYTES:])
            ready = raw[:_HALF]
            erases = self._erases(ready)
            page.ready = erases is not None and page.blank and is_erased(raw[_HALF:HEADER_BYTES])
            if erases is None:
                erases = self._erases(mend(ready) or b"")
            if erases is None:
                unknown.append(page)
            else:
                page.erases = erases
            if page.header is None and not page.blank:
                page.suspect = read_in_use(mend(raw[_HALF:HEADER_BYTES]) or b"")
            self.pages.append(page)
            self.number = max(self.number, page.header.number if page.header else 0)
        most = max([page.erases for page in self.pages])
        for page in unknown:  # its erase was interrupted: the count is lost, wear is leveled, so assume the worst
            page.erases = most

    def _erases(self, raw: bytes) -> int | None:
        body = check(raw)
        if body is None:
            return None
        magic, erases, geometry = _READY.unpack(body)
        if magic != _MAGIC or geometry != self.flash.pages << 16 | self.flash.page_bytes // WORD:
            return None
        return int(erases)

    def awake(self) -> None:
        """Refuse to go on with what was read before the power failed.

        Raises:
            FlashError: the log must be opened again.
        """
        if self.flash.boots != self._boots:
            raise FlashError("the power failed since this log was opened: open it again")

    @property
    def ready(self) -> int:
        """The number of pages that are erased and ready."""
        return sum(page.ready for page in self.pages)

    @property
    def usable(self) -> int:
        """The number of pages that are in use or ready, or will be when reclaimed."""
        return sum(not page.bad for page in self.pages)

    @property
    def erases_left(self) -> int:
        """How many erases the pages still bear, together."""
        return sum(max(0, self.flash.endurance - page.erases) for page in self.pages if not page.bad)

    def peek(self) -> Page:
        """Return the page that `take` would.

        Raises:
            FlashWorn: no page is ready.
        """
        ready = [page for page in self.pages if page.ready]
        if not ready:
            raise FlashWorn("no erased page is left")
        return min(ready, key=lambda page: page.erases)

    def take(self, kind: int, before: int, before_end: int) -> Page:
        """Put the least worn ready page to use.

        Args:
            kind: what for.
            before: number of the page the log continues from.
            before_end: bytes of that page that count.

        Raises:
            FlashWorn: no page is ready.
            Miswritten: the page does not take its header.
        """
        page = self.peek()
        page.ready = False
        self.number += 1
        header = Header(kind, self.number, before, before_end)
        self.write(page.index, _HALF, in_use_words(header))
        page.header = header
        return page

    def write(self, index: int, offset: int, data: bytes) -> None:
        """Program words and see that they are there.

        Raises:
            Miswritten: they are not.
        """
        self.flash.program(index, offset, data)
        if self.flash.read(index, offset, len(data)) != data:
            raise Miswritten(f"page {index} does not take {len(data)} bytes at {offset}")

    def reclaim(self, page: Page) -> bool:
        """Erase a page that holds nothing of worth and make it ready, unless it is worn.

        The words that say "ready" come after the erase and a look at every bit: a page without them was erased
        halfway, and is erased again.

        Returns:
            Whether the page is ready.
        """
        page.ready = False
        if page.erases >= self.flash.endurance:
            page.bad = True
            return False
        page.erases += 1
        page.header = page.suspect = None
        try:
            self.flash.erase(page.index)
            if is_erased(self.flash.read(page.index, 0, self.flash.page_bytes)):
                self.write(page.index, 0, ready_words(page.erases, self.flash))
                page.ready = page.blank = True
        except FlashError:
            pass  # worn before its time: found as garbage, and tried again, when the log is opened next
        page.bad = not page.ready
        return page.ready

    def prepare(self) -> None:
        """Make every page ready, for a new log; a flash straight from the factory needs no erase for that."""
        virgin = all(page.blank and self._is_virgin(page) for page in self.pages)
        for page in self.pages:
            if virgin:
                self.write(page.index, 0, ready_words(0, self.flash))
                page.ready = True
            elif not page.ready:
                self.reclaim(page)
        self.number = 0

    def _is_virgin(self, page: Page) -> bool:
        return is_erased(self.flash.read(page.index, 0, HEADER_BYTES))
