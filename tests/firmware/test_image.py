# SPDX-License-Identifier: Apache-2.0
"""A dongle in a file: shared, killed, damaged and put back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from firmware_sim.backend import SimBackend
from firmware_sim.vendor import SimulatedVendor
from tallystick.container.base import Container
from tallystick.errors import TallystickError

PAGES = 32
USER = """
import sys
import tallystick
with tallystick.open(sys.argv[1], trust=sys.argv[2], background=False) as container:
    with container.checkout("cad") as seat:
        while True:
            print(seat.consume(1), flush=True)
"""


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return tmp_path / "dongle.img"


@pytest.fixture
def vendor() -> SimulatedVendor:
    return SimulatedVendor()


def made(image: Path, vendor: SimulatedVendor, **terms: Any) -> Container:
    container = SimBackend(pages=PAGES).create(f"sim:{image}", (vendor.trust,))
    vendor.sell(container, "cad", **terms)
    return container


def used(container: Container) -> int:
    return container.licenses()[0].usage.used.get("", 0)


def code(call: Callable[..., Any], *arguments: Any) -> str:
    with pytest.raises(TallystickError) as caught:
        call(*arguments)
    return caught.value.code


def test_two_programs_see_what_each_other_does(image: Path, vendor: SimulatedVendor) -> None:
    first = made(image, vendor, units=100)
    second = SimBackend().open(f"sim:{image}", (vendor.trust,), background=False)
    with first.checkout("cad") as one, second.checkout("cad") as other:
        assert [one.consume(1), other.consume(2), one.consume(3), other.consume(4)] == [99, 97, 94, 90]
        assert used(first) == used(second) == 10
    first.close()
    second.close()


def test_a_killed_program_leaves_what_it_was_told(image: Path, vendor: SimulatedVendor) -> None:
    made(image, vendor, units=100_000).close()
    for _ in range(3):
        command = [sys.executable, "-c", USER, f"sim:{image}", vendor.trust.to_text()]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            told = [int(process.stdout.readline()) for _ in range(20)]
            process.send_signal(signal.SIGKILL)
            told += [int(line) for line in process.stdout.read().split()]
        with SimBackend().open(f"sim:{image}", (vendor.trust,), background=False) as container:
            left = 100_000 - used(container)
        assert told[-1] - left in (0, 1)  # the last one may have been booked, and not told


def test_an_older_copy_is_an_older_account_and_nobody_can_tell(image: Path, vendor: SimulatedVendor) -> None:
    """So the simulated dongle promises nothing of the kind: it is of level L0."""
    container = made(image, vendor, units=100)
    container.close()
    older = image.read_bytes()
    with SimBackend().open(f"sim:{image}", (vendor.trust,), background=False) as container:
        container.checkout("cad").consume(60)
    image.write_bytes(older)
    with SimBackend().open(f"sim:{image}", (vendor.trust,), background=False) as container:
        assert used(container) == 0
        assert "ROLLBACK_PROOF" not in str(container.info().capabilities)


@pytest.mark.parametrize("damage", ["empty", "short", "noise", "other"])
def test_a_damaged_file_is_refused_by_name(image: Path, vendor: SimulatedVendor, damage: str) -> None:
    with made(image, vendor) as container:
        good = image.read_bytes()
        bad = {
            "empty": b"", "short": good[:-1], "noise": good[:4000] + os.urandom(40_000) + good[44_000:],
            "other": b"something else",
        }[damage]  # fmt: skip
        image.write_bytes(bad)
        assert code(SimBackend().open, f"sim:{image}") == "tampered"
        if damage in ("empty", "other"):  # else its head is as it was: nobody looks further
            assert code(container.info) == "tampered"
        image.write_bytes(good)
    SimBackend().open(f"sim:{image}", background=False).close()


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("sim:{0}/nothing.img", "container_not_found"),
        ("sim:{0}", "io_error"),
        ("sim:{0}/a.img?pin=1234", "bad_uri"),
        ("sim:{0}/a.img?pin-source=file:{0}/nothing", "container_not_found"),
    ],
)
def test_what_is_no_dongle_says_so(tmp_path: Path, uri: str, expected: str) -> None:
    assert code(SimBackend().open, uri.format(tmp_path)) == expected


def test_a_dongle_is_not_made_twice_nor_where_nothing_can_be(image: Path, vendor: SimulatedVendor) -> None:
    with made(image, vendor) as container:
        before = container.info().thumbprint
        assert code(SimBackend().create, f"sim:{image}") == "already_exists"
        assert container.info().thumbprint == before
    assert code(SimBackend().create, f"sim:{image}/below") == "io_error"
    with pytest.raises(TallystickError):
        SimBackend().create(f"sim:{image}2", tolerance="loose")
    assert not Path(f"{image}2").exists()


def test_one_in_memory_is_gone_when_it_is_closed(vendor: SimulatedVendor) -> None:
    with SimBackend(pages=PAGES).open("sim:", (vendor.trust,), background=False) as container:
        vendor.sell(container, "cad", units=5)
        assert container.checkout("cad").consume(2) == 3
    with SimBackend(pages=PAGES).open("sim:", background=False) as other:
        assert other.licenses() == ()
