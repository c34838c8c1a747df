# SPDX-License-Identifier: Apache-2.0
"""What a container says: request and receipt (`license.answers` has what an issuer says).

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
from tallystick.errors import error
from tallystick.license.base import ID, MAX_LICENSES, TIME, Message
from tallystick.license.schema import (
    MAX_UNITS,
    Field,
    Table,
    array,
    cnf_key,
    cnf_thumbprint,
    mapping,
    name,
    nested,
    octets,
    one_of,
    text,
    uint,
)
from tallystick.record import Record

ACTIVATE, REFRESH = 1, 2
ACTION_NAMES: Final = {ACTIVATE: "activate", REFRESH: "refresh"}
INSTALLED, DEACTIVATED = 1, 2
PURPOSE_NAMES: Final = {INSTALLED: "installed", DEACTIVATED: "deactivated"}
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


_ACCOUNTS: Final = array(nested(_account), MAX_LICENSES)
VARIABLE: Final = text(256)
_VARIABLES: Final = mapping(name, VARIABLE, 32)


class Request(Message):
    """A container asks an issuer.

    Attributes:
        vendor: whom (aud).
        created_at: container's time (iat).
        request_id: 16 random bytes (cti); the answer echoes them.
        key: the container's identity key (cnf); the message is signed with it.
        action: ACTIVATE or REFRESH.
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
    Field("action", -65553, one_of(ACTIVATE, REFRESH), True),
    Field("code", -65554, text(64)),
    Field("product", -65555, name),
    Field("quantity", -65556, uint(MAX_LICENSES)),
    Field("agreement_key", -65557, nested(PublicKey.from_cose)),
    Field("accounts", -65558, _ACCOUNTS),
    Field("variables", -65559, _VARIABLES),
    Field("generation", -65560, uint(MAX_UNITS)),
    Field("backend", -65561, text(32)),
    Field("evidence", -65562, mapping(text(32), octets(0, 16384), 16)),
    Field("keyset_seq", -65563, uint(1 << 32)),
    Field("software", -65564, text(64)),
)


class Receipt(Message):
    """A container confirms: licenses installed, or given up for good with their final account.

    Attributes:
        vendor: whom (aud).
        created_at: container's time (iat).
        message_id: 16 bytes (cti).
        container: thumbprint of the container (cnf); the message is signed with its identity key.
        purpose: INSTALLED or DEACTIVATED.
        about: id of the update confirmed; None for a deactivation.
        accounts: the licenses, with their counters at that moment.
        variables: device variables.
        generation: number of states the container has committed.
    """

    vendor: str
    created_at: int
    message_id: bytes
    container: bytes
    purpose: int
    about: bytes | None = None
    accounts: tuple[Account, ...] = ()
    variables: Mapping[str, str] = {}
    generation: int = 0

    @classmethod
    def kind(cls) -> Kind:
        """What the message is."""
        return kinds.RECEIPT

    @classmethod
    def table(cls) -> Table:
        """The labels."""
        return _RECEIPT


_RECEIPT: Final = Table(
    "receipt",
    Field("vendor", 3, name, True),
    Field("created_at", 6, TIME, True),
    Field("message_id", 7, ID, True),
    cnf_thumbprint("container"),
    Field("purpose", -65585, one_of(INSTALLED, DEACTIVATED), True),
    Field("about", -65586, ID),
    Field("accounts", -65587, _ACCOUNTS),
    Field("variables", -65588, _VARIABLES),
    Field("generation", -65589, uint(MAX_UNITS)),
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
    header, claims = cose.peek(message)
    cose.expect(header, kinds.REQUEST)
    request = Request.from_claims(claims)
    open_own(message, kinds.REQUEST, request.key)
    return request


def read_receipt(message: bytes, key: PublicKey) -> Receipt:
    """Accept a receipt signed by a known container.

    Args:
        message: the bytes received.
        key: the container's identity key.

    Returns:
        The receipt.

    Raises:
        FormatError: malformed, or another kind.
        VerificationError: ``bad_signature``, ``wrong_container``.
    """
    receipt = Receipt.from_claims(open_own(message, kinds.RECEIPT, key))
    if receipt.container != key.thumbprint:
        raise error("wrong_container", "the receipt names another container than the one that signed it")
    return receipt


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
    if protected != cose.protected_header(key.alg, key.thumbprint, kind):
        cose.expect(cose.header_of(protected), kind)
        raise error("unknown_issuer", f"this {kind.name} is not signed by the container it names")
    key.verify(signed, signature)
    return cose.claims_of(payload)
