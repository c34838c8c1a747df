# SPDX-License-Identifier: Apache-2.0
"""Containers on a PKCS#11 token, on SoftHSM2: beside the same calls of bare python-pkcs11 in the same run.

No figure is one of hardware: a card takes 50 to 500 times as long for a signature. "nothing kept" is what a program
pays that keeps nothing: open a session, log in, find the key, sign, close.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from device import time_hot_check, time_open, time_reproof

from conftest import make_container
from tallystick.codec.digest import sha256

TESTS = Path(__file__).parent.parent / "tests"
sys.path[:0] = [str(TESTS / "pkcs11"), str(TESTS / "tpm")]

if importlib.util.find_spec("pkcs11._pkcs11") is None or not Path("/usr/lib/softhsm/libsofthsm2.so").exists():
    pytest.skip("python-pkcs11 and SoftHSM2 are needed", allow_module_level=True)

from modules_rig import SoftHsm  # noqa: E402 - where the lines above let it be found

from tallystick.backends.pkcs11.backend import Pkcs11Backend  # noqa: E402
from tallystick.backends.pkcs11.modules import Module  # noqa: E402

GROUP = "PKCS#11"
PACE = {"rounds": 300, "warmup_rounds": 10}
SLOW = {"rounds": 40, "warmup_rounds": 3}


class Bench:
    """A container with one license on a token of its own.

    Args:
        folder: for everything.
        hsm: the token.
        isolate: whether the module is in a process of its own.
    """

    def __init__(self, folder: Path, hsm: SoftHsm, *, isolate: bool) -> None:
        module = Module(os.path.realpath(hsm.module_path), "softhsm", isolate)
        name = f"c-{isolate}"
        self.hsm = hsm
        self.backend = Pkcs11Backend(folder=lambda _: str(folder / name), allowed=lambda _: (module,))
        self.uri = f"pkcs11:token={hsm.label}"
        self._stack = ExitStack()
        self.container: Any
        making = make_container(folder / f"v-{isolate}", 1, lambda trust: self._create([trust]))
        self.container, self.trust = self._stack.enter_context(making)

    def _create(self, trusts: Any) -> Any:
        return self.backend.create(self.uri, trusts, secrets=lambda _: self.hsm.pin)

    def open(self) -> Any:
        """Open it once more."""
        return self.backend.open(self.uri, [self.trust], background=False, secrets=lambda _: self.hsm.pin)

    @property
    def anchor(self) -> Any:
        """The container's."""
        return self.container._session.anchor

    def close(self) -> None:
        self._stack.close()
        self.container.close()


@pytest.fixture(scope="module")
def hsm(tmp_path_factory: pytest.TempPathFactory) -> SoftHsm:
    made = SoftHsm(tmp_path_factory.mktemp("hsm"))
    os.environ.update(made.environment)
    return made


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, hsm: SoftHsm) -> Iterator[Bench]:
    bench = Bench(tmp_path_factory.mktemp("pkcs11"), hsm, isolate=False)
    yield bench
    bench.close()


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory, hsm: SoftHsm) -> Iterator[Bench]:
    bench = Bench(tmp_path_factory.mktemp("apart"), hsm, isolate=True)
    yield bench
    bench.close()


def _private(session: Any, key_id: bytes) -> Any:
    from pkcs11 import Attribute, ObjectClass

    (key,) = session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.ID: key_id})
    return key


def test_raw_sign(benchmark: Any, made: Bench) -> None:
    from pkcs11 import Mechanism

    benchmark.group, benchmark.name = GROUP, "bare sign, session and key kept"
    opened = _opened(made)
    key = _private(opened.session, made.anchor.known.identity[0])
    digest = sha256(b"x")
    benchmark.pedantic(lambda: key.sign(digest, mechanism=Mechanism.ECDSA), **PACE)


def test_nothing_kept(benchmark: Any, made: Bench) -> None:
    import pkcs11

    benchmark.group, benchmark.name = GROUP, "nothing kept: open, log in, find, sign, close"
    made.container.close()  # a login belongs to the process
    key_id, digest = made.anchor.known.identity[0], sha256(b"x")

    def sign() -> None:
        token = pkcs11.lib(os.path.realpath(made.hsm.module_path)).get_token(token_label=made.hsm.label)
        with token.open(user_pin=made.hsm.pin) as session:
            _private(session, key_id).sign(digest, mechanism=pkcs11.Mechanism.ECDSA)

    benchmark.pedantic(sign, **SLOW)
    made.container = made.open()


def test_sign(benchmark: Any, made: Bench) -> None:
    benchmark.group, benchmark.name = GROUP, "our signature"
    benchmark.pedantic(lambda: made.anchor.sign(b"x"), **PACE)


def test_reproof(benchmark: Any, made: Bench) -> None:
    benchmark.group = GROUP
    time_reproof(benchmark, made, **PACE)


def test_verification(benchmark: Any, made: Bench) -> None:
    benchmark.group, benchmark.name = GROUP, "the verification alone"
    signature, key = made.anchor.sign(b"x"), made.anchor.public_key
    benchmark.pedantic(lambda: key.verify_raw(b"x", signature), **PACE)


def test_isolated_sign(benchmark: Any, apart: Bench) -> None:
    benchmark.group, benchmark.name = GROUP, "our signature, the module in a process of its own"
    benchmark.pedantic(lambda: apart.anchor.sign(b"x"), **PACE)


@pytest.mark.parametrize("isolate", [False, True])
def test_open(benchmark: Any, made: Bench, apart: Bench, isolate: bool) -> None:
    benchmark.group = GROUP
    time_open(benchmark, apart if isolate else made, "open, the module in a process of its own" if isolate else "open")


def test_hot_check(benchmark: Any, made: Bench) -> None:
    benchmark.group = GROUP
    time_hot_check(benchmark, made)


def test_commit(benchmark: Any, made: Bench) -> None:
    benchmark.group, benchmark.name = GROUP, "commit: seat.consume(1)"
    with made.container.checkout("render-0") as seat:
        benchmark.pedantic(seat.consume, **SLOW)


def test_raw_commit(benchmark: Any, made: Bench) -> None:
    """A data object of the same size made, found, read and destroyed through the bare library, and a durable file."""
    from pkcs11 import Attribute, ObjectClass

    benchmark.group, benchmark.name = GROUP, "bare: object made, found, read, destroyed, and a durable file"
    session = _opened(made).session
    directory = made.container._session.directory
    data = directory.read("state.A", 1 << 20)
    template = {
        Attribute.CLASS: ObjectClass.DATA, Attribute.TOKEN: True, Attribute.PRIVATE: True,
        Attribute.APPLICATION: "bench", Attribute.LABEL: "bench", Attribute.VALUE: bytes(200),
    }  # fmt: skip

    def raw() -> None:
        directory.replace("repair", data)
        session.create_object(template)
        (found,) = session.get_objects({Attribute.CLASS: ObjectClass.DATA, Attribute.APPLICATION: "bench"})
        assert len(found[Attribute.VALUE]) == len(template[Attribute.VALUE])
        found.destroy()

    benchmark.pedantic(raw, **SLOW)
    directory.remove("repair")


def _opened(made: Bench) -> Any:
    """What python-pkcs11 has open of the container's token."""
    from tallystick.backends.pkcs11.driver import driver

    made.anchor.sign(b"x")
    return driver(os.path.realpath(made.hsm.module_path)).opened(made.anchor.token.facts["slot"])
