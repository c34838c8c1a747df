# SPDX-License-Identifier: Apache-2.0
"""`Container`: what applications and tools use, the same for every backend.

Thin backends give an `Anchor` to `container.sealed.SealedContainer`; a dongle or a cloud is a proxy that implements
this interface over its own protocol. What a backend cannot do it does not imitate: `info().capabilities` says so, and
the call raises ``not_supported``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from tallystick.container.info import ContainerInfo, LicenseView, Outcome
from tallystick.container.slots_record import SeatHolder
from tallystick.container.state import Event, Pending
from tallystick.errors import error
from tallystick.license.trust import Trust

if TYPE_CHECKING:
    from tallystick.container.lending_base import Lending
    from tallystick.container.seat import Seat

__all__ = ["Container", "ContainerInfo", "LicenseView", "Outcome"]


class Container(ABC):
    """A license container. Use it as a context manager, or `close` it.

    Methods may be called from several threads; several processes may open the same container.
    """

    on_touch: Callable[[], None] | None = None
    """Set it to be told when a call waits until somebody presses the device's button; where there is none, never."""

    @abstractmethod
    def info(self) -> ContainerInfo:
        """Say what the container is. Never raises for a locked container."""

    @abstractmethod
    def licenses(self, vendor: str | None = None) -> tuple[LicenseView, ...]:
        """List the licenses held.

        Args:
            vendor: only this vendor's.

        Returns:
            A view of each, oldest first.

        Raises:
            UsageError: ``closed``.
        """

    @abstractmethod
    def request(
        self,
        trust: Trust | None = None,
        *,
        code: str = "",
        product: str = "",
        quantity: int = 1,
        refresh: bool = False,
        variables: Mapping[str, str] | None = None,
        metered: bool = False,
    ) -> bytes:
        """Ask a vendor for licenses. Any number of requests may be open; none makes another worthless.

        Args:
            trust: the vendor; may be left out where the container was opened with one, or knows exactly one.
            code: activation code.
            product: product id, where the code covers several.
            quantity: how many licenses.
            refresh: ask for newer terms of what is held, instead of activating.
            variables: facts about the device the vendor asks for; kept and sent again later.
            metered: offer a counter of the device itself for the license's units (`Capability.METERED`).

        Returns:
            The signed request message; durable before it is returned.

        Raises:
            UsageError: ``closed``, ``vendor_needed``.
            ContainerError: ``full``; ``not_supported`` where no device counts, and it was asked to.
            VerificationError: ``wrong_vendor`` where the container knows the vendor with another root key.
            LockedError, StorageError, BackendError.
        """

    @abstractmethod
    def install(self, message: bytes) -> Outcome:
        """Install an update, or take a refusal. The same message again changes nothing and returns the same receipt.

        Args:
            message: the bytes received.

        Returns:
            What it did.

        Raises:
            FormatError, VerificationError: see `license.verify`.
            NotFoundError: ``request_not_found``, ``vendor_unknown``, ``license_not_found``.
            LockedError, StorageError, BackendError.
        """

    @abstractmethod
    def checkout(
        self,
        product: str,
        *,
        features: Sequence[str] = (),
        vendor: str | None = None,
        version: str | None = None,
        release_date: str | int | None = None,
        reserve: int = 0,
        mode: str = "user-limit",
        wait: float = 0.0,
        linger: bool = True,
        warn: int | None = None,
    ) -> Seat:
        """Take a seat: verify the license, prove the container's key, decide.

        Seats are counted among the programs of the container's user on this computer; a killed one frees its seat at
        once. All that a process checks out through one container object in one mode is one seat.

        Args:
            product: product id.
            features: features that must be licensed, all of them.
            vendor: whose product; needed where several vendors are trusted.
            version: the application's version, ``4.2.1``.
            release_date: the application's release date, ``2026-11-21`` or seconds since 1970, for maintenance periods.
            reserve: units to debit as a block and serve from memory; what is left is given back by `Seat.close`. Units
                that a TPM counts are never taken ahead: each use of them is counted by itself.
            mode: ``user-limit``: each process takes a seat; ``station-share``: all that ask so share one;
                ``exclusive``: nobody else may use the license; ``no-limit``: takes no seat. The license may deny modes.
            wait: seconds to wait for a seat, first come, first served.
            linger: False frees the seat at once when it is closed, whatever linger time the license has.
            warn: seconds before an end at which `Seat.verdict` begins to warn; None for a tenth of what ends, at most
                30 days.

        Returns:
            A seat.

        Raises:
            NotLicensedError: the refusal that says most; ``seats_in_use`` with ``details["holders"]``, ``mode_denied``.
            UsageError: ``vendor_needed``, ``closed``, ``usage`` for an unknown mode; no trust was given when the
                container was opened.
            VerificationError: the license is not acceptable to the trusted vendor.
            LockedError, StorageError, BackendError.
        """

    @abstractmethod
    def holders(self, product: str | None = None) -> tuple[SeatHolder, ...]:
        """List who holds local seats: the programs of this user on this computer; those that wait come last.

        Args:
            product: only of this product.

        Returns:
            Each program once for each license and mode it uses; lingering seats among them.

        Raises:
            UsageError: ``closed``.
            StorageError, ContainerError (``busy``).
        """

    @abstractmethod
    def deactivate(self, license_id: bytes) -> bytes:
        """Give a license up for good and prove it. Again: the same receipt, for ever.

        Args:
            license_id: 16 bytes.

        Returns:
            The signed receipt with the final counters, to be sent to the vendor.

        Raises:
            NotFoundError: ``license_not_found``.
            ContainerError: ``held_elsewhere``.
            LockedError, StorageError, BackendError.
        """

    @property
    @abstractmethod
    def lending(self) -> Lending:
        """Loans and transfers; its methods raise why a container is locked."""

    @abstractmethod
    def requests(self) -> tuple[Pending, ...]:
        """List the requests made, oldest first."""

    @abstractmethod
    def cancel_request(self, request_id: bytes) -> None:
        """Give up an open request; its answer will be refused.

        Raises:
            NotFoundError: ``request_not_found``.
        """

    @abstractmethod
    def receipts(self) -> Mapping[bytes, bytes]:
        """Return every receipt made, by the id of the update it confirms or of the license it gives up."""

    @abstractmethod
    def history(self) -> tuple[Event, ...]:
        """Return what happened, oldest first."""

    @abstractmethod
    def close(self) -> None:
        """Release the container; seats of it stop within one re-proof interval. Closing twice is allowed."""

    def rehearsal(self) -> Container:
        """Return this container as it is now, in memory: what is done to it changes nothing, and signs nothing but
        requests.

        Raises:
            ContainerError: ``not_supported`` where the account is kept by a device or a service.
            UsageError: ``closed``.
            StorageError: it cannot be read.
        """
        raise error("not_supported", "this container cannot rehearse", "Leave out `--dry-run`.")

    def repair_request(self, vendor: str = "") -> bytes:
        """Describe a locked container to its vendor: signed where its keys answer, else not, and for any vendor.

        Args:
            vendor: whom to ask; not needed where one alone has something to lose, or one alone has not been asked yet.

        Raises:
            ContainerError: ``not_supported`` where the container is not locked.
            UsageError: ``vendor_needed``.
            NotFoundError: ``vendor_unknown``.
        """
        raise error("not_supported", "this container is not locked; make an ordinary request")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
