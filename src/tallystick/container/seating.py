# SPDX-License-Identifier: Apache-2.0
"""Taking seats: which license, is it acceptable to the application's pinned vendor, does it permit, is the key here.

The vendor's signature over a license is verified in the application's own process, under the root it pinned, each time
a license is first used there; what the container's account claims to have verified is never enough. That costs one
verification for the key set and one for the license, however many licenses the container holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from tallystick.clock import Assessment, assess
from tallystick.container import commands as c
from tallystick.container.block import Block
from tallystick.container.ledger_books import counter_name, holding_of, status_list_of
from tallystick.container.proof import NONCE_BYTES, Renewer, prove
from tallystick.container.seat import Repeated, Seat
from tallystick.container.session import Session, Transaction
from tallystick.container.slots_counter import SeatCounter
from tallystick.container.slots_record import SeatHolder, require_mode
from tallystick.container.standing import as_of
from tallystick.container.state import Holding, State
from tallystick.errors import StorageError, TallystickError, error
from tallystick.license.dates import instant
from tallystick.license.model import License
from tallystick.license.policy import Facts, Verdict, evaluate
from tallystick.license.trust import Trust, ring_of
from tallystick.license.verify import LicenseVerifier

OBSERVE_S: Final = 900  # the floor on disk follows the clock in steps of a quarter of an hour
_GONE: Final = ("no_reservation", "deactivated", "license_not_found")  # a block that nobody waits for any more


class Seating:
    """The seats of one container; implements `seat.SeatHost`.

    Args:
        session: the container's state.
        trusts: pinned vendors by name.
        reproof_s: seconds a proof of the key holds.
        background: renew seats from a thread.
        random: source of nonces.
    """

    def __init__(
        self,
        session: Session,
        trusts: Mapping[str, Trust],
        *,
        reproof_s: float,
        background: bool,
        random: Callable[[int], bytes],
    ) -> None:
        if not 1 <= reproof_s <= 3600:
            raise error("usage", "the re-proof interval is 1 to 3600 seconds")
        self.monotonic = session.clock.monotonic
        self._session = session
        self._trusts = trusts
        self._reproof_s = reproof_s
        self._background = background
        self._random = random
        self._key = session.anchor.public_key
        self._proven = 0.0
        self._verifiers: dict[tuple[bytes, bytes], LicenseVerifier] = {}
        self._renewer = Renewer(self._prove, reproof_s / 2)
        self._fresh: tuple[State, Assessment] | None = None  # read a moment ago, by a checkout
        self._counter = SeatCounter(session, self._accept, self._observe)

    @property
    def level(self) -> int | None:
        """The assurance level as far as it is known here; see `Anchor.level`."""
        return self._session.anchor.level

    def checkout(
        self,
        product: str,
        *,
        features: Sequence[str] = (),
        vendor: str | None = None,
        version: str | None = None,
        release_date: str | int | None = None,
        reserve: int = 0,
        mode: str = "user-limit",
        wait: float = 0.0,
        linger: bool = True,
        warn: int | None = None,
    ) -> Seat:
        """Take a seat; see `Container.checkout`."""
        require_mode(mode, wait)
        trust = self._trust(vendor)
        released = instant(release_date) if isinstance(release_date, str) else release_date
        facts = Facts(0, version=version, release_date=released, level=self.level, warn=warn)
        claim, state, time = self._counter.claim((trust.vendor, product), features, mode, facts, wait)
        seat: Seat | None = None
        try:
            self.proven_until()
            block = self._reserve(claim.license_, features, reserve) if reserve else None
            seat = Seat(self, claim.license_, facts, block, claim, linger=linger)
        finally:
            claim.unpin(seat)
        self._fresh = (state, time)
        try:
            for feature in ("", *features):
                seat.require(feature)
        except BaseException:
            seat.close(linger=False)
            raise
        finally:
            self._fresh = None
        self._renewer.add(seat)
        if self._background:
            self._renewer.start()
        return seat

    def holders(self, product: str | None = None) -> tuple[SeatHolder, ...]:
        """List who holds seats, and who waits for one; see `Container.holders`."""
        return self._counter.holders(product)

    def available(self, license_: License) -> int | None:
        """Count the seats of a license there are here now, taken ones included; None where they are not limited."""
        return self._counter.available(license_)

    def taken(self, license_id: bytes) -> int:
        """Count the seats of a license that are in use now.

        Whoever takes seats away from those that may be used here calls this inside the transaction that debits them: a
        checkout under way is either counted already, or finds the debit and gives its seat back.

        Args:
            license_id: 16 bytes.

        Returns:
            How many; lingering ones count.

        Raises:
            StorageError, ContainerError (``busy``).
        """
        return self._counter.taken(license_id)

    def decide(self, license_id: bytes, facts: Facts) -> tuple[Verdict, int]:
        """Evaluate now; a usage period begins with the first use that is permitted."""
        fresh = self._fresh
        if fresh is not None and fresh[0] is self._session.peek():
            state, time = fresh
        else:
            state = self._newest()
            time = self._observe(state)
        now = time.now
        holding = holding_of(as_of(state, now), license_id)
        license_ = self._accept(state, holding)
        facts = facts.replace(now=now, wall=time.wall)
        verdict = evaluate(license_, holding.usage(), facts)
        if verdict.ok and self._begin_usage(holding, license_, facts.feature):
            holding = holding_of(as_of(self._session.peek(), now), license_id)
            verdict = evaluate(license_, holding.usage(), facts)
        return verdict, now

    def proven_until(self) -> float:
        """Prove the key if the last proof is too old."""
        if self.monotonic() >= self._proven:
            self._prove()
        return self._proven

    def consume(self, license_id: bytes, feature: str, units: int, key: bytes) -> int:
        """Use up units, durably; the usage periods this begins start in the same commit."""
        with self._session.transaction() as tx:
            holding = holding_of(tx.state, license_id)
            license_ = self._accept(tx.state, holding)
            booked = bool(key) and key in tx.state.retries
            for name in _not_begun(holding, license_, feature):
                tx.apply(c.FirstUse(license_id, name))
            asked = c.Consume(license_id, feature, units, key)
            left: int = tx.apply(asked) if license_.meter is None else self._metered(tx, license_, asked)
        return Repeated(left) if booked else left

    def release(self, license_id: bytes, reservation_id: bytes, rest: int) -> None:
        """Give the rest of a block back, where there is still something to give it back to."""
        try:
            with self._session.transaction() as tx:
                tx.apply(c.Release(license_id, reservation_id, rest))
        except TallystickError as refusal:
            if refusal.code not in _GONE:
                raise

    def content_key(self, license_: License, key_id: str) -> bytes:
        """Open a content key of a license."""
        return self._session.content_key(license_, key_id)

    def leave(self, seat: Seat) -> None:
        """Forget a closed seat."""
        self._renewer.discard(seat)

    def changed(self) -> None:
        """Let every seat decide anew: licenses were installed or given up here."""
        for seat in self._renewer.seats:
            seat.renew()

    def close(self) -> None:
        """End every seat, and give back what it reserved as far as that can be done."""
        self._renewer.stop()
        for seat in self._renewer.seats:
            try:
                seat.close()
            except TallystickError:  # the disk or the device is gone: what was reserved is forfeited, as in a crash
                continue
        self._counter.close()

    # -- inside

    def _trust(self, vendor: str | None) -> Trust:
        if not self._trusts:
            raise error("usage", "no vendor is trusted", "Open the container with `trust=`, the text your vendor pins.")
        if vendor is None:
            if len(self._trusts) > 1:
                raise error("vendor_needed", f"{len(self._trusts)} vendors are trusted; whose product is it?")
            return next(iter(self._trusts.values()))
        if vendor not in self._trusts:
            raise error("unknown_issuer", f"{vendor} is not trusted by this application")
        return self._trusts[vendor]

    def _newest(self) -> State:
        """The state on disk; the last one known while the disk cannot be read: unreachable is not invalid."""
        try:
            return self._session.current()
        except StorageError:
            return self._session.peek()
        except TallystickError as refusal:
            if refusal.code != "busy":
                raise
            return self._session.peek()

    def _accept(self, state: State, holding: Holding) -> License:
        trust = self._trusts[holding.vendor]
        book = state.vendors[holding.vendor]
        key = (book.keyset, book.status_list)
        verifier = self._verifiers.get(key)
        if verifier is None:
            ring = ring_of(book.keyset, trust, book.keyset_seq)
            verifier = LicenseVerifier(ring, state.container, status_list_of(book, ring))
            self._verifiers[key] = verifier
        return verifier.accept(holding.message)

    def _begin_usage(self, holding: Holding, license_: License, feature: str) -> bool:
        """Start the usage periods this use begins; durable before the right is used."""
        begin = _not_begun(holding, license_, feature)
        if not begin:
            return False
        with self._session.transaction() as tx:
            for name in begin:
                tx.apply(c.FirstUse(holding.license_id, name))
        return True

    def _metered(self, tx: Transaction, license_: License, asked: c.Consume) -> int:
        from tallystick.container.metering import use  # few licenses have a meter

        if counter_name(license_, asked.feature):
            left: int = tx.apply(asked)  # a counter of the feature's own, which no meter is for
            return left
        return use(self._session, tx, license_, asked, self._random)

    def _reserve(self, license_: License, features: Sequence[str], units: int) -> Block | None:
        feature = next((name for name in features if counter_name(license_, name)), "")
        if license_.meter is not None and not feature:  # what a TPM counted ahead could not be given back
            return None
        reservation_id = self._random(16)
        with self._session.transaction() as tx:
            tx.apply(c.Reserve(license_.part, feature, units, reservation_id))
        return Block(reservation_id, feature, units)

    def _observe(self, state: State) -> Assessment:
        """Read the clocks; let the floor on disk follow, as far as the disk allows."""
        time = assess(state.clock, self._session.clock.read())
        clock = state.clock
        home = as_of(state, time.now) is not state  # seats of an ended loan: booked before a program takes one of them
        if home or time.memory.floor - clock.floor >= OBSERVE_S or time.memory.jump != clock.jump:
            try:
                with self._session.transaction() as tx:
                    tx.apply(c.Observe())
            except TallystickError as refusal:
                if not isinstance(refusal, StorageError) and refusal.code != "busy":
                    raise
        return time

    def _prove(self) -> None:
        self._proven = 0.0  # the last proof counts no more, should this one fail
        prove(self._session.anchor, self._key, self._random(NONCE_BYTES))
        self._proven = self.monotonic() + self._reproof_s


def _not_begun(holding: Holding, license_: License, feature: str) -> list[str]:
    """Name the usage periods that a use of a feature begins: of the license, and of the feature itself."""
    return [
        name
        for name, terms in (("", license_.terms), (feature, license_.features.get(feature)))
        if terms is not None and terms.usage_period is not None and name not in holding.first_use
    ]
