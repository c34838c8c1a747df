# SPDX-License-Identifier: Apache-2.0
"""What is measured alike of every container in a device."""

from __future__ import annotations

import os
from typing import Any, Protocol

from tallystick.container.proof import prove


class Bench(Protocol):
    """A container in a device; open, with a license of the product render-0."""

    container: Any

    @property
    def anchor(self) -> Any:
        """The container's."""

    def open(self) -> Any:
        """Open it once more."""


def time_reproof(benchmark: Any, bench: Bench, **pace: int) -> None:
    """A signature over something new, verified."""
    anchor = bench.anchor
    benchmark.name = "re-proof, its verification included"
    benchmark.pedantic(lambda: prove(anchor, anchor.public_key, os.urandom(32)), **pace)


def time_open(benchmark: Any, bench: Bench, name: str = "open") -> None:
    """Opening alone; closing before is not counted."""
    benchmark.name = name

    def close() -> None:
        bench.container.close()

    def reopen() -> None:
        bench.container = bench.open()

    benchmark.pedantic(reopen, setup=close, rounds=20, warmup_rounds=2)


def time_hot_check(benchmark: Any, bench: Bench) -> None:
    """The same code as on a file: nothing is asked of the device."""
    benchmark.name = "hot check: seat.check()"
    with bench.container.checkout("render-0") as seat:
        check = seat.check
        benchmark(lambda: [check() for _ in range(1000)])
    benchmark.extra_info["per_round"] = 1000
