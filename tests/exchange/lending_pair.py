# SPDX-License-Identifier: Apache-2.0
"""Two or three containers that may lend to each other, and a process that can be killed between any two steps.

The office holds 20 seats and 100 units of cad; the laptop and the other one hold nothing and know the vendor.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from computer import Hand

from fakes import FakeClock
from issuer import Issuer
from tallystick.backends.file import FileBackend
from tallystick.container.base import Container
from tallystick.container.lending_base import Loan
from tallystick.exchange.stock import Stock, stocks
from tallystick.license.grant_policy import MAY_ALL, SEATS, GrantPolicy

DAY = 86_400
POLICY = GrantPolicy(MAY_ALL, max_depth=2)
_WRITES = frozenset({
    "install", "record_trust", "cancel_request", "ask", "give", "move", "extend", "recall", "give_back", "decline",
})  # fmt: skip


class Killed(BaseException):
    """The process is gone; nothing catches it."""


class Fuse:
    """Counts steps, and kills at one of them.

    Args:
        at: the step; None never.
    """

    def __init__(self, at: int | None = None) -> None:
        self.at = at
        self.steps = 0

    def step(self) -> None:
        """Between two steps: before and after everything that writes."""
        if self.steps == self.at:
            raise Killed
        self.steps += 1


class Fragile:
    """A container, or its lending, in a process that may be killed before and after each call that writes."""

    def __init__(self, inner: Any, fuse: Fuse) -> None:
        self._inner = inner
        self._fuse = fuse

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name == "lending":
            return Fragile(found, self._fuse)
        return self._guarded(found) if name in _WRITES else found

    def _guarded(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **more: Any) -> Any:
            self._fuse.step()
            result = call(*arguments, **more)
            self._fuse.step()
            return result

        return run


class Pair:
    """An office with a license, a laptop, and a third container.

    Args:
        folder: an empty folder.
        **terms: of the license, instead of 20 seats and 100 units that may be lent and transferred.
    """

    def __init__(self, folder: Path, **terms: Any) -> None:
        self.clock = FakeClock()
        self.acme = Issuer()
        backend = FileBackend(self.clock, [Hand({"machine-id": "here", "cpu": "c"})])
        self._names = ("office", "laptop", "other")
        made = [backend.create(f"file:{folder}/{name}", [self.acme.trust]) for name in self._names]
        self.office, self.laptop, self.other = made
        for container in made:
            container.record_trust(self.acme.trust)  # type: ignore[attr-defined]  # a file container has it
        request = self.office.request(self.acme.trust, product="cad")
        granted = terms or {"seats": 20, "units": 100}
        license_ = self.acme.license(request, **{"lend": POLICY, "transfer": POLICY, **granted})
        self.office.install(self.acme.answer(request, license_))

    def close(self) -> None:
        """Close all."""
        for name in self._names:
            getattr(self, name).close()

    def seats(self) -> tuple[int, int, int]:
        """Seats that may be used now, container by container."""
        here = [sum(one.here for one in self.stock(name) if one.counter == SEATS) for name in self._names]
        return here[0], here[1], here[2]

    def units(self) -> int:
        """Units that may still be used, and those used up, in all containers; what was used elsewhere counts once."""
        every = [one for name in self._names for one in self.stock(name) if one.counter == ""]
        return sum(one.here for one in every)

    def stock(self, name: str) -> tuple[Stock, ...]:
        """What one container holds."""
        return stocks(getattr(self, name))

    def loans(self, container: Container) -> list[tuple[str, str]]:
        """Direction and state of each exchange."""
        return [("given" if loan.outgoing else "taken", loan.state) for loan in container.lending.loans()]


def only(loans: tuple[Loan, ...]) -> Loan:
    """The one there must be."""
    assert len(loans) == 1
    return loans[0]
