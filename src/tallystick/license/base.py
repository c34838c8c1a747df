# SPDX-License-Identifier: Apache-2.0
"""What every message has in common: a kind, a table of labels, claims in and out, a signature at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Self, TypeVar

from tallystick.codec import cose
from tallystick.codec.keys import PublicKey
from tallystick.codec.kinds import Kind
from tallystick.codec.signing import Signer
from tallystick.errors import error
from tallystick.license.schema import MAX_TIME, Table, octets, uint
from tallystick.record import Record

MAX_LICENSES: Final = 1000

ID: Final = octets(16, 16)
TIME: Final = uint(MAX_TIME)


class Message(Record):
    """Base of the messages; a subclass names its kind and table."""

    @classmethod
    def kind(cls) -> Kind:
        """What the message is."""
        raise NotImplementedError

    @classmethod
    def table(cls) -> Table:
        """The labels."""
        raise NotImplementedError

    @classmethod
    def from_claims(cls, claims: Mapping[int, Any]) -> Self:
        """Read decoded claims.

        Raises:
            FormatError: ``malformed`` or ``unsupported_version``.
            VerificationError: ``bad_key`` for an unacceptable key inside.
        """
        return cls(**cls.table().read(claims))

    def sign(self, signer: Signer) -> bytes:
        """Sign.

        Args:
            signer: whose key signs.

        Returns:
            The message's bytes.

        Raises:
            BackendError: the signer fails.
        """
        return cose.sign(self.kind(), self.table().write(self), signer)


_Paper = TypeVar("_Paper", bound=Message)


def read_own(message: bytes, paper: type[_Paper], key_of: Callable[[_Paper], PublicKey]) -> _Paper:
    """Accept a message of a container that names the key it is signed with; decoded once, verified over the bytes.

    Args:
        message: the bytes received.
        paper: what it must be.
        key_of: finds the key in it.

    Returns:
        The message.

    Raises:
        FormatError: malformed, or another kind.
        VerificationError: ``bad_signature``, ``unknown_issuer`` or ``bad_key``.
    """
    kind = paper.kind()
    protected, payload, signature, signed = cose.cut(message)
    if not cose.seems(message, kind):
        cose.expect(cose.header_of(protected), kind)
    read = paper.from_claims(cose.claims_of(payload))
    verify_own((protected, signature, signed), kind, key_of(read))
    return read


def verify_own(parts: tuple[bytes, bytes, bytes], kind: Kind, key: PublicKey) -> None:
    """Verify a message signed by a container's identity key.

    Args:
        parts: its protected header, its signature, and the bytes signed (`cose.cut`).
        kind: what it must be.
        key: the identity key.

    Raises:
        FormatError: ``wrong_kind`` or ``malformed``.
        VerificationError: ``unknown_issuer`` or ``bad_signature``.
    """
    protected, signature, signed = parts
    if protected != cose.protected_header(key.alg, key.thumbprint, kind):
        cose.expect(cose.header_of(protected), kind)
        raise error("unknown_issuer", f"this {kind.name} is not signed by the container it names")
    key.verify(signed, signature)
