# SPDX-License-Identifier: Apache-2.0
"""Content keys sealed to a container, content sealed with a content key."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from tallystick.codec import cbor, envelope
from tallystick.codec.keys import ED25519
from tallystick.codec.signing import SoftwareKey
from tallystick.errors import FormatError, UsageError, VerificationError

KEY = SoftwareKey.generate()
OTHER = SoftwareKey.generate()
SECRET = bytes(range(32))


def resealed(secret: bytes, **changes: Any) -> bytes:
    """A sealed key built from RFC 9052 and 9053 by hand, right or wrong in any part: also the recomputation of ours."""
    ephemeral = ec.generate_private_key(ec.SECP256R1())
    point = SoftwareKey(ephemeral, -9).public_key.p256_point()
    shared = KEY.agree(point)
    body_header, inner_header = cbor2.dumps({1: 3}), cbor2.dumps({1: -25})
    party = [None, None, None]
    context = cbor2.dumps([3, party, party, [256, inner_header]])  # COSE_KDF_Context, RFC 9053, 5.2
    extracted = hmac.digest(bytes(32), shared, "sha256")  # HKDF, RFC 5869: extract without salt, expand one block
    key = hmac.digest(extracted, context + b"\x01", "sha256")
    iv = bytes(12)
    sealed = AESGCM(key).encrypt(iv, secret, cbor2.dumps(["Encrypt", body_header, b""]))
    public = {1: 2, -1: 1, -2: point[1:33], -3: point[33:]}
    parts: dict[str, Any] = {"header": body_header, "unprotected": {5: iv}, "body": sealed, "inner": inner_header}
    parts |= {"recipient": {-1: public}, "ciphertext": b"", "more": [], "recipients": None, "public": None}
    parts |= changes
    if parts["public"] is not None:
        parts["recipient"] = {-1: public | parts["public"]}
    recipients = parts["recipients"]
    if recipients is None:
        recipients = [[parts["inner"], parts["recipient"], parts["ciphertext"]]]
    return cbor.encode([parts["header"], parts["unprotected"], parts["body"], recipients, *parts["more"]])


def test_a_content_key_opens_in_its_container_only() -> None:
    sealed = envelope.seal_key(SECRET, KEY.public_key)
    assert envelope.open_key(sealed, KEY.agree) == SECRET
    with pytest.raises(VerificationError) as caught:
        envelope.open_key(sealed, OTHER.agree)
    assert caught.value.code == "decrypt_failed"


def test_two_seals_of_one_key_share_nothing() -> None:
    one, other = envelope.seal_key(SECRET, KEY.public_key), envelope.seal_key(SECRET, KEY.public_key)
    assert cbor.decode(one)[1] != cbor.decode(other)[1]
    assert cbor.decode(one)[3] != cbor.decode(other)[3]


def test_a_key_sealed_by_an_independent_computation_opens() -> None:
    assert envelope.open_key(resealed(SECRET), KEY.agree) == SECRET


@pytest.mark.parametrize(
    "changes",
    [
        {"header": cbor2.dumps({1: 1})},
        {"header": b""},
        {"header": cbor2.dumps({1: 3, 4: b"x"})},
        {"unprotected": {}},
        {"unprotected": {5: bytes(11)}},
        {"unprotected": {5: bytes(13)}},
        {"unprotected": {5: bytes(12), 4: b"kid"}},
        {"unprotected": {5: "iv"}},
        {"inner": cbor2.dumps({1: -26})},
        {"inner": b""},
        {"recipient": {}},
        {"recipient": {-1: {}}},
        {"recipient": {-2: {}}},
        {"public": {1: 1}},
        {"public": {-1: 2}},
        {"public": {-1: True}},
        {"public": {-2: bytes(31)}},
        {"public": {-3: True}},
        {"public": {3: -25}},
        {"ciphertext": b"x"},
        {"ciphertext": None},
        {"recipients": []},
        {"recipients": [[b"", {}, b""], [b"", {}, b""]]},
        {"more": [0]},
        {"body": None},
    ],
    ids=str,
)
def test_a_sealed_key_of_another_shape_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(FormatError) as caught:
        envelope.open_key(resealed(SECRET, **changes), KEY.agree)
    assert caught.value.code == "malformed"


def test_an_ephemeral_key_off_the_curve_is_refused() -> None:
    with pytest.raises(VerificationError) as caught:
        envelope.open_key(resealed(SECRET, public={-2: bytes(32), -3: bytes(32)}), KEY.agree)
    assert caught.value.code == "bad_key"


@pytest.mark.parametrize("size", [0, 16, 24, 31, 33])
def test_a_sealed_key_that_holds_no_256_bit_key_is_refused(size: int) -> None:
    """Else a vendor's mistake would turn AES-256 into AES-128, or raise something untyped later."""
    with pytest.raises(FormatError, match=f"{size} bytes"):
        envelope.open_key(resealed(bytes(size)), KEY.agree)
    with pytest.raises(UsageError):
        envelope.seal_key(bytes(size), KEY.public_key)
    with pytest.raises(UsageError):
        envelope.seal_content(bytes(size), "manual", b"")


def test_a_sealed_key_over_the_limit_is_refused_by_size() -> None:
    with pytest.raises(FormatError) as caught:
        envelope.open_key(bytes(envelope.MAX_SEALED_KEY + 1), KEY.agree)
    assert caught.value.code == "too_large"


def test_a_key_is_sealed_to_p256_only() -> None:
    with pytest.raises(VerificationError) as caught:
        envelope.seal_key(SECRET, SoftwareKey.generate(ED25519).public_key)
    assert caught.value.code == "bad_key"


def test_every_single_bit_flip_in_a_sealed_key_is_refused() -> None:
    sealed = envelope.seal_key(SECRET, KEY.public_key)
    for bit in range(8 * len(sealed)):
        flipped = bytearray(sealed)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises((FormatError, VerificationError)):
            envelope.open_key(bytes(flipped), KEY.agree)


# ------------------------------------------------------------------------------------------------------ content


@given(plaintext=st.binary(max_size=300), key_id=st.text(max_size=16))
def test_content_round_trips(plaintext: bytes, key_id: str) -> None:
    content = envelope.Content(envelope.seal_content(SECRET, key_id, plaintext))
    assert content.key_id == key_id
    assert content.open(SECRET) == plaintext


def test_content_is_a_cose_encrypt0() -> None:
    header, unprotected, sealed = cbor2.loads(envelope.seal_content(SECRET, "manual", b"text"))
    assert cbor2.loads(header) == {1: 3, 4: b"manual", 16: "application/tallystick-content"}
    assert set(unprotected) == {5}
    opened = AESGCM(SECRET).decrypt(unprotected[5], sealed, cbor2.dumps(["Encrypt0", header, b""]))
    assert opened == b"text"


def test_content_opens_with_its_key_only() -> None:
    content = envelope.Content(envelope.seal_content(SECRET, "manual", b"text"))
    for wrong in (bytes(32), SECRET[:16], b"", SECRET + b"x"):
        with pytest.raises(VerificationError) as caught:
            content.open(wrong)
        assert caught.value.code == "decrypt_failed"


def test_every_single_bit_flip_in_content_is_refused() -> None:
    sealed = envelope.seal_content(SECRET, "manual", b"text")
    for bit in range(8 * len(sealed)):
        flipped = bytearray(sealed)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises((FormatError, VerificationError)):
            envelope.Content(bytes(flipped)).open(SECRET)


def test_content_cut_or_continued_is_refused() -> None:
    sealed = envelope.seal_content(SECRET, "manual", b"text")
    for wrong in (*(sealed[:end] for end in range(len(sealed))), sealed + b"\x00"):
        with pytest.raises((FormatError, VerificationError)):
            envelope.Content(wrong).open(SECRET)


@pytest.mark.parametrize(
    "header",
    [
        {},
        {1: 3},
        {1: 1, 4: b"manual", 16: envelope.CONTENT_TYPE},
        {1: 3, 4: "manual", 16: envelope.CONTENT_TYPE},
        {1: 3, 4: b"\xff", 16: envelope.CONTENT_TYPE},
        {1: 3, 4: b"manual", 16: "application/octet-stream"},
        {1: 3, 4: b"manual", 16: 0},
        {1: 3, 2: [16], 4: b"manual", 16: envelope.CONTENT_TYPE},
        [],
    ],
    ids=str,
)
def test_content_with_another_header_is_refused(header: Any) -> None:
    encoded = cbor.encode(header)
    sealed = AESGCM(SECRET).encrypt(bytes(12), b"text", cbor.encode(["Encrypt0", encoded, b""]))
    with pytest.raises(FormatError):
        envelope.Content(cbor.encode([encoded, {5: bytes(12)}, sealed]))


@pytest.mark.parametrize("data", [b"", b"\x83", b"\x84", b"\xd0\x83", b"\x83\xa0", b"\x83\x41\xa0\xa1\x05\x4c"])
def test_what_is_no_content_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        envelope.Content(data)


def test_sizes_are_limited_on_both_sides() -> None:
    class Huge(bytes):
        def __len__(self) -> int:
            return envelope.MAX_CONTENT + 2000

    for work in (lambda: envelope.Content(Huge()), lambda: envelope.seal_content(SECRET, "manual", Huge())):
        with pytest.raises(FormatError) as caught:
            work()
        assert caught.value.code == "too_large"
    with pytest.raises(UsageError):
        envelope.seal_content(SECRET, "m" * 65, b"")
    assert envelope.Content(envelope.seal_content(SECRET, "m" * 64, b"")).key_id == "m" * 64


def test_large_content_round_trips() -> None:
    plaintext = hashlib.shake_256(b"").digest(70_000)
    assert envelope.Content(envelope.seal_content(SECRET, "manual", plaintext)).open(SECRET) == plaintext
