# SPDX-License-Identifier: Apache-2.0
"""Containers: consuming against one durable append, opening, memory."""

from __future__ import annotations

import gc
import os
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

import tallystick


def test_append(benchmark: Any, tmp_path: Path) -> None:
    benchmark.group = "one durable commit"
    benchmark.name = "overwrite preallocated + fdatasync, 200 bytes"
    fd = os.open(tmp_path / "log", os.O_RDWR | os.O_CREAT, 0o600)
    os.posix_fallocate(fd, 0, 1 << 20)
    os.fsync(fd)
    place = 0

    def append() -> None:
        nonlocal place
        os.pwrite(fd, b"x" * 200, place)
        os.fdatasync(fd)
        place = (place + 200) % (1 << 19)

    benchmark.pedantic(append, rounds=300, warmup_rounds=20)
    os.close(fd)


def test_consume(benchmark: Any, tmp_path: Path, container_with: Any) -> None:
    benchmark.group = "one durable commit"
    benchmark.name = "Tallystick seat.consume(1)"
    with container_with(tmp_path, 1) as (container, _), container.checkout("render-0") as seat:
        benchmark.pedantic(seat.consume, rounds=300, warmup_rounds=20)


def test_consume_block(benchmark: Any, tmp_path: Path, container_with: Any) -> None:
    benchmark.group = "one durable commit"
    benchmark.name = "Tallystick seat.consume(1) from a reserved block"
    with container_with(tmp_path, 1) as (container, _), container.checkout("render-0", reserve=500_000) as seat:
        benchmark.pedantic(seat.consume, rounds=300, iterations=10, warmup_rounds=20)


def test_sqlite(benchmark: Any, tmp_path: Path) -> None:
    import sqlite3

    benchmark.group = "one durable commit"
    benchmark.name = "SQLite, WAL, synchronous=FULL, one UPDATE"
    base = sqlite3.connect(tmp_path / "db", isolation_level=None)
    base.execute("PRAGMA journal_mode=WAL")
    base.execute("PRAGMA synchronous=FULL")
    base.execute("CREATE TABLE counter (used INTEGER)")
    base.execute("INSERT INTO counter VALUES (0)")
    benchmark.pedantic(lambda: base.execute("UPDATE counter SET used = used + 1"), rounds=300, warmup_rounds=20)
    base.close()


@pytest.mark.parametrize("count", [1, 100, 1000])
def test_open(benchmark: Any, tmp_path: Path, container_with: Any, count: int) -> None:
    benchmark.group = "open and check out"
    benchmark.name = f"{count} licenses"
    with container_with(tmp_path, count) as (container, trust):
        uri = container.info().uri

    def open_and_check() -> None:
        with tallystick.open(uri, trust=trust, background=False) as opened, opened.checkout("render-0") as seat:
            assert seat.check()

    benchmark.pedantic(open_and_check, rounds=30 if count < 1000 else 10, warmup_rounds=2)


def test_memory(benchmark: Any, tmp_path: Path, container_with: Any) -> None:
    benchmark.group = "memory of a license held"
    benchmark.name = "Tallystick, container of 1,000"
    with container_with(tmp_path, 1000) as (container, trust):
        uri = container.info().uri
    tallystick.open(uri, trust=trust, background=False).close()
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    opened = tallystick.open(uri, trust=trust, background=False)
    gc.collect()
    benchmark.extra_info["bytes"] = (tracemalloc.get_traced_memory()[0] - before) / 1000
    tracemalloc.stop()
    benchmark.pedantic(opened.info, rounds=3)
    opened.close()
