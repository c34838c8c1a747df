# SPDX-License-Identifier: Apache-2.0
"""`Rehearsal`: a container's state in memory, to see what a command would do.

The rules are the real ones, and so is the state it begins with; nothing is written. What it makes must be worth nothing
outside, because no books stand behind it: its anchor signs requests, which give nobody anything, and puts zeros where
any other signature would be.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from tallystick.codec import cbor, kinds
from tallystick.codec.keys import PublicKey
from tallystick.container.anchor import Anchor
from tallystick.container.session import Session, Transaction
from tallystick.container.state import State
from tallystick.errors import error

_SIGNATURE_BYTES: Final = 64  # of ESP256, which every container's identity key is
_TYP: Final = 16


class Rehearsal(Session):
    """A session that keeps what happens in it to itself.

    Args:
        session: of the container.

    Raises:
        StorageError, LockedError, BackendError: the state cannot be read.
    """

    __slots__ = ()

    def __init__(self, session: Session) -> None:
        self.anchor = _Unsigning(session.anchor)
        self.clock = session.clock
        self._directory = session.directory  # seats in use are counted, as they are
        self._state = session.current()

    def current(self) -> State:
        """Return the state so far."""
        return self.peek()

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Change the state in memory."""
        tx = Transaction(self.peek(), self.clock.read())
        yield tx
        self._state = tx.state

    def close(self) -> None:
        """Forget it; the container itself stays open."""
        self._state = None


class _Unsigning(Anchor):
    """The container's anchor, but for signatures that would mean something."""

    def __init__(self, anchor: Anchor) -> None:
        self._anchor = anchor
        self.capabilities = anchor.capabilities

    @property
    def public_key(self) -> PublicKey:
        return self._anchor.public_key

    @property
    def agreement_key(self) -> PublicKey | None:
        return self._anchor.agreement_key

    @property
    def level(self) -> int | None:
        return self._anchor.level

    def _sign(self, message: bytes) -> bytes:
        protected: dict[int, Any] = cbor.decode_trusted(cbor.decode_trusted(message)[1])
        return self._anchor.sign(message) if protected.get(_TYP) == kinds.REQUEST.typ else bytes(_SIGNATURE_BYTES)

    def _agree(self, peer_public: bytes) -> bytes:
        return self._anchor.agree(peer_public)

    def _evidence(self, challenge: bytes) -> Mapping[str, bytes]:
        return self._anchor.evidence(challenge)

    def _seal(self, secret: bytes) -> bytes:
        raise error("not_supported", "a rehearsal seals nothing")

    def _unseal(self, sealed: bytes) -> bytes:
        raise error("not_supported", "a rehearsal unseals nothing")
