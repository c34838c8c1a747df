# SPDX-License-Identifier: Apache-2.0
"""Kills the process that uses a container, its TPM, or both, at random moments, again and again.

Run from the project's folder: ``python tests/tpm/kill_campaign.py [CYCLES] [--seed N]``; 500 cycles take a few minutes.

The process asks for licenses, uses units one by one, each under a key of its own, and says after each that it was
served; it also reserves blocks, which a kill forfeits. The TPM is never told that it is shut down. After each kill:
the container opens, every unit acknowledged is used, none is used twice, no index is left over, and the TPM's
protection against guessing has counted nothing. The last line is the record of the run; of the last long one:

    500 kills (121 of TPM, 132 of both, 247 of process), seed 5: 1809 units served, 85 forfeited, 0 lost, 0 doubled,
    0 locked out, lockout counter 0; 467 s
"""

from __future__ import annotations

import argparse
import os
import random
import select
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

if __name__ == "__main__":
    tests = Path(__file__).resolve().parents[1]
    sys.path[:0] = [str(tests.parent), str(tests), *(str(tests / name) for name in ("tpm", "lending", "conformance"))]

from fault_stage import Stage
from swtpm_rig import in_memory

from tallystick.container.base import Container
from tallystick.errors import TallystickError
from tallystick.license.model import License

UNITS = 1_000_000
BLOCK = 5
OPENING_S, UNIT_S = 0.15, 0.03
"""How long it takes to start and open, and to use a unit, more or less: kills fall within that."""


@dataclass
class Account:
    """What the killer knows.

    Attributes:
        served: units the process was served, each acknowledged.
        reserved: units in blocks that may have been forfeited.
        key: of the next unit.
    """

    served: int = 0
    reserved: int = 0
    key: int = 0
    victims: Counter[str] = field(default_factory=Counter)


def work(stage: Stage, first: int, tell: int) -> None:
    """The process: opens the container and uses it until it is killed, or its TPM is.

    Args:
        stage: where.
        first: the first unit's key.
        tell: the pipe: ``?`` and a key before a unit, ``!`` after it; ``b`` before a block is reserved, ``B`` after it.
    """
    with stage.open() as container:
        for key in range(first, first + 1_000):
            if key % 4 == 3:
                container.cancel_request(_asked(stage, container))
            if key % 7 == 6:
                os.write(tell, b"b")
                with container.checkout("cad", reserve=BLOCK) as seat:
                    seat.consume(2)
                os.write(tell, b"B")
            os.write(tell, b"?")
            container.checkout("cad").consume(1, idempotency_key=str(key))
            os.write(tell, b"!")


def _asked(stage: Stage, container: Container) -> bytes:
    container.request(stage.acme.trust)
    return container.requests()[-1].request_id


def cycle(stage: Stage, license_: License, account: Account, source: random.Random) -> None:
    """Start the process, kill, judge."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        try:
            os.close(reading)
            work(stage, account.key, writing)
        except TallystickError as reason:
            status = 0 if reason.code == "device_silent" else 1
            if status:
                print(f"WRONG the process was told {reason!r}", flush=True)
        finally:
            os._exit(status)
    os.close(writing)
    victim = source.choice(("process", "process", "TPM", "both"))
    account.victims[victim] += 1
    marks = source.randrange(12)
    said = listen(reading, source.uniform(0, UNIT_S if marks else OPENING_S), marks)
    if victim != "process":
        stage.tpm.kill()
    if victim != "TPM":
        os.kill(child, signal.SIGKILL)
    said += listen(reading)
    os.close(reading)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the process failed of itself"
    if not stage.tpm.running:
        stage.tpm.start()
    judge(stage, license_, account, said)


def listen(pipe: int, seconds: float | None = None, marks: int = 0) -> bytes:
    """Hear what the process says: so many marks, and for a while more, or until it ends."""
    said = b""
    while len(said) < marks or seconds is None:
        part = os.read(pipe, 1 if seconds is not None else 4096)
        if not part:
            return said
        said += part
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0 and select.select([pipe], [], [], left)[0]:
        part = os.read(pipe, 4096)
        if not part:
            break
        said += part
    return said


def judge(stage: Stage, license_: License, account: Account, said: bytes) -> None:
    """Open the container and hold what it says against what was acknowledged."""
    units, blocks = said.count(b"!"), said.count(b"B")
    account.served += units + 2 * blocks
    account.key += units
    container = stage.open()
    (view,) = [view for view in container.licenses() if view.license_id == license_.license_id]
    used = view.usage.used.get("", 0)
    least, most = account.served, account.served + account.reserved
    if said.count(b"b") > blocks:
        most += BLOCK  # killed with a block, or while it was reserved, used or given back
    if said.count(b"?") > units:
        most += 1  # the unit may have been counted, and nobody heard of it
        container.checkout("cad").consume(1, idempotency_key=str(account.key))  # asked again it counts once
        account.served += 1
        account.key += 1
        (view,) = [view for view in container.licenses() if view.license_id == license_.license_id]
        again = view.usage.used.get("", 0)
        assert again - used in (0, 1), f"{used} used, then {again}"
        assert least <= used <= most, f"{used} used; {least} to {most} served"
        used, least = again, account.served
    assert least <= used <= most, f"{used} used; {least} to {most} served"
    account.reserved = used - account.served  # what blocks have forfeited so far
    stage.balanced(container)
    stage.leave()
    assert stage.tpm.lockout_counter() == 0
    assert len(stage.own_indices()) == 2


def run(cycles: int, seed: int) -> str:
    """Kill that often.

    Returns:
        What happened, in a line.

    Raises:
        AssertionError: something was lost, doubled or locked out.
    """
    source, account = random.Random(seed), Account()
    begun = time.perf_counter()
    with in_memory() as folder:
        stage = Stage(folder)
        try:
            with stage.create() as container:
                license_ = stage.activate(container, units=UNITS)
            stage.leave()
            for number in range(cycles):
                try:
                    cycle(stage, license_, account, source)
                except Exception as reason:
                    raise AssertionError(f"cycle {number} of seed {seed}") from reason
        finally:
            stage.close()
    victims = ", ".join(f"{count} of {victim}" for victim, count in sorted(account.victims.items()))
    spent = time.perf_counter() - begun
    return (
        f"{cycles} kills ({victims}), seed {seed}: {account.served} units served, {account.reserved} forfeited, "
        f"0 lost, 0 doubled, 0 locked out, lockout counter 0; {spent:.0f} s"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Kill the users of a container in a TPM, and the TPM.")
    parser.add_argument("cycles", nargs="?", type=int, default=500)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    asked = parser.parse_args()
    print(run(asked.cycles, asked.seed))
