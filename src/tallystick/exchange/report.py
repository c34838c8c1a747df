# SPDX-License-Identifier: Apache-2.0
"""`Report`: a file in words and in plain values, unverified."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tallystick.codec.ident import container_id
from tallystick.errors import TallystickError
from tallystick.record import Record

NOT_VERIFIED: Final = "NOT VERIFIED: this is what the file says of itself; `tally verify FILE` tests it"


class Report(Record):
    """What a file says.

    Attributes:
        what: its kind, for people.
        size: bytes, armor taken off.
        sender, receiver: who made it and whom it is for, as it claims; empty where it does not say.
        next_step: what to do with it.
        lines: ``(name, text)`` in words.
        claims: the same in plain values: instants in seconds since 1970, bytes in hexadecimal.
        parts: messages inside.
        problem: why the rest of it cannot be read; None if all of it was.
    """

    what: str
    size: int
    sender: str = ""
    receiver: str = ""
    next_step: str = ""
    lines: tuple[tuple[str, str], ...] = ()
    claims: Mapping[str, Any] = {}
    parts: tuple[Report, ...] = ()
    problem: TallystickError | None = None

    def to_plain(self) -> dict[str, Any]:
        """Return what `json.dumps` takes.

        Returns:
            ``{"kind", "verified": false, "size", "from", "to", "next_step", "claims", "parts", "problem"}``; `problem`
            is null or ``{"code", "message"}``.
        """
        return {
            "kind": self.what,
            "verified": False,
            "size": self.size,
            "from": self.sender,
            "to": self.receiver,
            "next_step": self.next_step,
            "claims": dict(self.claims),
            "parts": [part.to_plain() for part in self.parts],
            "problem": None if self.problem is None else {"code": self.problem.code, "message": self.problem.message},
        }


def vendor_named(vendor: str) -> str:
    """Name a vendor as a sender or receiver."""
    return f"vendor {vendor}" if vendor else ""


def container_named(thumbprint: bytes) -> str:
    """Name a container as a sender or receiver."""
    return f"container {container_id(thumbprint)}"
