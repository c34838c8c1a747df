# SPDX-License-Identifier: Apache-2.0
"""Software signers: made, stored, read back; nothing of the private half shows."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, mldsa, rsa, x25519

from tallystick.codec.keys import ALGORITHMS, ED25519, ESP256, ML_DSA_44, PS256
from tallystick.codec.signing import SoftwareKey
from tallystick.errors import UsageError, VerificationError

KEYS = {alg: SoftwareKey.generate(alg) for alg in ALGORITHMS}
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256
ALL = pytest.mark.parametrize("alg", ALGORITHMS, ids=lambda alg: ALGORITHMS[alg].name)

# A valid key on secp160r1, which `cryptography` knows by name only.
ODD_CURVE = b"""-----BEGIN PRIVATE KEY-----
MGECAQAwEAYHKoZIzj0CAQYFK4EEAAgESjBIAgEBBBUACGj29yaK9l5vKhCJTAeH
J05co76hLAMqAAS0Lccok6O3gSmxy1FH9fLRA9AcF4B2UkYwy9IQuhseP4NDB4IX
kiPV
-----END PRIVATE KEY-----
"""


def pkcs8(private: object) -> bytes:
    encoded: bytes = private.private_bytes(  # type: ignore[attr-defined]
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return encoded


@ALL
def test_a_key_survives_storing_with_and_without_a_password(alg: int) -> None:
    key = KEYS[alg]
    for password in (None, b"correct horse"):
        stored = key.to_pkcs8(password)
        again = SoftwareKey.from_pkcs8(stored, password)
        assert again.public_key == key.public_key
        key.public_key.verify(b"text", again.sign(b"text"))


@ALL
@pytest.mark.parametrize("password", [None, b"", b"wrong horse"])
def test_an_encrypted_key_opens_with_its_password_only(alg: int, password: bytes | None) -> None:
    stored = KEYS[alg].to_pkcs8(b"correct horse")
    assert stored.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    with pytest.raises(VerificationError) as caught:
        SoftwareKey.from_pkcs8(stored, password)
    assert caught.value.code == "bad_key"
    assert "passphrase" in caught.value.remedy


def test_a_password_for_a_key_that_needs_none_is_refused() -> None:
    with pytest.raises(VerificationError):
        SoftwareKey.from_pkcs8(KEYS[ESP256].to_pkcs8(), b"password")


@pytest.mark.parametrize("data", [b"", b"\x30", b"-----BEGIN PRIVATE KEY-----\n", b"\xff" * 100, ODD_CURVE])
def test_what_is_no_readable_key_is_refused(data: bytes) -> None:
    with pytest.raises(VerificationError) as caught:
        SoftwareKey.from_pkcs8(data)
    assert caught.value.code == "bad_key"


@pytest.mark.parametrize(
    "private",
    [
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP256K1()),
        x25519.X25519PrivateKey.generate(),
        ed448.Ed448PrivateKey.generate(),
        mldsa.MLDSA65PrivateKey.generate(),
        rsa.generate_private_key(3, 2048),
        rsa.generate_private_key(65537, 1024),
    ],
    ids=["P-384", "secp256k1", "X25519", "Ed448", "ML-DSA-65", "RSA e=3", "RSA 1024"],
)
def test_keys_of_other_types_and_sizes_are_refused(private: object) -> None:
    with pytest.raises(VerificationError) as caught:
        SoftwareKey.from_pkcs8(pkcs8(private))
    assert caught.value.code == "bad_key"


def test_an_rsa_exponent_of_more_than_three_bytes_is_refused_as_such() -> None:
    private = rsa.generate_private_key(65537, 2048).private_numbers()
    e = (1 << 32) + 15
    phi = (private.p - 1) * (private.q - 1)
    d = pow(e, -1, phi)
    public = rsa.RSAPublicNumbers(e, private.p * private.q)
    dmp1, dmq1 = d % (private.p - 1), d % (private.q - 1)
    other = rsa.RSAPrivateNumbers(private.p, private.q, d, dmp1, dmq1, private.iqmp, public).private_key()
    with pytest.raises(VerificationError) as caught:
        SoftwareKey(other, PS256)
    assert caught.value.code == "bad_key"


@pytest.mark.parametrize("alg", [-7, -8, 0, 3, -50])
def test_keys_of_other_algorithms_cannot_be_made(alg: int) -> None:
    with pytest.raises(UsageError):
        SoftwareKey.generate(alg)


@ALL
def test_the_private_half_does_not_show(alg: int) -> None:
    key = KEYS[alg]
    secret = key.to_pkcs8()
    assert repr(key) == f"SoftwareKey({key.public_key!r})"
    assert secret.hex()[-64:] not in repr(key)
    assert str(key) == repr(key)


def test_a_p256_key_survives_as_its_bare_number() -> None:
    key = KEYS[ESP256]
    scalar = key.p256_scalar()
    assert len(scalar) == 32
    assert SoftwareKey.from_p256_scalar(scalar).public_key == key.public_key
    assert len(SoftwareKey.from_p256_scalar((1).to_bytes(32)).p256_scalar()) == 32


@pytest.mark.parametrize("number", [0, ORDER, ORDER + 1, (1 << 256) - 1])
def test_a_number_outside_the_order_is_no_key(number: int) -> None:
    with pytest.raises(VerificationError) as caught:
        SoftwareKey.from_p256_scalar(number.to_bytes(32))
    assert caught.value.code == "bad_key"


def test_signature_sizes() -> None:
    sizes = {alg: len(key.sign(b"text")) for alg, key in KEYS.items()}
    assert sizes == {ESP256: 64, ED25519: 64, PS256: 256, ML_DSA_44: 2420}


def test_both_sides_agree_on_the_same_secret() -> None:
    one, other = SoftwareKey.generate(), SoftwareKey.generate()
    shared = one.agree(other.public_key.p256_point())
    assert shared == other.agree(one.public_key.p256_point())
    assert len(shared) == 32
