# SPDX-License-Identifier: Apache-2.0
"""The last slot is sold once, whoever asks at the same time (rule R76, in a CI-sized number of rounds)."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable
from pathlib import Path

from shop import Shop

from made import Device
from tallystick.authority.audit import verify
from tallystick.authority.entitlements import entitlement
from tallystick.authority.issuing import issue
from tallystick.authority.keysets import keys, rotate
from tallystick.authority.lookups import licenses
from tallystick.authority.office import Office
from tallystick.authority.receiving import receive
from tallystick.errors import TallystickError
from tallystick.license.messages import Account

ROUNDS = 8
THREADS = 8


def asks(code: str) -> bytes:
    """A request of a new container."""
    device = Device()
    request = device.request(code=code, product="", quantity=1, accounts=(), request_id=os.urandom(16))
    return request.sign(device.identity)


def selling(shop: Shop, code: str) -> Callable[[], str]:
    """A job: a new container asks."""
    request = asks(code)
    return lambda: issue(shop.office, request).kind


def together(jobs: list[Callable[[], str]]) -> list[str]:
    """Run jobs at the same moment, in threads."""
    start = threading.Barrier(len(jobs))
    results: list[str] = []

    def run(job: Callable[[], str]) -> None:
        start.wait()
        try:
            results.append(job())
        except TallystickError as refusal:
            results.append(refusal.code)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return sorted(results)


def test_threads_after_the_last_slot(shop: Shop) -> None:
    for _ in range(ROUNDS):
        sold = shop.entitle(quantity=3)
        code = sold.code.reveal()
        issue(shop.office, asks(code))
        issue(shop.office, asks(code))
        assert together([selling(shop, code) for _ in range(THREADS)]) == ["refusal"] * (THREADS - 1) + ["update"]
        assert entitlement(shop.office, sold.entitlement.id).taken == 3
    shop.office.read(lambda work: verify(work.db))


def test_the_same_request_from_many_sides_has_one_answer(shop: Shop) -> None:
    sold = shop.entitle(quantity=5)
    request = asks(sold.code.reveal())

    def answer() -> str:
        return issue(shop.office, request).message.hex()

    assert len(set(together([answer] * THREADS))) == 1
    assert entitlement(shop.office, sold.entitlement.id).taken == 1


def test_the_same_receipt_from_many_sides_frees_one_slot(shop: Shop) -> None:
    sold = shop.entitle(quantity=2)
    device = Device()
    asked = device.request(code=sold.code.reveal(), product="", quantity=2, accounts=())
    issue(shop.office, asked.sign(device.identity))
    key = bytes.fromhex(licenses(shop.office)[0].license_id)

    def give_up() -> str:  # each time another receipt about the same license
        receipt = device.receipt(accounts=(Account(key, 0),), about=None, message_id=os.urandom(16))
        return receive(shop.office, receipt.sign(device.identity)).licenses[0].effect

    assert together([give_up] * THREADS) == ["freed", *["freed before"] * (THREADS - 1)]
    assert entitlement(shop.office, sold.entitlement.id).taken == 1


def test_a_rotation_among_issues_leaves_every_answer_valid(shop: Shop) -> None:
    sold = shop.entitle(quantity=100)
    jobs = [selling(shop, sold.code.reveal()) for _ in range(6)]
    jobs[2:2] = [lambda: str(rotate(shop.office, "license").keyset_seq)] * 2
    assert together(jobs) == ["2", "3", *["update"] * 6]
    assert [key.state for key in keys(shop.office) if key.use == "license"].count("active") == 1


def sell_last(home: Path, request: bytes, start: object, results: object) -> None:
    """A process of its own: the vendor's command line, as it were."""
    with Office.open(home) as office:
        start.wait(60)  # type: ignore[attr-defined]
        results.put(issue(office, request).kind)  # type: ignore[attr-defined]


def test_processes_after_the_last_slot(sqlite_shop: Shop) -> None:
    context = multiprocessing.get_context("spawn")
    sold = sqlite_shop.entitle()
    start, results = context.Barrier(2), context.Queue()
    processes = [
        context.Process(target=sell_last, args=(sqlite_shop.home, asks(sold.code.reveal()), start, results))
        for _ in range(2)
    ]
    for process in processes:
        process.start()
    answers = sorted(results.get(timeout=60) for _ in processes)
    for process in processes:
        process.join(60)
    assert answers == ["refusal", "update"]
    assert entitlement(sqlite_shop.office, sold.entitlement.id).taken == 1
