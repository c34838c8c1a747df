# SPDX-License-Identifier: Apache-2.0
"""Two containers at hand: the messages of a loan or transfer run through memory.

Every step is durable before the next begins, so an interruption leaves the two books as a lost file would, and the same
command again finishes what it finds:

(1) What is in transit from this giver to this receiver is delivered, extensions and recalls too, and every receipt the
    giver has not seen.
(2) If the receiver has an open request for the same wish, it is used again. If such a request was answered and the loan
    still goes on, nothing is left to do; `again` is for those who want as much once more.
(3) Otherwise: request -> grant -> receipt. What the giver would refuse is refused before a request is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from tallystick.codec import cose
from tallystick.container.base import Container, LicenseView
from tallystick.container.lending_base import ACTIVE, EXPIRED, IN_TRANSIT, RECALLED, Loan
from tallystick.container.lending_parts import OVER
from tallystick.container.state import OPEN, Pending
from tallystick.errors import ContainerError, error
from tallystick.exchange.activate import record_trust
from tallystick.exchange.lending import Wish, answer, check_extendable, staying
from tallystick.exchange.loan_lookup import find_loan, loan_of, xids_of
from tallystick.exchange.lookup import find_license
from tallystick.exchange.settling import Done, Line
from tallystick.exchange.stock import Stock, stock_of, stocks
from tallystick.license.grant_policy import SEATS
from tallystick.license.messages import BORROW, Request
from tallystick.license.trust import Trust
from tallystick.license.want import Want

_GOING_ON: Final = (IN_TRANSIT, ACTIVE)


class Direct(Line):
    """A giver and a receiver, both open, and what may be done between them."""

    # -- giving

    def lend(self, wish: Wish, *, again: bool = False) -> Done:
        """Lend or transfer.

        Args:
            wish: what, how much, until when.
            again: as much once more, where the same was done before.

        Returns:
            What it did.

        Raises:
            LendingError, NotLicensedError, UsageError: the giver refuses; nothing was changed.
            TallystickError: a container cannot be used; the same command again finishes it.
        """
        xids, notes = self._settled()
        want, trust = self._want(wish)
        message, before = self._prior(want, wish, again, xids)
        if before:
            return self._done(before, before[0].xid not in xids, notes)
        if not message:
            self._refused_first(lambda: self.try_lend(wish, again=again))
            message = self._ask(self.receiver, want, trust)
        grant, loan = answer(self.giver, message, wish)
        outcome = self.receiver.install(grant)
        self.giver.install(outcome.receipt)
        return self._done((loan_of(self.giver, loan.xid),), False, notes)

    def try_lend(self, wish: Wish, *, again: bool = False) -> tuple[tuple[Loan, ...], tuple[Stock, ...]]:
        """See what `lend` would do.

        Returns:
            The loans as the giver would list them, and what it would hold.

        Raises:
            ContainerError: ``not_supported`` where a container cannot rehearse.
            LendingError, NotLicensedError, UsageError: what `lend` would raise.
        """
        want, trust = self._want(wish)
        message, before = self._prior(want, wish, again, ())
        if before:
            return before, stocks(self.giver)
        with self.giver.rehearsal() as giver, self.receiver.rehearsal() as receiver:
            _, loan = answer(giver, message or self._ask(receiver, want, trust), wish)
            return (loan,), stocks(giver)

    def rehost(self) -> Done:
        """Transfer everything.

        Returns:
            What moved, now and in an interrupted attempt before.

        Raises:
            LendingError: for the first license that may not go; nothing has gone then.
            TallystickError: a container cannot be used; the same command again finishes it.
        """
        xids, notes = self._settled()
        movable = self._movable()
        moved = list(xids)
        if movable:
            message = self.giver.lending.move(self._invitation(movable))
            outcome = self.receiver.install(message)
            self.giver.install(outcome.receipt)
            moved += xids_of(message)
        loans = tuple(loan for loan in self.given() if loan.xid in moved and loan.transfer)
        if not loans:
            earlier = tuple(loan for loan in self.given() if loan.transfer and loan.state in _GOING_ON)
            if not earlier:
                raise error("not_available", "nothing is left here to move")
            return self._done(earlier, True, notes)
        return self._done(loans, not movable and not xids, notes)

    def try_rehost(self) -> tuple[tuple[Loan, ...], tuple[Stock, ...]]:
        """See what `rehost` would do; returns and raises as `try_lend`."""
        movable = self._movable()
        if not movable:
            return (), stocks(self.giver)
        known = {loan.xid for loan in self.given()}
        with self.giver.rehearsal() as giver, self.receiver.rehearsal() as receiver:
            giver.lending.move(self._invite(receiver, movable))
            loans = giver.lending.loans()
            new = (one for one in loans if one.outgoing and one.peer == self._receiver_id and one.xid not in known)
            return tuple(new), stocks(giver)

    # -- afterwards

    def give_back(self, selector: str, amounts: Mapping[str, int] | None = None) -> Done:
        """Give back, all or a part; an interrupted return of the same amounts is finished, not repeated.

        Args:
            selector: id or product, as the receiver has it.
            amounts: how much, by counter; None for all.

        Raises:
            LendingError, ContainerError: the receiver refuses; nothing was changed.
            TallystickError: a container cannot be used; the same command again finishes it.
        """
        loan = self.find_taken(selector)
        booked = loan_of(self.giver, loan.xid)
        missing = {name: loan.returned.get(name, 0) - booked.returned.get(name, 0) for name in loan.amounts}
        xids, notes = self._settled()
        theirs = loan_of(self.receiver, loan.xid)
        over = theirs.state not in (ACTIVE, EXPIRED)
        unfinished = amounts is not None and {name: one for name, one in missing.items() if one} == dict(amounts)
        if not over and not unfinished:
            self.giver.install(self.receiver.lending.give_back(loan.xid, amounts))
        after = loan_of(self.giver, loan.xid)
        moved = {name: amount - booked.returned.get(name, 0) for name, amount in after.returned.items()}
        moved = {name: amount for name, amount in moved.items() if amount}
        return self._done((after,), over and loan.xid not in xids, notes, moved)

    def extend(self, selector: str, ends: int) -> Done:
        """Extend a loan; raises as `Lending.extend`, and as `settle`."""
        loan = self.find_given(selector)
        check_extendable(loan)  # before anything is delivered: the recall would be
        xids, notes = self._settled()
        check_extendable(loan_of(self.giver, loan.xid))
        if loan.ends != ends:
            self.receiver.install(self.giver.lending.extend(loan.xid, ends))
        return self._done((loan_of(self.giver, loan.xid),), loan.ends == ends and loan.xid not in xids, notes)

    def recall(self, selector: str) -> Done:
        """Ask a loan back and get it; raises as `Lending.recall`, what the receiver refuses, and as `settle`."""
        loan = self.find_given(selector)
        xids, notes = self._settled()
        loan = loan_of(self.giver, loan.xid)
        if loan.open or (loan.state != RECALLED and loan.xid not in xids):  # else what came back otherwise is refused
            outcome = self.receiver.install(self.giver.lending.recall(loan.xid))
            self.giver.install(outcome.receipt)
            return self._done((loan_of(self.giver, loan.xid),), False, notes)
        return self._done((loan,), loan.xid not in xids, notes)

    def find_given(self, selector: str) -> Loan:
        """Find a loan or transfer from this giver to this receiver; raises as `find_loan`, and ``wrong_container``."""
        loan = find_loan(self.giver, selector, outgoing=True, peer=self._receiver_id)
        if loan.peer != self._receiver_id:
            raise error("wrong_container", f"{loan.product} went to {loan.peer_id}", "Name that container with `--to`.")
        return loan

    def find_taken(self, selector: str) -> Loan:
        """Find the same as the receiver lists it; raises as `find_given`."""
        loan = find_loan(self.receiver, selector, outgoing=False, peer=self._giver_id)
        if loan.peer != self._giver_id:
            raise error("wrong_container", f"{loan.product} came from {loan.peer_id}", "Return it to that container.")
        return loan

    def staying(self) -> tuple[str, ...]:
        """Say what `rehost` would leave behind, and why."""
        return staying(self.giver, self._receiver_id)

    # -- inside

    def _settled(self) -> tuple[tuple[bytes, ...], tuple[str, ...]]:
        delivered, notes = self.settle()
        return tuple(one.loan.xid for one in delivered), notes

    def _done(
        self, loans: tuple[Loan, ...], repeated: bool, notes: tuple[str, ...], moved: Mapping[str, int] | None = None
    ) -> Done:
        asked = {loan.xid for loan in loans}
        besides = tuple(one for one in self.delivered if one.loan.xid not in asked)
        return Done(loans, repeated, notes, besides, moved or {})

    def _want(self, wish: Wish) -> tuple[Want, Trust]:
        views = self.giver.licenses()
        if wish.license_:
            views = (find_license(self.giver, wish.license_),)
        elif wish.product:
            views = tuple(view for view in views if view.product == wish.product)
        if not views:
            message = f"the lender holds no license for {wish.product or 'anything'}"
            raise error("not_licensed", message, "Only what is held can be given; `tally list` there shows it.")
        if len({view.product for view in views}) > 1:
            raise error("ambiguous", "the lender holds licenses for several products", "Name one: `--product NAME`.")
        license_ = views[0].license_ if wish.license_ else None
        want = Want(
            product=views[0].product,
            license_id=None if license_ is None else license_.license_id,
            amounts={name: amount for name, amount in wish.amounts.items() if amount},
            features=wish.features,
            duration=wish.duration if wish.ends is None else None,
            transfer=wish.transfer,
            lender=self._giver_id,
        )
        return want, self._trust(views[0].vendor)

    def _prior(
        self, want: Want, wish: Wish, again: bool, delivered: tuple[bytes, ...]
    ) -> tuple[bytes, tuple[Loan, ...]]:
        """Find an open request for the same wish, or the loans that answered one and still go on."""
        for pending in reversed(self.receiver.requests()):
            if pending.action != BORROW or _want_of(pending) != want:
                continue
            before = [loan for loan in self.given() if loan.request_id == pending.request_id]
            if pending.status == OPEN and all(loan.open for loan in before):
                return pending.message, ()
            same = tuple(loan for loan in before if loan.state in _GOING_ON and wish.ends in (None, loan.ends))
            if same and (not again or same[0].xid in delivered):
                return b"", same
        return b"", ()

    def _refused_first(self, act: Callable[[], object]) -> None:
        """Let the giver refuse before anything is written; where it cannot rehearse, it refuses later."""
        try:
            act()
        except ContainerError as reason:
            if reason.code != "not_supported":
                raise

    def _ask(self, receiver: Container, want: Want, trust: Trust) -> bytes:
        return receiver.lending.ask(
            trust,
            product=want.product,
            license_id=want.license_id,
            amounts=want.amounts,
            features=want.features,
            duration=want.duration,
            transfer=want.transfer,
            count=want.count,
            lender=want.lender,
        )

    def _movable(self) -> list[LicenseView]:
        views = self.giver.licenses()
        usable = [view for view in views if view.verdict is None or view.verdict.code not in OVER]
        return [view for view in usable if any(one.here for one in stock_of(view) if one.counter == SEATS)]

    def _invitation(self, movable: list[LicenseView]) -> bytes:
        """Find or make a standing invitation to everything, with room for so many grants."""
        for pending in self.receiver.requests():
            fits = pending.status == OPEN and pending.action == BORROW
            if fits and pending.count - pending.taken >= len(movable):
                if _want_of(pending).replace(count=1) == Want(transfer=True, lender=self._giver_id):
                    return pending.message
        self._refused_first(self.try_rehost)
        return self._invite(self.receiver, movable)

    def _invite(self, receiver: Container, movable: list[LicenseView]) -> bytes:
        trusts = [self._trust(vendor) for vendor in dict.fromkeys(view.vendor for view in movable)]
        for trust in trusts:
            record_trust(receiver, trust)
        return self._ask(receiver, Want(transfer=True, count=len(movable), lender=self._giver_id), trusts[0])

    def _trust(self, vendor: str) -> Trust:
        recorded = getattr(self.giver, "vendor_trust", None)
        if recorded is None:
            raise error("not_supported", "the giver records no vendor's key", "Borrow by files, with `--trust FILE`.")
        trust: Trust = recorded(vendor)
        return trust


def _want_of(pending: Pending) -> Want:
    return Request.from_claims(cose.peek(pending.message)[1]).want or Want()
