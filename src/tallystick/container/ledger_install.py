# SPDX-License-Identifier: Apache-2.0
"""Ledger rules for what issuers send: updates with licenses, key sets, status lists and time.

Steps of `install` (all or nothing):

(1) The update names a vendor this container knows; its key set, if it carries a newer one, is signed by that vendor's
    root.
(2) It is signed by a license key of the newest key set, in that key's time, for this container.
(3) Seen before: the first result again. Sealed to the anchor's device: opened with the secret the anchor told.
(4) An answer closes its open request; a refresh without request may only change licenses already held.
(5) Each license is accepted by `license.verify`; a higher seq replaces, an equal or lower one is passed over, and so is
    a buried one. An update that holds licenses, and none for this container to hold, is refused.
(6) Signed time raises the clock floor (or resets it, where the vendor orders so); contact is recorded.
"""

from __future__ import annotations

from typing import Any, Final

from tallystick.clock import Assessment, Reading, certify, reset
from tallystick.codec import cbor, cose, kinds
from tallystick.codec.ident import container_id
from tallystick.codec.keys import PublicKey
from tallystick.codec.kinds import Kind
from tallystick.container import commands as c
from tallystick.container.ledger_books import MAX_LICENSES, Change, logged, oldest_beyond
from tallystick.container.state import ANSWERED, OPEN, Holding, State, VendorBook
from tallystick.errors import VerificationError, error
from tallystick.license.answers import TimeToken, Update
from tallystick.license.messages import Account
from tallystick.license.model import ACTIVE, REVOKED, License
from tallystick.license.status import read_status_list
from tallystick.license.trust import KeyRecord, KeyRing, Trust, check_signed_in_time, read_keyset, ring_of
from tallystick.license.verify import LicenseVerifier
from tallystick.record import Record

MAX_RECEIPTS: Final = 4096  # beyond it the oldest are forgotten: an update installed again then changes nothing either
MAX_RECEIPT_BYTES: Final = 1 << 21
NOT_HELD: Final = "not held"
GIVEN_UP: Final = "given up"


class Installed(Record):
    """What an update did.

    Attributes:
        update_id: its message id.
        vendor: who sent it.
        changes: license by license.
        note: the vendor's text for the user.
        repeated: it had been installed before; nothing changed.
    """

    update_id: bytes
    vendor: str
    changes: tuple[Change, ...] = ()
    note: str = ""
    repeated: bool = False


def install(state: State, command: c.Install, time: Assessment, reading: Reading) -> tuple[State, Installed]:
    """Install an update. Result: `Installed`."""
    state, ring, claims, record = open_answer(state, command.message, kinds.UPDATE)  # (1) (2)
    update = Update.from_claims(claims)
    check_signed_in_time(record, update.issued_at)
    check_receiver(state, update.container, ring.vendor, update.vendor)
    if update.message_id in state.receipts:  # (3)
        return state, Installed(update.message_id, update.vendor, note=update.note, repeated=True)
    if update.sealed is not None:
        from tallystick.license.sealed import open_update  # only devices that attest are answered so

        update = open_update(update, lambda *_: command.secret)
    state = _close_answered(state, update)  # (4)
    state = _take_status_list(state, ring, update)
    verifier = LicenseVerifier(ring, state.container)  # without the list: what it revokes is refused at use, not here
    changes = []
    for message in update.licenses:  # (5)
        state, change = _take_license(state, verifier, message, update, time.now)
        changes.append(change)
    _require_any(changes)
    state = _take_time(state, ring, update, reading)  # (6)
    holdings = {
        key: holding.replace(contact=max(holding.contact, update.issued_at))
        if holding.vendor == update.vendor
        else holding
        for key, holding in state.holdings.items()
    }
    sizes = {key: len(receipt) for key, receipt in state.receipts.items()}
    gone = oldest_beyond(sizes, MAX_RECEIPTS - 1, MAX_RECEIPT_BYTES)
    receipts = {key: receipt for key, receipt in state.receipts.items() if key not in gone}
    receipts[update.message_id] = b""
    state = state.replace(holdings=holdings, receipts=receipts)
    return state, Installed(update.message_id, update.vendor, tuple(changes), update.note)


def open_answer(state: State, message: bytes, kind: Kind) -> tuple[State, KeyRing, dict[int, Any], KeyRecord]:
    """Verify a message of a known vendor, taking the newer key set it may carry.

    Args:
        state: the account.
        message: the bytes received.
        kind: what it must be.

    Returns:
        The account with the newest key set, the vendor's ring, the claims, and the key record that signed.

    Raises:
        FormatError, VerificationError: see `license.trust`.
        NotFoundError: ``vendor_unknown``.
    """
    header, unverified = cose.peek(message)
    cose.expect(header, kind)
    book = newest_book(state, unverified.get(1), unverified.get(-65570), kind)
    ring = keys_of(book)
    claims, record = ring.open(message, kind)
    if book is not state.vendors[book.name]:
        state = state.replace(vendors={**state.vendors, book.name: book})
    return state, ring, claims, record


def newest_book(state: State, vendor: Any, carried: Any, kind: Kind) -> VendorBook:
    """Find what is known of a vendor, with the key set a message carries where that is newer.

    The key set is taken out of a message not yet verified, because it may hold the very key that signed the message; it
    is signed by the root itself, and an older one is passed over.

    Args:
        state: the account.
        vendor: the claimed name, of any type.
        carried: the key set message the message carries, of any type.
        kind: what the message is.

    Returns:
        The vendor's book, not yet put back.

    Raises:
        FormatError, VerificationError: the key set is not acceptable; ``unknown_issuer`` where none has arrived yet.
        NotFoundError: ``vendor_unknown``.
    """
    book = state.vendors.get(vendor) if type(vendor) is str else None
    if book is None:
        raise error("vendor_unknown", f"this container does not know the vendor of this {kind.name}")
    if type(carried) is bytes and carried != book.keyset:
        book = _newer(book, carried)
    if not book.keyset:
        raise error("unknown_issuer", f"no key set of {book.name} has arrived yet")
    return book


def _newer(book: VendorBook, carried: bytes) -> VendorBook:
    keyset = read_keyset(carried, Trust(book.name, PublicKey.from_cose(book.root)))
    if book.keyset and keyset.seq <= book.keyset_seq:
        return book
    return book.replace(keyset=carried, keyset_seq=keyset.seq)


def keys_of(book: VendorBook) -> KeyRing:
    """Return a vendor's key ring: the key set on the books, verified under its root."""
    return ring_of(book.keyset, Trust(book.name, PublicKey.from_cose(book.root)), book.keyset_seq)


def check_receiver(state: State, container: bytes, ring_vendor: str, vendor: str) -> None:
    """Refuse a message for another container, or of a vendor other than its keys'.

    Raises:
        VerificationError: ``wrong_vendor`` or ``wrong_container``.
    """
    if vendor != ring_vendor:
        raise error("wrong_vendor", f"a message of {vendor}, signed by {ring_vendor}")
    if container != state.container:
        message = f"this file was made for {container_id(container)}; this is {container_id(state.container)}"
        raise error("wrong_container", message)


def close_request(state: State, request_id: bytes, status: int, answer: bytes, reason: str) -> State:
    """Close an open request."""
    entry = state.pending[request_id].replace(status=status, answer=answer, reason=reason)
    return state.replace(pending={**state.pending, request_id: entry})


def certify_time(state: State, signed_at: int, reading: Reading) -> State:
    """Raise the clock floor to a signed time."""
    return state.replace(clock=certify(state.clock, signed_at, reading))


def account_of(holding: Holding) -> Account:
    """Return what a receipt or request says of a license held."""
    used = {name: counter.used for name, counter in holding.counters.items() if counter.used}
    return Account(holding.license_id, holding.seq, used, dict(holding.first_use))


def _close_answered(state: State, update: Update) -> State:
    if update.in_reply_to is None:
        return state
    pending = state.pending.get(update.in_reply_to)
    if update.resync is not None:
        message = "this answers a repair request, and this container is in no need of repair now: nothing was changed"
        raise error("request_not_found", message, "Locked again, it makes another: `tally request --repair`.")
    if pending is None or pending.vendor != update.vendor:
        raise error("request_not_found", "this update answers a request this container never made")
    if pending.status != OPEN:
        raise error(
            "request_not_found", "the request this update answers is closed", "Make a new request: it costs no slot."
        )
    return close_request(state, update.in_reply_to, ANSWERED, update.message_id, "")


def _take_license(
    state: State, verifier: LicenseVerifier, message: bytes, update: Update, now: int
) -> tuple[State, Change]:
    license_ = verifier.accept(message)
    license_.require_complete()
    key = license_.license_id
    if key in state.tombstones:
        return state, Change(key, license_.product, GIVEN_UP, license_.seq)
    held = state.holdings.get(key)
    if held is None:
        if update.in_reply_to is None:
            return state, Change(key, license_.product, NOT_HELD, license_.seq)
        if len(state.holdings) >= MAX_LICENSES:
            raise error("full", f"the container holds {MAX_LICENSES} licenses")
        holding = Holding(key, license_.vendor, license_.product, license_.seq, message, now, update.issued_at)
        change = "installed"
    else:
        if held.vendor != license_.vendor or held.product != license_.product:
            raise error("wrong_vendor", "this update changes a license of another vendor or product")
        if license_.seq <= held.seq:
            return state, Change(
                key, license_.product, "unchanged" if license_.seq == held.seq else "older", license_.seq
            )
        holding = held.replace(seq=license_.seq, message=message)
        change = _change(held, license_)
    state = state.replace(holdings={**state.holdings, key: holding})
    text = f"{license_.product} {change}" + (f": {license_.reason}" if license_.reason else "")
    return logged(state, now, change, key, text), Change(key, license_.product, change, license_.seq)


def _require_any(changes: list[Change]) -> None:
    """Refuse an update none of whose licenses is for this container to hold."""
    if changes and all(change.change in (GIVEN_UP, NOT_HELD) for change in changes):
        given_up = next((change for change in changes if change.change == GIVEN_UP), None)
        if given_up is not None:
            raise error("deactivated", f"this container gave up {given_up.product}; it does not come back")
        raise error("license_not_found", "this update changes licenses this container does not hold")


def _change(held: Holding, license_: License) -> str:
    before = License.from_claims(cbor.decode_trusted(cose.cut(held.message)[1])).status
    if license_.status == before:
        return "refreshed"
    if license_.status == ACTIVE:
        return "resumed"
    return "revoked" if license_.status == REVOKED else "suspended"


def _take_status_list(state: State, ring: KeyRing, update: Update) -> State:
    """Keep the newest list. An older one, come late, is passed over; one whose key was dropped is forgotten."""
    book = state.vendors[ring.vendor]
    if book.status_list:
        try:
            read_status_list(book.status_list, ring)
        except VerificationError:
            book = book.replace(status_list=b"")
    if update.status_list is not None:
        token = read_status_list(update.status_list, ring)
        if token.issued_at >= book.status_at:
            book = book.replace(status_list=update.status_list, status_at=token.issued_at)
    return state.replace(vendors={**state.vendors, book.name: book})


def _take_time(state: State, ring: KeyRing, update: Update, reading: Reading) -> State:
    signed_at = update.issued_at
    if update.time is not None:
        claims, record = ring.open(update.time, kinds.TIME)
        token = TimeToken.from_claims(claims)
        check_signed_in_time(record, token.issued_at)
        signed_at = max(signed_at, token.issued_at)
    if update.clock_reset and signed_at >= state.clock.certified:  # an old reset, replayed, must not turn time back
        state = state.replace(clock=reset(signed_at, reading))
        return logged(state, signed_at, "clock", b"", f"clock reset by {update.vendor}")
    return certify_time(state, signed_at, reading)
