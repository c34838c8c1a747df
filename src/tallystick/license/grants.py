# SPDX-License-Identifier: Apache-2.0
"""What a container says to another one that it lends or transfers to: grant, recall, and many grants in one file.

A grant embeds the license it comes from, or the grant its giver holds by, and so on up to the issuer's signature:
`license.lineage` verifies the whole. A grant is signed by its giver; its `cnf` names the receiver.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tallystick.codec import kinds
from tallystick.codec.keys import PublicKey
from tallystick.codec.kinds import Kind
from tallystick.license.base import ID, MAX_LICENSES, TIME, Message, read_own
from tallystick.license.schema import Field, Table, array, cnf_thumbprint, mapping, name, nested, octets, text, uint
from tallystick.license.want import AMOUNTS, MAX_COUNTERS


class Grant(Message):
    """A part of a license, given to another container.

    Attributes:
        vendor: of the license (iss of the license; here aud).
        issued_at: giver's time (iat).
        xid: 16 bytes (cti); the exchange. An extension has the same.
        receiver: thumbprint (cnf).
        giver: identity key of the giver, which signs.
        parent: the message by which the giver holds the license: a license, or a grant to the giver.
        in_reply_to: id of the receiver's request.
        amounts: what is given, by counter.
        seq: 0, one more for each extension.
        features: only these; None for all.
        ends: end of a loan; None for a transfer.
        first_use: usage periods already running at the giver, by counter.
        contact: the giver's latest contact with the issuer.
        content_keys: content keys sealed to the receiver, by name.
        keyset: the vendor's newest key set message.
    """

    vendor: str
    issued_at: int
    xid: bytes
    receiver: bytes
    giver: PublicKey
    parent: bytes
    in_reply_to: bytes
    amounts: Mapping[str, int]
    seq: int = 0
    features: tuple[str, ...] | None = None
    ends: int | None = None
    first_use: Mapping[str, int] = {}
    contact: int = 0
    content_keys: Mapping[str, bytes] = {}
    keyset: bytes | None = None

    @classmethod
    def kind(cls) -> Kind:
        """What the message is."""
        return kinds.GRANT

    @classmethod
    def table(cls) -> Table:
        """The labels."""
        return _GRANT


_GIVER: Final = Field("giver", -65617, nested(PublicKey.from_cose), True, PublicKey.to_map)
_GRANT: Final = Table(
    "grant",
    Field("vendor", 3, name, True),
    Field("issued_at", 6, TIME, True),
    Field("xid", 7, ID, True),
    cnf_thumbprint("receiver"),
    _GIVER,
    Field("parent", -65618, octets(1, 1 << 18), True),
    Field("in_reply_to", -65619, ID, True),
    Field("amounts", -65620, AMOUNTS, True),
    Field("seq", -65621, uint(1 << 16)),
    Field("features", -65622, array(name, 256)),
    Field("ends", -65623, TIME),
    Field("first_use", -65624, mapping(text(64), TIME, MAX_COUNTERS)),
    Field("contact", -65625, TIME),
    Field("content_keys", -65626, mapping(name, octets(1, 512), 32)),
    Field("keyset", -65627, octets(1, 1 << 16)),
)


class Recall(Message):
    """A giver asks for a loan back.

    Attributes:
        vendor: of the license (aud).
        issued_at: giver's time (iat).
        xid: of the grant (cti).
        receiver: thumbprint (cnf).
        giver: identity key of the giver, which signs.
    """

    vendor: str
    issued_at: int
    xid: bytes
    receiver: bytes
    giver: PublicKey

    @classmethod
    def kind(cls) -> Kind:
        """What the message is."""
        return kinds.RECALL

    @classmethod
    def table(cls) -> Table:
        """The labels."""
        return _RECALL


_RECALL: Final = Table(
    "recall",
    Field("vendor", 3, name, True),
    Field("issued_at", 6, TIME, True),
    Field("xid", 7, ID, True),
    cnf_thumbprint("receiver"),
    _GIVER,
)


class Move(Message):
    """Many grants for one receiver in one file.

    Attributes:
        issued_at: giver's time (iat).
        message_id: 16 bytes (cti).
        receiver: thumbprint (cnf).
        giver: identity key of the giver, which signs.
        grants: grant messages.
    """

    issued_at: int
    message_id: bytes
    receiver: bytes
    giver: PublicKey
    grants: tuple[bytes, ...]

    @classmethod
    def kind(cls) -> Kind:
        """What the message is."""
        return kinds.MOVE

    @classmethod
    def table(cls) -> Table:
        """The labels."""
        return _MOVE


_MOVE: Final = Table(
    "move",
    Field("issued_at", 6, TIME, True),
    Field("message_id", 7, ID, True),
    cnf_thumbprint("receiver"),
    _GIVER,
    Field("grants", -65628, array(octets(1, 1 << 18), MAX_LICENSES), True),
)


def read_grant(message: bytes) -> Grant:
    """Accept a grant as far as its giver's signature goes; `license.lineage` verifies what it gives.

    Args:
        message: the bytes received.

    Returns:
        The grant.

    Raises:
        FormatError: malformed, or another kind.
        VerificationError: ``bad_signature``, ``unknown_issuer`` or ``bad_key``.
    """
    return read_own(message, Grant, lambda grant: grant.giver)


def read_recall(message: bytes) -> Recall:
    """Accept a recall as far as its giver's signature goes; raises as `read_grant`."""
    return read_own(message, Recall, lambda recall: recall.giver)


def read_move(message: bytes) -> Move:
    """Accept many grants in one file as far as their giver's signature goes; raises as `read_grant`."""
    return read_own(message, Move, lambda move: move.giver)
