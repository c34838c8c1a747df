# SPDX-License-Identifier: Apache-2.0
"""What a container kept in files writes to issuers, and what it does with their answers.

Each method is one transaction. A part of `container.sealed`, loaded when it is needed: an application that only asks
whether it may run never does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from tallystick.clock import assess
from tallystick.codec.kinds import REFUSAL, Kind
from tallystick.container import commands as c
from tallystick.container.info import Outcome
from tallystick.container.ledger_install import Installed, account_of
from tallystick.container.papers import write_receipt, write_request
from tallystick.container.session import Session, Transaction
from tallystick.container.state import State
from tallystick.license.answers import Refusal
from tallystick.license.messages import ACTIVATE, REFRESH, Account, Request
from tallystick.license.receipts import DEACTIVATED, INSTALLED
from tallystick.license.trust import Trust

ID_BYTES: Final = 16


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
            message = write_request(anchor, tx.state, draft)
            tx.apply(c.OpenRequest(request_id, vendor.vendor, product, action, message))
        return message

    def take(self, kind: Kind, message: bytes) -> Outcome:
        """Install an update, or take a refusal; see `Container.install`."""
        if kind is REFUSAL:
            with self._session.transaction() as tx:
                refusal: Refusal = tx.apply(c.TakeRefusal(message))
            return Outcome(refusal.message_id, refusal.vendor, refusal=refusal)
        with self._session.transaction() as tx:
            done: Installed = tx.apply(c.Install(message))
            receipt = tx.state.receipts[done.update_id]
            if not receipt:
                changed = {change.license_id for change in done.changes}
                accounts = tuple(account_of(holding) for key, holding in tx.state.holdings.items() if key in changed)
                receipt = self._receipt(tx, done.vendor, INSTALLED, done.update_id, accounts)
                tx.apply(c.KeepReceipt(done.update_id, receipt))
        return Outcome(done.update_id, done.vendor, done.changes, done.note, done.repeated, receipt)

    def deactivate(self, license_id: bytes) -> bytes:
        """Give a license up for good and prove it; see `Container.deactivate`."""
        with self._session.transaction() as tx:
            account: Account | None = tx.apply(c.Deactivate(license_id))
            if account is None:
                return tx.state.tombstones[license_id].receipt
            vendor = tx.state.tombstones[license_id].vendor
            receipt = self._receipt(tx, vendor, DEACTIVATED, None, (account,))
            tx.apply(c.KeepReceipt(license_id, receipt))
        return receipt

    def _receipt(
        self, tx: Transaction, vendor: str, purpose: int, about: bytes | None, accounts: tuple[Account, ...]
    ) -> bytes:
        return write_receipt(
            self._session.anchor,
            tx.state,
            vendor=vendor,
            now=_now(tx),
            message_id=self._random(ID_BYTES),
            purpose=purpose,
            about=about,
            accounts=accounts,
        )


def _now(tx: Transaction) -> int:
    return assess(tx.state.clock, tx.reading).now
