# SPDX-License-Identifier: Apache-2.0
"""``python -m firmware_sim serve``: a process of its own that a program reaches over a real socket."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fakes import FakeClock
from firmware_sim.backend import SimBackend
from firmware_sim.control import Control
from firmware_sim.usbip_client import UsbIpBackend
from issuer import Issuer
from tallystick.dongle.backend import UsbBackend
from tallystick.errors import TallystickError
from tallystick.license.model import TOUCH_USE

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def serving(image: Path, *options: str, stop: int = signal.SIGTERM) -> Iterator[tuple[int, str]]:
    """Run it; gives the port and the dongle's container id."""
    command = [sys.executable, "-m", "firmware_sim", "serve", str(image), "--port", "0", *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            said = process.stdout.readline() + process.stdout.readline()
            port, serial = re.search(r"--tcp-port (\d+) ", said), re.search(r"dongle (TS-[^,]+),", said)
            assert port, said + process.stderr.read()
            assert serial
            yield int(port[1]), serial[1]
        finally:
            process.send_signal(stop)
            try:
                assert process.wait(60) == 0
            except subprocess.TimeoutExpired:
                process.kill()
                raise
            assert "private testing only" in process.stderr.read()


@pytest.mark.parametrize(("speed", "stop"), [("full", signal.SIGTERM), ("high", signal.SIGINT)])
def test_a_program_uses_the_dongle_that_a_process_serves(tmp_path: Path, speed: str, stop: int) -> None:
    acme, clock, image = Issuer(), FakeClock(), tmp_path / "demo.img"
    with serving(image, "--speed", speed, stop=stop) as (port, serial):
        bus = UsbIpBackend("127.0.0.1", port)
        backend = UsbBackend(clock, bus, lambda _: str(tmp_path / "seats"))
        with backend.open(f"usb:serial={serial}", [acme.trust], background=False) as container:
            request = container.request(acme.trust, product="cad")
            container.install(acme.answer(request, acme.license(request, units=10, touch=TOUCH_USE)))
            with container.checkout("cad") as seat:
                Control(str(image)).press()
                assert seat.consume(3) == 7
        with pytest.raises(TallystickError) as caught:
            SimBackend(clock).open(f"sim:{image}").close()
        assert caught.value.code == "busy"
        bus.close()
    with SimBackend(clock).open(f"sim:{image}", [acme.trust], background=False) as container:
        assert container.info().container_id == serial
        assert container.licenses()[0].usage.used == {"": 3}
