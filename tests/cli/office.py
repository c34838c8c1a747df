# SPDX-License-Identifier: Apache-2.0
"""An office that holds 20 seats and 100 units of cad, a laptop and a third container: ``from office import Office``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from desk import Desk, Done

from tallystick.license.grant_policy import MAY_ALL, GrantPolicy

POLICY = GrantPolicy(MAY_ALL, max_depth=2, max_duration=30 * 86_400)


class Office(Desk):
    """A desk with an office that holds a license, and a laptop and a third container beside it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.laptop, self.third = self.uri("laptop"), self.uri("third")
        self.ok("create")
        for name in (self.laptop, self.third):
            self.ok("create", "--container", name, "--trust", self.path("acme.trust"))

    def at(self, uri: str, *arguments: str, **more: Any) -> Done:
        """Run a command on another container, which must succeed."""
        return self.ok(*arguments, "--container", uri, **more)

    def borrow(self, *more: str) -> str:
        """Make a request at the laptop; returns its path."""
        path = self.path(f"r{len(self.names())}.tallyreq")
        self.at(self.laptop, "borrow", "--product", "cad", "-o", path, *more)
        return path

    def lend(self, request: str, *more: str, command: str = "lend") -> str:
        """Answer a request at the office; returns the grant's path."""
        path = self.path(f"g{len(self.names())}.tallygrant")
        self.ok(command, request, "-o", path, *more)
        return path

    def arrive(self, grant: str, uri: str = "") -> str:
        """Import a grant at the laptop and its receipt at the office; returns the receipt's path."""
        path = self.path(f"a{len(self.names())}.tallyrct")
        self.at(uri or self.laptop, "import", grant, "--receipt", path)
        self.ok("import", path)
        return path

    def books(self, uri: str = "") -> dict[str, dict[str, Any]]:
        """The one license's numbers, by counter."""
        more = ("--container", uri) if uri else ()
        licenses = self.ok("list", "--json", *more).json()["licenses"]
        assert len(licenses) == 1
        return {row["counter"]: row for row in licenses[0]["books"]}

    def stocked(self, **terms: Any) -> Office:
        """Let the office buy a license; returns itself."""
        self.activate("cad", **{"seats": 20, "units": 100, "lend": POLICY, "transfer": POLICY, **terms})
        return self

    def between(self, command: str, *more: str, back: bool = False) -> tuple[str, ...]:
        """A direct command between office and laptop, or back."""
        here, there = self.uri("container"), self.laptop
        return (command, "--from", there if back else here, "--to", here if back else there, *more)
