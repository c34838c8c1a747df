# SPDX-License-Identifier: Apache-2.0
"""Long runs of the flash log: random steps against a model, or every power cut on a flash of real size.

Run from the project's folder::

    PYTHONPATH=src:tests:tests/firmware:. python tests/firmware/flash_campaign.py --steps 1000000
    PYTHONPATH=src:tests:tests/firmware:. python tests/firmware/flash_campaign.py --cuts

A failure prints the seed; the same seed does the same.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable

from flash_cuts import COARSE, FINE, LONG, Content, Report, Script, content, explore, scripts

from firmware_sim.flash import TEARS, Flash, FlashError, FlashFull, PowerLoss, all_but, first_bytes, one_bit
from firmware_sim.flash_log import FlashLog

NAMES = ("commits", "tries", "other")


class Model:
    """What the log should hold."""

    def __init__(self) -> None:
        self.snapshot = b""
        self.entries: list[bytes] = []
        self.counters: dict[str, tuple[int, int]] = {}

    def content(self) -> Content:
        return (
            self.snapshot,
            tuple(self.entries),
            tuple(sorted((name, value, since) for name, (value, since) in self.counters.items())),
        )

    def adopt(self, held: Content) -> None:
        self.snapshot, self.entries = held[0], list(held[1])
        self.counters = {name: (value, since) for name, value, since in held[2]}


class Campaign:
    """Random steps on a small flash, with power cuts, each followed by a comparison with the model.

    Args:
        seed: decides everything.
        pages: of the flash.
        page_bytes: of each page.
        cuts: how often, of 1, a step is interrupted.
    """

    def __init__(self, seed: int, pages: int = 8, page_bytes: int = 256, cuts: float = 0.4) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.flash = Flash(pages, page_bytes, endurance=1 << 30, random=self.random)
        self.log = FlashLog.open(self.flash)
        self.model = Model()
        self.cuts = cuts
        self.steps = self.interrupted = self.during_recovery = self.kept = 0

    def step(self) -> None:
        """Do one thing, perhaps with a power cut, and compare."""
        self.steps += 1
        before = self.model.content()
        act = self._choose()
        if self.random.random() < self.cuts:
            self._arm(self.random.choice((3, 6, 15, 60)))
        try:
            act(self.log)
        except PowerLoss:
            self._recover(before)
            return
        self.flash.power_on()  # calls off a cut that did not come
        self.log = FlashLog.open(self.flash) if self.random.random() < 0.2 else self._awake()
        held = content(self.log)
        assert held == self.model.content(), f"seed {self.seed}, step {self.steps}"

    def _awake(self) -> FlashLog:
        # `power_on` makes the log stale by design; nothing was cut, so what it knows must equal what is there.
        stale = content(self.log)
        log = FlashLog.open(self.flash)
        assert content(log) == stale, f"seed {self.seed}, step {self.steps}: the flash differs from what the log knew"
        return log

    def _arm(self, within: int) -> None:
        bit = self.random.randrange(0, 512)
        tear = self.random.choice((None, None, *TEARS.values(), one_bit(bit), all_but(bit), first_bytes(bit // 8)))
        self.flash.out_of_order = self.random.random() < 0.3
        self.flash.cut_power_after(self.random.randrange(1, within), tear)

    def _recover(self, before: Content) -> None:
        self.interrupted += 1
        while True:
            self.flash.power_on()
            if self.random.random() < 0.3:
                self._arm(30)
            try:
                self.log = FlashLog.open(self.flash)
            except PowerLoss:
                self.during_recovery += 1
                continue
            self.flash.power_on()
            break
        self.log = FlashLog.open(self.flash)
        held = content(self.log)
        assert held in (before, self.model.content()), f"seed {self.seed}, step {self.steps}: neither before nor after"
        self.kept += held == before
        self.model.adopt(held)

    def _choose(self) -> Callable[[FlashLog], object]:
        """Pick what to do, and do it to the model."""
        log, model, pick = self.log, self.model, self.random.random()
        name = self.random.choice(NAMES)
        if pick < 0.2 or (pick < 0.4 and name in model.counters):
            value, since = model.counters.get(name, (0, 0))
            model.counters[name] = (value + 1, since + 1)
            return lambda log: log.counters.bump(name)
        if pick < 0.5 and name in model.counters:
            model.counters[name] = (model.counters[name][0], 0)
            return lambda log: log.counters.reset(name)
        size = min(log.room, self.random.choice((0, 1, 8, 30, 100, 100_000)))
        if pick < 0.93 and log.fits(size) and log.room:
            data = self.random.randbytes(self.random.randrange(0, size + 1))
            model.entries.append(data)
            return lambda log: log.append(data)
        snapshot = self.random.randbytes(self.random.choice((0, 20, self.random.randrange(0, log.capacity + 1))))
        model.snapshot, model.entries = snapshot, []
        return lambda log: log.compact(snapshot)


def wear_out(
    seed: int, pages: int = 8, page_bytes: int = 256, endurance: int = 40, spoil: float = 0.0, cuts: float = 0.0
) -> Flash:
    """Use a flash until it takes no more, power cuts and all, and return it; what it held stays right to the end."""
    rng = random.Random(seed)
    flash = Flash(pages, page_bytes, endurance=endurance, random=rng)
    log, entries, snapshot = FlashLog.open(flash), [], b""
    returns = refused = 0
    shorter = b""
    while refused < 3:
        if rng.random() < spoil:
            flash.spoil(rng.randrange(pages))
        worn = log.lifetime_left == 0
        data = rng.randbytes(rng.randrange(0, 40))
        if rng.random() < cuts:
            flash.cut_power_after(rng.randrange(1, 30))
        try:
            if not log.fits(len(data), last=worn):
                shorter = bytes(rng.randrange(0, log.capacity))
                log.compact(shorter)
                snapshot, entries = shorter, []
            log.append(data, last=worn)
            entries.append(data)
            returns += worn
        except PowerLoss:
            log = _after_cut(flash)
            assert log.snapshot in (snapshot, shorter)
            snapshot, held = log.snapshot, log.entries
            assert held in ([], [data], entries, [*entries, data]), f"seed {seed}: lost by a cut"
            entries = held
        except FlashFull:
            raise
        except FlashError:  # worn: no compaction any more, so the reserve of pages
            flash.power_on()
            log = FlashLog.open(flash)
            try:
                log.append(data, last=True)
                entries.append(data)
                returns += 1
            except FlashError:
                refused += 1
        assert (log.snapshot, log.entries) == (snapshot, entries)
        if rng.random() < 0.2:
            flash.power_on()
            log = FlashLog.open(flash)
            assert (log.snapshot, log.entries) == (snapshot, entries), f"seed {seed}: lost at the end of life"
    assert log.lifetime_left == 0
    assert returns >= 5, f"seed {seed}: only {returns} returns were possible on the worn flash"
    return flash


def every_cut(script: Script) -> Report:
    """Cut at every operation: each single bit, then every kind of tear at depth 2; of long scripts, a few kinds."""
    if script.name in LONG:
        return explore(script, COARSE[:3], COARSE[1:3])
    report = explore(script, FINE, ())
    report.add(explore(script, COARSE, COARSE))
    return report


def _after_cut(flash: Flash) -> FlashLog:
    flash.power_on()
    return FlashLog.open(flash)


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pages", type=int, default=0)
    parser.add_argument("--page-bytes", type=int, default=0)
    parser.add_argument("--cuts", action="store_true", help="every cut of every script, depth 1 and 2")
    parser.add_argument("--only", default="", help="only the scripts whose name begins so")
    given = parser.parse_args()
    if given.cuts:
        wanted = scripts(given.pages or 64, given.page_bytes or 4096)
        for script in sorted(wanted, key=lambda script: script.name in LONG):
            if script.name.startswith(given.only):
                print(f"{script.name}: {every_cut(script)}", flush=True)
    seed = given.seed
    left = given.steps
    while left > 0:
        campaign = Campaign(seed, given.pages or 8, given.page_bytes or 256)
        for _ in range(min(left, 20_000)):
            campaign.step()
        left -= campaign.steps
        print(
            f"seed {seed}: {campaign.steps} steps, {campaign.interrupted} interrupted, {campaign.during_recovery} "
            f"again in recovery, {campaign.kept} undone; {campaign.flash.programs} words, "
            f"{campaign.flash.erases} erases",
            flush=True,
        )
        seed += 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
