# SPDX-License-Identifier: Apache-2.0
"""`DongleContainer`: the `Container` in a dongle.

Reading, checking and counting run as in every container, over a `DongleSession`. What is signed, the device writes
itself, from its own account and under its own rules: the host passes on what is asked and what has arrived.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from tallystick.codec import cose
from tallystick.codec.kinds import REFUSAL, Kind
from tallystick.container.correspondence import Correspondence
from tallystick.container.info import Outcome
from tallystick.container.sealed import SealedContainer
from tallystick.container.state import State
from tallystick.dongle.session import DongleSession, installed
from tallystick.errors import error
from tallystick.license.answers import Refusal
from tallystick.license.trust import Trust

if TYPE_CHECKING:
    from tallystick.dongle.lending import DongleLending


class DongleContainer(SealedContainer):
    """A container whose account is kept by a device; made as a `SealedContainer` is."""

    _session: DongleSession

    @property
    def on_touch(self) -> Callable[[], None] | None:
        """Called once for each call that waits until somebody presses the button, in the thread that waits."""
        return self._session.client.on_touch

    @on_touch.setter
    def on_touch(self, told: Callable[[], None] | None) -> None:
        self._session.client.on_touch = told

    def _lender(self) -> type[DongleLending]:
        from tallystick.dongle.lending import DongleLending  # not at every start

        return DongleLending

    def rehearsal(self) -> SealedContainer:
        """Refused: the copy of the account that is here signs nothing, not even a request."""
        raise error("not_supported", "a dongle cannot rehearse", "Leave out `--dry-run`.")

    def _issuers(self) -> Correspondence:
        return _Issuers(self._session, self._uri.partition(":")[0], self._random)


class _Issuers(Correspondence):
    """The exchange with vendors, which the device writes."""

    _session: DongleSession

    def request(
        self,
        trust: Callable[[State], Trust],
        *,
        code: str,
        product: str,
        quantity: int,
        refresh: bool,
        variables: Mapping[str, str] | None,
        metered: bool = False,  # the device counts everything by itself
    ) -> bytes:
        session = self._session
        with session.client.held():
            vendor = trust(session.current())
            message: bytes = session.act(
                "request", vendor.vendor, vendor.root.cose, code, product, quantity, refresh,
                dict(variables or {}),
            )  # fmt: skip
            return message

    def take(self, kind: Kind, message: bytes) -> Outcome:
        outcome = installed(self._session, message)
        if kind is REFUSAL:
            return outcome.replace(refusal=Refusal.from_claims(cose.peek(message)[1]))
        return outcome

    def deactivate(self, license_id: bytes) -> bytes:
        receipt: bytes = self._session.act("deactivate", license_id)
        return receipt
