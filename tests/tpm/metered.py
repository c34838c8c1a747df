# SPDX-License-Identifier: Apache-2.0
"""A container in a TPM with a license whose units that TPM counts, and what the test sees behind its back."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from swtpm_rig import NV_INDEX, Swtpm
from wire import Wire

from fakes import FakeClock
from issuer import Issuer
from tallystick.authority.attest.meter import Metered, examine_meters
from tallystick.backends.tpm.backend import TpmBackend
from tallystick.container.base import Container
from tallystick.container.metering import MeterBank, bank_of
from tallystick.container.sealed import SealedContainer
from tallystick.container.session import Session
from tallystick.license.answers import Update
from tallystick.license.messages import Request, read_request
from tallystick.license.meter import MeterClaim
from tallystick.license.model import License

OWNERS = NV_INDEX | 0x00800000  # NV indices of owners, not of makers


def certified(request: Request) -> tuple[Metered, ...]:
    """The meters a request offers, as an issuer sees them."""
    covered = sha256(request.challenge()).digest()
    return examine_meters(request.evidence["tpm-meter"], request.evidence["tpm"], request.key, covered)


class World:
    """A TPM, a wire to it, a vendor, and a container with so many units.

    Args:
        folder: for the files.
        tpm: powered on.
        units: of the license; 0 for no license.
    """

    def __init__(self, folder: Path, tpm: Swtpm, units: int = 0) -> None:
        self.folder, self.tpm = folder, tpm
        self.clock, self.acme, self.wire = FakeClock(), Issuer(), Wire(tpm)
        self.backend = TpmBackend(self.clock, folder=lambda _: str(folder / "c"), connect=self.wire.connect)
        self.uri = f"tpm:tcti={tpm.tcti}"
        self.license_: License | None = None
        self.start = 0
        self.backend.create(self.uri, [self.acme.trust]).close()
        if units:
            with self.open() as container:
                container.install(self.sell(container.request(metered=True), units))

    def open(self) -> SealedContainer:
        """Open the container."""
        made = self.backend.open(self.uri, [self.acme.trust], background=False)
        assert isinstance(made, SealedContainer)
        return made

    def sell(self, message: bytes, units: int) -> bytes:
        """Answer a request by a license with a meter."""
        request = read_request(message)
        metered = certified(request)[-1]
        self.start = metered.value
        claim = MeterClaim(metered.key, metered.counter, metered.value + units)
        self.license_ = self.acme.license(request, units=units, meter=claim)
        update: bytes = self.acme.update(request.key.thumbprint, self.license_, in_reply_to=request.request_id)
        return update

    def refill(self, units: int) -> bytes:
        """Sell more: the license of now, with the units of before."""
        license_ = self.held
        claim, terms = self.claim, license_.terms
        assert terms.units is not None
        self.license_ = license_.replace(
            seq=license_.seq + 1,
            message_id=self.acme.id(),
            terms=terms.replace(units=terms.units + units),
            meter=claim.replace(ceiling=claim.ceiling + units),
        )
        update = Update(self.acme.name, self.acme.now, self.acme.id(), license_.container, keyset=self.acme.keyset)
        return update.replace(licenses=(self.acme.sign(self.license_),)).sign(self.acme.keys["license"])

    @property
    def held(self) -> License:
        """The newest license sold."""
        assert self.license_ is not None
        return self.license_

    @property
    def claim(self) -> MeterClaim:
        """Its claim."""
        assert self.held.meter is not None
        return self.held.meter

    def counted(self, container: SealedContainer) -> int:
        """How many units the TPM has counted."""
        return self.bank(container).value(self.claim.counter) - self.start

    def session(self, container: SealedContainer) -> Session:
        """What is under a container."""
        return container._session

    def bank(self, container: SealedContainer) -> MeterBank:
        """Its meters."""
        return bank_of(self.session(container))

    def used(self, container: Container) -> int:
        """How many units the account says are used."""
        (view,) = container.licenses()
        counter = view.counters.get("")
        return 0 if counter is None else counter.used

    def indices(self) -> set[int]:
        """The NV indices of owners in the TPM."""
        return {number for number in self.tpm.listed(OWNERS) if number >> 22 == OWNERS >> 22}
