# SPDX-License-Identifier: Apache-2.0
"""Modules that fail, lie, hang and crash, and servers that are killed, in the middle of every operation.

What must hold is said in ``token_fault_campaign.py``, which disturbs every call in every way; here some are drawn (the
same in CI), and every call of a commit is disturbed in two ways.
"""

from __future__ import annotations

import random
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults_rig import Faults
from modules_rig import P11Kit, SoftHsm
from rig_parts import PATIENCE_S
from shop import Shop
from token_owner import Owner, apart, code_of

from conformance.cases import renew
from conftest import IN_CI, ROOT, missing
from fakes import FakeClock
from tallystick.errors import TallystickError

GONE = ("device_removed", "backend_failed", "device_silent")


@pytest.fixture(scope="module", autouse=True)
def library() -> None:
    """python-pkcs11, and a token in software."""
    try:
        import pkcs11._pkcs11  # noqa: F401
    except ImportError:
        missing("python-pkcs11 is not installed")


def campaign(*words: str) -> str:
    """Run the campaign in a process of its own, which forks and has no threads; nothing may be wrong."""
    program = ROOT / "tests" / "pkcs11" / "token_fault_campaign.py"
    seed = "ci" if IN_CI else str(random.randrange(1_000_000))
    command = [sys.executable, "-W", "ignore", str(program), "--seed", seed, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False, cwd=ROOT)
    assert done.returncode == 0, f"--seed {seed}\n{done.stdout[-6000:]}{done.stderr[-2000:]}"
    return done.stdout


def test_an_operation_is_done_or_not_whatever_a_module_in_its_process_does() -> None:
    assert "100 cases, 0 wrong" in campaign("--where", "here", "--drawn", "10")


def test_an_operation_is_done_or_not_whatever_a_module_in_a_process_of_its_own_does() -> None:
    assert "30 cases, 0 wrong" in campaign("--where", "elsewhere", "--drawn", "3")


def test_an_import_that_destroys_keys_is_done_or_not() -> None:
    words = ("--where", "here", "--drawn", "8", "--ratchet", "create", "install", "lend", "destroy")
    assert "32 cases, 0 wrong" in campaign(*words)


@pytest.mark.parametrize("fault", ["error:32", "error-after:6"])
def test_a_commit_is_done_or_not_at_each_of_its_calls(fault: str) -> None:
    assert " 0 wrong" in campaign("--where", "here", "--fault", fault, "--drawn", "45", "consume")


# --------------------------------------------------------------------------------------- a server that is killed


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """A vendor."""
    made = Shop(tmp_path / "shop", FakeClock(wall=int(time.time())))
    yield made
    made.office.close()


@pytest.fixture
def faults(tmp_path: Path) -> Faults:
    """What the server reaches, and stops at."""
    return Faults(SoftHsm(tmp_path / "hsm"), tmp_path / "faults")


@pytest.fixture
def server(faults: Faults) -> Iterator[P11Kit]:
    """A network HSM."""
    with P11Kit(faults) as made:
        yield made


@pytest.fixture(params=[False, True], ids=["in process", "isolated"])
def owner(request: pytest.FixtureRequest, server: P11Kit, shop: Shop, tmp_path: Path) -> Owner:
    """Somebody with a license on it."""
    made = Owner(apart(server, tmp_path), tmp_path / "c", shop, isolate=request.param)
    made.create()
    made.activate(shop.entitle().code.reveal())
    return made


def test_a_server_that_is_killed_ends_seats_and_restarted_goes_on(owner: Owner, server: P11Kit) -> None:
    with owner.open(reproof_s=30) as container, container.checkout("cad") as seat:
        assert seat.consume() == 999
        asked = len(owner.asked)
        for used in (2, 3):
            server.kill()
            owner.shop.clock.advance(31)
            assert not seat.check()
            assert code_of(seat.consume) in GONE
            assert code_of(container.checkout, "cad") in GONE
            server.start()
            renew(container)
            assert seat.check()
            assert seat.consume() == 1000 - used
        assert len(owner.asked) == asked, "nobody is asked again"
    assert owner.consume() == 996


def test_opened_while_the_server_is_away_says_so_and_works_later(owner: Owner, server: P11Kit) -> None:
    server.kill()
    assert code_of(owner.consume) in GONE
    server.start()
    assert owner.consume() == 999


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.7, 0.95])
def test_a_server_that_is_killed_in_the_middle_of_a_commit_did_it_or_not(
    owner: Owner, server: P11Kit, faults: Faults, share: float
) -> None:
    with owner.open() as container, container.checkout("cad") as seat:
        faults.disarm()
        assert seat.consume() == 999
        number = 1 + int(faults.calls * share)
        faults.arm(number, "hang")
        killer = threading.Thread(target=kill_at, args=(server, faults, number))
        killer.start()
        try:
            left = seat.consume(1, idempotency_key="once")
        except TallystickError as refusal:
            assert refusal.code in GONE
        else:
            assert (left, share) == (998, 0.95), "nothing but the old mark was left to be destroyed"
        killer.join(PATIENCE_S)
        faults.disarm()
        server.start()
        renew(container)
        assert seat.consume(1, idempotency_key="once") == 998
        assert container.licenses()[0].usage.used[""] == 2
    assert owner.consume() == 997


def kill_at(server: P11Kit, faults: Faults, number: int) -> None:
    """Pull the cable when the server hangs."""
    until = time.monotonic() + PATIENCE_S
    while faults.calls < number and time.monotonic() < until:
        select.select([], [], [], 0.01)
    server.kill()
