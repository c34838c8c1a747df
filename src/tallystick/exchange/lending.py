# SPDX-License-Identifier: Apache-2.0
"""Loans and transfers by files: ask, answer, find what is meant, and see beforehand what would move.

Each function works on one container; `exchange.direct` puts two of them together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from tallystick.codec import cose, kinds
from tallystick.codec.ident import container_id, is_container_id
from tallystick.container.base import Container, LicenseView
from tallystick.container.lending_base import CANCELLED, EXPIRED, RECALLED, REQUESTED, RETURNED, Loan
from tallystick.errors import error
from tallystick.exchange.identify import expect
from tallystick.exchange.lookup import begins, find_license
from tallystick.license.grants import Grant, Move, Recall
from tallystick.license.messages import read_request
from tallystick.license.receipts import Receipt
from tallystick.license.trust import Trust
from tallystick.license.want import Want
from tallystick.record import Record

Result = TypeVar("Result")

MANY: Final = 1000  # grants an invitation may ask for
_THUMBPRINT_DIGITS: Final = 64
_CLOSED: Final = (RETURNED, RECALLED, CANCELLED, EXPIRED)


class Wish(Record):
    """What somebody wants lent or transferred, as typed on either side.

    Attributes:
        product: product id; empty where one thing only can be meant.
        license_: a license or part held by the giver, by id or the beginning of one; empty for any.
        amounts: how much, by counter; empty leaves it to the other side.
        whole: everything that is left.
        features: only these; None for all.
        duration: of a loan, in seconds.
        ends: end of a loan, in seconds since 1970; instead of `duration`.
        transfer: for good.
        count: how many grants may answer a request.
        lender: thumbprint of the only container asked.
    """

    product: str = ""
    license_: str = ""
    amounts: Mapping[str, int] = {}
    whole: bool = False
    features: tuple[str, ...] | None = None
    duration: int | None = None
    ends: int | None = None
    transfer: bool = False
    count: int = 1
    lender: bytes | None = None


def ask(container: Container, wish: Wish, trust: Trust | None = None) -> bytes:
    """Ask for a loan or a transfer.

    Args:
        container: of the receiver.
        wish: what is wanted; an end is asked for as a duration from now on.
        trust: the vendor, where the container does not know it, or knows several.

    Returns:
        The request.

    Raises:
        UsageError: ``usage``, ``vendor_needed``, ``closed``.
        ContainerError, LockedError, StorageError, BackendError: as `Lending.ask`.
    """
    duration = wish.duration
    if wish.ends is not None:
        duration = wish.ends - container.info().now
        if duration <= 0:
            raise error("usage", "a loan cannot end in the past", "Choose a later end.")
    return container.lending.ask(
        trust,
        product=wish.product,
        amounts=wish.amounts,
        features=wish.features,
        duration=duration,
        transfer=wish.transfer,
        count=wish.count,
        lender=wish.lender,
    )


def answer(container: Container, request: bytes, wish: Wish) -> tuple[bytes, Loan]:
    """Lend or transfer to the container that made a request. The same pull again: the same grant.

    Args:
        container: of the giver.
        request: as received, armor taken off.
        wish: what is given; what it leaves open is as the request asks.

    Returns:
        The grant, and its entry in the giver's book.

    Raises:
        FormatError: ``wrong_kind`` and others; VerificationError: the request is not genuine.
        UsageError: ``usage`` where neither side says how much, or until when; ``ambiguous``.
        LendingError, NotLicensedError, LockedError, StorageError, BackendError: as `Lending.give`.
    """
    want = wanted(request)
    if wish.transfer != want.transfer and (want.transfer or want.duration is not None):
        asked, command = ("a transfer", "transfer") if want.transfer else ("a loan", "lend")
        raise error("not_wanted", f"the receiver asks for {asked}", f"Use `tally {command} FILE`.")
    if want.lender not in (None, container.info().thumbprint):
        lender = container_id(want.lender)
        raise error("wrong_container", f"this request is for {lender}", "Give it to that container: `tally lend FILE`.")
    view = find_license(container, wish.license_) if wish.license_ else None
    ends = wish.ends
    if ends is None and wish.duration is not None:
        ends = container.info().now + wish.duration
    if ends is None and not wish.transfer and want.duration is None:
        raise error("usage", "a loan needs an end", "Pass `--for 3d` or `--until DATE`.")
    message = container.lending.give(
        request,
        part=None if view is None else view.license_id,
        product=wish.product or ("" if view is None else view.product),
        amounts=_amounts(container, want, wish, view),
        features=wish.features,
        ends=ends,
        transfer=wish.transfer,
    )
    return message, loan_of(container, xids_of(message)[0])


def wanted(request: bytes) -> Want:
    """Read what a request of another container asks; the request proves itself.

    Raises:
        FormatError: ``wrong_kind`` for a request to a vendor, and for what is no request.
        VerificationError: it is not genuine.
    """
    expect(request, kinds.REQUEST)
    want = read_request(request).want
    if want is None:
        raise error("wrong_kind", "this request is for the vendor", "Send it to the vendor it names.")
    return want


def find_loan(container: Container, selector: str, *, outgoing: bool) -> Loan:
    """Find one loan or transfer.

    Args:
        container: open.
        selector: the beginning of its id, or a product; of a product's, those still going on come first.
        outgoing: given by this container; else it came here.

    Returns:
        The loan.

    Raises:
        NotFoundError: ``grant_not_found``.
        UsageError: ``ambiguous`` with the ids in ``details["ids"]``.
    """
    found = [loan for loan in container.lending.loans() if loan.outgoing == outgoing and loan.state != REQUESTED]
    by_id = [loan for loan in found if begins(loan.xid, selector)]
    if not by_id:
        named = [loan for loan in found if loan.product == selector]
        going_on = [loan for loan in named if loan.state not in _CLOSED]
        over = [loan for loan in named if loan.state == EXPIRED]
        by_id = going_on or over or named[-1:]
    if not by_id:
        done = "gave" if outgoing else "got"
        raise error("grant_not_found", f"this container {done} no loan or transfer {selector!r}")
    if len(by_id) > 1:
        ids = [loan.xid.hex() for loan in by_id]
        shown = ", ".join(one[:8] for one in ids)
        raise error("ambiguous", f"{len(ids)} loans and transfers answer to {selector!r}: {shown}", ids=ids)
    return by_id[0]


def find_exchange(container: Container, selector: str) -> Loan:
    """Find a loan, transfer or request by the beginning of its id; raises as `find_loan`."""
    found = [loan for loan in container.lending.loans() if begins(loan.xid, selector)]
    if len(found) > 1:
        raise error("ambiguous", f"{len(found)} ids begin with {selector!r}", ids=[loan.xid.hex() for loan in found])
    if not found:
        raise error("grant_not_found", f"this container knows nothing of {selector!r}")
    return found[0]


def loan_of(container: Container, xid: bytes) -> Loan:
    """Return the entry of an exchange; raises ``grant_not_found``."""
    for loan in container.lending.loans():
        if loan.xid == xid:
            return loan
    raise error("grant_not_found", "this container knows nothing of that exchange")


def xids_of(message: bytes) -> tuple[bytes, ...]:
    """Tell which exchanges a message is about, unverified.

    Args:
        message: a grant, move, recall or receipt.

    Returns:
        Their ids; none for other kinds.

    Raises:
        FormatError: malformed.
    """
    header, claims = cose.peek(message)
    if header.kind is kinds.GRANT:
        return (Grant.from_claims(claims).xid,)
    if header.kind is kinds.RECALL:
        return (Recall.from_claims(claims).xid,)
    if header.kind is kinds.MOVE:
        return tuple(xid for grant in Move.from_claims(claims).grants for xid in xids_of(grant))
    if header.kind is kinds.RECEIPT:
        return tuple(share.xid for share in Receipt.from_claims(claims).shares)
    return ()


def touched(container: Container, message: bytes) -> tuple[Loan, ...]:
    """List the loans and transfers a message is about, as the container has them now."""
    xids = xids_of(message)
    return tuple(loan for loan in container.lending.loans() if loan.xid in xids)


def is_divisible(container: Container, loan: Loan) -> bool:
    """Tell whether a loan's license counts seats; True where the license is not here any more."""
    licenses = (view.license_ for view in container.licenses() if view.license_ is not None)
    return next((one.terms.seats is not None for one in licenses if one.license_id == loan.license_id), True)


def identity_of(container: Container, text: str, read: Callable[[str], bytes]) -> bytes:
    """Tell which container is meant.

    Args:
        container: open; it remembers whom it dealt with.
        text: a printed id of somebody it dealt with, a thumbprint in hexadecimal, or a request of that container.
        read: reads what a path or pasted text names.

    Returns:
        The thumbprint.

    Raises:
        UsageError: ``usage`` for an id that is not known here; ``file_not_found``.
        FormatError, VerificationError: it is no request, or not genuine.
    """
    if is_container_id(text):
        peers = {loan.peer for loan in container.lending.loans() if loan.peer is not None}
        found = [peer for peer in peers if container_id(peer) == text.strip().upper()]
        if len(found) == 1:
            return found[0]
        remedy = "Pass a request file of that container, or the thumbprint `tally info --json` prints there."
        raise error("usage", f"this container never dealt with {text}", remedy)
    if len(text) == _THUMBPRINT_DIGITS and not set(text.lower()) - set("0123456789abcdef"):
        return bytes.fromhex(text)
    data = read(text)
    expect(data, kinds.REQUEST)
    return read_request(data).key.thumbprint


def rehearse(container: Container, act: Callable[[Container], Result]) -> Result:
    """Do something in memory only.

    Args:
        container: open; nothing in it changes.
        act: does it, to the container passed.

    Returns:
        What `act` returns.

    Raises:
        ContainerError: ``not_supported`` where the backend cannot; and what `act` raises.
    """
    with container.rehearsal() as stage:
        return act(stage)


def _amounts(container: Container, want: Want, wish: Wish, view: LicenseView | None) -> Mapping[str, int] | None:
    """Tell how much is given: never everything of what can be divided, unless somebody said so."""
    if wish.whole:
        return {}
    if wish.amounts or want.amounts:
        return wish.amounts or None
    product = wish.product or want.product
    views = [view] if view else [one for one in container.licenses() if product in ("", one.product)]
    licenses = [one.license_ for one in views if one.license_ is not None]
    if any(one.terms.seats is not None or one.terms.units is not None for one in licenses):
        remedy = "Pass `--seats N`, `--units N`, or `--whole` for everything that is left."
        raise error("usage", "neither the request nor the command says how much", remedy)
    return {}
