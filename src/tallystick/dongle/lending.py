# SPDX-License-Identifier: Apache-2.0
"""Loans and transfers of a dongle: what is signed, the device writes; what runs on this computer, the host knows.

A device cannot know which programs use its seats. So what would take seats away is rehearsed here first, on the copy of
the account and with the seats in use, and only then asked of the device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tallystick.codec import cose
from tallystick.codec.kinds import RECALL
from tallystick.container.exchanges import Given
from tallystick.container.info import Outcome
from tallystick.container.lending import SealedLending
from tallystick.container.rehearsal import Rehearsal
from tallystick.container.session import Transaction
from tallystick.dongle.session import DongleSession, installed
from tallystick.license.messages import Request
from tallystick.license.trust import Trust


class DongleLending(SealedLending):
    """Loans and transfers of one `DongleContainer`; see `container.lending_base.Lending`."""

    _session: DongleSession

    def ask(
        self,
        trust: Trust | None = None,
        *,
        product: str = "",
        license_id: bytes | None = None,
        amounts: Mapping[str, int] | None = None,
        features: tuple[str, ...] | None = None,
        duration: int | None = None,
        transfer: bool = False,
        count: int = 1,
        lender: bytes | None = None,
    ) -> bytes:
        """Ask another container for a loan or a transfer."""
        self._require_open()
        with self._session.client.held():
            trust = trust or self._trust(self._session.current())
            return self._call(
                "ask", trust.vendor, trust.root.cose, product, license_id, dict(amounts or {}),
                None if features is None else list(features), duration, transfer, count, lender,
            )  # fmt: skip

    def give(
        self,
        request: bytes,
        *,
        part: bytes | None = None,
        product: str = "",
        amounts: Mapping[str, int] | None = None,
        features: tuple[str, ...] | None = None,
        ends: int | None = None,
        transfer: bool = False,
    ) -> bytes:
        """Lend or transfer to the container that made a request."""
        wish: dict[str, Any] = {
            "part": part, "product": product, "amounts": amounts, "features": features, "ends": ends,
            "transfer": transfer,
        }  # fmt: skip
        return self._rehearsed(
            lambda here: here.give(request, **wish),
            "give", request, part, product, amounts, None if features is None else list(features), ends, transfer,
        )  # fmt: skip

    def move(self, request: bytes, *, vendor: str | None = None) -> bytes:
        """Transfer everything to the container that made a standing invitation, in one file."""
        return self._rehearsed(lambda here: here.move(request, vendor=vendor), "move", request, vendor)

    def extend(self, xid: bytes, ends: int) -> bytes:
        """Extend a loan given here."""
        self._require_open()
        return self._call("extend", xid, ends)

    def recall(self, xid: bytes) -> bytes:
        """Ask a loan back."""
        self._require_open()
        return self._call("recall", xid)

    def give_back(self, xid: bytes, amounts: Mapping[str, int] | None = None, recall: bytes = b"") -> bytes:
        """Give back what came by a grant."""
        return self._rehearsed(lambda here: here.give_back(xid, amounts, recall), "give_back", xid, amounts, recall)

    def decline(self, grant: bytes) -> bytes:
        """Refuse a grant for good."""
        self._require_open()
        return self._call("decline", grant)

    def install(self, message: bytes) -> Outcome:
        """Take a grant, a move, a recall, or a receiver's receipt."""
        with self._session.client.held():
            if cose.peek(message)[0].kind is RECALL:
                self._rehearsal().install(message)
            outcome = installed(self._session, message)
        self._changed()
        return outcome

    def message(self, xid: bytes) -> bytes:
        """Return the newest message of an exchange again."""
        self._require_open()
        return self._call("message", xid)

    def statement(self, vendor: str) -> bytes:
        """State, signed, that nothing of a vendor may be used here any more."""
        self._require_open()
        return self._call("statement", vendor)

    # -- inside

    def _call(self, named: str, *arguments: Any) -> bytes:
        message: bytes = self._session.act(named, *arguments)
        return message

    def _rehearsed(self, act: Callable[[SealedLending], object], named: str, *arguments: Any) -> bytes:
        self._require_open()
        with self._session.client.held():
            act(self._rehearsal())
            message = self._call(named, *arguments)
        self._changed()
        return message

    def _rehearsal(self) -> SealedLending:
        return _Trial(
            Rehearsal(self._session),
            self._backend,
            trust=self._trust,
            require_open=self._require_open,
            changed=lambda: None,
            taken=self._taken,
            random=self._random,
        )


class _Trial(SealedLending):
    """What is asked of the device next, tried on the copy of its account; no grant is written."""

    def _granted(self, tx: Transaction, entry: Given, read: Request) -> bytes:
        return entry.message or b"\0"
