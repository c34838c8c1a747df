# SPDX-License-Identifier: Apache-2.0
"""The whole conformance suite over the gadget in a real kernel: takes some minutes of an emulated processor.

PYTHONPATH=src:.:tests:tests/cli:tests/kernel python tests/kernel/kernel_suite.py [PYTEST-ARGUMENT ...]
"""

from __future__ import annotations

import collections
import compileall
import sys
import tempfile
import time
from pathlib import Path

import guest_suite
import qemu
from fetch import kernel

ROOT = Path(__file__).resolve().parents[2]
MOST_SECONDS = 7200


def main(arguments: list[str]) -> int:
    """Boot, run, and say what came out.

    Returns:
        0 if no test failed.
    """
    if reason := qemu.obstacle(qemu.shared(ROOT)):
        print(reason, file=sys.stderr)
        return 2
    for part in ("src", "firmware_sim", "tests"):  # the guest cannot write what it has compiled
        compileall.compile_dir(str(ROOT / part), quiet=2)
    counted: collections.Counter[str] = collections.Counter()
    begun = time.monotonic()
    words = " ".join(f"'{word}'" for word in arguments)
    with tempfile.TemporaryDirectory(prefix="tally-", dir="/tmp") as folder:
        command = f"{sys.executable} {Path(guest_suite.__file__).resolve()} {words}"
        shares, later = qemu.shared(ROOT), ("dummy_hcd",)
        machine = qemu.Machine(kernel(), Path(folder), shares, 9, command, ROOT, MOST_SECONDS, later)
        try:
            for said in machine.lines(lambda _: None):
                if "outcome" in said:
                    counted[said["outcome"]] += 1
                    if said["outcome"] == "failed":
                        print(f"FAILED {said['check']}\n{said['detail']}", flush=True)
        finally:
            print(machine.console()[-3000:] if not counted else "", end="")
            machine.close()
    print(f"{dict(counted)} in {time.monotonic() - begun:.0f} s")
    return 1 if counted["failed"] or not counted else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
