# SPDX-License-Identifier: Apache-2.0
"""`Line`: two containers at hand, and what is still on its way from one to the other.

A file that was lost and a command that was killed leave the same books. `Line.settle` brings what the giver has made
and the receiver has not seen, and what the receiver has confirmed and the giver has not booked; all of it may come
twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tallystick.container.base import Container
from tallystick.container.lending_base import ACTIVE, EXPIRED, IN_TRANSIT, Loan
from tallystick.errors import BackendError, LockedError, StorageError, TallystickError, UsageError, error
from tallystick.exchange.loan_lookup import loan_of
from tallystick.record import Record

GRANT, EXTENSION, RECALL, RECEIPT = "grant", "extension", "recall", "receipt"
_UNUSABLE: Final = (UsageError, LockedError, StorageError, BackendError)


class Delivery(Record):
    """What was on its way from one container to the other.

    Attributes:
        what: ``grant``, ``extension``, ``recall`` or ``receipt``.
        loan: of what, as its giver lists it.
    """

    what: str
    loan: Loan


class Done(Record):
    """What a direct command did.

    Attributes:
        loans: what it was about, as the giver lists it.
        repeated: it had been done before; only what was missing of it was delivered.
        notes: what else could not be delivered, and why.
        delivered: what was in transit between the two besides, and was delivered first.
        moved: how much was given back, by counter, by a command that returns.
    """

    loans: tuple[Loan, ...]
    repeated: bool = False
    notes: tuple[str, ...] = ()
    delivered: tuple[Delivery, ...] = ()
    moved: Mapping[str, int] = {}


class Line:
    """A giver and a receiver, both open.

    Args:
        giver: lends or transfers.
        receiver: borrows or receives.

    Attributes:
        delivered: what `settle` has delivered so far.
    """

    def __init__(self, giver: Container, receiver: Container) -> None:
        self.giver = giver
        self.receiver = receiver
        self.delivered: list[Delivery] = []
        self._giver_id = giver.info().thumbprint
        self._receiver_id = receiver.info().thumbprint
        if self._giver_id == self._receiver_id:
            raise error("usage", "both URIs name the same container", "Name the container that gives and another one.")

    # -- what was begun before

    def settle(self) -> tuple[tuple[Delivery, ...], tuple[str, ...]]:
        """Deliver what is in transit between the two.

        Returns:
            What was delivered, and notes on what was refused.

        Raises:
            LockedError, StorageError, BackendError, UsageError: a container cannot be used.
        """
        before, notes = len(self.delivered), []
        for loan in self.given():
            try:
                if what := self._deliver(loan):
                    self.delivered.append(Delivery(what, loan_of(self.giver, loan.xid)))
            except TallystickError as reason:
                if isinstance(reason, _UNUSABLE):
                    raise
                notes.append(f"{loan.xid.hex()[:8]} of {loan.product}: {reason.message}")
        return tuple(self.delivered[before:]), tuple(notes)

    def outstanding(self) -> tuple[Delivery, ...]:
        """Tell what `settle` would deliver."""
        taken = self.taken()
        due = [(what_is_due(loan, taken.get(loan.xid)), loan) for loan in self.given()]
        return tuple(Delivery(what, loan) for what, loan in due if what)

    def given(self) -> tuple[Loan, ...]:
        """List what the giver gave this receiver."""
        loans = self.giver.lending.loans()
        return tuple(loan for loan in loans if loan.outgoing and loan.peer == self._receiver_id)

    def taken(self) -> dict[bytes, Loan]:
        """Return what the receiver has on its books of this giver, by id."""
        loans = self.receiver.lending.loans()
        return {loan.xid: loan for loan in loans if not loan.outgoing and loan.peer == self._giver_id}

    def _deliver(self, loan: Loan) -> str:
        what = what_is_due(loan, self.taken().get(loan.xid))
        if what == RECALL:
            self.receiver.install(self.giver.lending.recall(loan.xid))
        elif what in (GRANT, EXTENSION):
            self.receiver.install(self.giver.lending.message(loan.xid))
        theirs = self.taken().get(loan.xid)
        if theirs is not None and _is_behind(loan, theirs):
            self.giver.install(self.receiver.lending.message(loan.xid))
            what = what or RECEIPT
        return what


def what_is_due(loan: Loan, theirs: Loan | None) -> str:
    """Tell what of an exchange is on its way.

    Args:
        loan: as its giver lists it.
        theirs: as its receiver lists it; None where it does not.

    Returns:
        ``grant``, ``recall``, ``extension``, ``receipt``, or nothing.
    """
    if theirs is None:
        return GRANT if loan.open else ""
    if loan.recalled and loan.state == ACTIVE and theirs.state == ACTIVE:
        return RECALL
    if _is_longer(loan, theirs):
        return EXTENSION
    return RECEIPT if _is_behind(loan, theirs) else ""


def _is_longer(loan: Loan, theirs: Loan) -> bool:
    return theirs.state in (ACTIVE, EXPIRED) and (loan.ends or 0) > (theirs.ends or 0)


def _is_behind(loan: Loan, theirs: Loan) -> bool:
    """Whether the receiver has said more than the giver has booked."""
    more = any(theirs.returned.get(name, 0) > loan.returned.get(name, 0) for name in loan.amounts)
    gone = theirs.state not in (ACTIVE, EXPIRED) and loan.open
    return more or gone or loan.state == IN_TRANSIT or (loan.state == EXPIRED and loan.open)
