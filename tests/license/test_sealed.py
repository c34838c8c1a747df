# SPDX-License-Identifier: Apache-2.0
"""A sealed update: everything it brings is inside, and hostile bytes are refused by name."""

from __future__ import annotations

import os
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from made import Device, Vendor
from tallystick.codec import cbor, cose
from tallystick.errors import FormatError, TallystickError, VerificationError
from tallystick.license.answers import INNER, Update
from tallystick.license.sealed import MAX_CREDENTIAL, MAX_ENCRYPTED_SECRET, open_update, seal_update

DEVICE = Device()
UPDATE = Update(
    "acme", 5, bytes(16), DEVICE.thumbprint, bytes(range(16)), keyset=b"keys", licenses=(b"one", b"two"),
    status_list=b"list", time=b"time", clock_reset=True, note="Thank you.",
)  # fmt: skip
SECRET, NONCE = bytes(range(32)), bytes(12)


def make(secret: bytes) -> tuple[bytes, bytes]:
    """A credential that hides nothing."""
    return b"id" + secret, b"seed"


def activate(id_object: bytes, encrypted_secret: bytes) -> bytes:
    assert encrypted_secret == b"seed"
    return id_object[2:]


def sealed() -> Update:
    return seal_update(UPDATE, make, os.urandom)


def parts(update: Update) -> list[bytes]:
    assert update.sealed is not None
    found: list[bytes] = cbor.decode(update.sealed)
    return found


def hide(inside: Any, update: Update = UPDATE, **outside: Any) -> Update:
    """Seal as an issuer could, whatever it likes."""
    key = HKDF(hashes.SHA256(), 32, b"", b"tallystick sealed update").derive(SECRET)
    data = inside if isinstance(inside, bytes) else cbor.encode(inside)
    hidden = AESGCM(key).encrypt(NONCE, data, update.message_id + update.container)
    bare = Update(update.vendor, update.issued_at, update.message_id, update.container, **outside)
    return bare.replace(sealed=cbor.encode([*make(SECRET), NONCE, hidden]))


def test_what_it_brings_is_inside_and_nothing_else() -> None:
    hidden = sealed()
    inside = {field.name for field in INNER}
    assert inside == {"licenses", "status_list", "time", "clock_reset", "note"}
    for name in set(Update.fields) - {"sealed"}:
        expected = Update.defaults[name] if name in inside else getattr(UPDATE, name)
        assert getattr(hidden, name) == expected, name
    assert open_update(hidden, activate) == UPDATE
    assert open_update(UPDATE, activate) is UPDATE


def test_it_travels_signed_and_comes_out_again() -> None:
    vendor = Vendor("acme")
    message = sealed().sign(vendor.keys["license"])
    assert b"Thank you." not in message
    assert open_update(Update.from_claims(cose.peek(message)[1]), activate) == UPDATE


def test_the_bytes_are_those_of_the_format() -> None:
    """By the page, not by the module: HKDF over the secret, AES-GCM, the message id and the container authenticated."""
    update = hide({-65571: [b"one"], -65575: "Thank you."})
    assert open_update(update, activate) == Update(*UPDATE._values()[:4], licenses=(b"one",), note="Thank you.")
    assert [len(part) for part in parts(sealed())[:3]] == [34, 4, 12]


def test_each_is_sealed_anew() -> None:
    assert parts(sealed())[0] != parts(sealed())[0]
    assert parts(sealed())[2] != parts(sealed())[2]


def test_an_empty_update_is_sealed_as_well() -> None:
    update = Update("acme", 5, bytes(16), DEVICE.thumbprint)
    assert open_update(seal_update(update, make, os.urandom), activate) == update


@pytest.mark.parametrize(
    "change",
    [
        lambda update: (update, lambda *_: bytes(32)),
        lambda update: (update, lambda *_: b""),
        lambda update: (update.replace(message_id=bytes(15) + b"\1"), activate),
        lambda update: (update.replace(container=bytes(32)), activate),
        lambda update: (update.replace(sealed=update.sealed[:-1] + bytes([update.sealed[-1] ^ 1])), activate),
        lambda update: (update.replace(sealed=cbor.encode([*parts(update)[:3], b""])), activate),
    ],
    ids=["another secret", "no secret", "another message", "another container", "changed", "nothing"],
)
def test_what_is_not_for_this_chip_does_not_open(change: Any) -> None:
    update, opened_by = change(sealed())
    with pytest.raises(VerificationError) as caught:
        open_update(update, opened_by)
    assert caught.value.code == "decrypt_failed"


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"\xff",
        cbor.encode({}),
        cbor.encode([b"a", b"b", NONCE]),
        cbor.encode([b"a", b"b", NONCE, b"c", b"d"]),
        cbor.encode(["a", b"b", NONCE, b"c"]),
        cbor.encode([b"", b"b", NONCE, b"c"]),
        cbor.encode([b"a", b"", NONCE, b"c"]),
        cbor.encode([bytes(MAX_CREDENTIAL + 1), b"b", NONCE, b"c"]),
        cbor.encode([b"a", bytes(MAX_ENCRYPTED_SECRET + 1), NONCE, b"c"]),
        cbor.encode([b"a", b"b", NONCE[1:], b"c"]),
        cbor.encode([b"a", b"b", NONCE, b"c"]) + b"\0",
    ],
)
def test_what_is_no_sealed_update_is_refused_before_the_chip_is_asked(broken: bytes) -> None:
    def never(*_: bytes) -> bytes:
        raise AssertionError("asked")

    with pytest.raises(FormatError):
        open_update(
            UPDATE.replace(**{field.name: Update.defaults[field.name] for field in INNER}, sealed=broken), never
        )


@pytest.mark.parametrize(
    ("inside", "code"),
    [
        (b"\xff", "malformed"),
        ([], "malformed"),
        ({-65571: [1]}, "malformed"),
        ({-65571: b"one"}, "malformed"),
        ({-65574: 1}, "malformed"),
        ({7: bytes(16)}, "unsupported_version"),
        ({8: {5: bytes(32)}}, "unsupported_version"),
        ({-65569: bytes(16)}, "unsupported_version"),
        ({-65570: b"keys"}, "unsupported_version"),
        ({-65576: b"again"}, "unsupported_version"),
    ],
)
def test_what_does_not_belong_inside_is_refused(inside: Any, code: str) -> None:
    with pytest.raises(FormatError) as caught:
        open_update(hide(inside), activate)
    assert caught.value.code == code


@pytest.mark.parametrize("name", [field.name for field in INNER])
def test_what_belongs_inside_is_refused_outside(name: str) -> None:
    with pytest.raises(FormatError, match="more outside"):
        open_update(hide({}, **{name: getattr(UPDATE, name)}), activate)


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    update = Update("acme", 5, bytes(16), DEVICE.thumbprint, sealed=data)
    with pytest.raises(TallystickError) as caught:
        open_update(update, lambda *_: SECRET)
    assert isinstance(caught.value, FormatError | VerificationError)
