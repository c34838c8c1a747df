# SPDX-License-Identifier: Apache-2.0
"""What a request's evidence proves of its container."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tallystick.license.messages import Request

if TYPE_CHECKING:
    from tallystick.authority.attest.meter import Metered
    from tallystick.authority.attest.verify import Attested

TOKENS: Final = "pkcs11"  # the scheme of containers in tokens


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


def unattested(request: Request) -> int:
    """Return the level of a container that proves nothing of what holds its key.

    A container in a token has level 1, always, whatever the token claims about itself: SoftHSM claims everything, and
    so may a file. Level 1 promises no more than that: a key kept as well as whoever made the request chose to keep it.

    Args:
        request: accepted: its signature proves the key it names.
    """
    return 1 if request.backend == TOKENS else 0
