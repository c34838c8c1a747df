# SPDX-License-Identifier: Apache-2.0
"""What a verification compares with (`Reference`), and what came of it (`Proof`, a row of `Step`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tallystick.codec.keys import PublicKey
from tallystick.errors import TallystickError
from tallystick.license.trust import Trust
from tallystick.record import Record


class Reference(Record):
    """What a file is compared with.

    Attributes:
        trusts: pinned vendors by name.
        keysets: key set messages, or updates that carry one, from files.
        container: thumbprint of the container the file should be for; None where any will do.
        keys: identity keys of containers, for receipts.
    """

    trusts: Mapping[str, Trust] = {}
    keysets: tuple[bytes, ...] = ()
    container: bytes | None = None
    keys: tuple[PublicKey, ...] = ()


class Step(Record):
    """One step.

    Attributes:
        number: its place, from 1.
        title: what is tested.
        passed: True, False, or None where it was not reached or there was nothing to compare with.
        detail: what was found, or why it failed.
    """

    number: int
    title: str
    passed: bool | None
    detail: str = ""


class Proof(Record):
    """What came of it.

    Attributes:
        what: kind of the message.
        steps: in order.
        refusal: why it is not genuine; None where it is.
        parts: the messages inside, each with a proof of its own.
    """

    what: str
    steps: tuple[Step, ...]
    refusal: TallystickError | None = None
    parts: tuple[Proof, ...] = ()

    @property
    def verified(self) -> bool:
        """Whether every step passed, in the messages inside as well."""
        return self.reason is None

    @property
    def reason(self) -> TallystickError | None:
        """The first refusal, the messages inside included."""
        return self.refusal or next((part.reason for part in self.parts if part.reason is not None), None)

    def to_plain(self) -> dict[str, Any]:
        """Return what `json.dumps` takes.

        Returns:
            ``{"kind", "verified", "steps": [{"number", "title", "passed", "detail"}], "parts"}``; `passed` is null for
            a step that was not reached.
        """
        steps = [{name: getattr(step, name) for name in Step.fields} for step in self.steps]
        parts = [part.to_plain() for part in self.parts]
        return {"kind": self.what, "verified": self.verified, "steps": steps, "parts": parts}
