# SPDX-License-Identifier: Apache-2.0
"""Small moves on a state that all ledger rules share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tallystick.codec import cbor, cose, kinds
from tallystick.container.state import OPEN, Counter, Event, Holding, Pending, State, VendorBook
from tallystick.errors import error
from tallystick.license.messages import BEGINNING, MAX_PREVIOUS
from tallystick.license.model import License
from tallystick.license.status import StatusList, read_status_list
from tallystick.license.trust import KeyRing
from tallystick.record import Record

MAX_LICENSES: Final = 1000
MAX_HISTORY: Final = 256
MAX_CLOSED: Final = 256
MAX_CLOSED_BYTES: Final = 1 << 20  # a container of 1,000 licenses that asks for a refresh each day must not fill up


class Change(Record):
    """What an update did to one license.

    Attributes:
        license_id: 16 bytes.
        product: what for.
        change: ``installed``, ``refreshed``, ``suspended``, ``resumed``, ``revoked``; or, where nothing was done,
            ``unchanged``, ``older``, ``not held`` or ``given up``.
        seq: of the license in the update.
    """

    license_id: bytes
    product: str
    change: str
    seq: int


def status_list_of(book: VendorBook, ring: KeyRing) -> StatusList | None:
    """Return the status list on the books, if there is one."""
    return read_status_list(book.status_list, ring).status_list if book.status_list else None


def logged(state: State, at: int, kind: str, subject: bytes, text: str) -> State:
    """Add a line to the history; the oldest lines make room.

    Args:
        state: the account.
        at: seconds since 1970.
        kind, subject, text: as in `Event`.
    """
    return state.replace(history=(*state.history[-(MAX_HISTORY - 1) :], Event(at, kind, subject, text[:512])))


def noted(state: State, vendor: str, message_id: bytes) -> State:
    """Remember, before it is emitted, that a message to a vendor was signed: later ones name it.

    Args:
        state: the account.
        vendor: whom it is for.
        message_id: of the request or receipt.
    """
    ids = (message_id[:BEGINNING], *state.written.get(vendor, ())[: MAX_PREVIOUS - 1])
    return state.replace(written={**state.written, vendor: ids})


def holding_of(state: State, license_id: bytes) -> Holding:
    """Find a license held.

    Raises:
        NotLicensedError: ``deactivated``.
        NotFoundError: ``license_not_found``.
    """
    holding = state.holdings.get(license_id)
    if holding is not None:
        return holding
    if license_id in state.tombstones:
        raise error("deactivated", f"this container gave up {state.tombstones[license_id].product}")
    raise error("license_not_found", "this container holds no license of that id")


def with_holding(state: State, holding: Holding) -> State:
    """Put a changed holding back."""
    return state.replace(holdings={**state.holdings, holding.license_id: holding})


def parts_beside(state: State, holding: Holding, license_: License) -> list[Holding]:
    """Name the other parts of the same license that this container holds, in the order they came."""
    if not state.arrivals:
        return []
    return [
        part
        for part in state.holdings.values()
        if part is not holding
        and part.vendor == license_.vendor
        and part.product == license_.product
        and license_of(part).license_id == license_.license_id
    ]


def with_counter(holding: Holding, name: str, counter: Counter) -> Holding:
    """Put a changed counter back."""
    return holding.replace(counters={**holding.counters, name: counter})


def license_of(holding: Holding) -> License:
    """Read the license of a holding, the effective one where it came by grants; it was verified when it was installed.

    What was read is kept with the holding, and with the holdings made from it as long as the message is the same:
    counting must not decode a license for each unit.
    """
    kept = holding.__dict__.get("_read")
    if kept is not None and kept[0] is holding.message:
        return kept[1]  # type: ignore[no-any-return]  # the pair stored below
    if cose.seems(holding.message, kinds.GRANT):
        from tallystick.license.lineage import read_chain  # not at every start: most licenses are a container's own

        license_ = read_chain(holding.message, _trusted)
    else:
        license_ = _trusted(holding.message)
    holding.__dict__["_read"] = (holding.message, license_)
    return license_


def _trusted(message: bytes) -> License:
    claims: dict[int, Any] = cbor.decode_trusted(cose.cut(message)[1])
    return License.from_claims(claims)


def counter_name(license_: License, feature: str) -> str:
    """Tell which counter a consumption debits: the feature's own where it has one, else the license's."""
    own = license_.features.get(feature) if feature else None
    return feature if own is not None and own.units is not None else ""


def oldest_beyond(sizes: Mapping[bytes, int], count: int, total: int) -> set[bytes]:
    """Name the entries to forget, oldest first, so that few enough and small enough ones remain.

    Args:
        sizes: bytes of each entry, oldest first.
        count: how many may remain.
        total: how many bytes may remain.

    Returns:
        The keys to forget.
    """
    excess, surplus = len(sizes) - count, sum(sizes.values()) - total
    gone = set()
    for key, size in sizes.items():
        if excess <= 0 and surplus <= 0:
            break
        gone.add(key)
        excess -= 1
        surplus -= size
    return gone


def without_old_requests(pending: Mapping[bytes, Pending]) -> Mapping[bytes, Pending]:
    """Forget the oldest closed requests beyond `MAX_CLOSED` and `MAX_CLOSED_BYTES`; open ones are never forgotten."""
    sizes = {key: len(entry.message) for key, entry in pending.items() if entry.status != OPEN}
    gone = oldest_beyond(sizes, MAX_CLOSED, MAX_CLOSED_BYTES)
    return {key: entry for key, entry in pending.items() if key not in gone} if gone else pending
