# SPDX-License-Identifier: Apache-2.0
"""Processes and TPMs killed at random moments; `kill_campaign.py` says what must hold, and does more by hand."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

from conftest import IN_CI

CYCLES = 20


def test_kills_lose_nothing_double_nothing_and_lock_nobody_out(swtpm: str, root: Path) -> None:
    """In a process of its own, which forks: that one has no threads."""
    seed = 1 if IN_CI else random.randrange(1_000_000)
    program = root / "tests" / "tpm" / "kill_campaign.py"
    command = [sys.executable, str(program), str(CYCLES), "--seed", str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, cwd=root)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"{CYCLES} kills")
    assert "lockout counter 0" in done.stdout
