# SPDX-License-Identifier: Apache-2.0
"""The Python in the integrator's guide is run, block by block, on a real container that holds a real license."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest

import tallystick
from issuer import CONTENT_KEY, DAY, Issuer
from tallystick.codec import envelope

GUIDE = Path(__file__).resolve().parent.parent / "docs" / "integrators.md"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
PIN = re.compile(r'^TRUST = ".*"', re.MULTILINE)


@pytest.fixture
def trust(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A vendor's trust text; this user's default container has its license for ``render``."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    acme = Issuer()
    acme.now = int(time.time())
    with tallystick.create("file:", acme.trust) as container:
        request = container.request(code="a code", product="render")
        keys = {"model": acme.sealed(request)}
        answer = acme.answer(
            request,
            units=1_000,
            issued_at=acme.now - 345 * DAY,
            expires=acme.now + 20 * DAY,
            features=["pdf"],
            content_keys=keys,
            licensee="Somebody",
        )
        container.install(answer)
    (tmp_path / "model.tally").write_bytes(envelope.seal_content(CONTENT_KEY, "model", b"the model"))
    return acme.trust.to_text()


def test_every_block_of_the_guide_runs(trust: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = GUIDE.read_text(encoding="utf-8")
    names: dict[str, Any] = {"__name__": "guide"}
    pins = 0
    for found in BLOCK.finditer(text):
        source, count = PIN.subn(f'TRUST = "{trust}"', found[1])
        pins += count
        lines = "\n" * (text.count("\n", 0, found.start()) + 1)  # a traceback names the line of the page
        exec(compile(lines + source, GUIDE.name, "exec", dont_inherit=True), names)
    assert pins == 1
    assert names["model"] == b"the model"
    shown = capsys.readouterr().out
    assert "writing PDF, licensed to Somebody" in shown
    assert "ends_soon: ends " in shown
    assert "feature_not_licensed - render is licensed without hologram - Ask the vendor for an upgrade." in shown

    folder = tmp_path / "own tests"
    folder.mkdir()
    uri, own_trust = names["make_licensed"](folder, "--units", "1")
    with names["open_license"](uri, own_trust) as seat:
        assert seat.check("pdf")
        assert seat.consume(1) == 0
