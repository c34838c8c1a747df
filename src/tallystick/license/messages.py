# SPDX-License-Identifier: Apache-2.0
"""What a container asks: the request (`license.receipts` has what it confirms, `license.answers` what an issuer says).

Each is a record with its table of labels (``docs/format.md`` has the same as CDDL). A container signs its own messages
and proves its key with the signature: `cnf` of a request holds the key itself. Ids are 16 random bytes: unguessable, so
a request's id is also the nonce that its answer must echo, and every message is idempotent by id.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tallystick.codec import cbor, cose, kinds
from tallystick.codec.keys import PublicKey
from tallystick.codec.kinds import Kind
from tallystick.license.base import ID, MAX_LICENSES, TIME, Message, read_own, verify_own
from tallystick.license.mending import Halt
from tallystick.license.schema import (
    MAX_UNITS,
    Field,
    Table,
    array,
    cnf_key,
    flag,
    mapping,
    name,
    nested,
    octets,
    one_of,
    text,
    uint,
)
from tallystick.license.want import AMOUNTS, Want
from tallystick.record import Record

ACTIVATE, REFRESH, BORROW, REPAIR = 1, 2, 3, 4
ACTION_NAMES: Final = {ACTIVATE: "activate", REFRESH: "refresh", BORROW: "borrow", REPAIR: "repair"}
FOLLOWED: Final = (ACTIVATE, REFRESH)  # name the messages before them, as their receipts do
MAX_PREVIOUS: Final = 16
BEGINNING: Final = 8  # bytes of an id by which a later message names it
_COUNTS: Final = mapping(text(64), uint(MAX_UNITS), 257)


class Account(Record):
    """What a container reports of one license.

    Attributes:
        license_id: 16 bytes.
        seq: of the license held.
        used: units used, by counter; ``""`` is the license's own.
        first_use: instant of first use, by counter.
    """

    license_id: bytes
    seq: int
    used: Mapping[str, int] = {}
    first_use: Mapping[str, int] = {}

    def to_map(self) -> dict[int, Any]:
        """Return the encoded form."""
        return _ACCOUNT.write(self)


_ACCOUNT: Final = Table(
    "account",
    Field("license_id", 1, ID, True),
    Field("seq", 2, uint(1 << 32), True),
    Field("used", 3, _COUNTS),
    Field("first_use", 4, mapping(text(64), TIME, 257)),
)


def _account(claims: Mapping[int, Any]) -> Account:
    return Account(**_ACCOUNT.read(claims))


ACCOUNTS: Final = array(nested(_account), MAX_LICENSES)
VARIABLE: Final = text(256)
VARIABLES: Final = mapping(name, VARIABLE, 32)
PREVIOUS: Final = array(octets(BEGINNING, BEGINNING), MAX_PREVIOUS)


class Exchange(Record):
    """What a container reports to the vendor of one loan or transfer.

    Attributes:
        xid: 16 bytes, the same on both sides.
        license_id: 16 bytes.
        peer: thumbprint of the other container.
        outgoing: given by the one that reports; else it came there.
        transfer: for good.
        amounts, returned, used: by counter.
    """

    xid: bytes
    license_id: bytes
    peer: bytes
    outgoing: bool
    transfer: bool
    amounts: Mapping[str, int]
    returned: Mapping[str, int] = {}
    used: Mapping[str, int] = {}

    def to_map(self) -> dict[int, Any]:
        """Return the encoded form."""
        return _EXCHANGE.write(self)


_EXCHANGE: Final = Table(
    "exchange",
    Field("xid", 1, ID, True),
    Field("license_id", 2, ID, True),
    Field("peer", 3, octets(32, 32), True),
    Field("outgoing", 4, flag, True),
    Field("transfer", 5, flag, True),
    Field("amounts", 6, AMOUNTS, True),
    Field("returned", 7, AMOUNTS),
    Field("used", 8, AMOUNTS),
)
MAX_EXCHANGES: Final = 1024


def _exchange(claims: Mapping[int, Any]) -> Exchange:
    return Exchange(**_EXCHANGE.read(claims))


class Request(Message):
    """A container asks an issuer, or another container.

    Attributes:
        vendor: whom (aud).
        created_at: container's time (iat).
        request_id: 16 random bytes (cti); the answer echoes them.
        key: the container's identity key (cnf); the message is signed with it.
        action: ACTIVATE, REFRESH or REPAIR, asked of an issuer; BORROW, asked of another container.
        code: activation code.
        product: product id, where the code covers several or for the issuer to check.
        quantity: how many licenses.
        agreement_key: key content is sealed to; None where the container cannot open content.
        accounts: everything held from this vendor.
        variables: what the vendor asks to know about the device, by name.
        generation: number of states the container has committed.
        backend: scheme of the container.
        evidence: what the anchor can prove; covers `challenge` (see ``docs/format.md``).
        keyset_seq: newest key set known.
        software: name and version of the program that made it.
        want: what is asked of another container.
        exchanges: loans and transfers of this vendor's licenses, for the issuer.
        halt: why and where the container stands still, with REPAIR.
        previous: how the ids of the last messages before this one to the vendor begin, newest first; None where the
            container does not tell.
    """

    vendor: str
    created_at: int
    request_id: bytes
    key: PublicKey
    action: int
    code: str = ""
    product: str = ""
    quantity: int = 1
    agreement_key: PublicKey | None = None
    accounts: tuple[Account, ...] = ()
    variables: Mapping[str, str] = {}
    generation: int = 0
    backend: str = ""
    evidence: Mapping[str, bytes] = {}
    keyset_seq: int = 0
    software: str = ""
    want: Want | None = None
    exchanges: tuple[Exchange, ...] = ()
    halt: Halt | None = None
    previous: tuple[bytes, ...] | None = None

    def __repr__(self) -> str:
        """Show all but the activation code, which is worth money."""
        return super(Request, self.replace(code="..." if self.code else "")).__repr__()

    def challenge(self) -> bytes:
        """Return what an anchor's evidence must cover: the encoded claims without the evidence."""
        return cbor.encode(_REQUEST.write(self.replace(evidence={})))

    @classmethod
    def kind(cls) -> Kind:
        """What the message is."""
        return kinds.REQUEST

    @classmethod
    def table(cls) -> Table:
        """The labels."""
        return _REQUEST


_REQUEST: Final = Table(
    "request",
    Field("vendor", 3, name, True),
    Field("created_at", 6, TIME, True),
    Field("request_id", 7, ID, True),
    cnf_key("key"),
    Field("action", -65553, one_of(ACTIVATE, REFRESH, BORROW, REPAIR), True),
    Field("code", -65554, text(64)),
    Field("product", -65555, name),
    Field("quantity", -65556, uint(MAX_LICENSES)),
    Field("agreement_key", -65557, nested(PublicKey.from_cose)),
    Field("accounts", -65558, ACCOUNTS),
    Field("variables", -65559, VARIABLES),
    Field("generation", -65560, uint(MAX_UNITS)),
    Field("backend", -65561, text(32)),
    Field("evidence", -65562, mapping(text(32), octets(0, 16384), 16)),
    Field("keyset_seq", -65563, uint(1 << 32)),
    Field("software", -65564, text(64)),
    Field("want", -65565, nested(Want.from_map)),
    Field("exchanges", -65566, array(nested(_exchange), MAX_EXCHANGES)),
    Field("halt", -65567, nested(Halt.from_map)),
    Field("previous", -65568, PREVIOUS),
)


def read_request(message: bytes) -> Request:
    """Accept a request: it proves the key it names.

    Args:
        message: the bytes received.

    Returns:
        The request.

    Raises:
        FormatError: malformed, or another kind.
        VerificationError: ``bad_signature``, ``unknown_issuer`` or ``bad_key``.
    """
    return read_own(message, Request, lambda request: request.key)


def open_own(message: bytes, kind: Kind, key: PublicKey) -> Any:
    """Verify a message signed by a container's identity key, then decode it strictly.

    Args:
        message: the bytes received.
        kind: what it must be.
        key: the identity key.

    Returns:
        The claims.

    Raises:
        FormatError: malformed, or another kind.
        VerificationError: ``unknown_issuer`` or ``bad_signature``.
    """
    protected, payload, signature, signed = cose.cut(message)
    verify_own((protected, signature, signed), kind, key)
    return cose.claims_of(payload)
