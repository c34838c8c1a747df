# SPDX-License-Identifier: Apache-2.0
"""Units that a TPM counts: used in the order that neither a crash nor the owner of the machine turns into more of them.

    1  read where the counter stands; the account follows it where a crash cut a use off
    2  the ledger decides: exactly that many, or a refusal before anything was counted
    3  the TPM counts them and proves it for a challenge made here
    4  the proof is checked here, under the claim of the license that the pinned vendor signed
    5  the account is committed, and the effect let out

Whatever stops the program between 3 and 5 loses these units and nothing else. A call that is repeated with its
idempotency key counts nothing: its challenge is made of the key, and the proof of the first call is kept and checked
again, for an account alone can be authored by whoever owns the machine.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Final

from tallystick.codec.digest import sha256
from tallystick.container import commands as c
from tallystick.errors import LockedError, error
from tallystick.license.dates import number_of
from tallystick.license.meter import EVIDENCE, MAX_AT_ONCE, NONCE, USE, MeterClaim, challenge_of, check

if TYPE_CHECKING:
    from tallystick.container.session import Session, Transaction
    from tallystick.container.state import State
    from tallystick.license.model import License

_INDEX: Final = 4  # TPMS_NV_PUBLIC of the counter, in the evidence of one meter
_SHA256: Final = b"\x00\x0b"  # its number, before the digest in a Name
_KEY_WORD: Final = b"tallystick key\x00"


class MeterBank(ABC):
    """The meters of one container, in its anchor's device; see `Anchor.metering`. The store's lock is held."""

    @abstractmethod
    def ready(self, in_use: Collection[bytes]) -> bytes:
        """Return the Name of a counter no license uses yet, made where there is none.

        Args:
            in_use: Names of the counters of the licenses that are held.

        Raises:
            BackendError: ``chip_full``, ``device_silent``, ``backend_failed``.
            ContainerError: ``not_supported``: the device cannot prove what it counts.
            LockedError, StorageError.
        """

    @abstractmethod
    def value(self, counter: bytes) -> int:
        """Read where a counter stands.

        Raises:
            LockedError: ``meter_lost``.
            BackendError.
        """

    @abstractmethod
    def returning(self, counter: bytes) -> int:
        """Tell how many units were counted to give them back, and are not used, therefore.

        Raises:
            LockedError: ``meter_lost``.
        """

    @abstractmethod
    def prove(self, counter: bytes, challenge: bytes, units: int) -> bytes:
        """Count units and prove it.

        Raises:
            LockedError: ``meter_lost``: nothing was counted.
            BackendError: what was under way may be counted, and is then lost.
        """

    @abstractmethod
    def evidence(self, challenge: bytes, counters: Sequence[bytes]) -> dict[str, bytes]:
        """Collect what proves to an issuer where meters stand; those that are lost are left out.

        Raises:
            BackendError.
        """

    @abstractmethod
    def give_back(self, claim: MeterClaim, license_id: bytes) -> tuple[bytes, ...]:
        """Count all units that are left, to give them back; what was interrupted is gone on with.

        Args:
            claim: of the license.
            license_id: 16 bytes.

        Returns:
            The proofs (`license.meter.given_back`).

        Raises:
            LockedError: ``meter_lost``.
            BackendError: the next call goes on.
        """

    @abstractmethod
    def remove(self, counter: bytes) -> None:
        """Remove a meter.

        Raises:
            BackendError, LockedError, StorageError.
        """


def bank_of(session: Session) -> MeterBank:
    """Return the meters of a container.

    Raises:
        ContainerError: ``not_supported``.
    """
    bank = session.anchor.metering(session.directory)
    if bank is None:
        raise error("not_supported", "this container's device counts no units by itself", capability="METERED")
    return bank


def counters_of(state: State, vendor: str) -> tuple[bytes, ...]:
    """Name the counters of a vendor's licenses that are held; all vendors' for an empty name."""
    from tallystick.container.ledger_books import license_of

    claims = (license_of(held).meter for held in state.holdings.values() if vendor in ("", held.vendor))
    return tuple(claim.counter for claim in claims if claim is not None)


def offered(state: State) -> set[bytes]:
    """Name the counters that requests without an answer offer: one is not offered twice."""
    from tallystick.codec import cbor
    from tallystick.container.state import OPEN
    from tallystick.license.messages import read_request

    waiting = [pending.message for pending in state.pending.values() if pending.status == OPEN and pending.message]
    found = [read_request(message).evidence.get(EVIDENCE) for message in waiting]
    rows = [cbor.decode(row) for evidence in found if evidence for row in cbor.decode(evidence)]
    return {_SHA256 + sha256(row[_INDEX]) for row in rows}


def use(
    session: Session, tx: Transaction, license_: License, asked: c.Consume, random: Callable[[int], bytes]
) -> int:  # fmt: skip
    """Use units of a license with a meter, inside the transaction that books them.

    Args:
        session: of the container.
        tx: the transaction.
        license_: verified in this process.
        asked: how many, of the license's own counter.
        random: source of nonces.

    Returns:
        Units left.

    Raises:
        NotLicensedError: ``units_exhausted``, or any refusal of the license; nothing was counted.
        VerificationError: ``meter_refused``: what the device says does not hold.
        UsageError: ``usage``.
        LockedError: ``meter_lost``.
        ContainerError: ``idempotency_conflict``, ``not_supported``.
        BackendError: nothing was acknowledged; the units may be lost.
    """
    claim = license_.meter
    if claim is None:
        raise error("not_counted", f"{license_.product} has no meter")
    key = asked.idempotency_key
    nonce = sha256(_KEY_WORD + key) if key else random(NONCE)
    if key and key in tx.state.retries:
        left: int = tx.apply(asked)
        proof = tx.state.proofs.get(key, b"")
        check(proof, claim, challenge_of(USE, license_.license_id, asked.units, nonce), asked.units)
        return left
    bank = bank_of(session)
    value, back = bank.value(claim.counter), bank.returning(claim.counter)
    tx.apply(c.Metered(license_.license_id, _used(license_, claim, value, back)))  # (1)
    left = tx.apply(asked)  # (2)
    _require_countable(license_, claim, asked.units, value)
    challenge = challenge_of(USE, license_.license_id, asked.units, nonce)
    proof = bank.prove(claim.counter, challenge, asked.units)  # (3)
    value = check(proof, claim, challenge, asked.units)  # (4)
    tx.apply(c.Metered(license_.license_id, _used(license_, claim, value, back), key, proof if key else b""))  # (5)
    return left


def follow(session: Session, tx: Transaction, license_: License) -> None:
    """Let the account follow what was counted; where the meter is lost it stays as it is.

    Args:
        session: of the container.
        tx: the transaction.
        license_: held.

    Raises:
        BackendError: the device does not answer.
    """
    claim = license_.meter
    bank = session.anchor.metering(session.directory)
    if claim is None or bank is None:
        return
    try:
        value, back = bank.value(claim.counter), bank.returning(claim.counter)
        tx.apply(c.Metered(license_.license_id, _used(license_, claim, value, back)))
    except LockedError as reason:
        if reason.code != "meter_lost":
            raise


def give_back(session: Session, license_: License) -> dict[bytes, tuple[bytes, ...]]:
    """Count all units of a license that are left, to give them back to the vendor.

    Args:
        session: of the container.
        license_: held.

    Returns:
        The proofs by license id; none where there is nothing to give back, or the meter is lost.

    Raises:
        BackendError: the device does not answer; the next call goes on.
        StorageError: what was counted cannot be kept.
    """
    claim = license_.meter
    bank = session.anchor.metering(session.directory)
    if claim is None or bank is None:
        return {}
    try:
        proofs = bank.give_back(claim, license_.license_id)
    except LockedError as reason:
        if reason.code != "meter_lost":
            raise
        return {}
    return {license_.license_id: proofs} if proofs else {}


def forget(session: Session, license_: License) -> None:
    """Remove the meter of a license that was given up.

    Args:
        session: of the container.
        license_: given up, and committed.

    Raises:
        BackendError, LockedError, StorageError: it stays until the container is destroyed.
    """
    bank = session.anchor.metering(session.directory)
    if license_.meter is not None and bank is not None:
        bank.remove(license_.meter.counter)


def _require_countable(license_: License, claim: MeterClaim, units: int, value: int) -> None:
    """Refuse what the ledger would allow and the meter would not, before anything is counted."""
    if units > MAX_AT_ONCE:
        raise error("usage", f"a TPM counts at most {MAX_AT_ONCE} units at once", "Use them in several calls.")
    left = claim.left(value)
    if units > left:
        message = f"{license_.product}: {number_of(units, 'unit')} asked, {left} left"
        raise error("units_exhausted", message, available=left)


def _used(license_: License, claim: MeterClaim, value: int, back: int) -> int:
    """Tell how many units of a license are used where its counter stands at a value."""
    granted = (license_.terms.units or 0) + license_.terms.overage
    return max(0, granted - claim.left(value) - back)
