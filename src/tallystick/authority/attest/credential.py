# SPDX-License-Identifier: Apache-2.0
"""Credentials: a secret that only the TPM of an endorsement key opens, and only for one attestation key in it.

TPM 2.0 Library, Part 1, section 24 and annexes B.10.3 (RSA) and C.6.1 (elliptic curves), in plain Python. The TPM
checks the attestation key's *Name*, which covers its attributes; that these make the key worth believing was checked
by `verify.examine`, hence its result is what is asked for here and not two byte strings.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tallystick.authority.attest.algorithms import HASHES
from tallystick.authority.attest.cursor import sized
from tallystick.authority.attest.structures import Public
from tallystick.authority.attest.verify import Attested

_LABEL: Final = b"IDENTITY\0"
_ORDERS: Final = {
    "secp256r1": 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    "secp384r1": 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973,
}
_BIAS: Final = 16  # bytes more than the order has, so that no scalar is likelier than another
_BLOCK: Final = 16

Hash = hashes.HashAlgorithm


def make_credential(attested: Attested, secret: bytes, random: Callable[[int], bytes]) -> tuple[bytes, bytes]:
    """Encrypt a secret to the TPM and attestation key that evidence is about (TPM2_MakeCredential).

    Args:
        attested: what `verify.examine` returned.
        secret: at most as long as the hash that names the endorsement key: 32 bytes always fit.
        random: returns that many random bytes.

    Returns:
        The contents of TPM2B_ID_OBJECT and of TPM2B_ENCRYPTED_SECRET, without the size before them.

    Raises:
        ValueError: the secret is longer (a defect of the caller).
    """
    ek = Public.parse(attested.ek)
    algorithm = HASHES[ek.name_alg]()
    if len(secret) > algorithm.digest_size:
        raise ValueError("a secret longer than a digest")
    seed, sealed_seed = _seed(ek, algorithm, random)
    cipher_key = _kdfa(algorithm, seed, b"STORAGE", attested.ak_name, ek.symmetric.bits)
    hidden = _cfb(cipher_key, sized(secret))
    mac_key = _kdfa(algorithm, seed, b"INTEGRITY", b"", algorithm.digest_size * 8)
    return sized(_hmac(algorithm, mac_key, hidden + attested.ak_name)) + hidden, sealed_seed


def _seed(ek: Public, algorithm: Hash, random: Callable[[int], bytes]) -> tuple[bytes, bytes]:
    """The seed both keys come from, and how the endorsement key's TPM learns it."""
    key = ek.key()
    if isinstance(key, rsa.RSAPublicKey):
        seed = random(algorithm.digest_size)
        return seed, key.encrypt(seed, padding.OAEP(padding.MGF1(algorithm), algorithm, _LABEL))
    width, order = (key.key_size + 7) // 8, _ORDERS[key.curve.name]
    scalar = int.from_bytes(random(width + _BIAS), "big") % (order - 1) + 1
    once = ec.derive_private_key(scalar, key.curve)
    mine = once.public_key().public_numbers()
    x, y = (part.to_bytes(width, "big") for part in (mine.x, mine.y))
    seed = _kdfe(algorithm, once.exchange(ec.ECDH(), key), x, ek.unique[0])
    return seed, sized(x) + sized(y)


def _kdfe(algorithm: Hash, shared: bytes, mine: bytes, theirs: bytes) -> bytes:
    """KDFe for one digest's worth of key (Part 1, 11.4.10.3): the counter is 1."""
    digest = hashes.Hash(algorithm)
    digest.update((1).to_bytes(4, "big") + shared + _LABEL + mine + theirs)
    return digest.finalize()


def _kdfa(algorithm: Hash, key: bytes, label: bytes, context: bytes, bits: int) -> bytes:
    """KDFa, for at most one digest's worth of key (Part 1, 11.4.10.2): the counter is 1."""
    return _hmac(algorithm, key, (1).to_bytes(4, "big") + label + b"\0" + context + bits.to_bytes(4, "big"))[
        : bits // 8
    ]


def _hmac(algorithm: Hash, key: bytes, data: bytes) -> bytes:
    mac = hmac.HMAC(key, algorithm)
    mac.update(data)
    return mac.finalize()


def _cfb(key: bytes, data: bytes) -> bytes:
    """AES in CFB mode from a zero vector, for a key used once; `cryptography` moves its own CFB between releases."""
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305 - the block cipher alone, chained here
    hidden, previous = b"", bytes(_BLOCK)
    for start in range(0, len(data), _BLOCK):
        block = data[start : start + _BLOCK]
        previous = bytes(x ^ y for x, y in zip(block, encryptor.update(previous), strict=False))
        hidden += previous
    return hidden
