# SPDX-License-Identifier: Apache-2.0
"""The assurance level of a container, derived from the evidence in its request: a container never declares its own.

No evidence is taken on trust: without a verifier for it, by its name, it counts for nothing. What a verifier believes
is on the vendor's books (for dongles: `factories`), never in this source.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from tallystick.authority import factories
from tallystick.authority.office import Work
from tallystick.license.device import EVIDENCE
from tallystick.license.messages import Request

Verifier: TypeAlias = Callable[[Work, Request, bytes], tuple[int, str]]
"""Given one piece of a request's evidence, returns the level it proves, 0 for none, and a warning for the operator."""

VERIFIERS: Final[Mapping[str, Verifier]] = {EVIDENCE: factories.examine}


def derive(work: Work, request: Request) -> tuple[int, tuple[str, ...]]:
    """Derive the level of the container that made a request.

    Args:
        work: the transaction.
        request: accepted: its signature proves the key it names.

    Returns:
        The level, 0 to 3, and warnings for the operator.
    """
    found = [
        VERIFIERS[name](work, request, data) for name, data in sorted(request.evidence.items()) if name in VERIFIERS
    ]
    return max((level for level, _ in found), default=0), tuple(warning for _, warning in found if warning)
