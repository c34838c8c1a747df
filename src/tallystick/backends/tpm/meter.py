# SPDX-License-Identifier: Apache-2.0
"""Meters: counters of the TPM that count a license's units and prove each to the application (`license.meter`).

A meter is a counter index and a restricted key below the SRK. To count, five commands go through one audit session,
the salted one that is there anyway: the challenge (TPM2_StirRandom), an increment for each unit, the value read twice,
and the key's statement about all of it. The counter moves for good with the increment; whatever stops the program after
it loses the units under way, and nothing else. Nothing is incremented a second time on a doubt.

Why not an index of type PIN_PASS: ``docs/adr``. An older value cannot be brought back: a counter that is defined anew
goes on above the highest value any counter of that TPM had, and a TPM that is cleared can no longer load the key.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tallystick.backends.tpm import objects
from tallystick.backends.tpm.chip import Chip
from tallystick.backends.tpm.evidence import Attestor, certify
from tallystick.backends.tpm.library import (
    ESAPI,
    ESYS_TR,
    TPM2_ALG,
    TPM2_CAP,
    TPM2_PT,
    TPMA_PERMANENT,
    TPMA_SESSION,
    TSS2_Exception,
)
from tallystick.backends.tpm.library import types as t
from tallystick.backends.tpm.meter_file import MeterRow
from tallystick.backends.tpm.nv import COUNTER, SIZES, Index
from tallystick.backends.tpm.storage import StorageKey
from tallystick.backends.tpm.templates import area_bytes, key_of, raw_signature
from tallystick.codec import cbor
from tallystick.codec.keys import PublicKey
from tallystick.errors import TallystickError, error
from tallystick.license.meter import MAX_AT_ONCE, encode_proof

MARKER: Final = b"tallystick meter"
_NOT_OF_THE_TPM: Final = 0xFF0000  # layers of a response code between here and there
_AUDITED: Final = TPMA_SESSION.CONTINUESESSION | TPMA_SESSION.AUDIT
_HIDING: Final = TPMA_SESSION.CONTINUESESSION | TPMA_SESSION.DECRYPT | TPMA_SESSION.ENCRYPT


class MeterIndex(Index):
    """The counter of a meter.

    Args:
        chip: the TPM.
        storage: the SRK.
        row: which.
        auth: 32 secret bytes; empty until they are known: then it can only be removed.
    """

    def __init__(self, chip: Chip, storage: StorageKey, row: MeterRow, auth: bytes) -> None:
        super().__init__(chip, storage, COUNTER, row.number, auth, row.name, MARKER)

    def count(self, esys: ESAPI, challenge: bytes, units: int, begun: Callable[[], None]) -> int:
        """Count units in an audit session, which is the storage session as this leaves it; read the value.

        Args:
            esys: the library's object.
            challenge: 32 bytes.
            units: how many.
            begun: called when something was counted, or may have been.

        Returns:
            The value.
        """
        handle, session = self._handle(esys), self._storage.session(esys)
        _require_privacy_admin(esys)
        esys.trsess_set_attributes(session, _AUDITED | TPMA_SESSION.AUDITRESET)
        esys.stir_random(challenge, session1=session)
        esys.trsess_set_attributes(session, _AUDITED)
        for done in range(units):
            try:
                self._chip.patient(lambda: esys.nv_increment(handle, session1=session))
            except TSS2_Exception as reason:
                if done or int(reason.rc) & _NOT_OF_THE_TPM:  # a command the TPM itself refuses was not executed
                    begun()
                raise
            begun()
        esys.nv_read(handle, SIZES[COUNTER], session1=session)
        return int.from_bytes(bytes(esys.nv_read(handle, SIZES[COUNTER], session1=session)))


class Meter:
    """One meter, made. They come from `meters.Meters`.

    Args:
        chip: the TPM.
        storage: the SRK.
        row: what the container remembers of it.
        auth: 32 secret bytes, those of the container's other indices.
    """

    def __init__(self, chip: Chip, storage: StorageKey, row: MeterRow, auth: bytes) -> None:
        self._chip = chip
        self._storage = storage
        self._row = row
        self._index = MeterIndex(chip, storage, row, auth)
        self.key: PublicKey = key_of(row.key.public)
        self.counter = row.name

    @property
    def number(self) -> int:
        """Of the counter's index, for people."""
        return self._row.number

    def count(self) -> int:
        """Read where the counter stands.

        Raises:
            LockedError: ``meter_lost``, ``chip_changed``.
            BackendError: the TPM does not answer.
        """
        with _Lost():
            return int.from_bytes(self._index.read(proven=False))  # what counts is in the proof

    def prove(self, challenge: bytes, units: int = 1) -> bytes:
        """Count units, and prove it.

        Args:
            challenge: 32 bytes, as `license.meter.challenge_of` makes them.
            units: how many, 1 to `MAX_AT_ONCE`.

        Returns:
            The proof.

        Raises:
            UsageError: ``usage``: so many cannot be counted at once.
            LockedError: ``meter_lost``, ``chip_changed``: nothing was counted.
            BackendError: ``device_silent``, ``backend_failed``: what was under way may be counted, and is then lost.
        """
        if not 1 <= units <= MAX_AT_ONCE:
            raise error("usage", f"1 to {MAX_AT_ONCE} units can be counted at once")
        begun: list[bool] = []

        def step(esys: ESAPI) -> bytes:
            if begun:  # the TPM asked for room after it had counted
                raise error("device_silent", "the TPM counted, and could not state it")
            with self._chip.loaded(esys, self._load(esys)) as key:
                return self._stated(esys, key, challenge, units, lambda: begun.append(True))

        with _Lost():
            try:
                return self._chip.run(step)
            except TallystickError as reason:
                if reason.code != "device_silent" or begun:
                    raise
            return self._chip.run(step)  # the connection had broken before anything was counted

    def evidence(self, attestor: Attestor, challenge: bytes) -> bytes:
        """Collect what proves to an issuer what this meter is and where it stands.

        Args:
            attestor: of the container.
            challenge: 32 bytes it covers: those of the evidence ``tpm``.

        Returns:
            The evidence `EVIDENCE`.

        Raises:
            LockedError: ``meter_lost``, ``chip_changed``.
            BackendError: the TPM refuses, or does not answer.
        """

        def collect(esys: ESAPI) -> bytes:
            with attestor.attesting(esys) as ak, self._chip.loaded(esys, self._load(esys)) as key:
                return cbor.encode(
                    {
                        1: area_bytes(esys.read_public(key)[0]),
                        2: certify(esys, ak, key, ESYS_TR.PASSWORD, challenge),
                        3: self._storage.name,
                        4: self._index.public(esys),
                        5: self._index.certify(esys, ak, challenge),
                    }
                )

        with _Lost():
            return self._chip.run(collect, again=True)

    def _load(self, esys: ESAPI) -> ESYS_TR:
        return objects.load(esys, self._storage, self._row.key, b"")

    def _stated(
        self, esys: ESAPI, key: ESYS_TR, challenge: bytes, units: int, begun: Callable[[], None]
    ) -> bytes:  # fmt: skip
        session = self._storage.session(esys)
        try:
            value = self._index.count(esys, challenge, units, begun)
            attest, signature = esys.get_session_audit_digest(
                key, session, b"", in_scheme=t.TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL)
            )
        finally:  # everything else that goes through this session has something to hide
            esys.trsess_set_attributes(session, _HIDING)
        return encode_proof(bytes(attest), raw_signature(signature), value)


def _require_privacy_admin(esys: ESAPI) -> None:
    """Refuse before anything is counted where the TPM would not state it: that asks for the endorsement hierarchy."""
    _, data = esys.get_capability(TPM2_CAP.TPM_PROPERTIES, TPM2_PT.PERMANENT, 1)
    rows = data.data.tpmProperties
    if len(rows) and int(rows[0].value) & int(TPMA_PERMANENT.ENDORSEMENTAUTHSET):
        remedy = "Let the TPM's owner take the endorsement password away; nothing was counted."
        raise error("not_supported", "the TPM asks for an endorsement password before it states anything", remedy)


class _Lost:
    """Says of a meter's index what `Index` says of the container's own."""

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: object, reason: BaseException | None, trace: object) -> None:
        if isinstance(reason, TallystickError) and reason.code in ("anchor_lost", "anchor_redefined"):
            raise error("meter_lost", "the meter's counter is not in the TPM any more") from reason
