# SPDX-License-Identifier: Apache-2.0
"""What runs in the guest, as root: every check once, in order, one line of JSON each.

    python tests/kernel/guest.py /dev/vport1p1

A line is ``{"check": name, "ok": bool, "detail": anything, "seconds": number}``; figures and questions to the host
have lines of their own. A check that fails does not keep the others from running.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import checks_bus
import checks_end
import checks_gadget
import checks_rules
import checks_story
import checks_tpm
import checks_tpm_story
import checks_unplug

from tallystick import registry

SECTIONS: tuple[ModuleType, ...] = (
    checks_rules, checks_bus, checks_story, checks_unplug, checks_gadget, checks_tpm, checks_tpm_story,
    checks_end,
)  # fmt: skip
OF_THE_TPM: tuple[ModuleType, ...] = (checks_tpm, checks_tpm_story)
"""Left out where the host can give the guest none."""

Check = Callable[["Guest"], Any]


def checks(sections: tuple[ModuleType, ...] = SECTIONS) -> list[tuple[str, Check]]:
    """Every check by name, in order."""
    return [(check.__name__, check) for section in sections for check in section.CHECKS]


class Guest:
    """The guest, as checks see it; they leave in it what later ones need.

    Args:
        port: path of the port to the host.
    """

    def __init__(self, port: str) -> None:
        self._port = Path(port).open("r+b", buffering=0)
        self.serials: dict[str, str] = {}
        """By bus id: of the devices that the host offers."""
        self.ports: dict[str, int] = {}
        """By bus id: where they are plugged in."""
        self.running: dict[str, Any] = {}
        """By bus id: applications that hold a seat."""
        self.gadget = 0
        """Process id of the gadget."""
        self.consume_s = 0.0
        """What it takes to use a unit of a container in the TPM."""

    def say(self, **line: Any) -> None:
        """Tell the host."""
        self._port.write(json.dumps(line, default=str).encode() + b"\n")

    def ask(self, what: str, **more: Any) -> Any:
        """Ask the host, and wait for its answer."""
        self.say(ask=what, **more)
        line = b""
        while not line.endswith(b"\n"):
            line += self._port.read(65536)
        return json.loads(line)

    def figure(self, name: str, **numbers: Any) -> None:
        """Tell what was measured."""
        self.say(figure=name, **numbers)

    def run(self, name: str, check: Check) -> None:
        """Run one check and tell how it went."""
        begun = time.monotonic()
        try:
            ok, detail = True, check(self)
        except BaseException:
            ok, detail = False, traceback.format_exc()
        self.say(check=name, ok=ok, detail=detail, seconds=round(time.monotonic() - begun, 3))


def load_early(tpm: bool) -> None:
    """Load once what every ``tally`` below needs: a start takes seconds here.

    Args:
        tpm: whether there is one.
    """
    for name in "borrow checking destroy doctor give_back look make request run symptoms take".split():
        import_module(f"tallystick.cli.{name}")
    import_module("tallystick.dongle.backend")
    for name in "gadget usbip factory_command".split():
        import_module(f"firmware_sim.{name}")
    registry.availability()  # whatever backends there are
    if tpm:
        import_module("tallystick.backends.tpm.backend")


def main(port: str) -> None:
    """Run all checks."""
    guest = Guest(port)
    guest.say(begun=time.monotonic())
    tpm = bool(guest.ask("tpm"))
    load_early(tpm)
    guest.say(loaded=time.monotonic())
    only = os.environ.get("ONLY", "").split()
    for name, check in checks(tuple(one for one in SECTIONS if tpm or one not in OF_THE_TPM)):
        if not only or name in only:
            guest.run(name, check)
    guest.say(ended=time.monotonic())
    subprocess.run(["/busybox", "sync"], check=True)


if __name__ == "__main__":
    main(sys.argv[1])
