# SPDX-License-Identifier: Apache-2.0
"""The meters of one container: made, found, removed, with nothing left behind wherever a program stops.

    ready     list the row, define the index, increment it, prove that it counts, list its Name
    remove    undefine the index, take the row off the list

Each goes on where it was interrupted.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final

from tallystick.backends.tpm import meter_file, objects, record
from tallystick.backends.tpm.chip import Chip, answer
from tallystick.backends.tpm.evidence import Attestor
from tallystick.backends.tpm.library import TPM2_RC, TPMA_NV
from tallystick.backends.tpm.library import types as t
from tallystick.backends.tpm.meter import MARKER, Meter, MeterIndex
from tallystick.backends.tpm.meter_file import MeterRow
from tallystick.backends.tpm.nv import public_area, vacant
from tallystick.backends.tpm.storage import StorageKey
from tallystick.backends.tpm.templates import ATTESTING
from tallystick.codec import cbor
from tallystick.codec.digest import sha256
from tallystick.container.anchor import Capability
from tallystick.container.metering import MeterBank
from tallystick.container.vfs import Directory
from tallystick.errors import TallystickError, error
from tallystick.license.meter import (
    EVIDENCE,
    GIVE_BACK,
    MAX_AT_ONCE,
    MAX_METERS,
    NONCE,
    MeterClaim,
    challenge_of,
    check,
    encode_given_back,
    units_given_back,
)
from tallystick.license.schema import MAX_UNITS

if TYPE_CHECKING:
    from tallystick.backends.tpm.anchor import TpmAnchor

_PIECE: Final = 16  # units counted at once to give them back, at least
_PIECES: Final = 64  # and so many pieces at most


class Meters(MeterBank):
    """The meters of one container. The container's lock is held by whoever calls.

    Args:
        directory: the container's folder.
        anchor: of the container.
        auth: 32 secret bytes, those of its other indices.
    """

    def __init__(self, directory: Directory, anchor: TpmAnchor, auth: bytes) -> None:
        self._directory = directory
        self._anchor = anchor
        self._chip = anchor.chip
        self._storage = anchor.storage
        self._thumbprint = anchor.public_key.thumbprint
        self._auth = auth

    def value(self, counter: bytes) -> int:
        """Read where a counter stands; see `MeterBank`."""
        return self.find(counter).count()

    def returning(self, counter: bytes) -> int:
        """Tell how many units are being given back; see `MeterBank`."""
        return sum(units_given_back(entry) for entry in self._row(counter).given_back)

    def prove(self, counter: bytes, challenge: bytes, units: int) -> bytes:
        """Count units and prove it; see `MeterBank`."""
        return self.find(counter).prove(challenge, units)

    def evidence(self, challenge: bytes, counters: Sequence[bytes]) -> dict[str, bytes]:
        """Collect what proves to an issuer where meters stand; see `MeterBank`."""
        shown, speaker = [], Attestor(self._chip, self._anchor)
        for counter in counters:
            try:
                shown.append(self.find(counter).evidence(speaker, challenge))
            except TallystickError as reason:
                if reason.code not in ("meter_lost", "backend_failed"):
                    raise
        return {EVIDENCE: cbor.encode(shown)} if shown else {}

    def find(self, counter: bytes) -> Meter:
        """Find a license's meter.

        Args:
            counter: Name of its counter, from the license.

        Raises:
            LockedError: ``meter_lost``: this container has no such meter; ``tampered``.
            StorageError: the list cannot be read.
        """
        return self._meter(self._row(counter))

    def ready(self, in_use: Collection[bytes]) -> bytes:
        """Return the Name of a counter no license uses yet; see `MeterBank`."""
        rows = list(meter_file.load(self._directory))
        for row in [row for row in rows if row.name and row.name not in in_use]:
            if row.given_back:
                self.remove(row.name)  # its license was given up, and the program stopped there
            elif self._name(row.number) == row.name:
                return row.name
            rows.remove(row)  # its index was removed, or defined anew, before it was ever used
        row = next((row for row in rows if not row.name), None) or self._planned(rows)
        if not self._is_ours(row.number) and row.number in self._chip.handles(row.number):
            rows.remove(row)  # somebody else took that number meanwhile
            row = self._planned(rows)
        return self._finished(rows, row)

    def give_back(self, claim: MeterClaim, license_id: bytes) -> tuple[bytes, ...]:
        """Count all units that are left, to give them back; see `MeterBank`.

        Each piece is proven and kept before the next: what is interrupted loses one piece.
        """
        meter = self.find(claim.counter)
        left = claim.left(meter.count())
        piece = min(MAX_AT_ONCE, max(_PIECE, -(-left // _PIECES)))
        while left > 0:
            units, nonce = min(left, piece), self._directory.vfs.random(NONCE)
            proof = meter.prove(challenge_of(GIVE_BACK, license_id, units, nonce), units)
            rows = meter_file.load(self._directory)
            kept = [
                row.replace(given_back=(*row.given_back, encode_given_back(units, nonce, proof)))
                if row.name == claim.counter
                else row
                for row in rows
            ]
            meter_file.save(self._directory, kept)
            left -= units
        return self._row(claim.counter).given_back

    def remove(self, counter: bytes) -> None:
        """Remove a meter: its index, then its row; see `MeterBank`."""
        rows = meter_file.load(self._directory)
        for row in rows:
            if row.name == counter:
                undefine(self._chip, self._storage, self._thumbprint, row)
                meter_file.save(self._directory, [other for other in rows if other != row])

    def _row(self, counter: bytes) -> MeterRow:
        for row in meter_file.load(self._directory):
            if row.name == counter:
                return row
        raise error("meter_lost", "this container has not got the meter its license is about")

    def _planned(self, rows: list[MeterRow]) -> MeterRow:
        """Record what will be made."""
        if len(rows) >= MAX_METERS:
            raise error("chip_full", f"{MAX_METERS} meters are enough for a container")
        key = objects.create_key(self._chip, self._storage, ATTESTING, b"")
        (number,) = vacant(self._chip, 1, self._directory.vfs.random(2))
        rows.append(MeterRow(number, key))
        meter_file.save(self._directory, rows)
        return rows[-1]

    def _finished(self, rows: list[MeterRow], row: MeterRow) -> bytes:
        index = MeterIndex(self._chip, self._storage, row, self._auth)
        try:
            if not self._is_ours(row.number):
                index.define(self._thumbprint)
            if not self._is_written(row.number):
                index.increment()
            index.settle()
            made = row.replace(name=index.name)
            self._try(self._meter(made))
        except TallystickError as reason:
            if reason.code not in ("chip_full", "backend_failed", "meter_refused"):
                raise
            undefine(self._chip, self._storage, self._thumbprint, row)
            meter_file.save(self._directory, [other for other in rows if other != row])
            if reason.code == "chip_full" or answer(reason) in (TPM2_RC.BAD_AUTH, TPM2_RC.AUTH_FAIL):
                raise
            raise error("not_supported", "this TPM does not prove what it counts", capability="METERED") from reason
        meter_file.save(self._directory, [made if other == row else other for other in rows])
        return made.name

    def _try(self, meter: Meter) -> None:
        """Let the TPM count one and prove it, before anybody is told that it can."""
        challenge = self._directory.vfs.random(NONCE)
        check(meter.prove(challenge), MeterClaim(meter.key, meter.counter, MAX_UNITS), challenge, 1)
        anchor = self._anchor
        if Capability.METERED not in anchor.capabilities:
            anchor.known = anchor.known.replace(promises=anchor.known.promises | record.CAN_METER)
            anchor.known.save(self._directory)
            anchor.capabilities |= Capability.METERED

    def _meter(self, row: MeterRow) -> Meter:
        return Meter(self._chip, self._storage, row, self._auth)

    def _is_ours(self, number: int) -> bool:
        return is_ours(self._chip, number, self._thumbprint)

    def _is_written(self, number: int) -> bool:
        area = public_area(self._chip, number)
        return area is not None and bool(int(area.attributes) & int(TPMA_NV.WRITTEN))

    def _name(self, number: int) -> bytes:
        area = public_area(self._chip, number)
        return b"" if area is None else bytes(t.TPM2B_NV_PUBLIC(nvPublic=area).get_name())


def undefine(chip: Chip, storage: StorageKey, thumbprint: bytes, row: MeterRow) -> None:
    """Remove a meter's index, if it is one of this container."""
    if is_ours(chip, row.number, thumbprint):
        MeterIndex(chip, storage, row.replace(name=b""), b"").undefine()


def is_ours(chip: Chip, number: int, thumbprint: bytes) -> bool:
    """Tell whether an index is one of a container's meters, by its marker."""
    area = public_area(chip, number)
    return area is not None and bytes(area.authPolicy) == sha256(MARKER + thumbprint)
