# SPDX-License-Identifier: Apache-2.0
"""Fixtures for the tests of an application that is licensed with Tallystick; installed with ``tallystick-sim``.

    def test_it_stops_when_the_dongle_is_pulled(license_container, vendor, unplug):
        vendor.sell(license_container, "render", "pdf", units=100)
        with my_application.start(license_container.info().uri, trust=vendor.trust.to_text()) as running:
            unplug()
            ...

The application opens the container itself, by its URI; what the fixtures do reaches it through the image's control
file (`control`), in another process too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from firmware_sim.control import Control
    from firmware_sim.vendor import SimulatedVendor
    from tallystick.container.base import Container


@pytest.fixture
def vendor() -> SimulatedVendor:
    """A vendor: ``vendor.trust`` is what the application pins, ``vendor.sell(container, product, ...)`` licenses it."""
    from firmware_sim.vendor import SimulatedVendor

    return SimulatedVendor()


@pytest.fixture
def license_container(tmp_path: Path, vendor: SimulatedVendor) -> Iterator[Container]:
    """A new simulated dongle that trusts ``vendor``; its URI is ``license_container.info().uri``."""
    from firmware_sim.backend import SimBackend

    with SimBackend(pages=64).create(f"sim:{tmp_path / 'dongle.img'}", (vendor.trust,)) as container:
        yield container


@pytest.fixture
def _control(license_container: Container) -> Control:
    from firmware_sim.control import Control

    return Control(license_container.info().location)


@pytest.fixture
def unplug(_control: Control) -> Callable[..., None]:
    """Pull the dongle out, ``unplug()``, and put it back, ``unplug(False)``."""

    def pull(out: bool = True) -> None:
        _control.order(unplugged=out or None)

    return pull


@pytest.fixture
def set_clock(_control: Control) -> Callable[[int], None]:
    """Set the computer's clock off by seconds, for every program that uses the dongle: ``set_clock(86_400)``."""

    def off(seconds: int) -> None:
        _control.order(clock=seconds or None)

    return off


@pytest.fixture
def power_cut(_control: Control) -> Callable[..., None]:
    """Let the power fail at the n-th flash operation of what comes next: ``power_cut(3)``; it is back afterwards."""

    def cut(operations: int = 1) -> None:
        _control.order(cut=operations)

    return cut


@pytest.fixture
def touch(_control: Control) -> Callable[..., None]:
    """Press the dongle's button, when it waits for that: ``touch()`` once, ``touch(3)``, ``touch("auto")`` always.

    Without, a license that asks for a touch (`Terms.touch`) is refused after 15 seconds: ``touch_needed``.
    """

    def press(times: int | str = 1) -> None:
        if isinstance(times, int):
            _control.press(times)
        else:
            _control.order(touch=times)

    return press
