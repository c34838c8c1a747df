# SPDX-License-Identifier: Apache-2.0
"""Which loan, transfer or request is meant: by what people type, by its id, by a message that is about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tallystick.codec import cose, kinds
from tallystick.codec.ident import container_id, is_container_id
from tallystick.container.base import Container
from tallystick.container.lending_base import CANCELLED, EXPIRED, RECALLED, REQUESTED, RETURNED, Loan
from tallystick.errors import error
from tallystick.exchange.identify import expect
from tallystick.exchange.lookup import begins, too_short
from tallystick.license.grants import Grant, Move, Recall
from tallystick.license.messages import read_request
from tallystick.license.receipts import Receipt

_THUMBPRINT_DIGITS: Final = 64
_CLOSED: Final = (RETURNED, RECALLED, CANCELLED, EXPIRED)


def find_loan(container: Container, selector: str, *, outgoing: bool, peer: bytes | None = None) -> Loan:
    """Find one loan or transfer.

    Args:
        container: open.
        selector: the beginning of its id, or a product; of a product's, those still going on come first.
        outgoing: given by this container; else it came here.
        peer: thumbprint of the other container, where it is known which one is meant.

    Returns:
        The loan; where `peer` is named and had nothing like it, the newest one of somebody else.

    Raises:
        NotFoundError: ``grant_not_found``.
        UsageError: ``ambiguous`` with the ids in ``details["ids"]``.
    """
    found = [loan for loan in container.lending.loans() if loan.outgoing == outgoing and loan.state != REQUESTED]
    by_id = [loan for loan in found if begins(loan.xid, selector)]
    if not by_id:
        named = [loan for loan in found if loan.product == selector]
        if peer is not None:
            named = [loan for loan in named if loan.peer == peer] or named[-1:]
        going_on = [loan for loan in named if loan.state not in _CLOSED]
        over = [loan for loan in named if loan.state == EXPIRED]
        by_id = going_on or over or named[-1:]
    if not by_id:
        done = "gave" if outgoing else "got"
        raise error("grant_not_found", f"this container {done} no loan or transfer {selector!r}", too_short(selector))
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
        raise error("grant_not_found", f"this container knows nothing of {selector!r}", too_short(selector))
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
