# SPDX-License-Identifier: Apache-2.0
"""Counters on flash that only go up: one word cleared for each step, and no way back.

The format stands in `flash_log`. One page holds all counters: a committed table of names and values, *marks*, and a
strip of words for each counter. A step clears the next word of the strip; when a strip is full, the page is damaged
or half written, or a new name comes, the values move to a new page, committed before the old one is given up.

An interrupted step counts if at least half of the word's bits are cleared; what it counts as is settled by moving
to a new page when the log is opened, so that it cannot change later. One counter is the log's own: of transactions, a
step behind each commit, so that the loss of the last ones shows. `reset` begins a new epoch of one counter (wrong
PINs since the last right one): a mark notes the count, which itself never goes back.
"""

from __future__ import annotations

from firmware_sim.flash import WORD, FlashCorrupt, FlashError
from firmware_sim.flash_code import PAIR_BYTES, pair
from firmware_sim.flash_counter_page import (
    COMMITS,
    HALF_CLEARED,
    MARK,
    Content,
    cleared,
    marks,
    marks_start,
    read_counters,
    write_counters,
)
from firmware_sim.flash_page import COUNTERS, Miswritten, Page, PagePool


class Counters:
    """The counters of a flash log.

    Args:
        pool: the pages.
        page: the one that holds the counters.
        content: what it holds.
    """

    def __init__(self, pool: PagePool, page: Page, content: Content) -> None:
        self._pool = pool
        self._page = page
        self._content = content

    @property
    def page(self) -> Page:
        """The page that holds them."""
        return self._page

    @property
    def names(self) -> tuple[str, ...]:
        """The counters there are, without the log's own."""
        return tuple(name for name in self._content.strips if name != COMMITS)

    @property
    def commits(self) -> int:
        """How many transactions were counted."""
        return self.read(COMMITS)

    def require(self, number: int) -> None:
        """Compare the transactions counted with those that are there.

        Args:
            number: of the last transaction in the log.

        Raises:
            FlashCorrupt: transactions are missing, or more than the one that was not counted before the power failed.
        """
        if number not in (self.commits, self.commits + 1):
            raise FlashCorrupt(f"{self.commits} transactions were counted, the log ends with number {number}")

    def follow(self, number: int) -> bool:
        """Count the last transaction, durably, if it was not.

        Args:
            number: of the last transaction in the log.

        Returns:
            Whether it is counted; if not, the flash is worn, and no further transaction must be written.

        Raises:
            PowerLoss: the power failed.
        """
        try:
            return self.commits == number or self.bump(COMMITS) == number
        except FlashError:
            return False

    def read(self, name: str) -> int:
        """Return how often `name` was bumped in all; 0 if never."""
        strip = self._content.strips.get(name)
        return strip.value if strip else 0

    def since(self, name: str) -> int:
        """Return how often `name` was bumped since its last reset."""
        strip = self._content.strips.get(name)
        return strip.value - strip.mark if strip else 0

    def bump(self, name: str) -> int:
        """Count one step, durably.

        Args:
            name: a counter; a name not used before begins at 0.

        Returns:
            The new value.

        Raises:
            FlashWorn: the flash is at its end.
            FlashError: too many names.
            PowerLoss: the power failed; the step may have been counted or not.
        """
        self._pool.awake()
        strip = self._content.strips.get(name)
        if strip is None or strip.next >= strip.words:
            self._move(name, 1)
            return self.read(name)
        at = strip.start + strip.next * WORD
        strip.next += 1
        self._pool.flash.program(self._page.index, at, bytes(WORD))
        if cleared(self._pool.flash.read(self._page.index, at, WORD)) < HALF_CLEARED:
            self._move(name, 1)
        else:
            strip.count += 1
        return self.read(name)

    def reset(self, name: str) -> None:
        """Begin a new epoch of `name`, durably: `since` is 0, `read` stays.

        Args:
            name: a counter.

        Raises:
            FlashWorn: the flash is at its end.
            FlashError: there is no such counter.
            PowerLoss: the power failed; the epoch may have begun or not.
        """
        self._pool.awake()
        content = self._content
        strip = content.strips.get(name)
        if strip is None:
            raise FlashError(f"there is no counter {name!r}")
        if strip.mark == strip.value:
            return
        at = marks_start(self._pool, content) + content.next_mark * PAIR_BYTES
        if content.next_mark >= marks(self._pool):
            strip.mark = strip.value
            self._move(name, 0)
            return
        content.next_mark += 1
        words = pair(int.from_bytes(MARK.pack(list(content.strips).index(name), strip.count), "big"))
        strip.mark = strip.value
        try:
            self._pool.write(self._page.index, at, words[:WORD])
            self._pool.write(self._page.index, at + WORD, words[WORD:])
        except Miswritten:
            self._move(name, 0)

    def settle(self) -> None:
        """Move to a new page if a word of this one is in doubt.

        Raises:
            FlashWorn: no page is left.
        """
        if self._content.doubtful:
            self.move()

    def move(self) -> None:
        """Move to another page, for the sake of even wear.

        Raises:
            FlashWorn: no page is left.
        """
        self._move(None, 0)

    def _move(self, hot: str | None, step: int) -> None:
        values = {name: (strip.value, strip.mark) for name, strip in self._content.strips.items()}
        if hot is not None:
            value, mark = values.get(hot, (0, 0))
            values[hot] = (value + step, mark)
        old = self._page
        self._page, self._content = write_counters(self._pool, values, hot, old.header.number if old.header else 0)
        self._pool.reclaim(old)


def find_counters(pool: PagePool) -> Counters | None:
    """Return the counters as last committed, None if there is no page of them.

    Raises:
        FlashCorrupt: they cannot be read any more.
    """
    pages = [page for page in pool.pages if page.header is not None and page.header.kind == COUNTERS]
    pages.sort(key=_number, reverse=True)
    found: Counters | None = None
    number = 0
    for page in pages:  # the newest first: older ones may be half erased
        content = read_counters(pool, page)
        if content is not None:
            found, number = Counters(pool, page, content), _number(page)
            break
    for page in pool.pages:
        header = page.suspect
        if header is not None and header.kind == COUNTERS and header.number > number and read_counters(pool, page):
            raise FlashCorrupt(f"the header of page {page.index}, with the counters, is damaged")
    return found


def _number(page: Page) -> int:
    return page.header.number if page.header else 0
