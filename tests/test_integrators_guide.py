# SPDX-License-Identifier: Apache-2.0
"""The Python in the integrator's guide is run, block by block, on a real container that holds a real license."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tallystick
from made import CONTENT_KEY, Vendor, id16
from tallystick.codec import envelope
from tallystick.license.answers import Update
from tallystick.license.messages import read_request
from tallystick.license.model import Feature, License, Terms

GUIDE = Path(__file__).resolve().parent.parent / "docs" / "integrators.md"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
PIN = re.compile(r'^TRUST = ".*"', re.MULTILINE)


@pytest.fixture
def trust(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A vendor, and the default container of this user with a license for ``render``."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    vendor, now = Vendor("acme"), int(time.time())
    with tallystick.create("file:", vendor.trust) as container:
        request = read_request(container.request(code="a code", product="render"))
        assert request.agreement_key is not None
        license_ = License(
            vendor="acme",
            product="render",
            issued_at=now,
            message_id=id16(1),
            container=request.key.thumbprint,
            license_id=id16(2),
            terms=Terms(units=1_000, expires=now + 20 * 86_400),
            features={"pdf": Feature()},
            content_keys={"model": envelope.seal_key(CONTENT_KEY, request.agreement_key)},
            licensee="Somebody",
        )
        update = Update(
            vendor="acme",
            issued_at=now,
            message_id=id16(3),
            container=request.key.thumbprint,
            in_reply_to=request.request_id,
            keyset=vendor.keyset.replace(issued_at=now).sign(vendor.root),
            licenses=(vendor.sign_license(license_),),
        )
        container.install(update.sign(vendor.keys["license"]))
    (tmp_path / "model.tally").write_bytes(envelope.seal_content(CONTENT_KEY, "model", b"the model"))
    yield vendor.trust.to_text()


def test_every_block_of_the_guide_runs(trust: str, capsys: pytest.CaptureFixture[str]) -> None:
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
    assert "note: ends " in shown
    assert "feature_not_licensed - render is licensed without hologram - Ask the vendor for an upgrade." in shown
