# SPDX-License-Identifier: Apache-2.0
"""The account of one container: immutable records, and their one encoded form.

A `State` is everything a container knows. It changes only through `container.ledger.apply`, is never edited in place,
and is encoded as nested arrays (``docs/format.md``, "state") inside the sealed snapshot, which authenticates it:
decoding here trusts the bytes. Counters are named ``""`` for the license's own units, a feature's name for that
feature's, `SEATS` for seats.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tallystick.clock import ClockMemory
from tallystick.codec import cbor
from tallystick.container.exchanges import Arrival, Given, row_of
from tallystick.errors import error
from tallystick.license.grant_policy import GrantPolicy
from tallystick.license.policy import Usage
from tallystick.record import Record

FORMAT: Final = 1
_NOTHING: Final[Mapping[Any, Any]] = {}

OPEN, ANSWERED, REFUSED, CANCELLED = 0, 1, 2, 3
PENDING_NAMES: Final = ("open", "answered", "refused", "cancelled")


class Counter(Record):
    """One counter of a license. ``available = granted - used - lent - in_transit - given - returned``.

    Attributes:
        used: consumed for good, open reservations included.
        lent: out on loan; comes back at the loan's end or by return.
        in_transit: given by a grant whose receipt has not arrived.
        given: transferred away for good.
        returned: given back to whom it came from.
    """

    used: int = 0
    lent: int = 0
    in_transit: int = 0
    given: int = 0
    returned: int = 0

    @property
    def gone(self) -> int:
        """What is not available any more."""
        return self.used + self.lent + self.in_transit + self.given + self.returned


class Holding(Record):
    """One part of a license: the container's own, or what one grant brought.

    Attributes:
        license_id: 16 bytes; of a granted part the exchange id.
        vendor, product: whose and what.
        seq: of the license message, or of the grant.
        message: the license or grant message as received.
        installed_at: when.
        contact: latest contact with the issuer.
        counters: by counter name; absent means untouched.
        first_use: by counter name.
        reservations: open blocks, ``(counter, units)`` by reservation id; already counted as used.
    """

    license_id: bytes
    vendor: str
    product: str
    seq: int
    message: bytes
    installed_at: int
    contact: int
    counters: Mapping[str, Counter] = _NOTHING
    first_use: Mapping[str, int] = _NOTHING
    reservations: Mapping[bytes, tuple[str, int]] = _NOTHING

    def usage(self) -> Usage:
        """Return the account as the policy reads it."""
        used = {name: counter.gone for name, counter in self.counters.items()} if self.counters else _NOTHING
        return Usage(used, self.first_use, self.contact)


class Tombstone(Record):
    """A license given up for good.

    Attributes:
        license_id: 16 bytes.
        vendor, product: whose and what it was.
        at: when.
        receipt: the signed proof, re-emitted for ever.
    """

    license_id: bytes
    vendor: str
    product: str
    at: int
    receipt: bytes = b""


class Pending(Record):
    """A request this container made.

    Attributes:
        request_id: 16 bytes.
        vendor, product: whom it asks, for what.
        action: of the request.
        created_at: when.
        message: the request as emitted, re-emitted for ever.
        status: OPEN, ANSWERED, REFUSED or CANCELLED.
        answer: id of the update or refusal that closed it.
        reason: the refusal's text.
        count: how many grants may answer it.
        taken: how many did.
    """

    request_id: bytes
    vendor: str
    product: str
    action: int
    created_at: int
    message: bytes
    status: int = OPEN
    answer: bytes = b""
    reason: str = ""
    count: int = 1
    taken: int = 0


class VendorBook(Record):
    """What is known of a vendor.

    Attributes:
        name: the vendor.
        root: encoded COSE_Key of its root, recorded when the user first named the vendor.
        keyset: newest key set message; empty before the first update.
        keyset_seq: its seq.
        status_list: newest status list message; empty if none.
        status_at: its signed time.
    """

    name: str
    root: bytes
    keyset: bytes = b""
    keyset_seq: int = 0
    status_list: bytes = b""
    status_at: int = 0


class Event(Record):
    """One line of the container's history.

    Attributes:
        at: seconds since 1970.
        kind: for example ``installed``.
        subject: license or request id, or empty.
        text: for people.
    """

    at: int
    kind: str
    subject: bytes
    text: str


class State(Record):
    """Everything a container knows.

    Attributes:
        container: thumbprint of the identity key.
        created_at: when.
        generation: how many commands were applied.
        clock: memory of time.
        vendors, holdings, tombstones, pending: by name or id.
        receipts: installation receipts by update id.
        retries: results by idempotency key: ``(digest of the operation, units left or -1)``, oldest first.
        variables: device variables by name.
        history: newest last.
        given: what was lent or transferred, by exchange id.
        arrivals: what came by grants, or was declined, by exchange id.
        proofs: of uses a TPM counted, by idempotency key, oldest first; each key is in `retries` too.
        forgotten: by receiver, when it made the newest request of which an entry was forgotten: older ones are refused.
        policies: what the container's administrator allows, by kind of grant and product (`policy_key`).
        written: by vendor, how the ids of the last messages signed for it begin, newest first.
    """

    container: bytes
    created_at: int
    generation: int = 0
    clock: ClockMemory = ClockMemory()
    vendors: Mapping[str, VendorBook] = _NOTHING
    holdings: Mapping[bytes, Holding] = _NOTHING
    tombstones: Mapping[bytes, Tombstone] = _NOTHING
    pending: Mapping[bytes, Pending] = _NOTHING
    receipts: Mapping[bytes, bytes] = _NOTHING
    retries: Mapping[bytes, tuple[bytes, int]] = _NOTHING
    variables: Mapping[str, str] = _NOTHING
    history: tuple[Event, ...] = ()
    given: Mapping[bytes, Given] = _NOTHING
    arrivals: Mapping[bytes, Arrival] = _NOTHING
    policies: Mapping[str, GrantPolicy] = _NOTHING
    forgotten: Mapping[bytes, int] = _NOTHING
    proofs: Mapping[bytes, bytes] = _NOTHING
    written: Mapping[str, tuple[bytes, ...]] = _NOTHING

    def to_bytes(self) -> bytes:
        """Encode.

        Returns:
            CBOR, not yet sealed.
        """
        return cbor.encode(
            [
                FORMAT,
                self.container,
                self.created_at,
                self.generation,
                row_of(self.clock),
                [row_of(book) for book in self.vendors.values()],
                [_holding_row(holding) for holding in self.holdings.values()],
                [row_of(tombstone) for tombstone in self.tombstones.values()],
                [row_of(pending) for pending in self.pending.values()],
                [list(item) for item in self.receipts.items()],
                [[key, *value] for key, value in self.retries.items()],
                dict(self.variables),
                [row_of(event) for event in self.history],
                [row_of(given) for given in self.given.values()],
                [row_of(arrival) for arrival in self.arrivals.values()],
                {key: policy.to_map() for key, policy in self.policies.items()},
                dict(self.forgotten),
                *([dict(self.proofs)] if self.proofs or self.written else ()),
                *([{vendor: list(ids) for vendor, ids in self.written.items()}] if self.written else ()),
            ]
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> State:
        """Decode what `to_bytes` wrote and the snapshot's seal authenticated.

        Args:
            data: CBOR.

        Returns:
            The state.

        Raises:
            FormatError: ``unsupported_version`` for a newer format, ``malformed`` for a defect of the writer.
        """
        rows = cbor.decode_trusted(data)
        if type(rows) is not list or not rows:
            raise error("malformed", "the container's state is not what this version writes")
        if rows[0] != FORMAT:
            raise error(
                "unsupported_version", f"the container's state has format {rows[0]}; this version knows {FORMAT}"
            )
        try:
            return cls(
                container=rows[1],
                created_at=rows[2],
                generation=rows[3],
                clock=ClockMemory(*rows[4]),
                vendors={row[0]: VendorBook(*row) for row in rows[5]},
                holdings={row[0]: _holding(row) for row in rows[6]},
                tombstones={row[0]: Tombstone(*row) for row in rows[7]},
                pending={row[0]: Pending(*row) for row in rows[8]},
                receipts=dict(rows[9]),
                retries={row[0]: (row[1], row[2]) for row in rows[10]},
                variables=rows[11],
                history=tuple([Event(*row) for row in rows[12]]),
                given={row[0]: Given.from_row(row) for row in rows[13]},
                arrivals={row[0]: Arrival.from_row(row) for row in rows[14]},
                policies={key: GrantPolicy.from_map(claims) for key, claims in rows[15].items()},
                forgotten=rows[16],
                proofs=rows[17] if len(rows) > 17 else _NOTHING,
                written={vendor: tuple(ids) for vendor, ids in rows[18].items()} if len(rows) > 18 else _NOTHING,
            )
        except (AttributeError, TypeError, ValueError, IndexError) as cause:
            raise error("malformed", "the container's state is not what this version writes") from cause


def _holding_row(holding: Holding) -> list[Any]:
    row = row_of(holding)
    row[7] = [[name, *row_of(counter)] for name, counter in holding.counters.items()]
    row[8] = dict(holding.first_use)
    row[9] = [[key, *value] for key, value in holding.reservations.items()]
    return row


def _holding(row: list[Any]) -> Holding:
    holding = Holding(*row[:7])
    if not (row[7] or row[8] or row[9]):  # most licenses, most of the time: share the empty maps
        return holding
    return holding.replace(
        counters={name: Counter(*values) for name, *values in row[7]},
        first_use=row[8],
        reservations={key: (counter, units) for key, counter, units in row[9]},
    )
