# SPDX-License-Identifier: Apache-2.0
"""Somebody who sells by ``tally vendor``, and a customer beside them: ``from storefront import Storefront``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from desk import Desk, Done


class Storefront:
    """A vendor whose license key is somewhere else than in a file.

    Args:
        folder: for everything.
        key: URI of the license key.
        **environment: more of what `tally` runs with.
    """

    def __init__(self, folder: Path, key: str, **environment: str) -> None:
        self.desk = Desk(folder)
        self.desk.env |= environment
        self.home = folder / "vendor"
        self.trust = folder / "acme.trust"
        self.key = key

    def vendor(self, *words: str) -> Done:
        return self.desk.tally("vendor", "--home", str(self.home), *words)

    def ok(self, *words: str) -> Done:
        done = self.vendor(*words)
        assert done.status == 0, done
        return done

    def found(self, *words: str) -> None:
        """Make the vendor and what it sells."""
        self.trust.write_text(self.ok("init", "acme", "--key", self.key, *words).out)
        self.ok("product", "add", "cad", "-f", "pdf")
        self.ok("template", "add", "cad-pro", "--product", "cad", "-f", "pdf", "--units", "9")

    def asked(self, name: str) -> str:
        """A new container's request, with a code that was just bought; its path."""
        code = self.ok("entitle", "cad-pro").out.strip()
        self.desk.ok("create", self.desk.uri(name), "--trust", str(self.trust))
        path = self.desk.path(f"{name}.tallyreq")
        self.desk.ok("request", "-c", self.desk.uri(name), "--code", code, "-o", path)
        return path

    def answered(self, name: str) -> None:
        """Issue, import, check."""
        update = self.desk.path(f"{name}.tallyupd")
        self.ok("issue", self.desk.path(f"{name}.tallyreq"), "-o", update)
        self.desk.ok("import", update, "-c", self.desk.uri(name))
        self.desk.ok("check", "cad", "-f", "pdf", "-c", self.desk.uri(name))

    def sell(self, name: str) -> None:
        """Sell to a new container, from the code to the check."""
        self.asked(name)
        self.answered(name)

    def keys(self) -> list[dict[str, Any]]:
        """All keys on record."""
        rows: list[dict[str, Any]] = self.ok("keys", "list", "--json").json()["keys"]
        return rows

    def active(self, use: str = "license") -> dict[str, Any]:
        """The key of a use."""
        return next(row for row in self.keys() if (row["use"], row["state"]) == (use, "active"))
