# SPDX-License-Identifier: Apache-2.0
"""A log of transactions on flash that survives power cuts at any bit, and says so when it does not survive rot.

Pages. Each begins with four words, the rest (*body*) depends on its kind. All numbers are big-endian.

    ready    magic u32 "TSLG" | erases u32 | geometry u32 | crc32 of the 12 bytes before
    in use   kind u8 (L log, S snapshot, C counters) | version u8 = 1 | before_end u16 | number u32 | before u32 | crc32

`number` grows with each page put to use. A log page continues page number `before`, of which the first `before_end`
bytes count: what stands behind is abandoned for good. The log is the chain from the newest log page back to the
page where the last complete snapshot begins. States of a page and what moves it on:

    DIRTY --erase, every bit seen to be 1, "ready" programmed--> READY --"in use" programmed--> IN USE --> GARBAGE
    GARBAGE = DIRTY: in use, but not in the chain and not the newest committed counters. Nothing is written into
    garbage; it is erased when something committed elsewhere makes it so, never because it looks broken.

An erase that was interrupted, however complete it looks, has no "ready" words or not only them: DIRTY. An interrupted
"ready" or "in use" does not check: DIRTY with an empty body.

Records. A transaction is one piece, or several: each but the last goes on to the end of its page.

    piece    kind u8 (e entry, s snapshot, t table) | flags u8 (1 first, 2 last) | size u16 | transaction u32 |
             crc32 of these 8 bytes | running crc32 of the transaction's (8 bytes and payload) so far | payload, padded
    commit   behind the last piece: v u32, ~v u32 | ~v u32, v u32 with v = the running crc32

All of a piece is programmed and read back, then the first commit word, read back, then the second. The first word
commits: interrupted, it is itself only when all its zeros are there. The second guards it: once begun, the record
was committed, and if it does not read right it has rotted (`FlashCorrupt`). So no single rotten bit, not even in the
record written last, can pass for an interruption. The newest page's header is guarded by trying it with each bit
turned. A snapshot begins on a new page of kind S; committed, it ends the chain there, and what was before is garbage.

Counters. Once a transaction is committed, it is counted: a step of the counter "*". When the log is opened, the number
of its last transaction must be what was counted, or one more: so whatever becomes of a page, erased or overwritten, the
log never goes back to what it held before (`FlashCorrupt`). Body: a record (kind t) with n u8, then n times: length u8,
name, words u16, value u32, mark u32; then marks (1 for each 32 words of a page; a pair of words, as above, v = counter
u8, 0 u8, steps u16), then a strip of `words` words for each counter. A cleared word is a step. Rules: `flash_counters`.

Opening. Read everything; contradictions raise before anything is changed. Then
    1. the second commit word of the last record is programmed if it was not begun;
    2. if anything but erased words stands behind the last committed record, a new page abandons it (from now on no
       later reading of doubtful bits can bring it back); a page for it is erased first if none is ready, such as
       is garbage whatever became of the unfinished transaction;
    3. all garbage is erased; 4. doubtful counters move to a new page; 5. the last transaction is counted if it was not.
Each step leaves a log that reads the same, so opening may be interrupted at any point, as often as may be.

Room. Of N pages one holds the counters; C = 2(N-3)/5 are kept for the largest snapshot, one for step 2, and one stays
erased. `append` refuses what would use those, so compaction is always possible after it, whatever was interrupted
before. A page that was erased `endurance` times, or fails to erase, is not used again. For the end see
`FlashLog.lifetime_left`.
"""

from __future__ import annotations

from typing import Final

from firmware_sim.flash import Flash, FlashError, FlashFull, FlashWorn
from firmware_sim.flash_counters import Counters
from firmware_sim.flash_page import HEADER_BYTES, LOG, SNAPSHOT, Miswritten, Page, PagePool
from firmware_sim.flash_record import ENTRY, STATE, Writer, pieces, room
from firmware_sim.flash_recovery import recover
from tallystick.record import Record

_TRIES: Final = 3
_RESERVE: Final = 100
_UNEVEN: Final = 16


class Statistics(Record):
    """What the flash has been through."""

    programs: int  # words
    erases: int  # pages
    most_erased: int  # erases of the most worn page


class FlashLog:
    """A log of transactions since a snapshot, and counters, on a flash that belongs to them alone.

    Args:
        flash: the memory; use `open`.
    """

    _pool: PagePool
    _counters: Counters
    _snapshot: bytes
    _entries: list[bytes]
    _number: int  # of the last transaction
    _chain: list[Page]
    _end: int  # offset of the first free word in the last page of the chain
    _stuck: bool

    def __init__(self, flash: Flash) -> None:
        self._flash = flash
        self._load()

    @classmethod
    def open(cls, flash: Flash) -> FlashLog:
        """Open the log on a flash: an erased flash gets an empty log, any other is recovered.

        Args:
            flash: the memory.

        Returns:
            The log.

        Raises:
            FlashCorrupt: what is on the flash was not left by this log, or has rotted.
            FlashError: the flash is too small.
            PowerLoss: the power failed; open it again.
        """
        return cls(flash)

    @property
    def snapshot(self) -> bytes:
        """What `compact` was given last; empty at first."""
        return self._snapshot

    @property
    def entries(self) -> list[bytes]:
        """What was appended since."""
        return list(self._entries)

    @property
    def counters(self) -> Counters:
        """The counters."""
        return self._counters

    @property
    def capacity(self) -> int:
        """Bytes of the largest snapshot."""
        return room(HEADER_BYTES, self._kept - 1, self._flash.page_bytes)

    @property
    def room(self) -> int:
        """Bytes of the largest entry that can be appended before `compact`."""
        return max(0, self._room(last=False))

    @property
    def lifetime_left(self) -> float:
        """How much of the erases the flash bears is left for ordinary use, 1.0 to 0.0.

        At 0.0 a hundredth of all erases (at least two for each page) is left, or too few pages are good to hold two
        of the largest snapshots: `append` raises `FlashWorn` but for `last=True`. `compact` works as long as it leaves
        the pages for the largest snapshot erased: they are the reserve for the very last entries.
        """
        flash = self._flash
        if self._pool.usable < 2 * self._kept + 4:
            return 0.0
        total = flash.endurance * flash.pages
        reserve = max(total // _RESERVE, 2 * flash.pages)
        return max(0, self._pool.erases_left - reserve) / max(1, total - reserve)

    @property
    def statistics(self) -> Statistics:
        """Words programmed and pages erased in the life of the flash."""
        worn = max([page.erases for page in self._pool.pages])
        return Statistics(self._flash.programs, self._flash.erases, worn)

    def fits(self, size: int, last: bool = False) -> bool:
        """Return whether an entry of `size` bytes can be appended without `compact`."""
        return size <= self._room(last)

    def append(self, data: bytes, last: bool = False) -> None:
        """Add an entry; it is durable when this returns.

        Args:
            data: the entry.
            last: even if the flash is worn: for what takes licenses off it. The pages kept for compaction serve.

        Raises:
            FlashFull: `compact` first.
            FlashWorn: the flash is at the end of its life.
            FlashError: the flash fails; or the power failed since the log was opened.
            PowerLoss: the power failed; when opened again, the log has the entry or has it not.
        """
        self._pool.awake()
        worn = self.lifetime_left == 0
        if worn and not last:
            raise FlashWorn("the flash has reached the end of its life")
        if not self.fits(len(data), last):
            if worn:
                raise FlashWorn("the reserve of a worn flash is used up")
            raise FlashFull(f"no room for {len(data)} bytes: compact the log")
        for _ in range(_TRIES):
            try:
                self._write(ENTRY, self._chain[-1], self._end, data)
            except Miswritten:
                self._load()
                continue
            self._entries.append(data)
            self._count()
            return
        raise FlashError("three pages in turn do not take an entry")

    def compact(self, snapshot: bytes) -> None:
        """Replace all by a snapshot; it is durable when this returns, and nothing of what was before is left.

        Args:
            snapshot: what the entries amount to.

        Raises:
            FlashFull: it is larger than `capacity`.
            FlashWorn: too few pages are good.
            FlashError: the flash fails; or the power failed since the log was opened.
            PowerLoss: the power failed; when opened again, the log is as before or has the snapshot and no entries.
        """
        self._pool.awake()
        if len(snapshot) > self.capacity:
            raise FlashFull(f"a snapshot of {len(snapshot)} bytes does not fit: {self.capacity} do")
        needed = 1 + pieces(len(snapshot), HEADER_BYTES, self._flash.page_bytes)
        for _ in range(_TRIES):
            if not self._can_compact(needed):
                raise FlashWorn("too few good pages are left to compact the log")
            old = self._chain
            head = _number(self._chain[-1])
            try:
                page = self._pool.take(SNAPSHOT, head, self._end)
                self._chain = [page]
                self._write(STATE, page, HEADER_BYTES, snapshot)
            except Miswritten:
                self._load()
                continue
            self._snapshot, self._entries = bytes(snapshot), []
            self._count()
            for page in old:
                self._pool.reclaim(page)
            self._level()
            return
        raise FlashError("three pages in turn do not take a snapshot")

    @property
    def _kept(self) -> int:
        """Pages kept for the largest snapshot."""
        return max(1, (self._flash.pages - 3) * 2 // 5)

    def _can_compact(self, needed: int) -> bool:
        """Return whether a snapshot may take so many pages; worn, it must leave those kept for the last entries."""
        if self._stuck or self._pool.ready < needed + 1:
            return False
        if self.lifetime_left:
            return True
        regained = sum(page.erases < self._flash.endurance for page in self._chain)
        return self._pool.ready - needed + regained >= self._kept + 1

    def _room(self, last: bool) -> int:
        """Return the size of the largest entry that may be appended now; negative: not even an empty one."""
        worn = self.lifetime_left == 0
        if self._stuck or (worn and not last):
            return -1
        spare = self._pool.ready - (1 if worn else self._kept + 2)
        if spare < 0:
            return -1
        return room(self._end, spare, self._flash.page_bytes)

    def _write(self, kind: int, page: Page, offset: int, data: bytes) -> None:
        """Write a transaction from `offset` of `page` on, into as many more pages as it needs."""
        writer = Writer(self._pool, kind, self._number + 1)
        for _ in range(self._flash.pages + 1):
            done, offset = writer.put(page, offset, data)
            if done < 0:
                break
            data = data[done:]
            page = self._pool.take(LOG, _number(page), offset)
            self._chain.append(page)
            offset = HEADER_BYTES
        self._end = offset
        self._number += 1

    def _count(self) -> None:
        """Count what was committed: it is durable without that, but nothing may be committed behind it."""
        self._stuck = not self._counters.follow(self._number)

    def _level(self) -> None:
        """Move the counters, which may rest for years, when other pages have worn much more."""
        worn = max([page.erases for page in self._pool.pages])
        if worn - self._counters.page.erases > min(_UNEVEN, self._flash.endurance // 4) and self._pool.ready > 1:
            self._counters.move()

    def _load(self) -> None:
        start = recover(self._flash)
        self._pool = start.pool
        self._counters = start.counters
        self._snapshot = start.snapshot
        self._entries = start.entries
        self._number = start.number
        self._chain = start.chain
        self._end = start.end
        self._stuck = start.stuck


def _number(page: Page) -> int:
    return page.header.number if page.header else 0
