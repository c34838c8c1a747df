# SPDX-License-Identifier: Apache-2.0
"""The assurance level of a container, derived from the evidence in its request: a container never declares its own.

No backend of this release can prove anything about where its keys live, and no evidence is taken on trust: without a
verifier for it, it counts for nothing. A backend that can prove more brings its verifier here, by the name of its
evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import sha256
from types import MappingProxyType
from typing import Final, TypeAlias

from tallystick.license.messages import Request

Verifier: TypeAlias = Callable[[bytes, bytes], int]
"""Given one piece of evidence and the challenge it must cover, returns the level it proves, 0 for none."""

VERIFIERS: Final[Mapping[str, Verifier]] = MappingProxyType({})


def derive(request: Request, verifiers: Mapping[str, Verifier] = VERIFIERS) -> int:
    """Derive the level of the container that made a request.

    Args:
        request: accepted: its signature proves the key it names.
        verifiers: by name of evidence.

    Returns:
        0 to 3.
    """
    challenge = sha256(request.challenge()).digest()
    return max(
        (verifiers[name](data, challenge) for name, data in request.evidence.items() if name in verifiers), default=0
    )
