# SPDX-License-Identifier: Apache-2.0
"""What a container says of itself and of what it did: plain records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tallystick.codec.ident import container_id
from tallystick.container.anchor import Capability
from tallystick.container.ledger_books import Change
from tallystick.container.state import Counter
from tallystick.license.model import License
from tallystick.license.policy import Usage, Verdict
from tallystick.record import Record

if TYPE_CHECKING:
    from tallystick.license.answers import Refusal


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
        counters: the account counter by counter, with what is lent, in transit, given and returned; untouched counters
            are absent.
    """

    license_id: bytes
    vendor: str
    product: str
    license_: License | None = None
    usage: Usage = Usage()
    verdict: Verdict | None = None
    installed_at: int = 0
    counters: Mapping[str, Counter] = {}


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
