# SPDX-License-Identifier: Apache-2.0
"""The border between the USB device and the firmware behind it: bytes in, bytes out, power on, power off."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


class Function(Protocol):
    """The firmware as USB sees it."""

    @property
    def serial(self) -> str:
        """The serial number."""

    def receive(self, data: bytes) -> None:
        """Take bytes of bulk OUT: in order, split anywhere, never empty."""

    def transmit(self) -> bytes:
        """Give, and forget, the bytes of one transfer for bulk IN; ``b""`` when nothing waits."""

    def poll(self) -> bool:
        """Let the firmware go on with what it waits for; called at least every 50 ms while the host waits for bytes.

        Returns:
            Whether it waits for something or has just done it; False when no bytes can come without new ones going in.
        """

    def identify(self) -> bytes:
        """Return the constant identification (CBOR); it holds nothing secret, anybody may read it."""

    def reset(self) -> None:
        """Drop half a message and what waits: the bus was reset, or the host is gone."""


@runtime_checkable
class Powered(Protocol):
    """A `Function` that lives on the bus's power: it dies with the cable, and a device whose firmware died is gone."""

    @property
    def plugged(self) -> bool:
        """Whether it runs."""

    def plug(self) -> None:
        """Give it power."""

    def unplug(self) -> None:
        """Take its power away."""
