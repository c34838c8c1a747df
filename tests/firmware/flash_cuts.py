# SPDX-License-Identifier: Apache-2.0
"""Cuts the power at every flash operation of something done to a log, and again at every operation of the recovery.

`explore` runs a script from a prepared flash, once for each operation and each tear; what a cut left behind is a
*state*, and each state is recovered, uninterrupted and interrupted. Whatever happens, the log must hold what it held
before the script or after it, must not change its mind, and must go on working. The flash itself refuses any word
that is programmed twice.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from firmware_sim.flash import TEARS, Flash, PowerLoss, Tear, all_but, all_but_first_bytes, first_bytes, one_bit
from firmware_sim.flash_log import FlashLog

Content = tuple[bytes, tuple[bytes, ...], tuple[tuple[str, int, int], ...]]

COARSE: tuple[Tear, ...] = (
    *TEARS.values(),
    first_bytes(16),
    first_bytes(32),
    all_but_first_bytes(16),
    all_but_first_bytes(32),
    one_bit(5),
    all_but(40),
)
FINE: tuple[Tear, ...] = (*COARSE, *map(one_bit, range(64)), *map(all_but, range(64)), *map(one_bit, range(64, 256, 7)))


LONG = frozenset({
    "format", "append over the page", "append all there is room for", "append as the last there is room for",
    "compact to the largest", "compact, full, to the largest", "compact to the largest, after a cut, full",
})  # fmt: skip
"""Scripts of so many operations that few ways to tear them must do."""


def scattered(seed: int) -> Tear:
    """A random subset of the bits, the same each time."""
    return lambda bits: random.Random(seed).getrandbits(bits)


def content(log: FlashLog) -> Content:
    """All that a log holds."""
    counters = log.counters
    return (
        log.snapshot,
        tuple(log.entries),
        tuple(sorted((name, counters.read(name), counters.since(name)) for name in counters.names)),
    )


@dataclass
class Script:
    """Something done to a log, from a prepared flash on."""

    name: str
    image: bytes
    act: Callable[[FlashLog], None]
    opens: bool = False  # the flash is in need of recovery, and that is the script


@dataclass
class Report:
    """What was covered."""

    cuts: int = 0
    states: int = 0
    recoveries: int = 0
    again: int = 0
    kinds: dict[str, int] = field(default_factory=dict)

    def add(self, other: Report) -> None:
        self.cuts += other.cuts
        self.states += other.states
        self.recoveries += other.recoveries
        self.again += other.again


def _run(image: bytes, act: Callable[[Flash], object], operation: int, tear: Tear, shuffled: bool) -> bytes | None:
    """Act on a flash and cut the power; return what is left, or None if it was done before."""
    flash = Flash.load(image, random=random.Random(operation))
    flash.out_of_order = shuffled
    try:
        flash.cut_power_after(operation, tear)
        act(flash)
    except PowerLoss:
        return flash.image()
    return None


def _cells(image: bytes) -> bytes:
    """An image without its statistics: what the log can see."""
    flash = Flash.load(image)
    return image[-flash.pages * flash.page_bytes :]


def cut_states(
    image: bytes, act: Callable[[Flash], object], tears: tuple[Tear, ...], shuffled: bool, report: Report
) -> Iterator[bytes]:
    """Every different state that a cut at any operation leaves."""
    seen: set[int] = set()
    size = len(_cells(image))
    operation = 0
    while True:
        operation += 1
        for tear in tears:
            left = _run(image, act, operation, tear, shuffled)
            if left is None:
                return
            report.cuts += 1
            mark = hash(left[-size:])
            if mark not in seen:
                seen.add(mark)
                yield left


def check_works(log: FlashLog, flash: Flash) -> None:
    """The log opened after cuts still takes everything, and keeps it."""
    before = content(log)
    assert content(FlashLog.open(flash)) == before, "opened twice, it differs"
    if not log.fits(5):
        log.compact(log.snapshot)
    log.append(b"after")
    log.counters.bump("tries")
    log.counters.reset("tries")
    now = content(log)
    assert now[1][-1] == b"after"
    assert content(FlashLog.open(flash)) == now
    log.compact(bytes(log.capacity))
    assert content(FlashLog.open(flash))[:2] == (bytes(log.capacity), ())


def explore(
    script: Script, tears: tuple[Tear, ...] = FINE, again: tuple[Tear, ...] = COARSE, shuffled: bool = False
) -> Report:
    """Run a script with all cuts, depth 1 and 2.

    Args:
        script: what to do.
        tears: of the first cut.
        again: of the cut during the recovery from it; none: depth 1 only.
        shuffled: an interrupted program of several words may have done any of them.
    """
    report = Report()

    def act(flash: Flash) -> None:
        log = FlashLog.open(flash)
        script.act(log)

    flash = Flash.load(script.image)
    log = FlashLog.open(flash)
    allowed = {content(log)}
    script.act(log)
    allowed.add(content(log))
    for left in cut_states(script.image, act, tears, shuffled, report):
        report.states += 1
        flash = Flash.load(left)
        log = FlashLog.open(flash)
        reached = content(log)
        assert reached in allowed, f"{script.name}: {reached} is neither before nor after"
        check_works(log, flash)
        report.recoveries += 1
        if not again:
            continue
        for left_again in cut_states(left, FlashLog.open, again, shuffled, report):
            report.again += 1
            flash = Flash.load(left_again)
            log = FlashLog.open(flash)
            assert content(log) == reached, f"{script.name}: changed its mind after a cut in recovery"
            if report.again % 7 == 0:
                check_works(log, flash)
    return report


def _filled(pages: int, page_bytes: int) -> tuple[Flash, FlashLog]:
    flash = Flash(pages, page_bytes)
    log = FlashLog.open(flash)
    log.counters.bump("tries")
    log.counters.bump("commits")
    log.append(b"first")
    log.compact(b"the account" * 3)
    log.append(b"second" * 5)
    return flash, log


def scripts(pages: int, page_bytes: int) -> Iterator[Script]:
    """What is done to a log, each from the flash where it is most exposed."""

    def nothing(_log: FlashLog) -> None:
        pass

    yield Script("format", Flash(pages, page_bytes).image(), nothing)

    flash, log = _filled(pages, page_bytes)
    image = flash.image()
    yield Script("append a little", image, lambda log: log.append(b"third"))
    yield Script("append nothing", image, lambda log: log.append(b""))
    yield Script("append over the page", image, lambda log: log.append(bytes(range(200)) * (page_bytes // 200)))
    yield Script("append all there is room for", image, lambda log: log.append(b"x" * log.room))
    yield Script("compact", image, lambda log: log.compact(b"smaller"))
    yield Script("compact to nothing", image, lambda log: log.compact(b""))
    yield Script("compact to the largest", image, lambda log: log.compact(b"y" * log.capacity))
    yield Script("bump", image, lambda log: _ignore(log.counters.bump("commits")))
    yield Script("bump a new counter", image, lambda log: _ignore(log.counters.bump("new")))
    yield Script("reset", image, lambda log: log.counters.reset("tries"))

    for _ in range(3):
        log.compact(b"z" * log.capacity)
        log.append(b"w" * log.room)
    yield Script("compact, full, to the largest", flash.image(), lambda log: log.compact(b"v" * log.capacity))

    flash, log = _filled(pages, page_bytes)
    _fill(log)
    yield Script("append as the last there is room for", flash.image(), lambda log: log.append(b"t" * log.room))

    flash, log = _filled(pages, page_bytes)
    while True:
        before = flash.erases
        image = flash.image()
        log.counters.bump("commits")
        if flash.erases != before:
            break
    yield Script("bump with the strip full", image, lambda log: _ignore(log.counters.bump("commits")))
    while True:
        before = flash.erases
        log.counters.bump("tries")
        if flash.erases != before:
            continue
        before = flash.erases
        image = flash.image()
        log.counters.reset("tries")
        if flash.erases != before:
            break
    yield Script("reset with the marks full", image, lambda log: log.counters.reset("tries"))

    # An interrupted transaction at the very edge, then a compaction from there.
    flash, log = _filled(pages, page_bytes)
    _fill(log)
    flash.cut_power_after(3, TEARS["even"])
    try:
        log.append(b"lost" * 4)
    except PowerLoss:
        flash.power_on()
    log = FlashLog.open(flash)
    yield Script(
        "compact to the largest, after a cut, full", flash.image(), lambda log: log.compact(b"v" * log.capacity)
    )


def _fill(log: FlashLog) -> None:
    """Append until there is hardly room."""
    while log.room > 160:
        log.append(b"u" * ((log.room - 120) // 2))


def _ignore(_value: object) -> None:
    pass
