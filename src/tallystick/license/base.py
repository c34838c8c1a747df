# SPDX-License-Identifier: Apache-2.0
"""What every message has in common: a kind, a table of labels, claims in and out, a signature at the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Self

from tallystick.codec import cose
from tallystick.codec.kinds import Kind
from tallystick.codec.signing import Signer
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
