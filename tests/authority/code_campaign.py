# SPDX-License-Identifier: Apache-2.0
"""The long campaigns on activation codes, by hand: ``PYTHONPATH=src:tests:tests/authority python code_campaign.py``.

T80: a million codes from the system's source, chi-square at every place, collisions.
T81: Welch's t test on the time of a look-up, classes interleaved at random, |t| < 4.5 over 100,000 samples of each; the
slowest tenth is cut off, as dudect does, because a shared machine interrupts at will.
"""

from __future__ import annotations

import os
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from shop import Shop

from fakes import FakeClock
from tallystick.authority.code_records import by_code
from tallystick.authority.codes import SYMBOLS, ActivationCode
from tallystick.authority.office import Work
from tallystick.authority.refreshing import set_status
from tallystick.codec.base32 import ALPHABET
from tallystick.errors import TallystickError
from tallystick.license.model import REVOKED


def t80(count: int) -> None:
    """Make codes and look at every place."""
    texts = [ActivationCode.generate(os.urandom).reveal().replace("-", "") for _ in range(count)]
    expected = count / len(ALPHABET)
    places = [Counter(text[place] for text in texts) for place in range(SYMBOLS)]
    worst = max(sum((seen[symbol] - expected) ** 2 / expected for symbol in ALPHABET) for seen in places)
    print(f"T80: {count} codes, {count - len(set(texts))} repeated, worst chi-square {worst:.1f} (61.1 is one in 1000)")


def t81(samples: int) -> None:
    """Time look-ups of each class of failure."""
    with tempfile.TemporaryDirectory() as folder:
        shop = Shop(Path(folder), FakeClock())
        sold = [shop.entitle() for _ in range(1000)]
        set_status(shop.office, sold[0].entitlement.id, REVOKED)
        classes = {
            "unknown selector": ActivationCode.generate(os.urandom).reveal(),
            "wrong verifier": ActivationCode((sold[1].code.selector << 80) | 5).reveal(),
            "revoked": sold[0].code.reveal(),
        }
        times = shop.office.read(lambda work: measured(work, classes, samples))
        shop.office.close()
    base = "unknown selector"
    for name in classes:
        if name != base:
            apart = statistics.median(times[name]) - statistics.median(times[base])
            t = welch(times[base], times[name])
            print(f"T81: {base} against {name}: t = {t:+.2f} over {samples} each, medians {apart:+.0f} ns apart")


def measured(work: Work, classes: dict[str, str], samples: int) -> dict[str, list[float]]:
    """Time each class in random order, in one transaction: the look-up, not the database's commit."""
    times: dict[str, list[float]] = {name: [] for name in classes}
    order = [name for name in classes for _ in range(samples)]
    random.shuffle(order)
    for name in order:
        begin = time.perf_counter_ns()
        try:
            by_code(work, classes[name])
        except TallystickError:
            times[name].append(time.perf_counter_ns() - begin)
    return times


def welch(one: list[float], other: list[float]) -> float:
    """Welch's t of two samples without their slowest tenth."""
    first, second = (sorted(sample)[: len(sample) * 9 // 10] for sample in (one, other))
    spread = statistics.variance(first) / len(first) + statistics.variance(second) / len(second)
    return float((statistics.fmean(first) - statistics.fmean(second)) / spread**0.5)


if __name__ == "__main__":
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    t80(size * 10)
    t81(size)
