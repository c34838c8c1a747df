# SPDX-License-Identifier: Apache-2.0
"""Slots and the account together: which licenses have how many seats here, and taking one of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tallystick.clock import Assessment, assess
from tallystick.container.availability import seats_available
from tallystick.container.choosing import candidates
from tallystick.container.ledger_books import holding_of, license_of
from tallystick.container.session import Session
from tallystick.container.slots import Slots
from tallystick.container.slots_claim import Claim
from tallystick.container.slots_record import SeatHolder
from tallystick.container.standing import as_of
from tallystick.container.state import Holding, State
from tallystick.errors import NotLicensedError, VerificationError
from tallystick.license.model import License
from tallystick.license.policy import Facts


class SeatCounter:
    """The seats of one container, counted.

    Args:
        session: the container's state.
        accept: verifies a holding's license under a state.
        observe: tells what time it is under a state.
    """

    __slots__ = ("_accept", "_observe", "_session", "_slots")

    def __init__(
        self, session: Session, accept: Callable[[State, Holding], License], observe: Callable[[State], Assessment]
    ) -> None:
        self._session = session
        self._accept = accept
        self._observe = observe
        self._slots = Slots(session.directory, session.clock)

    def claim(
        self, owner: tuple[str, str], features: Sequence[str], mode: str, facts: Facts, wait: float
    ) -> tuple[Claim, State, Assessment]:
        """Take a slot of a license that permits what is asked.

        Args:
            owner: vendor and product.
            features: that must be licensed, all of them.
            mode: a key of `slots_record.MODES`.
            facts: about the application.
            wait: seconds to queue at most.

        Returns:
            The claim, pinned; the state as it is on disk after the slot was taken; the time licenses go by.

        Raises:
            NotLicensedError: the refusal that says most; ``seats_in_use`` with the holders.
            VerificationError, LockedError, StorageError, ContainerError.
        """
        try:
            claimed = self._take(self._session.peek(), owner, features, mode, facts, 0.0)
        except (NotLicensedError, VerificationError):  # what is known may be behind what is on disk
            claimed = None
        while claimed is None:
            claimed = self._take(self._session.current(), owner, features, mode, facts, wait)
        return claimed

    def _take(
        self, state: State, owner: tuple[str, str], features: Sequence[str], mode: str, facts: Facts, wait: float
    ) -> tuple[Claim, State, Assessment] | None:
        """Take a slot, then look whether the account still has it: seats may be given away at the same time."""
        time = self._observe(state)
        now = time.now
        facts = facts.replace(now=now, wall=time.wall)
        held = as_of(state, now)
        found = candidates(held, lambda holding: self._accept(held, holding), owner, features, mode, facts)
        seats = self.available if wait else lambda license_: self._left(state, license_, now)
        claim = self._slots.take(found, mode, seats, wait)
        try:
            after = self._session.current()
            if after is state or claim.settled or self._covered(after, claim):
                claim.settled = True
                claim.seats = self.available
                return claim, after, self._observe(after) if wait else time
        except BaseException:
            claim.unpin()
            raise
        claim.unpin()
        return None

    def _covered(self, state: State, claim: Claim) -> bool:
        holding = state.holdings.get(claim.license_.part)
        if holding is None or claim.counted is None:
            return True  # nothing is counted, or `decide` says what is wrong
        left = self._left(state, self._accept(state, holding), self._now(state))
        return left is None or left >= claim.counted or left >= self._slots.taken_of(claim.license_)

    def available(self, license_: License) -> int | None:
        """Count the seats of a license there are here now, taken ones included; None where they are not limited."""
        state = self._session.current()
        return self._left(state, license_, self._now(state))

    def _left(self, state: State, license_: License, now: int) -> int | None:
        if license_.terms.seats is None:
            return None
        return seats_available(license_, holding_of(as_of(state, now), license_.part), now)

    def _now(self, state: State) -> int:
        return assess(state.clock, self._session.clock.read()).now

    def taken(self, license_id: bytes) -> int:
        """Count the seats of a license that are in use now; see `Seating.taken`."""
        return self._slots.taken(license_id)

    def holders(self, product: str | None) -> tuple[SeatHolder, ...]:
        """List who holds seats, and who waits for one; see `Container.holders`."""
        holdings = self._session.current().holdings.values()
        asked = [one for one in holdings if product in (None, one.product)]
        held = {license_of(one).license_id: (one.vendor, one.product) for one in asked}
        return self._slots.holders(held)

    def close(self) -> None:
        """Give back what is still held."""
        self._slots.close()
