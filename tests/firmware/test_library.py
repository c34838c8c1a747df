# SPDX-License-Identifier: Apache-2.0
"""Where libusb comes from: the system, else a Python package, else the remedy names both."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
import usb.backend.libusb0
import usb.backend.libusb1
import usb.backend.openusb

from tallystick.dongle.usb_link import find
from tallystick.errors import TallystickError


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A system without any library for USB; what was asked for by path instead is noted and loaded."""
    paths: list[str] = []
    real = usb.backend.libusb1.get_backend

    def libusb1(find_library: Callable[[str], str] | None = None) -> Any:
        if find_library is None:
            return None
        paths.append(find_library("usb-1.0"))
        return real(find_library)

    monkeypatch.setattr(usb.backend.libusb1, "get_backend", libusb1)
    for other in (usb.backend.libusb0, usb.backend.openusb):
        monkeypatch.setattr(other, "get_backend", lambda: None)
    return paths


def test_without_the_systems_library_the_package_brings_one(asked: list[str]) -> None:
    assert find(0x1209, 0xFFFF) == ()
    assert len(asked) == 1
    assert "libusb_package" in asked[0]


def test_without_any_library_the_remedy_names_it(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "libusb_package", None)
    with pytest.raises(TallystickError) as refused:
        find()
    assert refused.value.code == "backend_unavailable"
    assert "pip install libusb-package" in refused.value.remedy
    assert asked == []
