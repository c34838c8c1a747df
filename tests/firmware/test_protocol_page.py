# SPDX-License-Identifier: Apache-2.0
"""The session of ``docs/dongle-protocol.md``, followed by a reader that has nothing but the page."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import cbor2
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tallystick.dongle.calls import CALLS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "dongle-protocol.md").read_text(encoding="utf-8")
DOMAIN = b"tallystick dongle channel 1\x00"


@pytest.fixture(scope="module")
def items() -> list[tuple[str, bytes]]:
    """Title and bytes of everything that was recorded."""
    section = PAGE.split("## 7 A session", 1)[1]
    found = re.findall(r"^([^\n`].*)\n\n```\n([0-9a-f\n]+)```", section, re.MULTILINE)
    return [(title, bytes.fromhex(text.replace("\n", ""))) for title, text in found]


def frame(data: bytes) -> tuple[int, int, bytes]:
    assert data[0] == 0x54
    assert sum(data[:7]) & 0xFF ^ 0xFF == data[7]
    assert data[6] == 0
    size = int.from_bytes(data[4:6])
    assert len(data) == 8 + size
    return data[1], int.from_bytes(data[2:4]), data[8:]


def point(data: bytes) -> ec.EllipticCurvePublicKey:
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), data)


def verify(key: dict[int, bytes], signature: bytes, message: bytes) -> None:
    public = point(b"\x04" + key[-2] + key[-3])
    der = encode_dss_signature(int.from_bytes(signature[:32]), int.from_bytes(signature[32:]))
    public.verify(der, message, ec.ECDSA(hashes.SHA256()))


def opened(key: bytes, payload: bytes, transaction: int, counter: int) -> bytes:
    assert int.from_bytes(payload[2:10]) == counter
    aad = payload[:2] + transaction.to_bytes(2)
    return AESGCM(key).decrypt(bytes(4) + payload[2:10], payload[10:], aad)


def test_the_page_shows_a_session_that_can_be_followed(items: list[tuple[str, bytes]]) -> None:
    titles = [title for title, _ in items]
    assert titles[:2] == ["host, the ephemeral secret", "dongle, the ephemeral secret"]
    secrets = [ec.derive_private_key(int.from_bytes(data), ec.SECP256R1()) for _, data in items[:2]]
    assert frame(items[2][1]) == frame(items[3][1])
    assert frame(items[2][1])[0] == 5
    (kind, transaction, hello), (kind_too, transaction_too, answer) = frame(items[4][1]), frame(items[5][1])
    assert (kind, transaction) == (kind_too, transaction_too) == (6, 1)
    asked, told = cbor2.loads(hello), cbor2.loads(answer)
    assert (asked[1], told[1], told[6]) == (1, 1, b"")
    unsigned = {label: told[label] for label in range(1, 7)}
    transcript = hashlib.sha256(
        hashlib.sha256(hello).digest() + hashlib.sha256(cbor2.dumps(unsigned)).digest()
    ).digest()
    verify(cbor2.loads(told[5]), told[7], DOMAIN + transcript)
    shared = secrets[0].exchange(ec.ECDH(), point(told[2]))
    assert shared == secrets[1].exchange(ec.ECDH(), point(asked[2]))
    keys = HKDF(hashes.SHA256(), 64, transcript, DOMAIN).derive(shared)
    results = []
    for index, counter in ((6, 0), (10, 1)):
        plain, sent, came, shown = (data for _, data in items[index : index + 4])
        kind, transaction, payload = frame(sent)
        assert (kind, int.from_bytes(payload[:2])) == (1, told[4])
        assert opened(keys[:32], payload, transaction, counter) == plain
        kind, transaction_too, payload = frame(came)
        assert (kind, transaction_too) == (1, transaction)
        assert opened(keys[32:], payload, transaction, counter) == shown
        results.append((cbor2.loads(plain), cbor2.loads(shown)))
    (status, said), (prove, proof) = results
    assert (status, said[0], len(said[1])) == ([1], 0, 7)
    assert prove == [5, bytes(range(32))]
    verify(cbor2.loads(told[5]), proof[1], b"tallystick proof of possession\x00" + prove[1])
    assert len(items) == 14


def test_every_call_stands_on_the_page_with_its_number() -> None:
    rows = dict(re.findall(r"^\| (\d+) \| ([a-zA-Z ]+?) ?\*? \|", PAGE, re.MULTILINE))
    named = {str(call.number): name.replace("_", " ").lower() for name, call in CALLS.items()}
    assert {number: name.lower() for number, name in rows.items() if number in named} == named
