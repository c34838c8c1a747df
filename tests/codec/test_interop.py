# SPDX-License-Identifier: Apache-2.0
"""Messages of ours in python-cwt and pycose, theirs in ours: signed in every shared algorithm, sealed, and damaged."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives import serialization

from tallystick.codec import cbor, cose, envelope, kinds
from tallystick.codec.keys import ALGORITHMS, ED25519, ESP256, PS256
from tallystick.codec.signing import SoftwareKey
from tallystick.errors import FormatError, VerificationError
from tallystick.license.messages import open_own

PROGRAM = Path(__file__).with_name("peer_program.py")
SHARED = pytest.mark.parametrize("alg", [ESP256, ED25519, PS256], ids=lambda alg: ALGORITHMS[alg].name)
PEER = pytest.mark.parametrize("peer", ["cwt", "pycose"])
KEYS = {alg: SoftwareKey.generate(alg) for alg in (ESP256, ED25519, PS256)}
CLAIMS = {1: "acme", 6: 1_800_000_000, 7: bytes(16), -65537: b"x", -65543: "Müller"}
SECRET = bytes(range(32))

Ask = Callable[[dict[str, Any]], str]


@pytest.fixture(scope="module")
def ask(peer_python: str) -> Ask:
    """Have one job done by the peers' interpreter."""

    def run(job: dict[str, Any]) -> str:
        done = subprocess.run(
            [peer_python, "-I", PROGRAM],
            input=json.dumps([job]),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        (result,) = json.loads(done.stdout)
        return str(result)

    return run


def private_members(key: SoftwareKey) -> dict[str, str]:
    """The private members of a COSE_Key, by label."""
    private, alg = key._private, key.public_key.alg
    if alg == ESP256:
        return {"-4": private.private_numbers().private_value.to_bytes(32).hex()}
    if alg == ED25519:
        return {"-4": private.private_bytes_raw().hex()}
    numbers = private.private_numbers()
    values = (numbers.d, numbers.p, numbers.q, numbers.dmp1, numbers.dmq1, numbers.iqmp)
    return {str(-3 - place): value.to_bytes((value.bit_length() + 7) // 8).hex() for place, value in enumerate(values)}


def pem(key: SoftwareKey) -> str:
    encoded: bytes = key._private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return encoded.decode()


@PEER
@SHARED
def test_our_messages_verify_there(ask: Ask, peer: str, alg: int) -> None:
    key = KEYS[alg]
    message = cose.sign(kinds.GRANT, CLAIMS, key)
    named = cbor.encode(key.public_key.to_map() | {2: key.public_key.thumbprint})  # python-cwt looks keys up by id
    job = {"do": f"{peer}_verify", "message": message.hex(), "key": named.hex()}
    assert ask(job) == cbor.encode(CLAIMS).hex()
    damaged = bytearray(message)
    damaged[-70] ^= 1
    assert ask(job | {"message": bytes(damaged).hex()}).startswith("failed:")


@PEER
@SHARED
def test_messages_made_there_verify_here(ask: Ask, peer: str, alg: int) -> None:
    """With the three headers of ours and deterministic claims; no re-encoding on the way."""
    key = KEYS[alg]
    job = {
        "do": f"{peer}_sign",
        "pem": pem(key),
        "private": private_members(key),
        "key": key.public_key.cose.hex(),
        "name": ALGORITHMS[alg].name,
        "alg": alg,
        "kid": key.public_key.thumbprint.hex(),
        "typ": kinds.GRANT.typ,
        "payload": cbor.encode(CLAIMS).hex(),
    }
    message = bytes.fromhex(ask(job))
    assert open_own(message, kinds.GRANT, key.public_key) == CLAIMS
    assert cose.peek(message)[0] == cose.Header(alg, key.public_key.thumbprint, kinds.GRANT)
    with pytest.raises(VerificationError):
        open_own(message[:-1] + bytes([message[-1] ^ 1]), kinds.GRANT, key.public_key)
    for wrong in ({"typ": "application/cwt"}, {"kid": "3131"}):
        with pytest.raises(FormatError):
            open_own(bytes.fromhex(ask(job | wrong)), kinds.GRANT, key.public_key)


@PEER
def test_content_keys_sealed_here_open_there(ask: Ask, peer: str) -> None:
    key = SoftwareKey.generate()
    sealed = envelope.seal_key(SECRET, key.public_key)
    job = {
        "do": f"{peer}_open",
        "message": sealed.hex(),
        "pem": pem(key),
        "private": private_members(key),
        "key": key.public_key.cose.hex(),
    }
    assert ask(job) == SECRET.hex()
    other = SoftwareKey.generate()
    wrong = {"pem": pem(other), "private": private_members(other), "key": other.public_key.cose.hex()}
    assert ask(job | wrong).startswith("failed:")


@PEER
def test_content_keys_sealed_there_open_here(ask: Ask, peer: str) -> None:
    """Their maps are not sorted, and they are tagged: neither is authenticated, so only that is made ours."""
    key = SoftwareKey.generate()
    job = {"do": f"{peer}_seal", "key": key.public_key.cose.hex(), "payload": SECRET.hex()}
    sealed_there = ask(job)
    assert not sealed_there.startswith("failed"), sealed_there
    message = cbor2.loads(bytes.fromhex(sealed_there))
    assert message.tag == 96
    header, unprotected, sealed, ((inner, recipient, nothing),) = message.value
    public = {label: recipient[-1][label] for label in (1, -1, -2, -3)}
    ours = cbor.encode([header, dict(unprotected), sealed, [[inner, {-1: public}, nothing]]])
    assert envelope.open_key(ours, key.agree) == SECRET
