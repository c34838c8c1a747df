# SPDX-License-Identifier: Apache-2.0
"""Every file is genuine in the right hands and nowhere else, and the step that fails is the one that should."""

from __future__ import annotations

import json

import pytest

from made import CONTENT_KEY, Device, Vendor, kinds_of
from tallystick.codec import cose, envelope, kinds
from tallystick.errors import FormatError, VerificationError
from tallystick.exchange.proof import Proof, Reference
from tallystick.exchange.verify import MISSING, key_of, verify

VENDOR, DEVICE = Vendor(), Device()
OTHER_VENDOR, OTHER_DEVICE = Vendor("globex"), Device()
IMPOSTOR = Vendor()  # calls itself acme, too
MESSAGES = {case.kind.name: case.message for case in kinds_of(VENDOR, DEVICE)}
TESTABLE = [name for name in MESSAGES if name not in ("grant", "recall", "move", "sealed state")]
FULL = Reference({"acme": VENDOR.trust}, (MESSAGES["update"],), DEVICE.thumbprint, (DEVICE.identity.public_key,))


def failed(proof: Proof) -> list[str]:
    """Titles of the steps that failed."""
    return [step.title for step in proof.steps if step.passed is False]


@pytest.mark.parametrize("name", TESTABLE)
def test_every_kind_is_genuine_where_everything_is_at_hand(name: str) -> None:
    proof = verify(MESSAGES[name], FULL)
    assert proof.verified, proof.reason
    assert all(step.passed for step in proof.steps)
    assert [step.number for step in proof.steps] == list(range(1, len(proof.steps) + 1))
    assert json.loads(json.dumps(proof.to_plain()))["verified"] is True


def test_the_messages_inside_an_update_have_proofs_of_their_own() -> None:
    proof = verify(MESSAGES["update"], FULL)
    assert [part.what for part in proof.parts] == ["license", "status list", "time token"]
    assert all(part.verified for part in proof.parts)


@pytest.mark.parametrize("name", ["sealed state"])
def test_kinds_that_cannot_be_tested_are_refused(name: str) -> None:
    with pytest.raises(FormatError, match="cannot be verified") as refusal:
        verify(MESSAGES[name], FULL)
    assert refusal.value.code == "wrong_kind"
    with pytest.raises(FormatError):
        verify(envelope.seal_content(CONTENT_KEY, "k", b""), FULL)


@pytest.mark.parametrize("name", ["license", "update", "refusal", "key set", "status list", "time token"])
def test_an_impostor_of_the_same_name_is_found_out(name: str) -> None:
    proof = verify(MESSAGES[name], FULL.replace(trusts={"acme": IMPOSTOR.trust}))
    assert not proof.verified
    assert failed(proof) == ["a key set signed by the vendor's pinned root"]
    assert proof.reason is not None
    assert proof.reason.code == "unknown_issuer"
    assert proof.steps[-1].passed in (False, None)


@pytest.mark.parametrize("name", ["license", "update", "refusal", "key set", "time token"])
def test_a_vendor_not_trusted_is_no_finding(name: str) -> None:
    proof = verify(MESSAGES[name], Reference({"globex": OTHER_VENDOR.trust}))
    assert not proof.verified
    assert failed(proof) == [], "nothing was found wrong"
    assert proof.reason is not None
    assert MISSING in proof.reason.details
    assert "globex is" in proof.reason.message


@pytest.mark.parametrize("name", ["license", "update", "refusal"])
def test_a_file_for_another_container_fails_the_step_of_the_container(name: str) -> None:
    proof = verify(MESSAGES[name], FULL.replace(container=OTHER_DEVICE.thumbprint))
    assert failed(proof) == ["made for this container"]
    assert proof.reason is not None
    assert proof.reason.code == "wrong_container"


def test_without_a_container_the_binding_is_shown_and_not_judged() -> None:
    proof = verify(MESSAGES["update"], FULL.replace(container=None))
    assert proof.verified
    assert proof.steps[-1].passed is None
    assert "no container to compare with" in proof.steps[-1].detail


@pytest.mark.parametrize("name", ["license", "refusal", "status list", "time token"])
def test_a_message_without_a_key_set_needs_one(name: str) -> None:
    proof = verify(MESSAGES[name], FULL.replace(keysets=()))
    assert not proof.verified
    assert proof.reason is not None
    assert proof.reason.details[MISSING] == "keyset"
    assert "--keyset" in proof.reason.remedy
    assert verify(MESSAGES[name], FULL.replace(keysets=(MESSAGES["key set"],))).verified


def test_a_signature_that_does_not_verify_fails_its_step() -> None:
    for name in TESTABLE:
        changed = MESSAGES[name][:-1] + bytes([MESSAGES[name][-1] ^ 1])
        proof = verify(changed, FULL)
        assert not proof.verified
        assert len(failed(proof)) == 1
        assert proof.reason is not None
        assert proof.reason.code == "bad_signature"


def test_a_device_certificate_needs_a_vendor_who_believes_its_factory() -> None:
    """Every vendor decides for itself: with two trusted, one must be named."""
    name = "device certificate"
    assert verify(MESSAGES[name], FULL).steps[-1].detail.endswith("level L3 for acme")
    both = FULL.replace(trusts={"acme": VENDOR.trust, "globex": OTHER_VENDOR.trust})
    assert verify(MESSAGES[name], both).reason.details[MISSING] == "trust"  # type: ignore[union-attr]
    doubts = VENDOR.keyset.replace(factories=()).sign(VENDOR.root)
    proof = verify(MESSAGES[name], FULL.replace(keysets=(doubts,)))
    assert failed(proof) == ["signed, over the bytes received, by a factory that key set names"]
    assert "not believed" in proof.reason.message  # type: ignore[union-attr]


def test_a_bad_license_inside_a_good_update_is_found() -> None:
    foreign = VENDOR.sign_license(VENDOR.license(OTHER_DEVICE))
    good = VENDOR.sign_license(VENDOR.license(DEVICE))
    update = VENDOR.update(DEVICE, licenses=(good, foreign)).sign(VENDOR.keys["license"])
    proof = verify(update, FULL)
    assert not proof.verified
    assert proof.refusal is None
    assert [part.verified for part in proof.parts] == [True, False, True, True]
    assert failed(proof.parts[1]) == ["made for this container"]
    swapped = VENDOR.update(DEVICE, licenses=(MESSAGES["time token"],)).sign(VENDOR.keys["license"])
    assert not verify(swapped, FULL).verified


def test_a_key_of_another_purpose_is_found() -> None:
    proof = verify(cose.sign(kinds.LICENSE, VENDOR.license(DEVICE).to_claims(), VENDOR.keys["time"]), FULL)
    assert proof.reason is not None
    assert proof.reason.code == "key_use"
    assert failed(proof) == ["signed, over the bytes received, by a key of that set that may"]


def test_a_license_in_another_vendors_name_is_found() -> None:
    claims = VENDOR.license(DEVICE, vendor="globex").to_claims()
    message = cose.sign(kinds.LICENSE, claims, VENDOR.keys["license"])
    proof = verify(message, FULL.replace(trusts={"globex": VENDOR.trust}))
    assert not proof.verified


def test_what_was_signed_outside_the_keys_time_is_found() -> None:
    keyset = VENDOR.key_set(2, not_after=1_000).sign(VENDOR.root)
    proof = verify(VENDOR.update(DEVICE, keyset=keyset).sign(VENDOR.keys["license"]), FULL)
    assert failed(proof) == ["signed while the key was valid"]
    assert proof.reason is not None
    assert proof.reason.code == "key_validity"


def test_a_receipt_needs_the_key_of_its_container() -> None:
    proof = verify(MESSAGES["receipt"], FULL.replace(keys=(OTHER_DEVICE.identity.public_key,)))
    assert failed(proof) == []
    assert proof.reason is not None
    assert (proof.reason.details[MISSING], "--key" in proof.reason.remedy) == ("key", True)
    lying = DEVICE.receipt(container=OTHER_DEVICE.thumbprint).sign(DEVICE.identity)
    assert not verify(lying, FULL).verified


def test_the_key_of_a_container_is_read_from_a_request_or_as_it_is() -> None:
    key = DEVICE.identity.public_key
    assert key_of(MESSAGES["request"]) == key
    assert key_of(key.cose) == key
    with pytest.raises(VerificationError):
        key_of(MESSAGES["request"][:-1] + bytes([MESSAGES["request"][-1] ^ 1]))


def test_a_request_that_does_not_prove_its_key_is_found() -> None:
    stolen = DEVICE.request().sign(OTHER_DEVICE.identity)
    proof = verify(stolen, Reference())
    assert failed(proof) == ["signed, over the bytes received, by that key"]
