# SPDX-License-Identifier: Apache-2.0
"""The fixtures for applications: an application under test, as the README shows one."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import tallystick
from firmware_sim.__main__ import main
from firmware_sim.control import Control
from tallystick.errors import TallystickError
from tallystick.license.model import TOUCH_USE


def render(uri: str, trust: str, pages: int) -> str:
    """The application: it opens the container by itself."""
    with tallystick.open(uri, trust=trust) as container, container.checkout("render", features=["pdf"]) as seat:
        return f"{pages} pages, {seat.consume(pages)} left"


def test_an_application_with_and_without_its_dongle(
    license_container: Any, vendor: Any, unplug: Any, set_clock: Any, power_cut: Any
) -> None:
    made = vendor.sell(license_container, "render", "pdf", units=100, expires=license_container.info().now + 86_400)
    uri, trust = license_container.info().uri, vendor.trust.to_text()
    assert render(uri, trust, 7) == "7 pages, 93 left"
    unplug()
    assert code(render, uri, trust, 1) == "device_removed"
    unplug(False)
    power_cut(3)
    assert code(render, uri, trust, 1) == "device_removed"
    assert render(uri, trust, 3) == "3 pages, 90 left"
    set_clock(2 * 86_400)
    assert code(render, uri, trust, 1) == "expired"
    assert license_container.licenses()[0].license_id == made.license_id


def test_an_application_whose_license_asks_for_a_touch(
    license_container: Any, vendor: Any, touch: Any, unplug: Any
) -> None:
    vendor.sell(license_container, "render", "pdf", units=100, touch=TOUCH_USE)
    uri, trust = license_container.info().uri, vendor.trust.to_text()
    touch(2)
    assert render(uri, trust, 7) == "7 pages, 93 left"
    assert render(uri, trust, 7) == "7 pages, 86 left"
    touch()
    assert render(uri, trust, 7) == "7 pages, 79 left"
    with tallystick.open(uri, trust=trust) as container, container.checkout("render") as seat:
        container.on_touch = unplug
        assert code(seat.consume, 1) == "device_removed"
        unplug(False)
        container.on_touch = touch
        assert seat.consume(1) == 78
    touch("auto")
    assert render(uri, trust, 1) == "1 pages, 77 left"
    assert render(uri, trust, 1) == "1 pages, 76 left"


def test_the_button_of_a_dongle_in_a_file_is_pressed_from_the_command_line(tmp_path: Path) -> None:
    image = tmp_path / "dongle.img"
    image.touch()
    control = Control(str(image))
    for arguments, left in (((), 1), ((), 2), (("--auto",), "auto"), ((), "auto"), (("--no-auto",), None)):
        done = CliRunner().invoke(main, ["touch", str(image), *arguments])
        assert (done.exit_code, done.output) == (0, "")
        assert control.read().get("touch") == left
    assert CliRunner().invoke(main, ["touch", str(tmp_path / "none.img")]).exit_code == 2


def code(call: Any, *arguments: Any) -> str:
    with pytest.raises(TallystickError) as caught:
        call(*arguments)
    return caught.value.code


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"unplugged": 1, "cut": -1, "clock": "x", "touch": -1}', '{"touch": true}', '{"touch": "x"}'],
)
def test_a_control_file_that_is_none_orders_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.img.control").write_text(text)
    control = Control(str(tmp_path / "a.img"))
    assert not control.unplugged
    assert control.take_cut() == 0
    assert control.take_touch() is False
    control.press()
    assert control.take_touch() is True
    assert control.take_touch() is False


def test_the_example_of_the_readme_is_a_test(tmp_path: Path) -> None:
    """It runs as it stands, in a folder of its own."""
    page = (Path(__file__).resolve().parents[2] / "firmware_sim" / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "test_example.py").write_text(example)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
