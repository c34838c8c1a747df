# SPDX-License-Identifier: Apache-2.0
"""The anchor: everything a thin backend must provide, and nothing more.

A container's rules (`container.ledger`), files (`container.store`) and protocol (`container.sealed`) exist once.
A backend adds where the two key pairs live, how 32 bytes of state key are kept, and, if it has one, a monotonic
position that detects restored files. Public methods are final: they call the underscored ones and let no foreign
exception out (``BackendError`` with the original as ``__cause__``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from enum import Flag, auto
from typing import TYPE_CHECKING, TypeVar, final

from tallystick.codec.digest import sha256
from tallystick.codec.keys import PublicKey
from tallystick.errors import TallystickError, error
from tallystick.record import Record

if TYPE_CHECKING:
    from tallystick.container.metering import MeterBank
    from tallystick.container.vfs import Directory

_T = TypeVar("_T")
NOTHING, COUNTER, CHAIN = 0, 1, 2


class Capability(Flag):
    """What a container can honestly promise; reported by ``info()``, never imitated."""

    NONE = 0
    ROLLBACK_PROOF = auto()
    """Restored older files are detected without contact to the issuer."""
    NON_EXPORTABLE = auto()
    """The private keys cannot leave the device."""
    ATTESTED = auto()
    """The issuer can verify offline that the keys live in a genuine device."""
    METERED = auto()
    """The device itself counts units, even against root."""
    PORTABLE = auto()
    """The container moves between machines by being carried."""
    UNLOCK = auto()
    """Content keys can be agreed (`Seat.unlock`)."""
    TOUCH = auto()
    """The device waits for a press of its button where a license asks for one, whatever the computer wants."""
    RATCHETED = auto()
    """Each import and transfer destroys the key that vouched for the states before: copies of them open no more."""


class Position(Record):
    """Where a monotonic anchor stands.

    Attributes:
        counter: number of committed states, >= 0.
        chain: 32 bytes, ``SHA-256(previous chain || state digest)`` of the committed state; None where the anchor has
            room for a counter only (protocol P2).
        mark: what that state must have been given by `Anchor.mark`; empty where anchors of its kind give none.
    """

    counter: int
    chain: bytes | None
    mark: bytes = b""

    @property
    def place(self) -> bytes | None:
        """32 bytes that tell this place from all others of its counter, also from one that is made to look like it."""
        return sha256(self.chain + self.mark) if self.chain is not None and self.mark else self.chain


class Anchor(ABC):
    """The key custody and monotonic position of one container."""

    capabilities: Capability = Capability.NONE

    @property
    @abstractmethod
    def public_key(self) -> PublicKey:
        """The identity key (P-256, ESP256); its thumbprint is the container's id."""

    @property
    @abstractmethod
    def agreement_key(self) -> PublicKey | None:
        """The agreement key (P-256) content keys are sealed to, or None where the anchor cannot agree."""

    @property
    def level(self) -> int | None:
        """The assurance level the container can have at most; None where the issuer alone can tell."""
        return None if Capability.NON_EXPORTABLE in self.capabilities else 0

    @final
    def sign(self, message: bytes) -> bytes:
        """Sign with the identity key.

        Args:
            message: the bytes to sign (hashed with SHA-256 by the anchor).

        Returns:
            The 64-byte ESP256 signature r || s.

        Raises:
            BackendError: the key cannot be used.
        """
        return self._guard(lambda: self._sign(message))

    @final
    def agree(self, peer_public: bytes) -> bytes:
        """Run ECDH between the agreement key and a peer.

        Args:
            peer_public: 65 bytes, uncompressed SEC1 point on P-256.

        Returns:
            The 32-byte shared x coordinate.

        Raises:
            ContainerError: ``not_supported`` where the anchor has no agreement key.
            VerificationError: ``bad_key`` for a point that is not on the curve.
            BackendError: the key cannot be used.
        """
        return self._guard(lambda: self._agree(peer_public))

    @final
    def seal(self, secret: bytes) -> bytes:
        """Wrap the 32-byte state key so that only this anchor unwraps it.

        Args:
            secret: 32 bytes.

        Returns:
            The wrapped key, at most 4 KiB, to be stored in the container's directory.

        Raises:
            BackendError: the anchor cannot seal.
        """
        return self._guard(lambda: self._seal(secret))

    @final
    def unseal(self, sealed: bytes) -> bytes:
        """Undo `seal`.

        Args:
            sealed: what `seal` returned.

        Returns:
            The 32 bytes.

        Raises:
            LockedError: ``binding_lost`` or ``tampered``.
            BackendError: the anchor cannot unseal.
        """
        return self._guard(lambda: self._unseal(sealed))

    @property
    def memory(self) -> int:
        """What the anchor remembers of states: `NOTHING`, a `COUNTER` (protocol P2), or counter and `CHAIN` (P4)."""
        position = self.position()
        if position is None:
            return NOTHING
        return COUNTER if position.chain is None else CHAIN

    @final
    def position(self, *, afresh: bool = False) -> Position | None:
        """Read the monotonic position; None where there is none (and `Capability.ROLLBACK_PROOF` is absent).

        Args:
            afresh: go by nothing that was seen before: another process may have moved the anchor since.
        """
        if afresh:
            self._guard(self._forget)
        return self._guard(self._position)

    @final
    def mark(self, *, fresh: bool) -> bytes:
        """Return what the next state must carry in its header, authenticated with it; empty for most anchors.

        Args:
            fresh: what vouches for the states so far is to be destroyed when the anchor has moved.

        Raises:
            BackendError: the device cannot make what is needed.
        """
        return self._guard(lambda: self._mark(fresh=fresh))

    @final
    def advance(self, expected: Position, state_digest: bytes) -> None:
        """Move the anchor to the state just written, or finish a move that was interrupted.

        After it the position is ``(expected.counter, SHA-256(expected.chain || state_digest))``, or, without a chain,
        ``expected``. With a chain, calling it again for the same state changes nothing; calling it from any other
        position fails without moving.

        Args:
            expected: the counter of the new state, and the chain value before it.
            state_digest: SHA-256 of the sealed state.

        Raises:
            LockedError: ``rolled_back`` or ``tampered`` where the position is neither before, between nor after.
            BackendError: the anchor cannot move.
        """
        self._guard(lambda: self._advance(expected, state_digest))

    @final
    def evidence(self, challenge: bytes) -> Mapping[str, bytes]:
        """Collect what lets an issuer derive the assurance level.

        Args:
            challenge: 32 bytes the evidence must cover (the hash of the request).

        Returns:
            Named byte strings; empty for anchors that can prove nothing (level L0 or L1).

        Raises:
            BackendError: the device refuses.
        """
        return self._guard(lambda: self._evidence(challenge))

    @final
    def activate(self, credential: bytes, secret: bytes) -> bytes:
        """Open what an issuer sealed to the device its evidence named.

        Args:
            credential: contents of the TPM2B_ID_OBJECT.
            secret: contents of the TPM2B_ENCRYPTED_SECRET.

        Returns:
            The 32 bytes the issuer drew.

        Raises:
            ContainerError: ``not_supported`` where the anchor gives no such evidence.
            VerificationError: ``decrypt_failed``: sealed to another device.
            BackendError: the device fails.
        """
        return self._guard(lambda: self._activate(credential, secret))

    def metering(self, directory: Directory) -> MeterBank | None:
        """Return the meters of the container; None where the device counts no units by itself.

        Args:
            directory: the container's folder.
        """
        return None

    def close(self) -> None:
        """Release the device; further use raises ``UsageError``. Closing twice is allowed."""

    def tidy(self) -> None:
        """Remove what an interrupted commit left in the device; called under the container's lock, the state found."""

    # -- what a backend implements

    @abstractmethod
    def _sign(self, message: bytes) -> bytes: ...

    @abstractmethod
    def _seal(self, secret: bytes) -> bytes: ...

    @abstractmethod
    def _unseal(self, sealed: bytes) -> bytes: ...

    def _agree(self, peer_public: bytes) -> bytes:
        raise error("not_supported", "this container cannot open content", capability="UNLOCK")

    def _position(self) -> Position | None:
        return None

    def _advance(self, expected: Position, state_digest: bytes) -> None:
        """Move nothing: an anchor without a position has nothing to move."""

    def _forget(self) -> None:
        """Forget what was seen of the position: nothing, for an anchor that always asks."""

    def _mark(self, *, fresh: bool) -> bytes:
        return b""

    def _evidence(self, challenge: bytes) -> Mapping[str, bytes]:
        return {}

    def _activate(self, credential: bytes, secret: bytes) -> bytes:
        raise error("not_supported", "this container cannot open what is sealed to a TPM", capability="ATTESTED")

    def _guard(self, call: Callable[[], _T]) -> _T:
        """Run a backend's code; every foreign exception becomes a `BackendError` (the only broad except here)."""
        try:
            return call()
        except TallystickError:
            raise
        except Exception as foreign:
            raise error("backend_failed", f"{type(self).__name__}: {type(foreign).__name__}") from foreign
