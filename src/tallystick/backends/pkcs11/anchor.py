# SPDX-License-Identifier: Apache-2.0
"""The anchor of a container in a token: a key that signs, one that agrees where there is one, and a mark.

The state key is encrypted under a key that only somebody logged in to the token gets: by ECDH with the agreement key,
or, where the token cannot agree, from a private data object. ADR 0022 says what that protects against whom.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeVar

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tallystick.backends.pkcs11.marks import Mark, Marks
from tallystick.backends.pkcs11.ratchet import Ratchet, Signers
from tallystick.backends.pkcs11.record import TokenRecord
from tallystick.backends.pkcs11.token import Token
from tallystick.codec import cbor, envelope
from tallystick.codec.digest import sha256
from tallystick.codec.keys import PublicKey
from tallystick.container.anchor import CHAIN, NOTHING, Anchor, Capability, Position
from tallystick.container.vfs import Directory
from tallystick.errors import FormatError, TallystickError, VerificationError, error

T = TypeVar("T")

HARDWARE_SLOT: Final = 0x4
REMOVABLE: Final = 0x2
# Flags of CK_SLOT_INFO (PKCS #11 2.40, section 3.2)
_KEY: Final = 32
_NONCE: Final = 12
_SEALED_LIMIT: Final = 4096
_STATE_KEY: Final = b"tallystick token state key\x00"
_GENESIS: Final = bytes(32)


class Pkcs11Anchor(Anchor):
    """The keys and the mark of one container. `backends.pkcs11.provision` makes them.

    Args:
        token: with the keys.
        known: what the container remembers of it.
    """

    def __init__(self, token: Token, known: TokenRecord) -> None:
        self.token = token
        self.known = known
        self._public_key = PublicKey.from_p256_point(known.identity[1])
        self._agreement_key = None if known.agreement is None else PublicKey.from_p256_point(known.agreement[1])
        thumbprint = self._public_key.thumbprint
        self.marks = Marks(token, thumbprint)
        self.signers = (
            Ratchet(token, thumbprint) if known.mode.ratchet else Signers(token, known.identity[0], self._public_key)
        )
        self._secret_label = f"tallystick key {thumbprint.hex()[:16]}"
        self._last: Mark | None = None
        self.littered = False
        self.capabilities = _promised(token, known)

    @property
    def public_key(self) -> PublicKey:
        """The identity key (P-256, ESP256)."""
        return self._public_key

    @property
    def agreement_key(self) -> PublicKey | None:
        """The agreement key (P-256); None where the token cannot agree."""
        return self._agreement_key

    @property
    def level(self) -> int | None:
        """One, as the issuer has it, for a token that does not call itself hardware."""
        return None if Capability.NON_EXPORTABLE in self.capabilities else 1

    @property
    def memory(self) -> int:
        """What the token remembers of states, without asking it."""
        return CHAIN if self.known.mode.marks else NOTHING

    def belongings(self) -> list[str]:
        """Name the data objects on the token by which a container lives that has this identity key; raises as `run`."""
        _, marks = self.marks.found({})
        return [*marks, *(label for label, _ in self.token.run("data", self._secret_label))]

    def is_anothers(self) -> bool:
        """Tell whether another container lives by the key, which was there before: marks come after the first state."""
        return not self.known.own and not self.known.begun and bool(self.marks.found({})[1])

    def begun(self, directory: Directory) -> None:
        """Record that there is a state: from now on, a token without a mark is one that lost it."""
        self.known = self.known.replace(begun=True)
        self.known.save(directory)

    def tidy(self) -> None:
        """Destroy what an interrupted commit left on the token, if the newest mark is that of the state found."""
        if self.littered:
            marks, labels = self._found()
            if marks and marks[0] == self._last:
                self._settle(marks[0], labels)
            self.littered = False

    def renew(self, generation: int) -> None:
        """Make a mark where the token lost it, was itself set back behind the states on disk, or has two that disagree.

        It is one that no state belongs to, so that the vendors must agree.

        Args:
            generation: of the newest state on disk.

        Raises:
            BackendError, LockedError: as `Marks.make`; ``backend_failed``, ``rolled_back``.
        """
        if self.known.mode.marks:
            _, marks, labels = self._sure(self._look, lambda seen: seen[1])
            if not marks or marks[0].generation < generation or _are_rivals(marks):
                mark = self.signers.next(b"", fresh=True)
                newest = max([generation, *(one.generation for one in marks)])
                (made,), labels = self._made(newest + 1, os.urandom(_KEY), mark, labels)
                self._settle(made, labels)

    def close(self) -> None:
        """Let go of the token."""
        self.token.close()

    def _sign(self, message: bytes) -> bytes:
        signature: bytes = self.token.run("sign", self.known.identity[0], sha256(message), self.known.identity[1])
        return signature

    def _agree(self, peer_public: bytes) -> bytes:
        if self.known.agreement is None:
            return super()._agree(peer_public)
        PublicKey.from_p256_point(peer_public)  # refuses what is not on the curve, in the words of all anchors
        shared: bytes = self.token.run("derive", self.known.agreement[0], peer_public)
        return shared

    def _seal(self, secret: bytes) -> bytes:
        key = os.urandom(_KEY)
        if self._agreement_key is not None:
            kept = envelope.seal_key(key, self._agreement_key)
        else:
            kept = b""
            self.token.run("drop_data", self._secret_label)
            self.token.run("put_data", self._secret_label, key, again=False)
        nonce = os.urandom(_NONCE)
        return cbor.encode([kept, nonce, AESGCM(key).encrypt(nonce, secret, self._aad())])

    def _unseal(self, sealed: bytes) -> bytes:
        secret = self._unsealed(sealed)
        self.capabilities = _promised(self.token, self.known)  # only now the token is known
        return secret

    def _unsealed(self, sealed: bytes) -> bytes:
        try:
            match cbor.decode(sealed, _SEALED_LIMIT):
                case [bytes(kept), bytes(nonce), bytes(encrypted)]:
                    return envelope.decrypt(self._key(kept), nonce, encrypted, self._aad(), "the state key")
        except (FormatError, VerificationError) as cause:
            message = "the container's state key was changed, or belongs to another container"
            raise error("tampered", message) from cause
        raise error("tampered", "the container's state key file is damaged")

    def _key(self, kept: bytes) -> bytes:
        if self.known.mode.derives:
            return envelope.open_key(kept, self._agree)
        rows: list[Any] = self._sure(partial(self.token.run, "data", self._secret_label), len)
        if len(rows) != 1:
            message = f"the token has {len(rows)} secrets of this container instead of one"
            remedy = "Without it nothing opens the container: ask the vendor for another license."
            raise error("anchor_lost", message, remedy)
        secret: bytes = rows[0][1]
        return secret

    def _aad(self) -> bytes:
        """Return what ties the state key to how the container works: nobody edits the marks away."""
        return _STATE_KEY + self.known.mode.to_byte()

    def _position(self) -> Position | None:
        if not self.known.mode.marks:
            return None
        newest = self._newest()
        return Position(0, _GENESIS) if newest is None else newest.position(ratcheted=self.signers.ratchets)

    def _forget(self) -> None:
        self.token.forget()

    def _mark(self, *, fresh: bool) -> bytes:
        last = self._last or self._newest()
        current = last.key if last is not None and self.signers.ratchets else b""
        return self.signers.next(current, fresh=fresh)

    def _advance(self, expected: Position, state_digest: bytes) -> None:
        """Make the new mark, read it back, destroy what was before; what was interrupted is gone on with."""
        if not self.known.mode.marks or expected.chain is None:
            return
        chain = sha256(expected.chain + state_digest)
        marks, labels = self._found()
        stands = (marks[0].generation, marks[0].chain) if marks else (0, _GENESIS)
        if stands != (expected.counter, chain):
            if stands != (expected.counter - 1, expected.chain):
                code = "rolled_back" if stands[0] > expected.counter - 1 else "tampered"
                raise error(code, f"the token's mark stands at {stands[0]}, the new state is {expected.counter}")
            marks, labels = self._made(expected.counter, chain, expected.mark, labels)
        self._settle(marks[0], labels)

    def _made(self, generation: int, chain: bytes, signer: bytes, there: list[str]) -> tuple[list[Mark], list[str]]:
        """Make a mark and read it back.

        Refused where another copy of the files moved the mark at the same moment: whoever looks last sees both, so two
        states never follow one.
        """
        made = self.marks.make(generation, chain, *self.signers.signing(signer), there)
        marks, labels = self.marks.found(self.signers.keys())
        if any(one != made and one.generation >= made.generation for one in marks):
            self.marks.drop([made.label])
            raise error("rolled_back", "another copy of the container's files moved the token's mark")
        if made not in marks:
            raise error("backend_failed", "the token does not give back the mark it was given")
        return [made], labels

    def _settle(self, newest: Mark, labels: list[str]) -> None:
        """Destroy what the newest mark makes needless: a key must go, marks that stay are destroyed another time."""
        if self.signers.ratchets:
            self.signers.settle(newest.key)
        self._last = newest
        for label in labels:
            if label != newest.label:
                with suppress(TallystickError):  # what was committed is, and the highest mark counts
                    self.marks.drop([label])

    def _evidence(self, challenge: bytes) -> Mapping[str, bytes]:
        """Return what does not cover the challenge, and need not: the request is signed by the key it is about."""
        from tallystick.backends.pkcs11.evidence import evidence  # seldom needed

        return evidence(self.token, self.known.identity[1])

    def _newest(self) -> Mark | None:
        marks, _ = self._found()
        self._last = marks[0] if marks else None
        return self._last

    def _sure(self, look: Callable[[], T], is_there: Callable[[T], object]) -> T:
        """Look for what must be there; a token that is away answers like an empty one, until it is looked for anew."""
        seen = look()
        if not is_there(seen):
            self.token.forget()
            seen = look()
        return seen

    def _look(self) -> tuple[dict[bytes, PublicKey], list[Mark], list[str]]:
        keys = self.signers.keys()
        return keys, *self.marks.found(keys)

    def _found(self) -> tuple[list[Mark], list[str]]:
        keys, marks, labels = self._sure(self._look, lambda seen: seen[1] or not self.known.begun)
        self.littered = len(labels) > 1 or len(keys) > 1
        if _are_rivals(marks):
            raise error("tampered", f"the token has two marks of generation {marks[0].generation}")
        if not marks and self.known.begun:
            remedy = "Ask the vendor for a repair (`tally request --repair`)."
            raise error("anchor_lost", "the container's mark was removed from the token", remedy)
        return marks, labels


def _are_rivals(marks: list[Mark]) -> bool:
    """Tell whether the newest marks name two states."""
    return len(marks) > 1 and marks[0].generation == marks[1].generation and marks[0].chain != marks[1].chain


def _promised(token: Token, known: TokenRecord) -> Capability:
    """Say what the token is good for by its own word; what an issuer believes is another matter."""
    promised = Capability.NONE
    if known.agreement is not None:
        promised |= Capability.UNLOCK
    if known.mode.ratchet:
        promised |= Capability.RATCHETED
    flags = token.facts.get("slot_flags", 0)
    if flags & HARDWARE_SLOT:
        promised |= Capability.NON_EXPORTABLE
    if flags & REMOVABLE:
        promised |= Capability.PORTABLE
    return promised
