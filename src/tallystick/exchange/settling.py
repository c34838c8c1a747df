# SPDX-License-Identifier: Apache-2.0
"""`Line`: two containers at hand, and what is still on its way from one to the other.

A file that was lost and a command that was killed leave the same books. `Line.settle` brings what the giver has made
and the receiver has not seen, and what the receiver has confirmed and the giver has not booked; all of it may come
twice.
"""

from __future__ import annotations

from typing import Final

from tallystick.container.base import Container
from tallystick.container.lending_base import ACTIVE, EXPIRED, IN_TRANSIT, Loan
from tallystick.errors import BackendError, LockedError, StorageError, TallystickError, UsageError, error

_UNUSABLE: Final = (UsageError, LockedError, StorageError, BackendError)


class Line:
    """A giver and a receiver, both open.

    Args:
        giver: lends or transfers.
        receiver: borrows or receives.
    """

    def __init__(self, giver: Container, receiver: Container) -> None:
        self.giver = giver
        self.receiver = receiver
        self._giver_id = giver.info().thumbprint
        self._receiver_id = receiver.info().thumbprint
        if self._giver_id == self._receiver_id:
            raise error("usage", "both URIs name the same container")

    # -- what was begun before

    def settle(self) -> tuple[tuple[bytes, ...], tuple[str, ...]]:
        """Deliver what is in transit between the two.

        Returns:
            Ids of the exchanges something was delivered of, and notes on those where that was refused.

        Raises:
            LockedError, StorageError, BackendError, UsageError: a container cannot be used.
        """
        delivered, notes = [], []
        for loan in self.given():
            try:
                if self._deliver(loan):
                    delivered.append(loan.xid)
            except TallystickError as reason:
                if isinstance(reason, _UNUSABLE):
                    raise
                notes.append(f"{loan.xid.hex()[:8]} of {loan.product}: {reason.message}")
        return tuple(delivered), tuple(notes)

    def given(self) -> tuple[Loan, ...]:
        """List what the giver gave this receiver."""
        loans = self.giver.lending.loans()
        return tuple(loan for loan in loans if loan.outgoing and loan.peer == self._receiver_id)

    def taken(self) -> dict[bytes, Loan]:
        """Return what the receiver has on its books of this giver, by id."""
        loans = self.receiver.lending.loans()
        return {loan.xid: loan for loan in loans if not loan.outgoing and loan.peer == self._giver_id}

    def _deliver(self, loan: Loan) -> bool:
        theirs = self.taken().get(loan.xid)
        moved = False
        if (theirs is None and loan.open) or (theirs is not None and _is_longer(loan, theirs)):
            self.receiver.install(self.giver.lending.message(loan.xid))
            moved = True
        elif theirs is not None and loan.recalled and loan.state == ACTIVE and theirs.state == ACTIVE:
            self.receiver.install(self.giver.lending.recall(loan.xid))
            moved = True
        theirs = self.taken().get(loan.xid)
        if theirs is not None and theirs.xid != theirs.request_id and _is_behind(loan, theirs):
            self.giver.install(self.receiver.lending.message(loan.xid))
            moved = True
        return moved


def _is_longer(loan: Loan, theirs: Loan) -> bool:
    return theirs.state in (ACTIVE, EXPIRED) and (loan.ends or 0) > (theirs.ends or 0)


def _is_behind(loan: Loan, theirs: Loan) -> bool:
    """Whether the receiver has said more than the giver has booked."""
    more = any(theirs.returned.get(name, 0) > loan.returned.get(name, 0) for name in loan.amounts)
    gone = theirs.state not in (ACTIVE, EXPIRED) and loan.open
    return more or gone or loan.state == IN_TRANSIT or (loan.state == EXPIRED and loan.open)
