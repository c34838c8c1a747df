# SPDX-License-Identifier: Apache-2.0
"""What arrives at a container from another container, and what it answers: imports of grants, moves and receipts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tallystick.clock import assess
from tallystick.codec.kinds import GRANT, MOVE, Kind
from tallystick.container import commands as c
from tallystick.container.base import Outcome
from tallystick.container.exchanges import DECLINED as NEVER_TAKEN
from tallystick.container.exchanges import HELD, Arrival
from tallystick.container.ledger_books import Change
from tallystick.container.ledger_install import check_receiver
from tallystick.container.ledger_shares import Taken, shares_of
from tallystick.container.ledger_take import arrival_of
from tallystick.container.papers import write_receipt
from tallystick.container.session import Session, Transaction
from tallystick.errors import error
from tallystick.license.grants import Recall, read_move
from tallystick.license.receipts import ACCEPTED, DECLINED

ID_BYTES: Final = 16
UNCHANGED: Final = "unchanged"


class Post:
    """Takes messages of other containers, and writes the receipts they are due.

    Args:
        session: the container's state.
        random: source of ids.
    """

    def __init__(self, session: Session, random: Callable[[int], bytes]) -> None:
        self._session = session
        self._random = random

    def take(self, tx: Transaction, kind: Kind, message: bytes) -> Outcome:
        """Take a grant, a move, or a receiver's receipt.

        Args:
            tx: the transaction.
            kind: what the message says it is.
            message: as received.

        Returns:
            What it did; for grants with the receipt to send back.

        Raises:
            FormatError, VerificationError, LendingError, NotFoundError: nothing was taken.
        """
        if kind is GRANT:
            taken: Taken = tx.apply(c.Accept(message))
            return self._outcome(tx, taken.xid, (taken,))
        if kind is MOVE:
            move = read_move(message)
            check_receiver(tx.state, move.receiver, "", "")
            if not move.grants:
                raise error("malformed", "a move that brings nothing")
            return self._outcome(tx, move.message_id, tuple(tx.apply(c.Accept(grant)) for grant in move.grants))
        done: tuple[Taken, ...] = tx.apply(c.TakeShares(message))
        vendors = [tx.state.holdings[part].vendor for part in self._parts(tx, done) if part in tx.state.holdings]
        repeated = all(taken.change == UNCHANGED for taken in done)
        return Outcome(done[0].xid, vendors[0] if vendors else "", _changes(done), repeated=repeated)

    def recalled(self, recall: Recall, receipt: bytes) -> Outcome:
        """Tell what a recall did."""
        state = self._session.peek()
        arrival = arrival_of(state, recall.xid)
        change = Change(arrival.license_id, arrival.product, "returned", 0)
        return Outcome(recall.xid, arrival.vendor, (change,), receipt=receipt)

    def receipt(self, tx: Transaction, purpose: int, arrival: Arrival) -> bytes:
        """Write the receipt of one exchange, or return the one that was kept."""
        if arrival.receipt:
            return arrival.receipt
        # What was declined ahead, before its grant came, has no receipt yet, and never another one than this.
        return self._written(tx, DECLINED if arrival.status == NEVER_TAKEN else purpose, (arrival,))

    def _outcome(self, tx: Transaction, message_id: bytes, done: tuple[Taken, ...]) -> Outcome:
        arrivals = tuple(arrival_of(tx.state, taken.xid) for taken in done)
        due = tuple(arrival for arrival in arrivals if not arrival.receipt)
        held = tuple(arrival for arrival in due if arrival.status == HELD)
        receipt = arrivals[0].receipt
        if due:
            purpose, about = (ACCEPTED, held) if held else (DECLINED, due)
            receipt = self._written(tx, purpose, about)
        repeated = all(taken.change == UNCHANGED for taken in done)
        return Outcome(message_id, arrivals[0].vendor, _changes(done), repeated=repeated, receipt=receipt)

    def _written(self, tx: Transaction, purpose: int, arrivals: tuple[Arrival, ...]) -> bytes:
        xids = tuple(arrival.xid for arrival in arrivals)
        message = write_receipt(
            self._session.anchor,
            tx.state,
            vendor=arrivals[0].vendor,
            now=assess(tx.state.clock, tx.reading).now,
            message_id=self._random(ID_BYTES),
            purpose=purpose,
            about=xids[0],
            accounts=(),
            shares=shares_of(tx.state.arrivals, xids),
        )
        for xid in xids:
            tx.apply(c.KeepShare(xid, message))
        return message

    def _parts(self, tx: Transaction, done: tuple[Taken, ...]) -> list[bytes]:
        return [tx.state.given[taken.xid].part for taken in done if taken.xid in tx.state.given]


def _changes(done: tuple[Taken, ...]) -> tuple[Change, ...]:
    return tuple(Change(taken.license_id, taken.product, taken.change, 0) for taken in done)
