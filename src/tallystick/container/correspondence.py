# SPDX-License-Identifier: Apache-2.0
"""What a container kept in files writes to issuers, and what it does with their answers.

Each method is one transaction. A part of `container.sealed`, loaded when it is needed: an application that only asks
whether it may run never does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from tallystick.clock import assess
from tallystick.codec import cose
from tallystick.codec.kinds import REFUSAL, UPDATE, Kind
from tallystick.container import commands as c
from tallystick.container.anchor import Capability
from tallystick.container.info import Outcome
from tallystick.container.ledger_books import license_of
from tallystick.container.ledger_install import Installed, account_of, check_receiver, open_answer
from tallystick.container.papers import write_receipt, write_request
from tallystick.container.session import Session, Transaction
from tallystick.container.state import State
from tallystick.license.answers import Refusal, Update
from tallystick.license.messages import ACTIVATE, REFRESH, Account, Request
from tallystick.license.model import License
from tallystick.license.receipts import DEACTIVATED, INSTALLED
from tallystick.license.trust import Trust

ID_BYTES: Final = 16
_NOTHING: Final[Mapping[bytes, tuple[bytes, ...]]] = {}


class Correspondence:
    """Requests, updates, refusals and receipts of one container.

    Args:
        session: the container's state.
        backend: scheme of the container, told in requests.
        random: source of ids.
    """

    def __init__(self, session: Session, backend: str, random: Callable[[int], bytes]) -> None:
        self._session = session
        self._backend = backend
        self._random = random

    def request(
        self,
        trust: Callable[[State], Trust],
        *,
        code: str,
        product: str,
        quantity: int,
        refresh: bool,
        variables: Mapping[str, str] | None,
        metered: bool = False,
    ) -> bytes:
        """Ask a vendor for licenses; see `Container.request`. ``trust`` picks the vendor."""
        anchor = self._session.anchor
        with self._session.transaction() as tx:
            vendor = trust(tx.state)
            tx.apply(c.AddVendor(vendor.vendor, vendor.root.cose))
            for name, value in (variables or {}).items():
                tx.apply(c.SetVariable(name, value))
            request_id, action = self._random(ID_BYTES), REFRESH if refresh else ACTIVATE
            draft = Request(
                vendor.vendor, _now(tx), request_id, anchor.public_key, action, code, product, quantity,
                backend=self._backend,
            )  # fmt: skip
            message = write_request(anchor, tx.state, draft, self._meters(tx.state, vendor.vendor, metered))
            tx.apply(c.OpenRequest(request_id, vendor.vendor, product, action, message))
        return message

    def take(self, kind: Kind, message: bytes) -> Outcome:
        """Install an update, or take a refusal; see `Container.install`."""
        if kind is REFUSAL:
            with self._session.transaction() as tx:
                refusal: Refusal = tx.apply(c.TakeRefusal(message))
            return Outcome(refusal.message_id, refusal.vendor, refusal=refusal)
        with self._session.transaction() as tx:
            done: Installed = tx.apply(c.Install(message, self._secret(tx.state, message)))
            receipt = tx.state.receipts[done.update_id]
            if not receipt:
                changed = {change.license_id for change in done.changes}
                accounts = tuple(account_of(holding) for key, holding in tx.state.holdings.items() if key in changed)
                receipt = self._receipt(tx, done.vendor, INSTALLED, done.update_id, accounts)
        return Outcome(done.update_id, done.vendor, done.changes, done.note, done.repeated, receipt)

    def deactivate(self, license_id: bytes) -> bytes:
        """Give a license up for good and prove it; see `Container.deactivate`."""
        with self._session.transaction() as tx:
            holding = tx.state.holdings.get(license_id)
            license_ = None if holding is None else license_of(holding)
            metered = license_ if license_ is not None and license_.meter is not None else None
            if metered is not None:
                self._follow(tx, metered)
            account: Account | None = tx.apply(c.Deactivate(license_id))
            if account is None:
                return tx.state.tombstones[license_id].receipt
            vendor = tx.state.tombstones[license_id].vendor
            given = {} if metered is None else self._given_back(metered)
            receipt = self._receipt(tx, vendor, DEACTIVATED, license_id, (account,), given)
        if metered is not None:
            self._forget(metered)
        return receipt

    def _follow(self, tx: Transaction, license_: License) -> None:
        from tallystick.container.metering import follow

        follow(self._session, tx, license_)

    def _given_back(self, license_: License) -> dict[bytes, tuple[bytes, ...]]:
        from tallystick.container.metering import give_back

        return give_back(self._session, license_)

    def _forget(self, license_: License) -> None:
        from tallystick.container.metering import forget

        forget(self._session, license_)

    def _meters(self, state: State, vendor: str, metered: bool) -> Callable[[bytes], Mapping[str, bytes]] | None:
        """Tell how to collect the evidence about the meters of a vendor's licenses, and about a new one if asked."""
        if not metered and Capability.METERED not in self._session.anchor.capabilities:
            return None
        from tallystick.container.metering import bank_of, counters_of, offered

        counters = list(counters_of(state, vendor))
        if metered:
            counters.append(bank_of(self._session).ready({*counters_of(state, ""), *offered(state)}))
        return (lambda challenge: bank_of(self._session).evidence(challenge, counters)) if counters else None

    def _secret(self, state: State, message: bytes) -> bytes:
        """Let the anchor tell what opens an update that was sealed to its device, once its signature was verified."""
        _, claims = cose.peek(message)
        update = Update.from_claims(claims)
        if update.sealed is None or update.message_id in state.receipts:
            return b""
        from tallystick.license.sealed import open_update

        _, ring, _, _ = open_answer(state, message, UPDATE)
        check_receiver(state, update.container, ring.vendor, update.vendor)
        told = b""

        def ask(credential: bytes, secret: bytes) -> bytes:
            nonlocal told
            told = self._session.anchor.activate(credential, secret)
            return told

        open_update(update, ask)
        return told

    def _receipt(
        self,
        tx: Transaction,
        vendor: str,
        purpose: int,
        about: bytes,
        accounts: tuple[Account, ...],
        given_back: Mapping[bytes, tuple[bytes, ...]] = _NOTHING,
    ) -> bytes:
        """Write a receipt, and keep it with the update or license it is about."""
        message_id = self._random(ID_BYTES)
        receipt = write_receipt(
            self._session.anchor,
            tx.state,
            vendor=vendor,
            now=_now(tx),
            message_id=message_id,
            purpose=purpose,
            about=about if purpose == INSTALLED else None,
            accounts=accounts,
            given_back=given_back,
        )
        tx.apply(c.KeepReceipt(about, receipt, vendor, message_id))
        return receipt


def _now(tx: Transaction) -> int:
    return assess(tx.state.clock, tx.reading).now
