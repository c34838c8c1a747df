# SPDX-License-Identifier: Apache-2.0
"""What a request's evidence proves of its container."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tallystick.authority.attest.meter import Metered
    from tallystick.authority.attest.verify import Attested


@dataclass(frozen=True, slots=True)
class Standing:
    """What is proven, by one piece of evidence or by all of them.

    Attributes:
        level: the assurance level, 0 to 3.
        remarks: warnings for the operator.
        attested: what a TPM says of the container, where it passed every check; None without a TPM.
        meters: counters of that TPM, offered for the units of licenses or counting them.
    """

    level: int = 0
    remarks: tuple[str, ...] = ()
    attested: Attested | None = None
    meters: tuple[Metered, ...] = ()
