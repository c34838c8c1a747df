# SPDX-License-Identifier: Apache-2.0
"""What a container confirms: the receipt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tallystick.codec import kinds
from tallystick.codec.keys import PublicKey
from tallystick.codec.kinds import Kind
from tallystick.errors import error
from tallystick.license.base import ID, MAX_LICENSES, TIME, Message
from tallystick.license.messages import ACCOUNTS, PREVIOUS, VARIABLES, Account, open_own
from tallystick.license.schema import (
    MAX_UNITS,
    Field,
    Table,
    array,
    cnf_thumbprint,
    flag,
    mapping,
    name,
    nested,
    octets,
    one_of,
    uint,
)
from tallystick.license.want import AMOUNTS
from tallystick.record import Record

MAX_GIVEN_BACK: Final = 256
INSTALLED, DEACTIVATED, ACCEPTED, RETURNED, DECLINED, EMPTIED = 1, 2, 3, 4, 5, 6
FOLLOWED: Final = (INSTALLED, DEACTIVATED)  # those a container commits before it emits them to an issuer
PURPOSE_NAMES: Final = {
    INSTALLED: "installed",
    DEACTIVATED: "deactivated",
    ACCEPTED: "accepted",
    RETURNED: "returned",
    DECLINED: "declined",
    EMPTIED: "emptied",
}


class Share(Record):
    """What a receipt says of one grant. The numbers count from the grant on, so that an old receipt, come late, harms
    nothing.

    Attributes:
        xid: of the grant, 16 bytes.
        giver: thumbprint of who gave it.
        returned: given back so far, by counter.
        used: used up so far, by counter.
        final: the receiver holds nothing of it any more.
    """

    xid: bytes
    giver: bytes
    returned: Mapping[str, int] = {}
    used: Mapping[str, int] = {}
    final: bool = False

    def to_map(self) -> dict[int, Any]:
        """Return the encoded form."""
        return _SHARE.write(self)


_SHARE: Final = Table(
    "share",
    Field("xid", 1, ID, True),
    Field("giver", 2, octets(32, 32), True),
    Field("returned", 3, AMOUNTS),
    Field("used", 4, AMOUNTS),
    Field("final", 5, flag),
)


def _share(claims: Mapping[int, Any]) -> Share:
    return Share(**_SHARE.read(claims))


class Receipt(Message):
    """A container confirms: licenses installed or given up with their final account, or what became of a grant.

    Attributes:
        vendor: whom (aud).
        created_at: container's time (iat).
        message_id: 16 bytes (cti).
        container: thumbprint of the container (cnf); the message is signed with its identity key.
        purpose: INSTALLED or DEACTIVATED, for the issuer; ACCEPTED, RETURNED or DECLINED, for the giver of grants;
            EMPTIED: nothing here may be used any more.
        about: id of the update confirmed; None for a deactivation.
        accounts: the licenses, with their counters at that moment.
        variables: device variables.
        generation: number of states the container has committed.
        shares: the grants it is about.
        given_back: units that a TPM counted to give them back, by license (`license.meter.given_back`).
        previous: as in a request, with INSTALLED and DEACTIVATED.
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
    shares: tuple[Share, ...] = ()
    given_back: Mapping[bytes, tuple[bytes, ...]] = {}
    previous: tuple[bytes, ...] | None = None

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
    Field("purpose", -65585, one_of(*PURPOSE_NAMES), True),
    Field("about", -65586, ID),
    Field("accounts", -65587, ACCOUNTS),
    Field("variables", -65588, VARIABLES),
    Field("generation", -65589, uint(MAX_UNITS)),
    Field("shares", -65590, array(nested(_share), MAX_LICENSES)),
    Field("given_back", -65591, mapping(ID, array(octets(1, 1024), MAX_GIVEN_BACK), MAX_LICENSES)),
    Field("previous", -65592, PREVIOUS),
)


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
