# SPDX-License-Identifier: Apache-2.0
"""From request to sealed update with a real TPM (swtpm): the vendor's side as a whole."""

from __future__ import annotations

import hashlib
import importlib.util
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from copy import copy
from pathlib import Path
from typing import Any

import pytest
from chips import update_of
from shop import Shop

from conftest import missing
from tallystick.authority import attestations, tpm_pins
from tallystick.authority.attest.statements import Signature
from tallystick.authority.correspondence import cases, containers
from tallystick.authority.issuing import IssueResult, issue
from tallystick.codec import cose
from tallystick.codec.digest import sha256
from tallystick.codec.keys import PublicKey
from tallystick.license.messages import ACTIVATE, REFRESH, Request
from tallystick.license.model import License, Terms
from tallystick.license.sealed import open_update

KEPT = 0x81000010  # where the container's key survives a start of the TPM


@pytest.fixture(scope="module")
def rig() -> Any:
    if importlib.util.find_spec("tpm2_pytss") is None:
        missing("tpm2-pytss is not installed")
    import attest_swtpm

    return attest_swtpm


@pytest.fixture(scope="module")
def factory(rig: Any, require_tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A TPM with certified endorsement keys."""
    for tool in ("swtpm", "swtpm_cert"):
        require_tool(tool)
    return rig.prepare(tmp_path_factory.mktemp("factory"), require_tool("swtpm_setup"), require_tool("swtpm_localca"))


@pytest.fixture
def machine(rig: Any, factory: Any, require_tool: Callable[[str], str]) -> Iterator[Any]:
    with rig.running(factory, require_tool("swtpm")) as tpm:
        yield rig.Machine(tpm)


class Asker:
    """The container of a machine, as far as a vendor sees it; signs with the key in the TPM."""

    def __init__(self, shop: Shop, rig: Any, machine: Any) -> None:
        self.shop, self.rig, self.machine = shop, rig, machine
        self.generation = 0

    @property
    def public_key(self) -> PublicKey:
        """Who it is."""
        key: PublicKey = self.machine.key
        return key

    def sign(self, message: bytes) -> bytes:
        """TPM2_Sign."""
        t = self.rig.t
        ticket = t.TPMT_TK_HASHCHECK(tag=t.TPM2_ST.HASHCHECK, hierarchy=t.TPM2_RH.NULL)
        digest = t.TPM2B_DIGEST(hashlib.sha256(message).digest())
        signed = bytes(self.machine.tpm.sign(self.machine.ck, digest, self.rig._BY_KEY, ticket).marshal())
        return b"".join(part.rjust(32, b"\0") for part in Signature.parse(signed).parts)

    def commit(self) -> None:
        """Count a state, as the container does."""
        self.generation += 1
        self.machine.tpm.nv_increment(self.machine.counter)
        self.machine.tpm.nv_extend(self.machine.chain, secrets.token_bytes(32))

    def ask(self, code: str = "", *, ecc: bool = False) -> IssueResult:
        """Ask and be answered."""
        self.shop.clock.advance(1)
        request = Request(
            "acme", int(self.shop.clock.wall), secrets.token_bytes(16), self.public_key, ACTIVATE if code else REFRESH,
            code=code, generation=self.generation, backend="tpm",
        )  # fmt: skip
        evidence = self.machine.evidence(sha256(request.challenge()), ecc=ecc)
        return issue(self.shop.office, request.replace(evidence={"tpm": evidence}).sign(self))

    def open(self, message: bytes, *, ecc: bool = False) -> list[License]:
        """The licenses in an update, by this TPM."""
        update = open_update(update_of(message), lambda one, two: self.machine.activate(one, two, ecc=ecc))
        return [License.from_claims(cose.peek(license_)[1]) for license_ in update.licenses]


@pytest.fixture
def code(sqlite_shop: Shop) -> str:
    sqlite_shop.sell("two", Terms(min_level=2))
    return sqlite_shop.entitle("two", 9).code.reveal()


@pytest.fixture
def now(sqlite_shop: Shop) -> None:
    """The certificates of the factory were made today: the shop's clock must be as late."""
    sqlite_shop.clock.set_wall(max(sqlite_shop.clock.wall, time.time() + 60))


@pytest.mark.usefixtures("now")
@pytest.mark.parametrize("ecc", [False, True], ids=["RSA-2048", "P-384"])
def test_what_asks_for_level_2_comes_sealed_once_its_maker_is_pinned(
    sqlite_shop: Shop, rig: Any, factory: Any, machine: Any, code: str, ecc: bool
) -> None:
    asker = Asker(sqlite_shop, rig, machine)
    refused = asker.ask(code, ecc=ecc)
    assert refused.sent.code == "level_too_low"
    assert "L1" in refused.warnings[0]
    (pinned, _) = tpm_pins.add(sqlite_shop.office, [factory.root, factory.issuer])
    assert (pinned.kind, pinned.maker) == ("root", "")
    asker.commit()
    result = asker.ask(code, ecc=ecc)
    assert (result.kind, result.warnings) == ("update", ())
    (license_,) = asker.open(result.message, ecc=ecc)
    assert license_.container == machine.key.thumbprint
    (known,) = containers(sqlite_shop.office)
    assert known.level == 2
    (chip,) = attestations.attested(sqlite_shop.office)
    assert (chip.model, chip.rewound_at) == ("swtpm", None)


@pytest.mark.usefixtures("now")
def test_another_tpm_does_not_open_it(
    sqlite_shop: Shop,
    rig: Any,
    factory: Any,
    machine: Any,
    code: str,
    require_tool: Callable[[str], str],
    tmp_path: Path,
) -> None:
    tpm_pins.add(sqlite_shop.office, [factory.root, factory.issuer])
    result = Asker(sqlite_shop, rig, machine).ask(code)
    another = rig.prepare(tmp_path, require_tool("swtpm_setup"), require_tool("swtpm_localca"))
    with rig.running(another, require_tool("swtpm")) as tpm:
        other = Asker(sqlite_shop, rig, rig.Machine(tpm))
        with pytest.raises(rig.t.TSS2_Exception):
            other.open(result.message)


def revived(rig: Any, tpm: Any, before: Any) -> Any:
    """A machine's container after its TPM was started again."""
    t, machine = rig.t, copy(before)
    machine.tpm = tpm
    machine.ck = tpm.tr_from_tpmpublic(KEPT)
    template = t.TPM2B_PUBLIC(publicArea=before.ak_public.publicArea)
    template.publicArea.unique.ecc.x = hashlib.sha256(b"tallystick AK" + before.key.thumbprint).digest()
    template.publicArea.unique.ecc.y = b""
    machine.ak, machine.ak_public, *_ = tpm.create_primary(
        t.TPM2B_SENSITIVE_CREATE(), template, t.ESYS_TR.ENDORSEMENT
    )  # fmt: skip
    machine.counter, machine.chain = tpm.tr_from_tpmpublic(rig.COUNTER), tpm.tr_from_tpmpublic(rig.CHAIN)
    for index in (machine.counter, machine.chain):
        tpm.tr_set_auth(index, b"auth")
    return machine


@pytest.fixture
def activated(
    sqlite_shop: Shop, now: None, rig: Any, factory: Any, code: str, tmp_path: Path
) -> Iterator[tuple[Any, Asker]]:
    """A TPM that can be switched off, and a container activated in it, whose key survives that."""
    from swtpm_rig import Swtpm

    tpm_pins.add(sqlite_shop.office, [factory.root, factory.issuer])
    with Swtpm(tmp_path / "tpm", factory.state) as chip:
        asker = Asker(sqlite_shop, rig, rig.Machine(rig.t.ESAPI(chip.tcti)))
        asker.machine.tpm.evict_control(rig.t.ESYS_TR.OWNER, asker.machine.ck, KEPT)
        assert asker.ask(code).kind == "update"
        yield chip, asker
        asker.machine.tpm.close()


def test_a_snapshot_of_the_whole_machine_is_noticed_at_the_next_contact(
    activated: tuple[Any, Asker], rig: Any, tmp_path: Path
) -> None:
    """The state of the TPM goes back with everything else: nothing on the machine can tell, the vendor can."""
    chip, asker = activated
    asker.commit()
    shutil.copytree(chip.state, tmp_path / "snapshot")
    for _ in range(3):
        asker.commit()
    assert asker.ask().kind == "update"
    asker.machine.tpm.close()
    chip.kill()
    chip.restore(tmp_path / "snapshot")
    chip.start()
    asker.machine = revived(rig, rig.t.ESAPI(chip.tcti), asker.machine)
    restored = Asker(asker.shop, rig, asker.machine)
    restored.generation = 2
    result = restored.ask()
    assert result.sent.code == "container_rewound"
    assert "counter went back from" in result.warnings[0]
    assert [case.reason for case in cases(asker.shop.office)] == ["container_rewound"]


def test_a_tpm_that_was_only_started_again_goes_on(activated: tuple[Any, Asker], rig: Any) -> None:
    chip, asker = activated
    for _ in range(3):
        asker.machine.tpm.close()
        chip.kill()
        chip.start()
        asker.machine = revived(rig, rig.t.ESAPI(chip.tcti), asker.machine)
        asker.commit()
        result = asker.ask()
        assert (result.kind, result.warnings) == ("update", ())
    assert asker.open(result.message) != []
