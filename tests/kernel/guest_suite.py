# SPDX-License-Identifier: Apache-2.0
"""In the guest: the conformance suite over the gadget, a line of JSON for each test; see ``kernel_suite.py``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import checks_rules
import pytest
from guest import Guest

ROOT = Path(__file__).resolve().parents[2]
_PORTS = 8  # tests of lending have several containers
_MODULE = """
import pytest
from conformance.cases import BackendCase
from conformance.suite import *
from gadget_case import GADGET

@pytest.fixture(params=(GADGET,), ids=repr)
def case(request) -> BackendCase:
    return request.param
"""


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


def main(port: str, *arguments: str) -> None:
    """Make a port for gadgets, and run the suite on it."""
    guest = Guest(port)
    guest.say(begun=True)
    checks_rules.udev_runs_with_our_rule(guest)
    subprocess.run(["/busybox", "insmod", "/modules/dummy_hcd.ko", f"num={_PORTS}"], check=True)
    subprocess.run(["/busybox", "mount", "-t", "configfs", "none", "/sys/kernel/config"], check=True)
    folder = Path("/tmp/suite")
    folder.mkdir()
    (folder / "test_gadget.py").write_text(_MODULE)
    (folder / "pytest.ini").write_text("[pytest]\n")
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    options = ["-q", "--assert=plain", "-p", "no:cacheprovider", "--rootdir", str(folder), "--basetemp", "/tmp/places"]
    status = pytest.main([str(folder), *options, *arguments], plugins=[Teller(guest)])
    guest.say(ended=int(status))


if __name__ == "__main__":
    main(sys.argv[-1], *sys.argv[1:-1])
