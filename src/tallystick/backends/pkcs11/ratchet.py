# SPDX-License-Identifier: Apache-2.0
"""Who signs marks: the identity key, or in ratchet mode one that each import, transfer and repair replaces.

A ratchet key is an ordinary key pair of the token, found by its label. The newest mark names the one in force. A new
one is made before the state it will vouch for is written, and the old one destroyed when the new mark is on the token:
interrupted in between, there are two, and the mark decides; what it does not name was never in force, or is over.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Final

from tallystick.backends.pkcs11.objects import SIGN
from tallystick.backends.pkcs11.token import Token
from tallystick.codec.digest import sha256
from tallystick.codec.keys import PublicKey
from tallystick.errors import VerificationError, error

KEY_ID_BYTES: Final = 16


def ratchet_label(container: bytes) -> str:
    """Return what the ratchet keys of a container are called.

    Args:
        container: its thumbprint.
    """
    return f"tallystick ratchet {container.hex()[:16]}"


class Signers:
    """The key that signs marks: always the identity key.

    Args:
        token: with the key.
        key_id: its CKA_ID.
        public: its public half.
    """

    ratchets = False

    def __init__(self, token: Token, key_id: bytes, public: PublicKey) -> None:
        self._token = token
        self._key_id = key_id
        self._public = public

    def keys(self) -> dict[bytes, PublicKey]:
        """Return the keys that may sign marks now, by thumbprint."""
        return {self._public.thumbprint: self._public}

    def next(self, current: bytes, *, fresh: bool) -> bytes:
        """Return what the next state must name; empty where that is the identity key."""
        return b""

    def signing(self, thumbprint: bytes) -> tuple[PublicKey, Callable[[bytes], bytes]]:
        """Return a key, and what signs with it.

        Args:
            thumbprint: as `next` returned it.
        """
        return self._public, partial(self._signed, self._key_id, self._public)

    def settle(self, current: bytes) -> None:
        """Destroy every key but the one in force."""

    def _signed(self, key_id: bytes, public: PublicKey, message: bytes) -> bytes:
        signature: bytes = self._token.run("sign", key_id, sha256(message), public.p256_point())
        return signature


class Ratchet(Signers):
    """Keys that sign marks for a while.

    Args:
        token: where they are.
        container: its thumbprint.
    """

    ratchets = True

    def __init__(self, token: Token, container: bytes) -> None:
        self._token = token
        self._label = ratchet_label(container)

    def keys(self) -> dict[bytes, PublicKey]:
        """Return the ratchet keys on the token, by thumbprint."""
        return {key.thumbprint: key for key in self._listed().values()}

    def next(self, current: bytes, *, fresh: bool) -> bytes:
        """Return the thumbprint of the key in force, or of a new one.

        Args:
            current: the one in force; empty where there is none.
            fresh: whether it is to be replaced.

        Raises:
            BackendError, LockedError, ContainerError: as `Token.run`.
        """
        if current and not fresh:
            return current
        if not current:
            self.settle(current)  # of a creation that was interrupted; else only a mark says what is over
        facts = self._token.run("generate", os.urandom(KEY_ID_BYTES), self._label, SIGN, again=False)
        return PublicKey.from_p256_point(facts["public"]).thumbprint

    def signing(self, thumbprint: bytes) -> tuple[PublicKey, Callable[[bytes], bytes]]:
        """Return a key, and what signs with it.

        Args:
            thumbprint: as `next` returned it.

        Raises:
            LockedError: ``tampered``: the state names a key that is not on the token.
        """
        for key_id, key in self._listed().items():
            if key.thumbprint == thumbprint:
                return key, partial(self._signed, key_id, key)
        raise error("tampered", "the state names a ratchet key that is not on the token any more")

    def settle(self, current: bytes) -> None:
        """Destroy every ratchet key but the one in force.

        Args:
            current: its thumbprint; empty for all.
        """
        listed = self._listed()
        for key_id in {key_id for key_id, label in self._token.halves() if label == self._label}:
            if key_id not in listed or listed[key_id].thumbprint != current:
                self._token.run("drop_key", key_id)

    def _listed(self) -> dict[bytes, PublicKey]:
        """Find them; a public half without its private one vouches for nothing."""
        private = {key_id for key_id, label in self._token.run("private_keys") if label == self._label}
        found = {}
        for key_id, label, point in self._token.run("public_keys"):
            if label == self._label and key_id in private:
                try:
                    found[key_id] = PublicKey.from_p256_point(point)
                except VerificationError:
                    continue
        return found
