# SPDX-License-Identifier: Apache-2.0
"""A vendor and its customers, for tests: ``shop = Shop(folder, clock)``, real keys, real file containers, time by
hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fakes import FakeClock
from tallystick.authority.catalog import add_product, add_template
from tallystick.authority.changes import Change
from tallystick.authority.entitlements import Entitled, entitle
from tallystick.authority.founding import Plan, found
from tallystick.authority.issuing import IssueResult, issue
from tallystick.authority.offers import Offer
from tallystick.authority.office import Office
from tallystick.backends.file import FileBackend
from tallystick.backends.traits.base import PHYSICAL, Profile, Reading, TraitSource
from tallystick.container.base import Container, Outcome
from tallystick.license.model import Feature, Terms

DAY = 86_400


class Machine(TraitSource):
    """A machine with the same traits every time."""

    def read(self) -> Reading:
        """Look once."""
        return {"product-uuid": "u", "machine-id": "m", "board-serial": "b", "nic": "n", "root-fs": "r", "cpu": "c"}

    def profile(self) -> Profile:
        """Say the kind."""
        return PHYSICAL


class Shop:
    """A vendor named acme that sells a product cad with features, and the machines of its customers.

    Args:
        folder: where everything lives; a vendor that is there already is opened.
        clock: one clock for the vendor and every machine, unless a machine brings its own.
        database_url: PostgreSQL; SQLite if omitted.
    """

    def __init__(self, folder: Path, clock: FakeClock, database_url: str | None = None) -> None:
        self.folder = folder
        self.clock = clock
        self.home = folder / "vendor"
        new = not self.home.exists()
        if new:
            found(self.home, Plan("acme", database_url=database_url), now=self.now, actor="founder")
        self.office = self.open()
        self.trust = self.office.trust
        if new:
            add_product(self.office, "cad", title="CAD Pro", features=["pdf", "render", "sim"])
            self.sell("cad-pro", Terms(units=1000), {"pdf": Feature(), "render": Feature(units=100)})

    def now(self) -> int:
        """The vendor's time."""
        return int(self.clock.wall)

    def open(self, **more: Any) -> Office:
        """Open the vendor again, as another process does."""
        return Office.open(self.home, now=self.now, actor="clerk", **more)

    def sell(
        self, name: str, terms: Terms | None = None, features: Mapping[str, Feature] | None = None, **more: Any
    ) -> None:
        """Add a template."""
        add_template(self.office, name, "cad", Offer(terms or Terms(), features or {}, **more))

    def entitle(self, template: str = "cad-pro", quantity: int = 1, **more: Any) -> Entitled:
        """Sell."""
        return entitle(self.office, template, quantity=quantity, **more)

    def machine(self, name: str, clock: FakeClock | None = None) -> Container:
        """A customer's machine with a new container."""
        backend = FileBackend(clock or self.clock, sources=[Machine()])
        return backend.create(f"file:{self.folder / name}", [self.trust])

    def reopen(self, name: str) -> Container:
        """A machine's container, opened again; also where its folder was copied from another."""
        return FileBackend(self.clock, sources=[Machine()]).open(f"file:{self.folder / name}", [self.trust])

    def activate(self, container: Container, code: str, **more: Any) -> tuple[IssueResult, Outcome]:
        """Request, issue, install."""
        result = issue(self.office, container.request(code=code, **more))
        return result, container.install(result.message)


def more(**fields: Any) -> Change:
    """A change of terms."""
    return Change(**fields)
