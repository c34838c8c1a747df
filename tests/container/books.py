# SPDX-License-Identifier: Apache-2.0
"""A bare account for tests of the ledger: no disk, no anchor, a vendor and a clock."""

from __future__ import annotations

from typing import Any

from fakes import FakeClock
from issuer import Issuer
from tallystick.codec.signing import SoftwareKey
from tallystick.container import commands as c
from tallystick.container import ledger
from tallystick.container.state import Holding, State
from tallystick.license.messages import ACTIVATE, Request
from tallystick.license.model import License


class Books:
    """An account, changed by `do`.

    Attributes:
        state: the account.
        acme: a vendor it knows.
    """

    def __init__(self, acme: Issuer | None = None) -> None:
        self.identity = SoftwareKey.generate()
        self.clock = FakeClock()
        self.acme = acme or Issuer()
        self.state: State = ledger.create(self.identity.public_key.thumbprint, self.clock.read())
        self.do(c.AddVendor("acme", self.acme.root.public_key.cose))

    def do(self, command: c.Command) -> Any:
        """Apply a command and return its result."""
        self.state, result = ledger.apply(self.state, command, self.clock.read())
        return result

    def asked(self, vendor: str = "acme", action: int = ACTIVATE, product: str = "cad", size: int = 0) -> bytes:
        """Open a request, padded to a size, and return its message."""
        id_ = self.acme.id()
        request = Request(vendor, self.acme.now, id_, self.identity.public_key, action, product=product)
        evidence = {f"e{at}": bytes(min(16_000, size - at)) for at in range(0, size, 16_000)}
        message = request.replace(evidence=evidence).sign(self.identity)
        self.do(c.OpenRequest(id_, vendor, product, action, message))
        return message

    def hold(self, **license_: Any) -> License:
        """Have a license installed."""
        request = self.asked()
        made = self.acme.license(request, **license_)
        self.do(c.Install(self.acme.answer(request, made)))
        return made

    def holding(self, license_: License) -> Holding:
        """What is on the books of a license."""
        return self.state.holdings[license_.license_id]
