# SPDX-License-Identifier: Apache-2.0
"""Lending: a grant against one signature and one durable commit, an import and a borrowed license against its chain."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from material import ALGORITHMS, FACTS, NOW

import tallystick
from tallystick.clock import Reading
from tallystick.codec import cose, kinds
from tallystick.codec.signing import SoftwareKey
from tallystick.container import commands as c
from tallystick.container import ledger
from tallystick.container.base import Container
from tallystick.container.exchanges import exchange_id
from tallystick.container.state import State
from tallystick.license.answers import Update
from tallystick.license.grant_policy import MAY_ALL, SEATS, GrantPolicy
from tallystick.license.grants import Grant
from tallystick.license.messages import BORROW, Request, read_request
from tallystick.license.model import Feature, License, Terms
from tallystick.license.policy import NO_USAGE, evaluate
from tallystick.license.trust import KeyRecord, KeyRing, KeySet, Trust, read_keyset
from tallystick.license.verify import LicenseVerifier
from tallystick.license.want import Want

ROUNDS = 100
ANY = GrantPolicy(MAY_ALL, max_depth=4)


class Chain:
    """A license, and grants of it from container to container; the message of each depth and who holds it."""

    def __init__(self, depth: int) -> None:
        alg = ALGORITHMS["ESP256"]
        root, self.key = SoftwareKey.generate(), SoftwareKey.generate(alg)
        self.trust = Trust("acme", root.public_key)
        self.keyset = KeySet("acme", NOW, os.urandom(16), 1, (KeyRecord(self.key.public_key, 0),)).sign(root)
        self.ring = KeyRing(read_keyset(self.keyset, self.trust))
        self.holders = [SoftwareKey.generate() for _ in range(depth + 1)]
        terms = Terms(not_before=NOW, expires=FACTS.now + 86_400 * 90, seats=8, lend=ANY)
        license_ = License(
            "acme", "render", NOW, os.urandom(16), self.holders[0].public_key.thumbprint, os.urandom(16), 0, terms,
            {"pdf": Feature(), "sim": Feature()}, licensee="Acme Ltd.",
        )  # fmt: skip
        self.message = cose.sign(kinds.LICENSE, license_.to_claims(), self.key)
        self.request_id = os.urandom(16)
        for giver, receiver in zip(self.holders, self.holders[1:], strict=False):
            xid = exchange_id(self.request_id, giver.public_key.thumbprint, 0)
            self.message = Grant(
                "acme", FACTS.now - 60, xid, receiver.public_key.thumbprint, giver.public_key, self.message,
                self.request_id, {SEATS: 1}, ends=FACTS.now + 86_400, keyset=self.keyset,
            ).sign(giver)  # fmt: skip

    def verifier(self) -> LicenseVerifier:
        """One for the last holder, that has accepted nothing yet."""
        return LicenseVerifier(self.ring, self.holders[-1].public_key.thumbprint)


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_cold_check(benchmark: Any, depth: int) -> None:
    benchmark.group = "cold check of a borrowed license"
    benchmark.name = f"Tallystick, depth {depth}"
    chain = Chain(depth)
    verifier = chain.verifier()

    def check() -> None:
        verifier.forget()
        assert evaluate(verifier.accept(chain.message), NO_USAGE, FACTS).ok

    benchmark(check)


def test_bare_chain(benchmark: Any) -> None:
    """Two signatures, of issuer and giver, verified by the same library over ready slices."""
    benchmark.group = "import of a grant"
    benchmark.name = "bare verification of its two signatures"
    chain = Chain(1)
    parent = Grant.from_claims(cose.peek(chain.message)[1]).parent
    slices = [(cose.cut(chain.message), chain.holders[0]), (cose.cut(parent), chain.key)]

    def verify() -> None:
        for (_, _, signature, signed), key in slices:
            assert key.public_key.verify_raw(signed, signature)

    benchmark(verify)


def test_verified_chain(benchmark: Any) -> None:
    benchmark.group = "import of a grant"
    benchmark.name = "verification of the chain"
    chain = Chain(1)
    verifier = chain.verifier()

    def verify() -> None:
        verifier.forget()
        verifier.accept(chain.message)

    benchmark(verify)


def test_import(benchmark: Any) -> None:
    """The ledger's step: verify, book. Writing it down is one durable commit more."""
    benchmark.group = "import of a grant"
    benchmark.name = "Tallystick, into the account"
    chain = Chain(1)
    state, reading = _receiver(chain)
    benchmark(lambda: ledger.apply(state, c.Accept(chain.message), reading))


def _receiver(chain: Chain) -> tuple[State, Reading]:
    reading = Reading(FACTS.now, 0, "")
    key = chain.holders[-1]
    state = ledger.create(key.public_key.thumbprint, reading)
    state, _ = ledger.apply(state, c.AddVendor("acme", chain.trust.root.cose), reading)
    request = Request("acme", FACTS.now, chain.request_id, key.public_key, BORROW, want=Want("render"))
    opened = c.OpenRequest(chain.request_id, "acme", "render", BORROW, request.sign(key))
    update = Update("acme", NOW, os.urandom(16), key.public_key.thumbprint, keyset=chain.keyset).sign(chain.key)
    for command in (c.Install(update), opened):  # the vendor is known already, as it is where its product runs
        state, _ = ledger.apply(state, command, reading)
    return state, reading


@pytest.fixture
def lender(tmp_path: Path) -> Iterator[Container]:
    """A file container with a license of many seats."""
    now = int(time.time())
    root, key = SoftwareKey.generate(), SoftwareKey.generate()
    trust = Trust("acme", root.public_key)
    keyset = KeySet("acme", now, os.urandom(16), 1, (KeyRecord(key.public_key, 0),)).sign(root)
    with ExitStack() as stack:
        container = stack.enter_context(tallystick.create(f"file:{tmp_path}/lender", trust=trust))
        request = read_request(container.request(product="render"))
        license_ = License(
            "acme", "render", now, os.urandom(16), request.key.thumbprint, os.urandom(16), 0,
            Terms(expires=now + 86_400 * 365, seats=100_000, lend=ANY),
        )  # fmt: skip
        message = cose.sign(kinds.LICENSE, license_.to_claims(), key)
        ids = (os.urandom(16), request.key.thumbprint, request.request_id)
        container.install(Update("acme", now, *ids, keyset, (message,)).sign(key))
        yield container


def test_signature(benchmark: Any) -> None:
    benchmark.group = "grant"
    benchmark.name = "one signature, same library"
    key = SoftwareKey.generate()
    benchmark.pedantic(lambda: key.sign(b"x" * 1000), rounds=ROUNDS, iterations=5, warmup_rounds=5)


def test_commit(benchmark: Any, lender: Container) -> None:
    benchmark.group = "grant"
    benchmark.name = "one durable commit of the same container"
    note = lender.note  # type: ignore[attr-defined]  # of `SealedContainer`: a command without rules
    benchmark.pedantic(lambda: note("bench", "x" * 500), rounds=ROUNDS, warmup_rounds=5)


def test_give(benchmark: Any, lender: Container) -> None:
    benchmark.group = "grant"
    benchmark.name = "Tallystick, request read, debited, signed, durable"
    key = SoftwareKey.generate()

    def fresh() -> tuple[tuple[bytes], dict[str, Any]]:
        want = Want("render", amounts={SEATS: 1}, duration=86_400)
        request = Request("acme", int(time.time()), os.urandom(16), key.public_key, BORROW, want=want)
        return (request.sign(key),), {}

    benchmark.pedantic(lender.lending.give, setup=fresh, rounds=ROUNDS)
