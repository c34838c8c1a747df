# SPDX-License-Identifier: Apache-2.0
"""Wycheproof through the public API: each vector has a stated outcome and each count is asserted; none can hide."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tallystick.codec import envelope
from tallystick.codec.keys import ED25519, ESP256, ML_DSA_44, PS256, PublicKey
from tallystick.codec.signing import SoftwareKey
from tallystick.errors import VerificationError

Group = dict[str, Any]
Verify = Callable[[bytes, bytes], None]


@pytest.fixture(scope="module")
def groups(vectors: Path) -> Callable[[str], list[Group]]:
    def load(name: str) -> list[Group]:
        found: list[Group] = json.loads((vectors / "wycheproof" / name).read_text())["testGroups"]
        return found

    return load


def outcome(work: Callable[[], object]) -> str:
    try:
        work()
    except VerificationError:
        return "invalid"
    return "valid"


def octets(number: str) -> bytes:
    """An unsigned big-endian number without leading zeros."""
    value = int(number, 16)
    return value.to_bytes((value.bit_length() + 7) // 8)


def esp256(group: Group) -> Verify:
    return PublicKey.from_p256_point(bytes.fromhex(group["publicKey"]["uncompressed"])).verify


def ed25519_cose(group: Group) -> Verify:
    return PublicKey.from_cose({1: 1, 3: ED25519, -1: 6, -2: bytes.fromhex(group["publicKey"]["pk"])}).verify


def ps256(group: Group) -> Verify:
    key = group["publicKey"]
    return PublicKey.from_cose({1: 3, 3: PS256, -1: octets(key["modulus"]), -2: octets(key["publicExponent"])}).verify


def ml_dsa_44(group: Group) -> Verify:
    return PublicKey.from_cose({1: 7, 3: ML_DSA_44, -1: bytes.fromhex(group["publicKey"])}).verify


@pytest.mark.parametrize(
    ("file", "key_of", "nacl", "valid", "invalid"),
    [
        ("ecdsa_secp256r1_sha256_p1363_test.json", esp256, True, 173, 89),
        ("ed25519_test.json", ed25519_cose, True, 88, 63),
        ("ed25519_test.json", ed25519_cose, False, 88, 63),
        ("rsa_pss_2048_sha256_mgf1_32_test.json", ps256, True, 63, 45),
    ],
    ids=["ESP256", "Ed25519 by libsodium", "Ed25519 by OpenSSL", "PS256"],
)
def test_signatures(
    groups: Callable[[str], list[Group]],
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    key_of: Callable[[Group], Verify],
    nacl: bool,
    valid: int,
    invalid: int,
) -> None:
    if not nacl:
        monkeypatch.setitem(sys.modules, "nacl", None)  # as if the extra `fast` were not installed
    agreed: Counter[str] = Counter()
    for group in groups(file):
        for case in group["tests"]:
            message, signature = bytes.fromhex(case["msg"]), bytes.fromhex(case["sig"])
            found = outcome(lambda: key_of(group)(message, signature))  # noqa: B023 - called at once
            assert found == case["result"], (case["tcId"], case["comment"], case["flags"])
            agreed[found] += 1
    assert agreed == {"valid": valid, "invalid": invalid}


@pytest.mark.parametrize("hidden", [False, True])
def test_libsodium_verifies_where_it_is_installed_and_openssl_where_not(
    monkeypatch: pytest.MonkeyPatch, hidden: bool
) -> None:
    """So that the two rows of Ed25519 above are two implementations, not one twice."""
    if hidden:
        monkeypatch.setitem(sys.modules, "nacl", None)
    key = SoftwareKey.generate(ED25519)
    signature = key.sign(b"text")
    seen: list[str] = []
    sys.setprofile(lambda frame, *_: seen.append(frame.f_globals.get("__name__", "")))
    try:
        assert key.public_key.verify_raw(b"text", signature)
    finally:
        sys.setprofile(None)
    assert ("nacl.bindings.crypto_sign" in seen) is not hidden


def test_ml_dsa_44(groups: Callable[[str], list[Group]]) -> None:
    """COSE signs with an empty context (RFC 9964), so a vector signed under another context must not verify."""
    agreed: Counter[str] = Counter()
    for group in groups("mldsa_44_verify_test.json"):
        for case in group["tests"]:
            message, signature = bytes.fromhex(case["msg"]), bytes.fromhex(case["sig"])
            found = outcome(lambda: ml_dsa_44(group)(message, signature))  # noqa: B023 - called at once
            context = bytes.fromhex(case.get("ctx", ""))
            wanted = "invalid" if context else case["result"]
            assert found == wanted, (case["tcId"], case["comment"], case["flags"])
            agreed[f"{found}, {'with' if context else 'no'} context"] += 1
    assert agreed == {"valid, no context": 75, "invalid, no context": 98, "invalid, with context": 7}


def test_ecdh_on_p256(groups: Callable[[str], list[Group]]) -> None:
    """Only uncompressed points are taken; vectors with others must all be refused, whatever they would give."""
    agreed: Counter[str] = Counter()
    for group in groups("ecdh_secp256r1_ecpoint_test.json"):
        for case in group["tests"]:
            private = ec.derive_private_key(int(case["private"], 16), ec.SECP256R1())
            point = bytes.fromhex(case["public"])
            try:
                found = SoftwareKey(private, ESP256).agree(point).hex()
            except VerificationError as refusal:
                assert refusal.code == "bad_key"
                found = "refused"
            uncompressed = len(point) == 65 and point[0] == 4
            wanted = case["shared"] if uncompressed and case["result"] == "valid" else "refused"
            assert found == wanted, (case["tcId"], case["comment"], case["flags"])
            agreed[f"{case['result']}, {'refused' if found == 'refused' else 'agreed'}"] += 1
    assert agreed == {"valid, agreed": 330, "invalid, refused": 24, "acceptable, refused": 1}


def test_aes_gcm(groups: Callable[[str], list[Group]]) -> None:
    """A256GCM: a key of 256 bits, a nonce of 96, a tag of 128. Other sizes are refused, valid or not."""
    agreed: Counter[str] = Counter()
    for group in groups("aes_gcm_test.json"):
        ours = (group["keySize"], group["ivSize"], group["tagSize"]) == (256, 96, 128)
        for case in group["tests"]:
            key, iv, aad, text, tag, plain = (
                bytes.fromhex(case[name]) for name in ("key", "iv", "aad", "ct", "tag", "msg")
            )
            try:
                opened = envelope.decrypt(key, iv, text + tag, aad)
            except VerificationError as refusal:
                assert refusal.code == "decrypt_failed"
                opened = None
            good = ours and case["result"] == "valid"
            assert opened == (plain if good else None), (case["tcId"], case["comment"], case["flags"])
            agreed[f"{'ours' if ours else 'other sizes'}, {'opened' if good else 'refused'}"] += 1
    assert agreed == {"ours, opened": 39, "ours, refused": 27, "other sizes, refused": 250}
