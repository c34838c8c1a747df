# SPDX-License-Identifier: Apache-2.0
"""QR codes: drawn here, read by zbar, the same message out."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from made import Device
from tallystick.codec import armor, qr
from tallystick.errors import FormatError
from tallystick.license.messages import read_request


def scanned(zbarimg: str, picture: Path) -> str:
    """What zbar reads from a picture."""
    done = subprocess.run(
        [zbarimg, "--quiet", "--raw", "-Sdisable", "-Sqrcode.enable", picture],
        capture_output=True,
        timeout=120,
        check=True,
    )
    return done.stdout.decode().removesuffix("\n")


@pytest.mark.parametrize("size", [1, 2, 500, 1500, armor.QR_MAX_BYTES])
def test_a_picture_reads_back_as_the_message(require_tool: Callable[[str], str], tmp_path: Path, size: int) -> None:
    message = hashlib.shake_256(b"%d" % size).digest(size)
    picture = tmp_path / "code.png"
    picture.write_bytes(qr.to_png(message))
    text = scanned(require_tool("zbarimg"), picture)
    assert text.startswith(armor.QR_PREFIX)
    assert armor.from_text(text) == message


def test_a_real_request_travels_by_qr(require_tool: Callable[[str], str], tmp_path: Path) -> None:
    device = Device()
    message = device.request().sign(device.identity)
    picture = tmp_path / "request.png"
    picture.write_bytes(qr.to_png(message, scale=3))
    received = armor.from_text(scanned(require_tool("zbarimg"), picture))
    assert received == message
    assert read_request(received).key == device.identity.public_key


def drawn(terminal: str) -> list[list[bool]]:
    """The light modules of a code drawn with half blocks, two rows to a line."""
    rows = []
    for line in terminal.splitlines():
        cells = "".join(part.split("m", 1)[-1] for part in line.split("\x1b["))
        rows.append([cell in "\u2588\u2580" for cell in cells])
        rows.append([cell in "\u2588\u2584" for cell in cells])
    return rows


def test_the_terminal_drawing_reads_back_too(require_tool: Callable[[str], str], tmp_path: Path) -> None:
    message = hashlib.shake_256(b"terminal").digest(300)
    rows = drawn(qr.to_terminal(message))
    width, scale = len(rows[0]), 4
    assert {len(row) for row in rows} == {width}
    picture = tmp_path / "terminal.pgm"
    body = b"".join(
        b"".join((b"\xff" if light else b"\x00") * scale for light in row) * scale for row in rows for _ in (0,)
    )
    picture.write_bytes(b"P5 %d %d 255\n" % (width * scale, len(rows) * scale) + body)
    assert armor.from_text(scanned(require_tool("zbarimg"), picture)) == message


@pytest.mark.parametrize("draw", [qr.to_png, qr.to_terminal])
def test_more_than_one_symbol_holds_is_refused_with_the_size(draw: Callable[[bytes], object]) -> None:
    with pytest.raises(FormatError) as caught:
        draw(bytes(armor.QR_MAX_BYTES + 1))
    refusal = caught.value
    assert refusal.code == "qr_too_large"
    assert refusal.details == {"size": armor.QR_MAX_BYTES + 1, "limit": armor.QR_MAX_BYTES}
    assert str(armor.QR_MAX_BYTES + 1) in refusal.message
    assert "file or the text form" in refusal.remedy
