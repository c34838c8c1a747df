# SPDX-License-Identifier: Apache-2.0
"""A page of the flash is lost: erased, wiped, overwritten. The log holds the newest contents, or says it is damaged.

It never goes back to what it held before: that would give units back that were used.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest
from flash_cuts import content

from firmware_sim.flash import Flash, FlashCorrupt
from firmware_sim.flash_log import FlashLog

PAGES, PAGE_BYTES = 8, 256
HEADER, HALF = 32, 16
NOISE = random.Random(8).randbytes(PAGE_BYTES)


def _without_last(page: bytes) -> bytes:
    """The page as it was some records ago: what is at its end reads as erased."""
    end = len(page.rstrip(b"\xff"))
    return page[: max(HEADER, end - 40)].ljust(len(page), b"\xff")


WHOLE = {
    "erased", "cleared", "noise", "header erased", "made ready", "body erased", "body cleared", "body noise",
    "in-use words noise",
}  # fmt: skip
LOSSES: dict[str, Callable[[bytes], bytes]] = {
    "erased": lambda page: b"\xff" * len(page),
    "cleared": lambda page: bytes(len(page)),
    "noise": lambda page: NOISE,
    "header erased": lambda page: b"\xff" * HEADER + page[HEADER:],
    "made ready": lambda page: page[:HALF] + b"\xff" * (len(page) - HALF),
    "body erased": lambda page: page[:HEADER] + b"\xff" * (len(page) - HEADER),
    "body cleared": lambda page: page[:HEADER] + bytes(len(page) - HEADER),
    "body noise": lambda page: page[:HEADER] + NOISE[HEADER:],
    "first record erased": lambda page: page[:HEADER] + b"\xff" * 48 + page[HEADER + 48 :],
    "first record noise": lambda page: page[:HEADER] + NOISE[:48] + page[HEADER + 48 :],
    "second half erased": lambda page: page[: len(page) // 2] + b"\xff" * (len(page) // 2),
    "second half noise": lambda page: page[: len(page) // 2] + NOISE[len(page) // 2 :],
    "the last record erased": _without_last,
    "in-use words noise": lambda page: page[:HALF] + NOISE[:HALF] + page[HEADER:],
}  # fmt: skip


def histories() -> Iterator[tuple[str, Flash]]:
    """Flashes as a device may be when a page is lost."""
    flash = Flash(PAGES, PAGE_BYTES)
    log = FlashLog.open(flash)
    log.compact(b"the account")
    yield "new", Flash.load(flash.image())
    log.counters.move()
    yield "counters moved", Flash.load(flash.image())
    for number in range(40):
        if not log.fits(20):
            log.compact(b"account %03d" % number)
            yield f"compacted at {number}", Flash.load(flash.image())
        log.append(b"entry %03d" % number * 2)
        if number % 7 == 0:
            log.counters.bump("pin")
        if number % 3 == 0:
            yield f"{number} entries", Flash.load(flash.image())
    log.compact(b"account")
    log.append(b"w" * (PAGE_BYTES + 40))
    yield "over a page", Flash.load(flash.image())
    log.compact(b"x" * log.capacity)
    yield "the largest snapshot", Flash.load(flash.image())


def replaced(flash: Flash, page: int, data: bytes) -> Flash:
    image = bytearray(flash.image())
    at = len(image) - (flash.pages - page) * flash.page_bytes
    image[at : at + flash.page_bytes] = data
    return Flash.load(bytes(image))


@pytest.mark.parametrize("loss", LOSSES)
def test_a_lost_page_never_brings_an_older_account_back(loss: str) -> None:
    kept = refused = 0
    wrong = []
    for name, flash in histories():
        newest = content(FlashLog.open(Flash.load(flash.image())))
        for page in range(PAGES):
            before = flash.read(page, 0, PAGE_BYTES)
            damaged = replaced(flash, page, LOSSES[loss](before))
            try:
                held = content(FlashLog.open(damaged))
            except FlashCorrupt:
                refused += 1
                untouched = replaced(flash, page, LOSSES[loss](before))
                assert damaged.image() == untouched.image(), "refused, and changed all the same"
            else:
                kept += 1
                if held[:2] != newest[:2] or (loss in WHOLE and held != newest):
                    wrong.append((name, page, held[0][:12], len(held[1]), len(newest[1])))
    assert not wrong, f"{len(wrong)} of {kept + refused}: {wrong[:6]}"
    assert kept > 20
    assert refused > 20
