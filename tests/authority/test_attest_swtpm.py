# SPDX-License-Identifier: Apache-2.0
"""The verifier against a real TPM (swtpm): its evidence is accepted, its Names agree, and it opens what it should."""

from __future__ import annotations

import importlib.util
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from attest_rig import ec_key, ecc_public, encoded, make, signature_bytes, statement_bytes

from conftest import missing
from tallystick.authority.attest import algorithms as a
from tallystick.authority.attest import credential, objects
from tallystick.authority.attest.credential import make_credential
from tallystick.authority.attest.evidence import Evidence
from tallystick.authority.attest.statements import Signature, Statement
from tallystick.authority.attest.structures import NvPublic, Public
from tallystick.authority.attest.verify import Attested, Beliefs, examine
from tallystick.codec import cbor
from tallystick.errors import AuthorityError

CHALLENGE = secrets.token_bytes(32)
KINDS = pytest.mark.parametrize("ecc", [False, True], ids=["RSA-2048", "P-384"])


@pytest.fixture(scope="module")
def rig() -> Any:
    if importlib.util.find_spec("tpm2_pytss") is None:
        missing("tpm2-pytss is not installed")
    import attest_swtpm

    return attest_swtpm


@pytest.fixture(scope="module")
def factory(rig: Any, require_tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A TPM with certified endorsement keys; made once, copied by each test that powers one on."""
    require_tool("swtpm")
    require_tool("swtpm_cert")
    return rig.prepare(tmp_path_factory.mktemp("factory"), require_tool("swtpm_setup"), require_tool("swtpm_localca"))


@pytest.fixture(scope="module")
def machine(rig: Any, factory: Any, require_tool: Callable[[str], str]) -> Iterator[Any]:
    with rig.running(factory, require_tool("swtpm")) as tpm:
        yield rig.Machine(tpm)


def check(machine: Any, factory: Any, data: bytes) -> Attested:
    return examine(data, machine.key, CHALLENGE, Beliefs((factory.root,), (factory.issuer,)), int(time.time()))


@KINDS
@pytest.mark.parametrize("chain", [True, False], ids=["with a chain", "with a counter only"])
def test_the_evidence_of_a_real_tpm_is_accepted(machine: Any, factory: Any, ecc: bool, chain: bool) -> None:
    attested = check(machine, factory, machine.evidence(CHALLENGE, ecc=ecc, chain=chain))
    assert (attested.level, attested.remarks) == (2, ())
    assert (attested.manufacturer, attested.model) == ("id:00001014", "swtpm")
    assert attested.ak_name == bytes(machine.ak_public.get_name())
    assert attested.counter == int.from_bytes(bytes(machine.tpm.nv_read(machine.counter, 8)), "big")
    assert attested.chain == (bytes(machine.tpm.nv_read(machine.chain, 32)) if chain else None)
    assert attested.firmware == _property(machine.tpm, 0x10B) << 32 | _property(machine.tpm, 0x10C)
    assert attested.clock > 0


def _property(tpm: Any, number: int) -> int:
    capability = tpm.get_capability(0x6, number, 1)[1]
    return int(capability.data.tpmProperties[0].value)


def test_its_own_factory_is_nobody_special(machine: Any) -> None:
    attested = examine(machine.evidence(CHALLENGE), machine.key, CHALLENGE, Beliefs(), int(time.time()))
    assert attested.level == 1
    assert "leads to no root" in attested.remarks[0]


def test_evidence_made_for_one_request_is_refused_for_another(machine: Any, factory: Any) -> None:
    with pytest.raises(AuthorityError) as caught:
        check(machine, factory, machine.evidence(bytes(32)))
    assert caught.value.details["reason"] == "certify_challenge"


def test_names_agree_with_the_tpms_own(machine: Any, rig: Any) -> None:
    for public in (machine.ak_public.publicArea, machine.ck_public.publicArea, machine.public(rig.RSA_EK)):
        assert Public.parse(bytes(public.marshal())).name() == bytes(public.get_name())
    ecc = machine.public(rig.ECC_EK)
    assert Public.parse(bytes(ecc.marshal())).name() == bytes(ecc.get_name())
    assert ecc.nameAlg == a.SHA384
    for index in (machine.counter, machine.chain):
        public, name = machine.tpm.nv_read_public(index)
        assert NvPublic.parse(bytes(public.nvPublic.marshal())).name() == bytes(name)


def test_what_was_read_is_written_back_byte_for_byte(machine: Any) -> None:
    evidence = Evidence.parse(machine.evidence(CHALLENGE))
    for data in (evidence.ek, evidence.ak, evidence.key):
        assert Public.parse(data).encode() == data
    for data in (evidence.counter, evidence.chain):
        assert data is not None
        assert NvPublic.parse(data).encode() == data
    for stated, signed in (evidence.certify, evidence.counter_shown, evidence.chain_shown):
        assert statement_bytes(Statement.parse(stated)) == stated
        assert signature_bytes(Signature.parse(signed)) == signed


@pytest.mark.parametrize("scheme", ["rsassa-sha256", "rsapss-sha256", "rsassa-sha384", "rsapss-sha384"])
def test_rsa_signatures_of_a_tpm_verify(machine: Any, rig: Any, scheme: str) -> None:
    t = rig.t
    template = t.TPM2B_PUBLIC.parse(
        f"rsa2048:{scheme}:null", objectAttributes=rig._CONTAINER | t.TPMA_OBJECT.RESTRICTED
    )
    handle, public, *_ = machine.tpm.create_primary(t.TPM2B_SENSITIVE_CREATE(), template, t.ESYS_TR.ENDORSEMENT)
    try:
        stated, signed = rig._pair(machine.tpm.certify(machine.ck, handle, CHALLENGE, rig._BY_KEY))
    finally:
        machine.tpm.flush_context(handle)
    signer, signature = Public.parse(bytes(public.publicArea.marshal())), Signature.parse(signed)
    assert signature.verifies(signer, stated)
    assert not signature.verifies(signer, stated + b"\0")
    assert not signature.verifies(replace(signer, scheme=replace(signer.scheme, hash=a.SHA512)), stated)


# ------------------------------------------------------------------------------------------------------- credentials


@KINDS
@pytest.mark.parametrize("size", [1, 16, 32])
def test_a_credential_opens_in_its_tpm(machine: Any, factory: Any, ecc: bool, size: int) -> None:
    attested = check(machine, factory, machine.evidence(CHALLENGE, ecc=ecc))
    secret = secrets.token_bytes(size)
    assert machine.activate(*make_credential(attested, secret, secrets.token_bytes), ecc=ecc) == secret


@KINDS
def test_a_credential_does_not_open_in_another_tpm(
    machine: Any, factory: Any, rig: Any, require_tool: Callable[[str], str], tmp_path_factory: Any, ecc: bool
) -> None:
    attested = check(machine, factory, machine.evidence(CHALLENGE, ecc=ecc))
    sealed = make_credential(attested, bytes(32), secrets.token_bytes)
    folder = tmp_path_factory.mktemp("another")
    another = rig.prepare(folder, require_tool("swtpm_setup"), require_tool("swtpm_localca"))
    with rig.running(another, require_tool("swtpm")) as tpm:
        other = rig.Machine(tpm)
        with pytest.raises(rig.t.TSS2_Exception):
            other.activate(*sealed, ecc=ecc)
        assert check_level(other, another) == 2  # nothing else is wrong with it


def check_level(machine: Any, factory: Any) -> int:
    return check(machine, factory, machine.evidence(CHALLENGE)).level


@KINDS
def test_a_credential_does_not_open_for_another_attestation_key(
    machine: Any, factory: Any, rig: Any, ecc: bool
) -> None:
    attested = check(machine, factory, machine.evidence(CHALLENGE, ecc=ecc))
    other = replace(attested, ak_name=a.name(a.SHA256, b"another key"))
    with pytest.raises(rig.t.TSS2_Exception):
        machine.activate(*make_credential(other, bytes(32), secrets.token_bytes), ecc=ecc)


@KINDS
def test_credentials_are_those_of_another_implementation(
    machine: Any, rig: Any, monkeypatch: pytest.MonkeyPatch, ecc: bool
) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec
    from tpm2_pytss.internal import crypto
    from tpm2_pytss.utils import make_credential as theirs

    random = bytes(range(64))
    ek = machine.public(rig.ECC_EK if ecc else rig.RSA_EK)
    attested = Attested(
        1, (), "", "", 0, bytes(ek.marshal()), b"", bytes(machine.ak_public.get_name()), 0, None, 0, 0, 0, True
    )
    ours = make_credential(attested, b"a secret of some length", lambda size: random[:size])
    monkeypatch.setattr(crypto.secrets, "token_bytes", lambda size: random[:size])
    scalar = int.from_bytes(random, "big") % (credential._ORDERS["secp384r1"] - 1) + 1
    monkeypatch.setattr(crypto.ec, "generate_private_key", lambda curve, _: ec.derive_private_key(scalar, curve))
    blob, sealed = theirs(ek, b"a secret of some length", machine.ak_public.get_name())
    assert ours[0] == bytes(blob)
    if ecc:
        assert ours[1] == bytes(sealed)
    assert len(ours[1]) == len(bytes(sealed))  # RSA: padded at random


def test_a_secret_longer_than_a_digest_is_a_defect_of_the_caller(machine: Any, factory: Any) -> None:
    attested = check(machine, factory, machine.evidence(CHALLENGE))
    with pytest.raises(ValueError, match="longer than a digest"):
        make_credential(attested, bytes(33), secrets.token_bytes)


# ----------------------------------------------------------------------------------------- a key held in software


def test_a_software_key_that_says_what_it_is_is_refused(rig: Any, bare: Any) -> None:
    """The TPM would open a credential for such a key: it is the verifier that must refuse it."""
    t = rig.t
    draft = make()
    honest = t.TPMA_OBJECT.SENSITIVEDATAORIGIN | t.TPMA_OBJECT.SIGN_ENCRYPT | t.TPMA_OBJECT.USERWITHAUTH
    posing = ecc_public(ec_key("AK").public_key(), int(honest))
    draft.parts[3] = posing.encode()
    with pytest.raises(AuthorityError) as caught:
        examine(encoded(draft), draft.request_key, bytes(range(32)), Beliefs(), int(time.time()))
    assert caught.value.details["reason"] == "ak_fixed_tpm"
    ek = bytes(bare.read_public(bare.tr_from_tpmpublic(rig.RSA_EK))[0].publicArea.marshal())
    attested = Attested(1, (), "", "", 0, ek, b"", posing.name(), 0, None, 0, 0, 0, True)
    sealed = make_credential(attested, b"x" * 32, secrets.token_bytes)
    assert rig.activate(bare, _loaded(rig, bare, posing, private=True), *sealed) == b"x" * 32


def test_a_software_key_that_lies_cannot_open_its_credential(machine: Any, factory: Any, rig: Any, bare: Any) -> None:
    """With the endorsement key and certificate of a genuine TPM, and everything else forged, only this is left."""
    real = Evidence.parse(machine.evidence(bytes(range(32))))
    draft = make(parts=lambda draft: draft.parts.update({1: list(real.certificates), 2: real.ek}))
    beliefs = Beliefs((factory.root,), (factory.issuer,))
    attested = examine(encoded(draft), draft.request_key, bytes(range(32)), beliefs, int(time.time()))
    assert attested.level == 2
    sealed = make_credential(attested, b"x" * 32, secrets.token_bytes)
    with pytest.raises(rig.t.TSS2_Exception, match="inconsistent attributes"):
        _loaded(rig, bare, draft.ak, private=True)
    public_half = _loaded(rig, bare, draft.ak, private=False)
    with pytest.raises(rig.t.TSS2_Exception, match="authValue or authPolicy is not available"):
        rig.activate(bare, public_half, *sealed)
    with pytest.raises(rig.t.TSS2_Exception, match="integrity check failed"):
        machine.activate(*sealed)


@pytest.fixture
def bare(factory: Any, rig: Any, require_tool: Callable[[str], str]) -> Iterator[Any]:
    """The same TPM, without a container."""
    with rig.running(factory, require_tool("swtpm")) as tpm:
        yield tpm


def _loaded(rig: Any, tpm: Any, ak: Public, *, private: bool) -> Any:
    """Load a key that was made in software."""
    t = rig.t
    area, _ = t.TPMT_PUBLIC.unmarshal(ak.encode())
    number = ec_key("AK").private_numbers().private_value.to_bytes(32, "big")
    secret = t.TPMU_SENSITIVE_COMPOSITE(ecc=t.TPM2B_ECC_PARAMETER(buffer=number))
    sensitive = t.TPM2B_SENSITIVE(sensitiveArea=t.TPMT_SENSITIVE(sensitiveType=t.TPM2_ALG.ECC, sensitive=secret))
    return tpm.load_external(t.TPM2B_PUBLIC(publicArea=area), sensitive if private else None, t.ESYS_TR.NULL)


def test_the_containers_key_signs_forged_statements_and_is_refused_as_attestation_key(
    machine: Any, factory: Any, rig: Any
) -> None:
    t = rig.t
    parts = cbor.decode(machine.evidence(CHALLENGE))
    forged = statement_bytes(replace(Statement.parse(parts[7][0]), contents=(7).to_bytes(8, "big")))
    digest = t.TPM2B_DIGEST(_sha256(forged))
    ticket = t.TPMT_TK_HASHCHECK(tag=t.TPM2_ST.HASHCHECK, hierarchy=t.TPM2_RH.NULL)
    parts[7] = [forged, bytes(machine.tpm.sign(machine.ck, digest, rig._BY_KEY, ticket).marshal())]
    with pytest.raises(AuthorityError) as caught:
        check(machine, factory, cbor.encode(parts))
    assert caught.value.details["reason"] == "counter_signature"
    parts[3] = parts[4]
    with pytest.raises(AuthorityError) as caught:
        check(machine, factory, cbor.encode(parts))
    assert caught.value.details["reason"] == "ak_restricted"
    with pytest.raises(t.TSS2_Exception):
        machine.tpm.sign(machine.ak, digest, rig._BY_KEY, ticket)


def _sha256(data: bytes) -> bytes:
    import hashlib

    return hashlib.sha256(data).digest()


def test_an_index_of_another_container_is_refused(machine: Any, factory: Any, rig: Any, require_tool: Any) -> None:
    with rig.running(factory, require_tool("swtpm")) as tpm:
        other = rig.Machine(tpm)
        mine, theirs = cbor.decode(machine.evidence(CHALLENGE)), cbor.decode(other.evidence(CHALLENGE))
    mine |= {label: theirs[label] for label in (6, 7)}
    with pytest.raises(AuthorityError) as caught:
        check(machine, factory, cbor.encode(mine))
    assert caught.value.details["reason"] == "counter_marker"


def test_attributes_are_those_of_the_templates(machine: Any) -> None:
    assert machine.ak_public.publicArea.objectAttributes == objects.ATTESTATION_KEY
    assert machine.ck_public.publicArea.objectAttributes == objects.CONTAINER_KEY
    assert machine.tpm.nv_read_public(machine.counter)[0].nvPublic.attributes == objects.INDEX | a.NV_COUNTER
    assert machine.tpm.nv_read_public(machine.chain)[0].nvPublic.attributes == objects.INDEX | a.NV_EXTEND
