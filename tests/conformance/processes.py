# SPDX-License-Identifier: Apache-2.0
"""What other processes do to a container, for `suite_shared`; importable by name, as the spawned interpreter needs."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier

from conformance.cases import BackendCase, Place
from tallystick.container.base import Container
from tallystick.errors import TallystickError
from tallystick.license.trust import Trust

Report = dict[str, int]


def run(
    work: Callable[..., Report],
    case: BackendCase,
    place: Place,
    trust: str,
    gate: Barrier,
    queue: Queue[Report | str],
    *rest: object,
) -> None:
    """Open the container, wait for the other process, work, report; or tell what went wrong."""
    try:
        _work(work, case, place, trust, gate, queue, *rest)
    except BaseException:
        queue.put(traceback.format_exc())
        raise


def _work(
    work: Callable[..., Report],
    case: BackendCase,
    place: Place,
    trust: str,
    gate: Barrier,
    queue: Queue[Report | str],
    *rest: object,
) -> None:
    container = case.open(place, (Trust.from_text(trust),), 60.0)
    gate.wait(case.patience_s)
    report = work(container, *rest)
    queue.put({"served": 0, "torn": 0} | report)
    if report.get("die"):
        queue.close()
        queue.join_thread()
        os._exit(0)
    container.close()


def consume(container: Container, times: int, key: str) -> Report:
    """Use a unit many times; with a key, the same ones in every process."""
    seat = container.checkout("cad")
    served = 0
    for number in range(times):
        try:
            seat.consume(1, idempotency_key=f"{key}{number}" if key else "")
            served += 1
        except TallystickError as refusal:
            assert refusal.code == "units_exhausted", refusal
    return {"served": served}


def read(container: Container, times: int) -> Report:
    """Look many times; what is seen only ever grows."""
    torn = last = 0
    for _ in range(times):
        used = container.licenses()[0].usage.used.get("", 0)
        torn += used < last
        last = used
    return {"torn": torn}


def reserve_and_die(container: Container, units: int, used: int) -> Report:
    """Reserve, use some, and end without closing anything."""
    seat = container.checkout("cad", reserve=units)
    for _ in range(used):
        seat.consume(1)
    return {"die": 1}
