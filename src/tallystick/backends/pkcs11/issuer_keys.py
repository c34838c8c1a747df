# SPDX-License-Identifier: Apache-2.0
"""Making an issuer's key on a token, or taking over one that is there.

A key is made by the templates of `objects`: it signs, and does nothing else. A key that the URI names and the token has
is taken over if by the token's own word it was made there, is sensitive, cannot be extracted and signs without a PIN
for each signature. That word is all there is: a token that lies is the issuer's own. Before a key is handed out, it
signs once, and the signature is verified.
"""

from __future__ import annotations

import os
from typing import Any, Final

from tallystick.backends.pkcs11.adoption import OTHER, key_facts, require_fit
from tallystick.backends.pkcs11.choosing import named, narrowed
from tallystick.backends.pkcs11.modules import Module
from tallystick.backends.pkcs11.objects import SIGN, SIGN_RSA
from tallystick.backends.pkcs11.signer import KeyRecord, Pkcs11Signer
from tallystick.backends.pkcs11.token import Connect, Token, described
from tallystick.backends.pkcs11.uri import Pkcs11Uri
from tallystick.codec.keys import ALGORITHMS, ESP256, PS256, PublicKey
from tallystick.container.secrets import SecretsHandler
from tallystick.errors import TallystickError, VerificationError, error

# Mechanisms (PKCS #11 2.40, section 2): what makes a key, and what signs with it
_MAKES: Final = {ESP256: (0x1040, "CKM_EC_KEY_PAIR_GEN"), PS256: (0x0, "CKM_RSA_PKCS_KEY_PAIR_GEN")}
_SIGNS: Final = {ESP256: (0x1041, "CKM_ECDSA"), PS256: (0xD, "CKM_RSA_PKCS_PSS")}
_PURPOSES: Final = {ESP256: SIGN, PS256: SIGN_RSA}
_KEY_ID: Final = 16
_POINT: Final = 65
_PROOF: Final = b"tallystick issuer key"  # no message of ours begins like that: they are CBOR


class Obtained:
    """A key that was made, or found.

    Args:
        signer: of it.
        token: where it is.
        own: whether it was made.
    """

    def __init__(self, signer: Pkcs11Signer, token: Token, own: bool) -> None:
        self.signer = signer
        self._token = token
        self._own = own

    def undo(self) -> None:
        """Remove a key that was made and cannot be recorded; one that was there before stays."""
        if self._own:
            _drop(self._token, self.signer.known.key_id)


def obtain(
    where: Pkcs11Uri, modules: tuple[Module, ...], connect: Connect, secrets: SecretsHandler | None, alg: int
) -> Obtained:
    """Make a key, or take over the one that the URI names.

    Args:
        where: the URI.
        modules: where its token may be.
        connect: opens the way to a module.
        secrets: asked for the PIN.
        alg: COSE algorithm number, `ESP256` or `PS256`.

    Returns:
        The key.

    Raises:
        UsageError: ``ambiguous``: several tokens, or keys; ``usage``: the key is one of another algorithm.
        ContainerError: ``not_supported``.
        LockedError: ``pin_needed``, ``pin_wrong``, ``pin_blocked``.
        BackendError, BackendUnavailableError: as `Token.run`.
    """
    token = Token(where, narrowed(where, modules, connect), connect, None, secrets)
    able = token.mechanisms
    found = named(token, where)
    lacks = [name for number, name in (_SIGNS[alg], *(() if found else (_MAKES[alg],))) if number not in able]
    if lacks:
        message = f"the token {token.label!r} has no {ALGORITHMS[alg].name} keys: it lacks {', '.join(lacks)}"
        raise error("not_supported", message, "`tally tokens` lists what each can do.")
    if found:
        return Obtained(_proven(token, found[0], _public(_taken_over(token, found[0], alg), alg)), token, own=False)
    key_id, label = os.urandom(_KEY_ID), where.object or f"tallystick {where.name}"
    try:  # a session that is lost may leave a key that was made
        facts = token.run("generate", key_id, label, _PURPOSES[alg], again=False)
        return Obtained(_proven(token, key_id, _public(facts, alg)), token, own=True)
    except BaseException:
        _drop(token, key_id)
        raise


def _taken_over(token: Token, key_id: bytes, alg: int) -> dict[str, Any]:
    """Refuse a key that was there before unless the token vouches for it."""
    facts = key_facts(token, key_id)
    name = "RSA" if len(facts["public"]) != _POINT else "P-256"
    if (name == "RSA") is not (alg == PS256):
        wanted = ALGORITHMS[PS256 if name == "RSA" else ESP256].name
        message = f"the key on the token is a {name} key, which is no {ALGORITHMS[alg].name} key"
        raise error("usage", message, f"Say so: `--algorithm {wanted}`. {OTHER}")
    require_fit(facts, decrypts=alg != PS256)
    return facts


def _public(facts: dict[str, Any], alg: int) -> PublicKey:
    """Read the public half as the token told it: a point, or SubjectPublicKeyInfo of RSA."""
    try:
        if alg == ESP256:
            return PublicKey.from_p256_point(facts["public"])
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
        from cryptography.hazmat.primitives.serialization import load_der_public_key

        key = load_der_public_key(facts["public"])
        if not isinstance(key, RSAPublicKey):
            raise ValueError("not RSA")
        numbers = key.public_numbers()
        modulus, exponent = (value.to_bytes((value.bit_length() + 7) // 8) for value in (numbers.n, numbers.e))
        return PublicKey.from_cose({1: 3, 3: PS256, -1: modulus, -2: exponent})
    except (VerificationError, ValueError) as cause:
        message = f"the public half of the key on the token is none of {ALGORITHMS[alg].name}: {cause}"
        raise error("not_supported", message, OTHER) from cause


def _proven(token: Token, key_id: bytes, public: PublicKey) -> Pkcs11Signer:
    """Return the signer of a key that signs."""
    module = "" if token.module is None else token.module.path
    known = KeyRecord(module, described(token.facts), key_id, public)
    token.key = known.key
    signer = Pkcs11Signer(known, token)
    signer.sign(_PROOF)
    return signer


def _drop(token: Token, key_id: bytes) -> None:
    try:
        token.run("drop_key", key_id, again=False)
    except TallystickError:  # what stopped us may have stopped the token: its key is useless, and stays
        return
