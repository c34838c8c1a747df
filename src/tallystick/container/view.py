# SPDX-License-Identifier: Apache-2.0
"""What is left of a container that does not open: who it is, what it held, and a way to ask for its repair.

Locked is never lost: nothing is deleted, the clear header still names what is held, and a repair request can be
exported. The request is *not signed*, because the key cannot be had, and says so; the vendor treats it as a report,
never as a proof.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NoReturn

from tallystick.codec import cbor, kinds
from tallystick.container.base import Container, ContainerInfo, LicenseView, Outcome
from tallystick.container.clear_header import is_named
from tallystick.container.seat import Seat
from tallystick.container.slots_record import SeatHolder
from tallystick.container.state import Event, Pending
from tallystick.errors import TallystickError, error
from tallystick.license.trust import Trust

if TYPE_CHECKING:
    from tallystick.container.lending_base import Lending

REPAIR_TYPE: Final = kinds.REPAIR.typ
REPAIR_EXTENSION: Final = kinds.REPAIR.extension
_MAX_REPAIR: Final = 1 << 18
_REPAIR_TYPES: Final = {
    "type": str,
    "signed": bool,
    "container": bytes,
    "reason": str,
    "message": str,
    "created_at": int,
    "licenses": list,
    "findings": dict,
}


class LockedView(Container):
    """A container that can only be looked at.

    Args:
        info: what is known.
        held: licenses named in the clear header: ``(license id, vendor, product)``.
        reason: why it does not open.
        findings: what `explain` says, for the repair request; digests only.
        now: seconds since 1970.
    """

    def __init__(
        self,
        info: ContainerInfo,
        held: Sequence[tuple[bytes, str, str]],
        reason: TallystickError,
        findings: Callable[[], Mapping[str, str]],
        now: int,
    ) -> None:
        self._info = info
        self._held = tuple(held)
        self._reason = reason
        self._findings = findings
        self._now = now

    def info(self) -> ContainerInfo:
        """Say what the container is, and why it is locked."""
        return self._info

    def licenses(self, vendor: str | None = None) -> tuple[LicenseView, ...]:
        """Name what it held."""
        return tuple(
            LicenseView(license_id, owner, product)
            for license_id, owner, product in self._held
            if vendor is None or owner == vendor
        )

    def repair_request(self, vendor: str = "") -> bytes:
        """Describe the locked container to its vendors, unsigned."""
        return cbor.encode(
            {
                "type": REPAIR_TYPE,
                "signed": False,
                "container": self._info.thumbprint,
                "reason": self._reason.code,
                "message": self._reason.message[:512],
                "created_at": self._now,
                "licenses": [list(row) for row in self._held],
                "findings": dict(self._findings()),
            }
        )

    def requests(self) -> tuple[Pending, ...]:
        """Nothing can be read."""
        return ()

    def receipts(self) -> Mapping[bytes, bytes]:
        """Nothing can be read."""
        return {}

    def history(self) -> tuple[Event, ...]:
        """Nothing can be read."""
        return ()

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
        """Refused: raises why the container is locked."""
        self._refuse()

    def install(self, message: bytes) -> Outcome:
        """Refused: raises why the container is locked."""
        self._refuse()

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
        """Refused: raises why the container is locked."""
        self._refuse()

    def holders(self, product: str | None = None) -> tuple[SeatHolder, ...]:
        """Nobody holds a seat of a container that does not open."""
        return ()

    def deactivate(self, license_id: bytes) -> bytes:
        """Refused: raises why the container is locked."""
        self._refuse()

    def cancel_request(self, request_id: bytes) -> None:
        """Refused: raises why the container is locked."""
        self._refuse()

    @property
    def lending(self) -> Lending:
        """Refused: raises why the container is locked."""
        self._refuse()

    def close(self) -> None:
        """Nothing is held open."""

    def _refuse(self) -> NoReturn:
        raise self._reason


def read_repair_request(data: bytes) -> dict[str, Any]:
    """Read an unsigned repair request; nothing in it is proven.

    Args:
        data: the bytes received.

    Returns:
        Its fields by name.

    Raises:
        FormatError: ``malformed`` or ``too_large``.
    """
    fields = cbor.decode(data, _MAX_REPAIR)
    if (
        type(fields) is not dict
        or {name: type(value) for name, value in fields.items()} != _REPAIR_TYPES
        or fields["type"] != REPAIR_TYPE
        or fields["signed"]
        or not all(is_named(row) for row in fields["licenses"])
        or not all(type(item) is str for pair in fields["findings"].items() for item in pair)
    ):
        raise error("malformed", "not a repair request")
    return dict(fields)
