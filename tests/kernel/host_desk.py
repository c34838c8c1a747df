# SPDX-License-Identifier: Apache-2.0
"""The host's side of attestation: a TPM as its maker sells it, and a vendor who believes that maker and nobody else."""

from __future__ import annotations

import time
from pathlib import Path

from authority.shop import Shop
from fakes import FakeClock
from tallystick.authority import tpm_pins
from tallystick.authority.issuing import issue
from tallystick.license.model import Terms
from tpm.swtpm_rig import prepare

UNITS, SEATS, LEVEL = 1000, 5, 2


class Desk:
    """A vendor's office, which opens a moment after the maker has made the TPM.

    Args:
        folder: for its books, and the maker's.

    Attributes:
        factory_state: what a genuine TPM begins with.
        trust: text of the vendor's trust file, once it is open.
        code: of a license that only containers in genuine TPMs get, once it is open.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._maker = prepare(folder / "maker")
        self.factory_state = self._maker.state
        self.trust = self.code = ""
        self._shop: Shop | None = None

    def open(self) -> None:
        """Found the vendor, who pins the maker's certificates, and sell a license."""
        self._shop = shop = Shop(self._folder / "shop", FakeClock(wall=int(time.time())))
        tpm_pins.add(shop.office, [self._maker.root.read_bytes(), self._maker.issuer.read_bytes()])
        shop.sell("cad-tpm", Terms(units=UNITS, seats=SEATS, min_level=LEVEL))
        self.trust = shop.trust.to_text()
        self.code = shop.entitle("cad-tpm").code.reveal()

    def answer(self, request: bytes) -> tuple[bytes, str]:
        """Answer a request.

        Returns:
            The update or refusal, and what a clerk is told.
        """
        assert self._shop is not None
        issued = issue(self._shop.office, request)
        return issued.message, issued.text

    def close(self) -> None:
        """Go home."""
        if self._shop is not None:
            self._shop.office.close()
