# SPDX-License-Identifier: Apache-2.0
"""Containers in a TPM, on swtpm: beside the same commands given through the bare library in the same run.

No figure is one of hardware: a chip takes 10 to 100 times as long for a signature or a write. The library makes an
OpenSSL context for each HMAC (libtss2 3.2: 4 to 5 ms), so whatever is authorized by a session costs that on both sides.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from device import time_hot_check, time_open, time_reproof

from conftest import make_container
from tallystick.codec.digest import sha256

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "tpm"))

if importlib.util.find_spec("tpm2_pytss") is None or shutil.which("swtpm_setup") is None:
    pytest.skip("tpm2-pytss and swtpm are needed", allow_module_level=True)

from swtpm_rig import Swtpm, prepare

from tallystick.backends.tpm.backend import TpmBackend
from tallystick.backends.tpm.chip import Chip

GROUP = "TPM"
PACE = {"rounds": 40, "warmup_rounds": 3}


class Bench:
    """A container with one license in a TPM of its own."""

    def __init__(self, folder: Path, state: Path) -> None:
        self.tpm = Swtpm(folder / "tpm", state)
        self.backend = TpmBackend(folder=lambda _: str(folder / "c"))
        self.uri = f"tpm:tcti={self.tpm.tcti}"
        self._stack = ExitStack()
        making = make_container(folder, 1, lambda trust: self.backend.create(self.uri, [trust]))
        self.container: Any
        self.container, self.trust = self._stack.enter_context(making)

    def open(self) -> Any:
        """Open it once more."""
        return self.backend.open(self.uri, [self.trust], background=False)

    @property
    def anchor(self) -> Any:
        """The container's."""
        return self.container._session.anchor

    @property
    def chip(self) -> Chip:
        """The TPM."""
        made: Chip = self.anchor.chip
        return made

    def close(self) -> None:
        self._stack.close()
        self.container.close()
        self.tpm.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("tpm")
    bench = Bench(folder, prepare(folder / "factory").state)
    yield bench
    bench.close()


def test_raw_sign(benchmark: Any, made: Bench) -> None:
    """ESAPI.sign, the key loaded and everything that can be made before made."""
    from tpm2_pytss import types as t
    from tpm2_pytss.constants import TPM2_ALG, TPM2_RH, TPM2_ST

    benchmark.group, benchmark.name = GROUP, "bare ESAPI.sign, handle kept"
    esys = made.chip.run(lambda it: it)
    key = made.anchor.identity(esys)
    digest, scheme = t.TPM2B_DIGEST(sha256(b"x")), t.TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL)
    ticket = t.TPMT_TK_HASHCHECK(tag=TPM2_ST.HASHCHECK, hierarchy=TPM2_RH.NULL)
    benchmark.pedantic(lambda: esys.sign(key, digest, scheme, ticket), **PACE)


def test_reproof(benchmark: Any, made: Bench) -> None:
    benchmark.group = GROUP
    time_reproof(benchmark, made, **PACE)


def test_open(benchmark: Any, made: Bench) -> None:
    benchmark.group = GROUP
    time_open(benchmark, made)


def test_hot_check(benchmark: Any, made: Bench) -> None:
    benchmark.group = GROUP
    time_hot_check(benchmark, made)


def test_commit(benchmark: Any, made: Bench) -> None:
    benchmark.group, benchmark.name = GROUP, "commit: seat.consume(1)"
    with made.container.checkout("render-0") as seat:
        benchmark.pedantic(seat.consume, **PACE)


def test_raw_commit(benchmark: Any, made: Bench) -> None:
    """The same increment and extension through the bare library, and a file of the same size made durable."""
    benchmark.group, benchmark.name = GROUP, "bare increment, extension and durable file"
    esys = made.chip.run(lambda it: it)
    session = made.anchor.storage.session(esys)
    counter, chain = (index._handle(esys) for index in made.anchor.indices)
    directory = made.container._session.directory
    data = directory.read("state.A", 1 << 20)

    def raw() -> None:
        directory.replace("meters", data)
        esys.nv_increment(counter, session1=session)
        esys.nv_extend(chain, bytes(32), session1=session)

    benchmark.pedantic(raw, **PACE)
    directory.remove("meters")  # the container stands still now; nothing below commits


def test_evidence(benchmark: Any, made: Bench) -> None:
    benchmark.group, benchmark.name = GROUP, "attestation: the request's evidence"
    benchmark.pedantic(lambda: made.anchor.evidence(bytes(32)), rounds=20, warmup_rounds=2)


def test_issuer(benchmark: Any, made: Bench) -> None:
    from tallystick.authority.attest.credential import make_credential
    from tallystick.authority.attest.verify import Beliefs, examine

    benchmark.group, benchmark.name = GROUP, "attestation: examined and sealed to, by the issuer"
    evidence, beliefs = made.anchor.evidence(bytes(32))["tpm"], Beliefs()

    def answer() -> None:
        found = examine(evidence, made.anchor.public_key, bytes(32), beliefs, int(time.time()))
        make_credential(found, bytes(32), os.urandom)

    benchmark.pedantic(answer, rounds=20, warmup_rounds=2)


def test_activate(benchmark: Any, made: Bench) -> None:
    from tallystick.authority.attest.credential import make_credential
    from tallystick.authority.attest.verify import Beliefs, examine

    benchmark.group, benchmark.name = GROUP, "attestation: the answer opened"
    evidence = made.anchor.evidence(bytes(32))["tpm"]
    found = examine(evidence, made.anchor.public_key, bytes(32), Beliefs(), int(time.time()))
    credential = make_credential(found, bytes(range(32)), os.urandom)
    assert made.anchor.activate(*credential) == bytes(range(32))
    benchmark.pedantic(lambda: made.anchor.activate(*credential), rounds=20, warmup_rounds=2)
