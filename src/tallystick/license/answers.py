# SPDX-License-Identifier: Apache-2.0
"""What an issuer says: update, refusal, time token (`license.messages` has what a container says)."""

from __future__ import annotations

from typing import Final

from tallystick.codec import cbor, kinds
from tallystick.codec.kinds import Kind
from tallystick.license.base import ID, MAX_LICENSES, TIME, Message
from tallystick.license.mending import Resync
from tallystick.license.schema import Field, Table, array, cnf_thumbprint, flag, name, nested, octets, text


class Update(Message):
    """An issuer answers a request, or refreshes what a container holds.

    Attributes:
        vendor: who (iss).
        issued_at: signed time (iat); raises the container's clock floor.
        message_id: 16 bytes (cti).
        container: thumbprint of the receiver (cnf).
        in_reply_to: the request's id; None for a refresh without request, which only changes licenses already held.
        keyset: the vendor's newest key set message.
        licenses: license messages.
        status_list: status list message.
        time: time token message.
        clock_reset: lower the clock floor to `issued_at` (the container's clock once ran far ahead).
        note: text for the user.
        resync: leave for a container that stands still to go on.
        sealed: the fields from `licenses` to `note`, readable by one chip only (`license.sealed`).
    """

    vendor: str
    issued_at: int
    message_id: bytes
    container: bytes
    in_reply_to: bytes | None = None
    keyset: bytes | None = None
    licenses: tuple[bytes, ...] = ()
    status_list: bytes | None = None
    time: bytes | None = None
    clock_reset: bool = False
    note: str = ""
    sealed: bytes | None = None
    resync: Resync | None = None

    @classmethod
    def kind(cls) -> Kind:
        """What the message is."""
        return kinds.UPDATE

    @classmethod
    def table(cls) -> Table:
        """The labels."""
        return _UPDATE


INNER: Final = (  # what a sealed update hides
    Field("licenses", -65571, array(octets(1, 1 << 18), MAX_LICENSES)),
    Field("status_list", -65572, octets(1, 1 << 19)),
    Field("time", -65573, octets(1, 8192)),
    Field("clock_reset", -65574, flag),
    Field("note", -65575, text(1024)),
)
_UPDATE: Final = Table(
    "update",
    Field("vendor", 1, name, True),
    Field("issued_at", 6, TIME, True),
    Field("message_id", 7, ID, True),
    cnf_thumbprint("container"),
    Field("in_reply_to", -65569, ID),
    Field("keyset", -65570, octets(1, 1 << 16)),
    *INNER,
    Field("sealed", -65576, octets(1, cbor.MAX_BYTES)),
    Field("resync", -65577, nested(Resync.from_map)),
)


class Refusal(Message):
    """An issuer refuses a request, for good and with a reason.

    Attributes:
        vendor: who (iss).
        issued_at: signed time (iat).
        message_id: 16 bytes (cti).
        container: thumbprint of the receiver (cnf).
        in_reply_to: the request's id.
        code: a key of `errors.CODES`.
        message: the reason, for people.
        remedy: what to do.
        keyset: the vendor's newest key set message; a container that was never answered knows none yet.
    """

    vendor: str
    issued_at: int
    message_id: bytes
    container: bytes
    in_reply_to: bytes
    code: str
    message: str
    remedy: str = ""
    keyset: bytes | None = None

    @classmethod
    def kind(cls) -> Kind:
        """What the message is."""
        return kinds.REFUSAL

    @classmethod
    def table(cls) -> Table:
        """The labels."""
        return _REFUSAL


_REFUSAL: Final = Table(
    "refusal",
    Field("vendor", 1, name, True),
    Field("issued_at", 6, TIME, True),
    Field("message_id", 7, ID, True),
    cnf_thumbprint("container"),
    Field("in_reply_to", -65569, ID, True),
    Field("keyset", -65570, octets(1, 1 << 16)),
    Field("code", -65601, name, True),
    Field("message", -65602, text(1024), True),
    Field("remedy", -65603, text(1024)),
)


class TimeToken(Message):
    """An issuer says what time it is.

    Attributes:
        vendor: who (iss).
        issued_at: the time (iat).
        message_id: 16 bytes (cti).
    """

    vendor: str
    issued_at: int
    message_id: bytes

    @classmethod
    def kind(cls) -> Kind:
        """What the message is."""
        return kinds.TIME

    @classmethod
    def table(cls) -> Table:
        """The labels."""
        return _TIME_TOKEN


_TIME_TOKEN: Final = Table(
    "time token",
    Field("vendor", 1, name, True),
    Field("issued_at", 6, TIME, True),
    Field("message_id", 7, ID, True),
)
