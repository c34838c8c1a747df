# SPDX-License-Identifier: Apache-2.0
"""`Container`: what applications and tools use, the same for every backend.

Thin backends give an `Anchor` to `container.sealed.SealedContainer`; a dongle or a cloud is a proxy that implements
this interface over its own protocol. What a backend cannot do it does not imitate: `info().capabilities` says so, and
the call raises ``not_supported``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from tallystick.codec.ident import container_id
from tallystick.container.anchor import Capability
from tallystick.container.ledger_install import Change
from tallystick.container.state import Event, Pending
from tallystick.errors import error
from tallystick.license.answers import Refusal
from tallystick.license.model import License
from tallystick.license.policy import Usage, Verdict
from tallystick.license.trust import Trust
from tallystick.record import Record

if TYPE_CHECKING:
    from tallystick.container.seat import Seat


class ContainerInfo(Record):
    """What a container is.

    Attributes:
        uri: how it was opened.
        backend: its scheme.
        thumbprint: 32 bytes, its identity.
        capabilities: what it can honestly promise.
        created_at, generation: of its account; 0 where it cannot be read.
        licenses, open_requests: how many.
        vendors: names of the vendors it knows.
        clock_status, now, wall: see `clock.Assessment`.
        location: where its files or its device are, for people.
        locked: code and message of why it is read-only; empty if it is not.
        details: more facts for people, by name.
    """

    uri: str
    backend: str
    thumbprint: bytes
    capabilities: Capability = Capability.NONE
    created_at: int = 0
    generation: int = 0
    licenses: int = 0
    open_requests: int = 0
    vendors: tuple[str, ...] = ()
    clock_status: str = "ok"
    now: int = 0
    wall: int = 0
    location: str = ""
    locked: tuple[str, str] | None = None
    details: Mapping[str, str] = {}

    @property
    def container_id(self) -> str:
        """The printed identity, ``TS-XXXXX-XXXXX-XXXXX``."""
        return container_id(self.thumbprint)


class LicenseView(Record):
    """A license held, its account, and what it permits now.

    Attributes:
        license_: the license as the issuer signed it; None where only the clear header can be read.
        license_id, vendor, product: whose and what.
        usage: the account.
        verdict: for the product as a whole, now; None where it cannot be told.
        installed_at: when.
    """

    license_id: bytes
    vendor: str
    product: str
    license_: License | None = None
    usage: Usage = Usage()
    verdict: Verdict | None = None
    installed_at: int = 0


class Outcome(Record):
    """What `Container.install` did.

    Attributes:
        message_id: of the update or refusal.
        vendor: who sent it.
        changes: license by license.
        note: the vendor's text for the user.
        repeated: it had been installed before; nothing changed.
        receipt: the receipt to send back; empty where none is due.
        refusal: the issuer's refusal, where the message was one.
    """

    message_id: bytes
    vendor: str
    changes: tuple[Change, ...] = ()
    note: str = ""
    repeated: bool = False
    receipt: bytes = b""
    refusal: Refusal | None = None


class Container(ABC):
    """A license container. Use it as a context manager, or `close` it.

    Methods may be called from several threads; several processes may open the same container.
    """

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
    ) -> bytes:
        """Ask a vendor for licenses. Any number of requests may be open; none makes another worthless.

        Args:
            trust: the vendor; may be left out where the container was opened with one, or knows exactly one.
            code: activation code.
            product: product id, where the code covers several.
            quantity: how many licenses.
            refresh: ask for newer terms of what is held, instead of activating.
            variables: facts about the device the vendor asks for; kept and sent again later.

        Returns:
            The signed request message; durable before it is returned.

        Raises:
            UsageError: ``closed``, ``vendor_needed``.
            ContainerError: ``full``.
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
    ) -> Seat:
        """Take a seat: verify the license, prove the container's key, decide.

        Args:
            product: product id.
            features: features that must be licensed, all of them.
            vendor: whose product; needed where several vendors are trusted.
            version: the application's version, ``4.2.1``.
            release_date: the application's release date, ``2026-11-21`` or seconds since 1970, for maintenance periods.
            reserve: units to debit as a block and serve from memory; what is left is given back by `Seat.close`.

        Returns:
            A seat.

        Raises:
            NotLicensedError: the refusal that says most.
            UsageError: ``vendor_needed``, ``closed``; no trust was given when the container was opened.
            VerificationError: the license is not acceptable to the trusted vendor.
            LockedError, StorageError, BackendError.
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

    def repair_request(self) -> bytes:
        """Describe a locked container to its vendor, unsigned.

        Raises:
            ContainerError: ``not_supported`` where the container is not locked.
        """
        raise error("not_supported", "this container is not locked; make an ordinary request")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
