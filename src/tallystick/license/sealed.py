# SPDX-License-Identifier: Apache-2.0
"""Updates that one chip alone can read.

The issuer encrypts what an update brings with a fresh secret, and hands the secret over in the form that a TPM gives
out only where it holds both the endorsement key and the attestation key it was made for (``TPM2_MakeCredential`` and
``TPM2_ActivateCredential``). Who claimed a chip that is not there gets an update that nobody can open.

    sealed     = << [id_object, encrypted_secret, nonce, ciphertext] >>
    key        = HKDF-SHA-256(secret, info = "tallystick sealed update")
    ciphertext = AES-256-GCM(key, nonce, << the fields inside, by their labels >>, aad = message id || container)

The update around it is signed as any other: verify first, open afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tallystick.codec import cbor
from tallystick.codec.envelope import IV_BYTES, KEY_BYTES, decrypt
from tallystick.errors import error
from tallystick.license.answers import INNER, Update
from tallystick.license.schema import Table

SECRET_BYTES: Final = 32
MAX_CREDENTIAL: Final = 256  # an id object: a MAC and an encrypted secret
MAX_ENCRYPTED_SECRET: Final = 1024  # RSA of up to 8,192 bits, or a point of a curve
_INFO: Final = b"tallystick sealed update"
_INSIDE: Final = Table("sealed update", *INNER)


def seal_update(update: Update, make: Callable[[bytes], tuple[bytes, bytes]], random: Callable[[int], bytes]) -> Update:
    """Hide what an update brings from everybody but one chip.

    Args:
        update: not sealed.
        make: makes the credential of a 32-byte secret: the contents of TPM2B_ID_OBJECT and of TPM2B_ENCRYPTED_SECRET.
        random: source of the secret and of the nonce.

    Returns:
        The update with `sealed` in place of the fields inside.
    """
    secret, nonce = random(SECRET_BYTES), random(IV_BYTES)
    id_object, encrypted_secret = make(secret)
    inside = cbor.encode(_INSIDE.write(update))
    hidden = AESGCM(_key(secret)).encrypt(nonce, inside, _aad(update))
    without = {field.name: Update.defaults[field.name] for field in INNER}
    return update.replace(**without, sealed=cbor.encode([id_object, encrypted_secret, nonce, hidden]))


def open_update(update: Update, activate: Callable[[bytes, bytes], bytes]) -> Update:
    """Open a sealed update.

    Args:
        update: its signature was verified; not sealed, it is returned as it is.
        activate: gives back the secret of a credential, as `seal_update`'s `make` made it.

    Returns:
        The update with the fields inside, `sealed` taken away.

    Raises:
        FormatError: ``malformed``, ``too_large`` or ``unsupported_version``; also where a field that belongs inside
            stands outside, too.
        VerificationError: ``decrypt_failed`` for another chip's secret; what `activate` raises.
        BackendError: what `activate` raises.
    """
    if update.sealed is None:
        return update
    if any(getattr(update, field.name) != Update.defaults[field.name] for field in INNER):
        raise error("malformed", "a sealed update with more outside than belongs there")
    match cbor.decode(update.sealed):
        case [bytes(id_object), bytes(encrypted_secret), bytes(nonce), bytes(hidden)] if (
            0 < len(id_object) <= MAX_CREDENTIAL
            and 0 < len(encrypted_secret) <= MAX_ENCRYPTED_SECRET
            and len(nonce) == IV_BYTES
        ):
            secret = activate(id_object, encrypted_secret)
        case _:
            raise error("malformed", "not a sealed update")
    inside = cbor.decode(decrypt(_key(secret), nonce, hidden, _aad(update), "the update"))
    if type(inside) is not dict:
        raise error("malformed", "a sealed update without fields")
    return update.replace(**_INSIDE.read(inside), sealed=None)


def _key(secret: bytes) -> bytes:
    return HKDF(hashes.SHA256(), KEY_BYTES, b"", _INFO).derive(secret)


def _aad(update: Update) -> bytes:
    return update.message_id + update.container
