# SPDX-License-Identifier: Apache-2.0
"""`SealedContainer`: an anchor, a store and the ledger, put together; every thin backend is one.

Every call reads the newest state under the store's lock, lets the ledger decide, commits, and only then lets an effect
out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tallystick.clock import Assessment, assess
from tallystick.codec import cose, kinds
from tallystick.codec.keys import PublicKey
from tallystick.container import commands as c
from tallystick.container.base import Container, ContainerInfo, LicenseView, Outcome
from tallystick.container.ledger_books import license_of
from tallystick.container.seat import Seat
from tallystick.container.seating import Seating
from tallystick.container.session import Session
from tallystick.container.slots_record import SeatHolder
from tallystick.container.standing import as_of
from tallystick.container.state import OPEN, Event, Pending, State
from tallystick.errors import error
from tallystick.license.policy import Facts, evaluate
from tallystick.license.trust import Trust

if TYPE_CHECKING:
    from tallystick.container.correspondence import Correspondence
    from tallystick.container.lending import SealedLending


class SealedContainer(Container):
    """A container kept in files, under an anchor.

    Args:
        uri: how it was opened.
        session: its state.
        trusts: vendors the application trusts.
        location: where its files are, for people.
        details: more facts for `info`, or what finds them.
        reproof_s: seconds a proof of the key holds.
        background: renew seats from a thread.
        random: source of ids and nonces.
    """

    def __init__(
        self,
        uri: str,
        session: Session,
        trusts: Sequence[Trust] = (),
        *,
        location: str = "",
        details: Mapping[str, str] | Callable[[], Mapping[str, str]] | None = None,
        reproof_s: float = 60.0,
        background: bool = True,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._uri = uri
        self._session = session
        self._trusts = {trust.vendor: trust for trust in trusts}
        self._location = location
        self._details = details
        self._random = random
        self._closed = False
        self._seating = Seating(session, self._trusts, reproof_s=reproof_s, background=background, random=random)
        self._lending: SealedLending | None = None

    # -- reading

    def info(self) -> ContainerInfo:
        """Say what the container is."""
        state = self._current()
        time = self._time(state)
        return ContainerInfo(
            uri=self._uri,
            backend=self._uri.partition(":")[0],
            thumbprint=state.container,
            capabilities=self._session.anchor.capabilities,
            created_at=state.created_at,
            generation=state.generation,
            licenses=len(state.holdings),
            open_requests=sum(pending.status == OPEN for pending in state.pending.values()),
            vendors=tuple(state.vendors),
            clock_status=time.status,
            now=time.now,
            wall=time.wall,
            location=self._location,
            details=dict((self._details() if callable(self._details) else self._details) or {}),
        )

    def licenses(self, vendor: str | None = None) -> tuple[LicenseView, ...]:
        """List the licenses held."""
        state = self._current()
        time = self._time(state)
        views = []
        for holding in state.holdings.values():
            if vendor is None or holding.vendor == vendor:
                license_, usage = license_of(holding), holding.usage()
                verdict = evaluate(license_, usage, Facts(time.now, level=self._seating.level, wall=time.wall))
                named = (holding.license_id, holding.vendor, holding.product)
                views.append(LicenseView(*named, license_, usage, verdict, holding.installed_at, holding.counters))
        return tuple(views)

    def requests(self) -> tuple[Pending, ...]:
        """List the requests made, oldest first."""
        return tuple(self._current().pending.values())

    def receipts(self) -> Mapping[bytes, bytes]:
        """Return every receipt made."""
        state = self._current()
        given_up = {key: grave.receipt for key, grave in state.tombstones.items()}
        return {key: receipt for key, receipt in (*state.receipts.items(), *given_up.items()) if receipt}

    def history(self) -> tuple[Event, ...]:
        """Return what happened, oldest first."""
        return self._current().history

    def vendor_trust(self, vendor: str) -> Trust:
        """Return the root key recorded for a vendor when the user first named it; raises ``vendor_unknown``."""
        recorded = _recorded(self._current())
        if vendor not in recorded:
            raise error("vendor_unknown", f"this container does not know {vendor}")
        return recorded[vendor]

    def trust_recorded(self) -> tuple[str, ...]:
        """Trust the vendors recorded here, as a tool for the owner may; an application pins its own instead."""
        self._trusts.update(_recorded(self._current()) | self._trusts)
        return tuple(self._trusts)

    def record_trust(self, trust: Trust) -> None:
        """Record a vendor's root key, as the first request to it would."""
        self._require_open()
        with self._session.transaction() as tx:
            tx.apply(c.AddVendor(trust.vendor, trust.root.cose))

    # -- exchanging

    def request(
        self,
        trust: Trust | None = None,
        *,
        code: str = "",
        product: str = "",
        quantity: int = 1,
        refresh: bool = False,
        variables: Mapping[str, str] | None = None,
        metered: bool = False,
    ) -> bytes:
        """Ask a vendor for licenses."""
        self._require_open()
        return self._issuers().request(
            lambda state: trust or self._only_trust(state),
            code=code,
            product=product,
            quantity=quantity,
            refresh=refresh,
            variables=variables,
            metered=metered,
        )

    def install(self, message: bytes) -> Outcome:
        """Install an update, or take a refusal."""
        self._require_open()
        header, _ = cose.peek(message)
        cose.expect(header, kinds.UPDATE, kinds.REFUSAL, kinds.GRANT, kinds.MOVE, kinds.RECALL, kinds.RECEIPT)
        if header.kind not in (kinds.UPDATE, kinds.REFUSAL):
            return self.lending.install(message)
        outcome = self._issuers().take(header.kind, message)
        self._seating.changed()
        return outcome

    def deactivate(self, license_id: bytes) -> bytes:
        """Give a license up for good and prove it."""
        self._require_open()
        receipt = self._issuers().deactivate(license_id)
        self._seating.changed()
        return receipt

    def cancel_request(self, request_id: bytes) -> None:
        """Give up an open request."""
        self._require_open()
        with self._session.transaction() as tx:
            tx.apply(c.CancelRequest(request_id))

    def note(self, kind: str, text: str) -> None:
        """Add a line to the history, for example that the machine's traits drifted."""
        with self._session.transaction() as tx:
            tx.apply(c.Note(kind, text))

    def rehearsal(self) -> SealedContainer:
        """Return this container as it is now, in memory."""
        self._require_open()
        from tallystick.container.rehearsal import Rehearsal  # not at every start

        return SealedContainer(self._uri, Rehearsal(self._session), tuple(self._trusts.values()), background=False)

    @property
    def lending(self) -> SealedLending:
        """Loans and transfers."""
        if self._lending is None:
            self._lending = self._lender()(
                self._session,
                self._uri.partition(":")[0],
                trust=self._only_trust,
                require_open=self._require_open,
                changed=self._seating.changed,
                taken=self._seating.taken,
                random=self._random,
            )
        return self._lending

    def _lender(self) -> type[SealedLending]:
        from tallystick.container.lending import SealedLending  # not at every start

        return SealedLending

    # -- running

    def checkout(self, product: str, **asked: Any) -> Seat:
        """Take a seat."""
        self._require_open()
        return self._seating.checkout(product, **asked)

    def holders(self, product: str | None = None) -> tuple[SeatHolder, ...]:
        """List who holds local seats."""
        return self._seating.holders(product)

    def close(self) -> None:
        """Release the container."""
        if not self._closed:
            self._closed = True
            self._seating.close()
            self._session.close()

    # -- inside

    def _require_open(self) -> None:
        if self._closed:
            raise error("closed", "the container is closed")

    def _current(self) -> State:
        self._require_open()
        state = self._session.current()
        return as_of(state, self._time(state).now)

    def _time(self, state: State) -> Assessment:
        return assess(state.clock, self._session.clock.read())

    def _only_trust(self, state: State) -> Trust:
        candidates = self._trusts or _recorded(state)
        if len(candidates) != 1:
            raise error(
                "vendor_needed", f"{len(candidates)} vendors are known here", "Name the vendor: pass its trust text."
            )
        return next(iter(candidates.values()))

    def _issuers(self) -> Correspondence:
        from tallystick.container.correspondence import Correspondence  # not at every start

        return Correspondence(self._session, self._uri.partition(":")[0], self._random)


def _recorded(state: State) -> dict[str, Trust]:
    return {name: Trust(name, PublicKey.from_cose(book.root)) for name, book in state.vendors.items()}
