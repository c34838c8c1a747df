# SPDX-License-Identifier: Apache-2.0
"""`Lending`: loans and transfers between containers, the same for every backend; reached as `Container.lending`.

Everything travels as messages, so the two containers need never see each other:

    receiver  ask         -> request (.tallyreq)         one grant, or a standing invitation to many
    giver     give        -> grant (.tallygrant)         the amount has left the giver's account
    receiver  install     -> receipt (.tallyrct)         the amount has arrived
    giver     install     <- receipt                     both books agree

and later ``give_back`` (receiver), ``extend`` and ``recall`` (giver), ``decline`` (receiver). Every message may be lost
and asked for again (`message`), repeated, or come late.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Final

from tallystick.codec.ident import container_id
from tallystick.license.grant_policy import GrantPolicy
from tallystick.license.trust import Trust
from tallystick.record import Record

REQUESTED: Final = "requested"
IN_TRANSIT: Final = "in transit"
ACTIVE: Final = "active"
RETURNED: Final = "returned"
RECALLED: Final = "recalled"
EXPIRED: Final = "expired"
CANCELLED: Final = "cancelled"
STATES: Final = (REQUESTED, IN_TRANSIT, ACTIVE, RETURNED, RECALLED, EXPIRED, CANCELLED)


class Loan(Record):
    """One loan or transfer, seen from one of its two containers.

    Attributes:
        xid: 16 bytes, the same on both sides; of a request not answered yet its request id.
        outgoing: given by this container; else it came here, or was asked for here.
        transfer: for good.
        vendor, product: what of.
        license_id: which license, where it is known.
        part: the holding it was taken from or made; empty where there is none.
        peer: thumbprint of the other container; None where it is not known yet.
        request_id: the receiver's request.
        at: since when.
        ends: end of a loan, as borrower and lender both call it.
        amounts: how much, by counter; empty where the giver decides.
        returned, used: of that, by counter.
        state: one of `STATES`.
        recalled: whether it was asked back.
        receipt: the newest receipt made here, which is to reach the other side; empty where there is none yet.
        room: how many grants may still answer a request; 0 for everything else.
    """

    xid: bytes
    outgoing: bool
    transfer: bool
    vendor: str
    product: str
    license_id: bytes
    part: bytes
    peer: bytes | None
    request_id: bytes
    at: int
    ends: int | None
    amounts: Mapping[str, int]
    returned: Mapping[str, int]
    used: Mapping[str, int]
    state: str
    recalled: bool = False
    receipt: bytes = b""
    room: int = 0

    @property
    def peer_id(self) -> str:
        """The other container's printed identity; empty where it is not known."""
        return "" if self.peer is None else container_id(self.peer)

    @property
    def open(self) -> bool:
        """Whether something is still to come: a grant, a receipt or a return."""
        return self.state in (REQUESTED, IN_TRANSIT, ACTIVE) or (
            self.state in (RECALLED, EXPIRED) and any(self.amounts[name] > self._settled(name) for name in self.amounts)
        )

    def _settled(self, name: str) -> int:
        return self.returned.get(name, 0) + self.used.get(name, 0)


class Lending(ABC):
    """Loans and transfers of one container."""

    @abstractmethod
    def ask(
        self,
        trust: Trust | None = None,
        *,
        product: str = "",
        license_id: bytes | None = None,
        amounts: Mapping[str, int] | None = None,
        features: tuple[str, ...] | None = None,
        duration: int | None = None,
        transfer: bool = False,
        count: int = 1,
        lender: bytes | None = None,
    ) -> bytes:
        """Ask another container for a loan or a transfer.

        Args:
            trust: the vendor of the license; may be left out where the container knows exactly one.
            product: product id; empty, or `count` above 1, makes a standing invitation the giver may use unasked.
            license_id: which license, 16 bytes, where it is known.
            amounts: how much, by counter (``"*seats"``, ``""`` for units, a feature's name); None: the giver decides.
            features: only these; None for all.
            duration: of a loan in seconds; None leaves it to the giver.
            transfer: for good.
            count: how many grants may answer.
            lender: thumbprint of the only container asked; with it, a cancelled request gives the lender its part back.

        Returns:
            The signed request; durable before it is returned.

        Raises:
            UsageError: ``closed``, ``vendor_needed``, ``usage``.
            ContainerError: ``full``.
            LockedError, StorageError, BackendError.
        """

    @abstractmethod
    def give(
        self,
        request: bytes,
        *,
        part: bytes | None = None,
        product: str = "",
        amounts: Mapping[str, int] | None = None,
        features: tuple[str, ...] | None = None,
        ends: int | None = None,
        transfer: bool = False,
    ) -> bytes:
        """Lend or transfer to the container that made a request. The same pull again: the same grant, no second debit.

        Args:
            request: its request, as received.
            part: which holding, where several would do.
            product: product id, where the request leaves it open.
            amounts: how much, by counter; None for what the request asks, or everything.
            features: only these; None for what the request asks.
            ends: end of a loan in seconds since 1970; None for the duration the request asks.
            transfer: for good.

        Returns:
            The signed grant; the debit is durable before it is returned.

        Raises:
            LendingError: the rule that refuses, or ``not_available``.
            NotLicensedError: the license itself does not permit to run now.
            FormatError, VerificationError: the request.
            LockedError, StorageError, BackendError.
        """

    @abstractmethod
    def move(self, request: bytes, *, vendor: str | None = None) -> bytes:
        """Transfer everything to the container that made a standing invitation, in one file (rehost).

        Args:
            request: an invitation with a count of at least as many as there are licenses.
            vendor: only this vendor's.

        Returns:
            The signed move; where it would be too large for one file, the first part of it. Again: what is still in
            transit to that container, and what is left. What expired stays where it is.

        Raises:
            LendingError: as `give`, for the first license that may not go; nothing has gone then.
        """

    @abstractmethod
    def extend(self, xid: bytes, ends: int) -> bytes:
        """Extend a loan given here.

        Args:
            xid: of the loan.
            ends: its new end.

        Returns:
            The grant that says so, to be imported by the borrower.

        Raises:
            LendingError: ``extend_denied``, ``duration_too_long``, ``loan_over``, ``loan_too_short``.
            NotFoundError: ``grant_not_found``.
        """

    @abstractmethod
    def recall(self, xid: bytes) -> bytes:
        """Ask a loan back; nothing changes here before the borrower's receipt, or the loan's end.

        Returns:
            The recall, to be imported by the borrower.

        Raises:
            LendingError: ``recall_denied``, ``loan_over``.
            NotFoundError: ``grant_not_found``.
        """

    @abstractmethod
    def give_back(self, xid: bytes, amounts: Mapping[str, int] | None = None) -> bytes:
        """Give back what came by a grant; it is gone here before the receipt is returned.

        Args:
            xid: of the grant.
            amounts: how much, by counter; None for all.

        Returns:
            The receipt, to be imported by the giver. Again, for what was given back: the same receipt.

        Raises:
            LendingError: ``return_denied``, ``not_available``.
            NotFoundError: ``grant_not_found``.
            ContainerError: ``held_elsewhere`` where part of it was lent on; ``seats_in_use``.
        """

    @abstractmethod
    def decline(self, grant: bytes) -> bytes:
        """Refuse a grant for good.

        Args:
            grant: as received.

        Returns:
            The receipt that gives the giver back what it debited.

        Raises:
            ContainerError: ``idempotency_conflict`` for one that was imported.
            NotFoundError: ``request_not_found``.
        """

    @abstractmethod
    def loans(self) -> tuple[Loan, ...]:
        """List loans and transfers, given, taken and asked for, oldest first."""

    @abstractmethod
    def message(self, xid: bytes) -> bytes:
        """Return the newest message of an exchange again: the request, the grant, the recall, or the receipt.

        Raises:
            NotFoundError: ``grant_not_found``.
        """

    @abstractmethod
    def statement(self, vendor: str) -> bytes:
        """State, signed, that nothing of a vendor may be used here any more.

        Raises:
            ContainerError: ``held_elsewhere`` while something is here.
        """

    @abstractmethod
    def policies(self) -> Mapping[str, GrantPolicy]:
        """Return the administrator's rules: ``lend`` or ``transfer``, of one product as ``lend/PRODUCT``."""

    @abstractmethod
    def set_policy(self, key: str, policy: GrantPolicy | None) -> None:
        """Set one of the administrator's rules; None removes it.

        Raises:
            UsageError: ``usage`` for a key that names no rule.
        """
