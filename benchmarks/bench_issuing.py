# SPDX-License-Identifier: Apache-2.0
"""The vendor's side: answering activation requests from a SQLite file, against one durable transaction of SQLite."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path
from typing import Any

from tallystick.authority.catalog import add_product, add_template
from tallystick.authority.entitlements import entitle
from tallystick.authority.founding import Plan, found
from tallystick.authority.issuing import issue
from tallystick.authority.offers import Offer
from tallystick.authority.office import Office
from tallystick.codec.signing import SoftwareKey
from tallystick.license.messages import ACTIVATE, Request
from tallystick.license.model import Feature, Terms

ROUNDS = 100


def test_issue(benchmark: Any, tmp_path: Path) -> None:
    benchmark.group = "issuing"
    benchmark.name = "Tallystick: one request answered"
    found(tmp_path / "vendor", Plan("acme"), now=lambda: int(time.time()), actor="bench")
    with Office.open(tmp_path / "vendor") as office:
        add_product(office, "render", title="Render", features=["pdf"])
        add_template(office, "pro", "render", Offer(Terms(units=1000), {"pdf": Feature()}))
        sold = entitle(office, "pro", quantity=ROUNDS * 2)
        requests = iter([one_request(sold.code.reveal()) for _ in range(ROUNDS + 5)])
        benchmark.pedantic(lambda: issue(office, next(requests)), rounds=ROUNDS, warmup_rounds=5)


def one_request(code: str) -> bytes:
    """Ask as a new container would."""
    key, agreement = SoftwareKey.generate(), SoftwareKey.generate()
    request = Request(
        vendor="acme",
        created_at=int(time.time()),
        request_id=os.urandom(16),
        key=key.public_key,
        action=ACTIVATE,
        code=code,
        product="render",
        agreement_key=agreement.public_key,
        backend="file",
    )
    return request.sign(key)


def test_transaction(benchmark: Any, tmp_path: Path) -> None:
    benchmark.group = "issuing"
    benchmark.name = "SQLite, WAL, synchronous=FULL, one INSERT"
    base = sqlite3.connect(tmp_path / "db", isolation_level=None)
    base.execute("PRAGMA journal_mode=WAL")
    base.execute("PRAGMA synchronous=FULL")
    base.execute("CREATE TABLE entry (body BLOB)")
    benchmark.pedantic(lambda: base.execute("INSERT INTO entry VALUES (?)", (b"x" * 1500,)), rounds=ROUNDS)
    base.close()
