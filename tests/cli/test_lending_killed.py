# SPDX-License-Identifier: Apache-2.0
"""Direct commands of real processes, killed with SIGKILL at random moments: the same command finishes them."""

from __future__ import annotations

import random
import subprocess
import time
from pathlib import Path

import pytest
from desk import Desk

from tallystick.license.grant_policy import MAY_ALL, GrantPolicy

KILLS = 8
POLICY = GrantPolicy(MAY_ALL)
COMMANDS = {
    "transfer": (("--product", "cad", "--seats", "5", "--yes"), (15, 5)),
    "borrow": (("--product", "cad", "--seats", "2", "--for", "3d"), (18, 2)),
    "rehost": (("--yes",), (0, 20)),
}


def seats(desk: Desk, uri: str) -> int:
    """Seats that may be used in a container now."""
    licenses = desk.ok("list", "--json", "--container", uri).json()["licenses"]
    return sum(row["here"] for one in licenses for row in one["books"] if row["counter"] == "*seats")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_killed_command_is_finished_by_the_same_one(tmp_path: Path, command_path: str, command: str) -> None:
    more, expected = COMMANDS[command]
    moments = random.Random(command)
    took = 0.3  # seconds; measured below, on a command that nobody kills
    killed = 0
    for number in range(KILLS):
        folder = tmp_path / str(number)
        folder.mkdir()
        desk = Desk(folder)
        desk.ok("create")
        desk.activate("cad", seats=20, lend=POLICY, transfer=POLICY)
        office, laptop = desk.uri("container"), desk.uri("laptop")
        desk.ok("create", "--container", laptop)
        argv = [command, "--from", office, "--to", laptop, *more]
        env = desk.plain_env(command_path)
        if number:
            begun = time.perf_counter()
            process = subprocess.Popen(["tally", *argv], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                process.wait(took * moments.uniform(0.4, 1.0))
                # it was faster than the one that was measured: machines have moods
                took = min(took, time.perf_counter() - begun)
            except subprocess.TimeoutExpired:
                process.kill()
                killed += 1
            process.wait(60)
        begun = time.perf_counter()
        desk.process(command_path, *argv)
        took = max(took, time.perf_counter() - begun) if not number else took
        desk.ok(*argv)
        assert (seats(desk, office), seats(desk, laptop)) == expected
        for uri in (office, laptop):
            assert desk.ok("pending", "--json", "--container", uri).json()["exchanges"] == []
    assert killed, "at least one was killed before it ended"
