# SPDX-License-Identifier: Apache-2.0
"""In the guest: the conformance suite over a device of the kernel's, a line of JSON for each test; `kernel_suite`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import checks_rules
import checks_tpm
import pytest
from guest import Guest
from guest_people import become
from initramfs import MEMBER

ROOT = Path(__file__).resolve().parents[2]
_PORTS = 8  # tests of lending have several containers
_MODULE = """
import pytest
from conformance.cases import BackendCase
from conformance.suite import *
from {module} import {name}

@pytest.fixture(params=({name},), ids=repr)
def case(request) -> BackendCase:
    return request.param
"""


@dataclass(frozen=True)
class Device:
    """What the suite can run over.

    Attributes:
        module: of the case.
        name: of the case in it.
        prepare: what is done first, by root.
        uid: the user the tests run as.
    """

    module: str
    name: str
    prepare: Callable[[Guest], None]
    uid: int = 0


class Teller:
    """Tells the host how each test went.

    Args:
        guest: where the host listens.
    """

    def __init__(self, guest: Guest) -> None:
        self._guest = guest

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Tell what is known; of a setup or an end only what went wrong, or was skipped."""
        if report.when == "call" or report.outcome != "passed":
            detail = "" if report.outcome == "passed" else str(report.longrepr)[-4000:]
            self._guest.say(check=report.nodeid.rpartition("::")[0][-40:] + "::" + report.nodeid.rpartition("::")[2],
                            outcome=report.outcome, when=report.when, detail=detail,
                            seconds=round(report.duration, 2))  # fmt: skip


def _ports_for_gadgets(_: Guest) -> None:
    subprocess.run(["/busybox", "insmod", "/modules/dummy_hcd.ko", f"num={_PORTS}"], check=True)
    subprocess.run(["/busybox", "mount", "-t", "configfs", "none", "/sys/kernel/config"], check=True)


def _group_at_the_tpm(guest: Guest) -> None:
    checks_tpm.the_distributions_rule_lets_the_group_in(guest)
    import_module("tpm_device_case").serve_root()


DEVICES = {
    "gadget": Device("gadget_case", "GADGET", _ports_for_gadgets),
    "tpm": Device("tpm_device_case", "TPM_DEVICE", _group_at_the_tpm, MEMBER),
}


def main(port: str, device: str, *arguments: str) -> None:
    """Make the device ready, and run the suite on it."""
    sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "tpm")]
    guest, chosen = Guest(port), DEVICES[device]
    guest.say(begun=True)
    checks_rules.udev_runs_with_our_rule(guest)
    chosen.prepare(guest)
    if chosen.uid:
        become(chosen.uid)
    folder = Path("/tmp/suite")
    folder.mkdir()
    (folder / "test_suite.py").write_text(_MODULE.format(module=chosen.module, name=chosen.name))
    (folder / "pytest.ini").write_text("[pytest]\n")
    options = ["-q", "--assert=plain", "-p", "no:cacheprovider", "--rootdir", str(folder), "--basetemp", "/tmp/places"]
    status = pytest.main([str(folder), *options, *arguments], plugins=[Teller(guest)])
    guest.say(ended=int(status))


if __name__ == "__main__":
    main(sys.argv[-1], *sys.argv[1:-1])
