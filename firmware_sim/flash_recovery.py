# SPDX-License-Identifier: Apache-2.0
"""Opens a flash log: reads everything, then makes good what a power cut left behind.

The steps stand in `flash_log`. Until the whole flash has been read and makes sense, nothing is changed; after each
change, the flash still reads the same.
"""

from __future__ import annotations

from typing import Final

from firmware_sim.flash import WORD, Flash, FlashCorrupt
from firmware_sim.flash_code import pair
from firmware_sim.flash_counter_page import COMMITS, write_counters
from firmware_sim.flash_counters import Counters, find_counters
from firmware_sim.flash_page import COUNTERS, HEADER_BYTES, LOG, SNAPSHOT, Miswritten, Page, PagePool
from firmware_sim.flash_record import STATE, Writer
from firmware_sim.flash_scan import LogState, read_log
from tallystick.record import Record

_TRIES: Final = 3


class Start(Record):
    """Where a log goes on."""

    pool: PagePool
    counters: Counters
    snapshot: bytes
    entries: list[bytes]
    number: int  # of the last transaction
    chain: list[Page]  # the pages of the log
    end: int  # offset of the first free word in the last of them
    stuck: bool  # the log cannot go on: no page is left to say what it abandons, or to count another transaction


def recover(flash: Flash) -> Start:
    """Read a flash and make good what a power cut left behind; an erased flash becomes an empty log.

    Raises:
        FlashCorrupt: the flash was not left so by a log and power cuts.
        FlashError: the flash is too small, or a new one does not take an empty log.
        PowerLoss: the power failed; recover again.
    """
    pool = PagePool(flash)
    state = read_log(pool)
    counters = find_counters(pool)
    if state is None:
        if counters is not None and counters.commits:
            raise FlashCorrupt(f"{counters.commits} transactions were counted, and there is no log")
        _format(pool)
        state, counters = read_log(pool), find_counters(pool)
    if state is None or counters is None:
        raise FlashCorrupt("the counters are missing")
    counters.require(state.number)
    _seal(flash, state)
    chain, end, stuck = _continue(pool, counters, state)
    if not stuck:
        for page in pool.pages:
            if not page.ready and page is not counters.page and page not in chain:
                pool.reclaim(page)
    if pool.ready > 1:
        counters.settle()
    stuck |= not counters.follow(state.number)
    return Start(pool, counters, state.snapshot or b"", state.entries, state.number, chain, end, stuck)


def _format(pool: PagePool) -> None:
    """Begin an empty log: counters first, then an empty snapshot, which makes it a log."""
    pool.prepare()
    write_counters(pool, {COMMITS: (0, 0)}, None, 0)
    page = pool.take(SNAPSHOT, 0, 0)
    Writer(pool, STATE, 1).put(page, HEADER_BYTES, b"")


def _seal(flash: Flash, state: LogState) -> None:
    """Program the second word of the last commit pair, if only the first was."""
    if state.unsealed is not None:
        page = state.chain[state.last].page.index
        first = flash.read(page, state.unsealed - WORD, WORD)
        flash.program(page, state.unsealed, pair(int.from_bytes(first[:4], "big"))[WORD:])


def _continue(pool: PagePool, counters: Counters, state: LogState) -> tuple[list[Page], int, bool]:
    """Decide where the next record goes: behind the last one, or on a new page that abandons what is behind it.

    Returns:
        The pages of the log; the offset in the last; whether a new page is needed and cannot be had.
    """
    last = state.chain[state.last]
    if state.clean:
        end = state.end if last is state.chain[-1] else HEADER_BYTES
        return [link.page for link in state.chain], end, False
    chain = [link.page for link in state.chain[: state.last + 1]]
    for _ in range(_TRIES):
        _spare_page(pool, [*chain, counters.page], state.chain[0].header.number)
        if not pool.ready:
            break
        try:
            chain.append(pool.take(LOG, last.header.number, state.end))
        except Miswritten:
            continue
        return chain, HEADER_BYTES, False
    return chain, state.end, True


def _spare_page(pool: PagePool, in_use: list[Page], oldest: int) -> None:
    """Have a page ready, made of garbage that is older than the log or never became part of it."""
    for page in pool.pages:
        if pool.ready:
            return
        header = page.header
        if page not in in_use and (header is None or header.kind == COUNTERS or header.number < oldest):
            pool.reclaim(page)
