# SPDX-License-Identifier: Apache-2.0
"""The real Linux kernel: its USB stack, udev with the project's rule, libusb, and the installed ``tally``.

One boot of a virtual machine, with the dongle behind USB/IP at two speeds and as a gadget; each check that runs in it
(``checks_*.py``) is a test here. See README.md. A machine that cannot do that skips, CI must.
"""

from __future__ import annotations

import compileall
import fcntl
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import guest
import host_tpm
import pytest
import qemu
from fetch import Unavailable, cache, kernel
from host_desk import Desk
from host_side import HostSide

from conftest import missing

ROOT = Path(__file__).resolve().parents[2]
MOST_SECONDS = 1200
_WARM = "import firmware_sim.gadget, usb.core, tallystick.cli as cli; cli.main(['doctor'])"
NAMES = [name for name, _ in guest.checks()]
OF_THE_TPM = {name for name, _ in guest.checks(guest.OF_THE_TPM)}


def _boot() -> dict[str, Any]:
    """Boot, run every check, and return what the guest said."""
    for part in ("src", "firmware_sim", "tests/kernel"):  # the guest cannot write what it has compiled
        compileall.compile_dir(str(ROOT / part), quiet=2)
    begun, booted = time.monotonic(), kernel()
    found: dict[str, Any] = {"kernel": booted.release, "checks": {}, "figures": {}, "moments": {}}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tally-", dir="/tmp")))  # a short path
        found["no tpm"] = host_tpm.obstacle()
        desk = None if found["no tpm"] else Desk(folder)
        chip = None if desk is None else host_tpm.SoftwareTpm(folder, desk.factory_state)
        host = HostSide(chip, desk)
        stack.callback(host.close)
        command = f"{sys.executable} {Path(guest.__file__).resolve()}"
        # what the guest will read over 9p comes off the disk meanwhile, where that is not in memory
        warm = [sys.executable, "-c", _WARM]
        stack.enter_context(subprocess.Popen(warm, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder))
        running = qemu.Machine(booted, folder, qemu.shared(ROOT), host.port, command, ROOT, MOST_SECONDS, tpm=chip)
        stack.callback(running.close)
        if desk is not None:
            desk.open()  # the guest is starting meanwhile
        try:
            for said in running.lines(host.answer):
                if "check" in said:
                    found["checks"][said.pop("check")] = said
                elif "figure" in said:
                    found["figures"][said.pop("figure")] = said
                else:
                    found["moments"] |= {name: round(time.monotonic() - begun, 1) for name in said}
        except (TimeoutError, subprocess.TimeoutExpired):
            found["problem"] = f"the guest is not done after {time.monotonic() - begun:.0f} s"
        found |= {"console": running.console(), "failures": host.failures}
    found["seconds"] = round(time.monotonic() - begun, 1)
    (cache() / "kernel" / "last-run.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    return found


@pytest.fixture(scope="module")
def boot(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the guest said. Several workers share one boot: the first one there makes it, the others wait."""
    if reason := qemu.obstacle(qemu.shared(ROOT)):
        missing(reason)
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    kept = folder / "kernel.json"
    with (folder / "kernel.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            try:
                kept.write_text(json.dumps(_boot()), encoding="utf-8")
            except Unavailable as why:
                kept.write_text(json.dumps({"unavailable": str(why)}), encoding="utf-8")
    found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
    if "unavailable" in found:
        missing(found["unavailable"])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_in_the_guest(boot: dict[str, Any], name: str) -> None:
    if boot["no tpm"] and name in OF_THE_TPM:
        missing(boot["no tpm"])
    said = boot["checks"].get(name)
    if said is None:
        why = f"the guest did not come so far; {boot.get('problem', '')}\n{boot['console'][-4000:]}"
        pytest.fail(why, pytrace=False)
    if not said["ok"]:
        pytest.fail(str(said["detail"]), pytrace=False)


@pytest.mark.slow
def test_nothing_goes_wrong_on_the_hosts_side(boot: dict[str, Any]) -> None:
    assert boot["failures"] == []


@pytest.mark.slow
def test_figures_are_told(boot: dict[str, Any], record_property: Any) -> None:
    """The numbers are of an emulated processor: only that there are some is asserted."""
    measured = {name: row for name, row in boot["figures"].items() if name.startswith("through the kernel")}
    assert len(measured) == (3 if boot["no tpm"] else 4), "two speeds of USB/IP, the gadget, and the TPM"
    for name, row in measured.items():
        assert {"open", "re-proof", "consume"} <= set(row)
        if "TPM" not in name:
            assert {"echo of as much as a re-proof", "echo of as much as a consume"} <= set(row)
    told = {name: boot[name] for name in ("kernel", "seconds", "moments", "figures")}
    record_property("kernel", told)
    print(json.dumps(told, indent=1))
