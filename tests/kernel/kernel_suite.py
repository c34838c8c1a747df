# SPDX-License-Identifier: Apache-2.0
"""The whole conformance suite over a device of a real kernel: takes minutes to an hour of an emulated processor.

Run from the project's folder: ``.venv/bin/python tests/kernel/kernel_suite.py [gadget|tpm] [PYTEST-ARGUMENT ...]``
"""

from __future__ import annotations

import collections
import compileall
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

if __name__ == "__main__":
    tests = Path(__file__).resolve().parents[1]
    sys.path[:0] = [str(tests.parent), str(tests), *(str(tests / name) for name in ("cli", "tpm"))]

import guest_suite
import host_tpm
import qemu
from fetch import kernel

from tpm.swtpm_rig import prepare

ROOT = Path(__file__).resolve().parents[2]
MOST_SECONDS, SHOWN = 7200, 5


def main(arguments: list[str]) -> int:
    """Boot, run, and say what came out.

    Args:
        arguments: the device, the dongle as a gadget if none is named, then what pytest is to know.

    Returns:
        0 if no test failed.
    """
    device = arguments.pop(0) if arguments and arguments[0] in guest_suite.DEVICES else "gadget"
    if reason := qemu.obstacle(qemu.shared(ROOT)) or (host_tpm.obstacle() if device == "tpm" else ""):
        print(reason, file=sys.stderr)
        return 2
    for part in ("src", "firmware_sim", "tests"):  # the guest cannot write what it has compiled
        compileall.compile_dir(str(ROOT / part), quiet=2)
    counted: collections.Counter[str] = collections.Counter()
    took: collections.Counter[str] = collections.Counter()
    begun = time.monotonic()
    words = " ".join(f"'{word}'" for word in [device, *arguments])
    with tempfile.TemporaryDirectory(prefix="tally-", dir="/tmp") as folder, ExitStack() as stack:
        command = f"{sys.executable} {Path(guest_suite.__file__).resolve()} {words}"
        chip = None
        if device == "tpm":
            chip = host_tpm.SoftwareTpm(Path(folder), prepare(Path(folder) / "maker").state)
            stack.callback(chip.stop)
        shares, later = qemu.shared(ROOT), ("dummy_hcd",)
        machine = qemu.Machine(kernel(), Path(folder), shares, 9, command, ROOT, MOST_SECONDS, later, chip)
        stack.callback(machine.close)
        for said in machine.lines(lambda _: None):
            if "outcome" in said:
                counted[said["outcome"]] += 1
                took[said["check"]] += said["seconds"]
                if said["outcome"] == "failed":
                    print(f"FAILED {said['check']}\n{said['detail']}", flush=True)
        if counted["failed"] or not counted:
            print(machine.console()[-3000:])
    print("the slowest:", *(f"{seconds:.0f} s {check}" for check, seconds in took.most_common(SHOWN)), sep="\n  ")
    print(f"{dict(counted)} in {time.monotonic() - begun:.0f} s")
    return 1 if counted["failed"] or not counted else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
