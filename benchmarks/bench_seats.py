# SPDX-License-Identifier: Apache-2.0
"""Local seats: taking and giving back one, and 1, 10 and 100 processes that contend for five.

python benchmarks/bench_seats.py [--short]     only the contention, as a table
"""

from __future__ import annotations

import argparse
import fcntl
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest

import tallystick
from tallystick.license.trust import Trust

SEATS = 5
HOLD_S = 0.002
WAIT_S = 300.0
COUNTS = (1, 10, 100)

GROUP = "a local seat"


def test_bare_lock(benchmark: Any, tmp_path: Path) -> None:
    benchmark.group = GROUP
    benchmark.name = "open, flock, write 100 bytes, close"

    def lock() -> None:
        fd = os.open(tmp_path / "slot", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.pwrite(fd, b"x" * 100, 0)
        os.close(fd)

    benchmark.pedantic(lock, rounds=1000, warmup_rounds=50)


@pytest.mark.parametrize("seats", [None, SEATS])
def test_checkout_and_close(benchmark: Any, tmp_path: Path, container_with: Any, seats: int | None) -> None:
    benchmark.group = GROUP
    benchmark.name = f"Tallystick checkout + close, {seats or 'any number of'} seats"
    with container_with(tmp_path, 1, seats=seats) as (container, _):
        benchmark.pedantic(lambda: container.checkout("render-0").close(), rounds=1000, warmup_rounds=50)


def test_checkout_and_close_while_others_hold(benchmark: Any, tmp_path: Path, container_with: Any) -> None:
    benchmark.group = GROUP
    benchmark.name = "Tallystick checkout + close, the fifth of five"
    with container_with(tmp_path, 1, seats=SEATS) as (container, trust):
        uri = container.info().uri
        others = [tallystick.open(uri, trust=trust, background=False) for _ in range(SEATS - 1)]
        held = [other.checkout("render-0") for other in others]
        benchmark.pedantic(lambda: container.checkout("render-0").close(), rounds=1000, warmup_rounds=50)
        assert all(seat.check() for seat in held)
        for other in others:
            other.close()


def test_a_refusal(benchmark: Any, tmp_path: Path, container_with: Any) -> None:
    benchmark.group = GROUP
    benchmark.name = "Tallystick refusal that names five holders"
    with container_with(tmp_path, 1, seats=SEATS) as (container, trust):
        uri = container.info().uri
        others = [tallystick.open(uri, trust=trust, background=False) for _ in range(SEATS)]
        held = [other.checkout("render-0") for other in others]

        def refused() -> None:
            with pytest.raises(tallystick.TallystickError):
                container.checkout("render-0")

        benchmark.pedantic(refused, rounds=300, warmup_rounds=20)
        assert all(seat.check() for seat in held)
        for other in others:
            other.close()


@pytest.mark.parametrize("count", COUNTS)
def test_contention(
    benchmark: Any, tmp_path: Path, container_with: Any, request: pytest.FixtureRequest, count: int
) -> None:
    benchmark.group = "processes contending for five seats"
    benchmark.name = f"{count} processes"
    short = float(request.config.getoption("benchmark_max_time")) < 1
    with container_with(tmp_path, 1, seats=SEATS) as (container, trust):
        uri = container.info().uri
    figures: dict[str, float] = {}
    benchmark.pedantic(lambda: figures.update(contend(uri, trust, count, short=short)), rounds=1)
    benchmark.extra_info.update(figures)


def contend(uri: str, trust: Trust, count: int, *, short: bool) -> dict[str, float]:
    """Let processes take, hold and give back seats, as fast as they get them.

    Args:
        uri: of the container.
        trust: the vendor.
        count: how many processes.
        short: fewer rounds.

    Returns:
        Seats served per second, median and longest wait in seconds, and their ratio.
    """
    rounds = max(3 if short else 10, (100 if short else 1000) // count)
    context = multiprocessing.get_context("fork")  # every child opens the container for itself
    start = context.Barrier(count + 1)
    pipes: list[Connection] = []
    children = []
    for _ in range(count):
        ours, theirs = context.Pipe(duplex=False)
        child = context.Process(target=_work, args=(uri, trust, rounds, start, theirs))
        child.start()
        theirs.close()
        pipes.append(ours)
        children.append(child)
    start.wait(120)
    begun = time.perf_counter()
    waits = [wait for pipe in pipes for wait in pipe.recv()]
    elapsed = time.perf_counter() - begun
    for pipe, child in zip(pipes, children, strict=True):
        child.join()
        pipe.close()
    median = statistics.median(waits)
    return {
        "served_per_s": count * rounds / elapsed,
        "median_wait": median,
        "longest_wait": max(waits),
        "unfairness": max(waits) / median,
    }


def _work(uri: str, trust: Trust, rounds: int, start: Barrier, pipe: Connection) -> None:
    container = tallystick.open(uri, trust=trust, background=False)
    waits = []
    start.wait(120)
    for _ in range(rounds):
        begun = time.perf_counter()
        seat = container.checkout("render-0", wait=WAIT_S)
        waits.append(time.perf_counter() - begun)
        time.sleep(HOLD_S)
        seat.close()
    pipe.send(waits)
    pipe.close()
    container.close()


def main() -> int:
    """Print the table of the contention."""
    from conftest import make_container

    parser = argparse.ArgumentParser(description="Processes that contend for five local seats.")
    parser.add_argument("--short", action="store_true", help="fewer rounds")
    short = parser.parse_args().short
    print(f"{SEATS} seats, each held for {HOLD_S * 1e3:g} ms")
    print("| processes | seats served/s | median wait | longest wait | longest / median |")
    print("|---:|---:|---:|---:|---:|")
    for count in COUNTS:
        with tempfile.TemporaryDirectory() as folder:
            with make_container(Path(folder), 1, seats=SEATS) as (container, trust):
                uri = container.info().uri
            row = contend(uri, trust, count, short=short)
        waits = f"{row['median_wait'] * 1e3:.2f} ms | {row['longest_wait'] * 1e3:.2f} ms"
        print(f"| {count} | {row['served_per_s']:.0f} | {waits} | {row['unfairness']:.1f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
