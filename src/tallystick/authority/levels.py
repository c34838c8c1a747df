# SPDX-License-Identifier: Apache-2.0
"""The assurance level of a container, derived from the evidence in its request: a container never declares its own.

No evidence is taken on trust: without a verifier for it, by its name, it counts for nothing. What a verifier believes
is on the vendor's books (for dongles `factories`, for TPMs `tpm_beliefs`), never in this source.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from tallystick.authority import factories, metering, tpm_beliefs
from tallystick.authority.office import Work
from tallystick.authority.standing import Standing
from tallystick.license.device import EVIDENCE
from tallystick.license.messages import Request
from tallystick.license.meter import EVIDENCE as METERS

Verifier: TypeAlias = Callable[[Work, Request, bytes], Standing]
"""Given one piece of a request's evidence, returns what it proves."""

VERIFIERS: Final[Mapping[str, Verifier]] = {
    EVIDENCE: factories.examine,
    tpm_beliefs.EVIDENCE: tpm_beliefs.examine,
    METERS: metering.examine,
}


def derive(work: Work, request: Request) -> Standing:
    """Derive the level of the container that made a request.

    Args:
        work: the transaction.
        request: accepted: its signature proves the key it names.

    Returns:
        The highest level proven, all warnings for the operator, and what a TPM says.
    """
    found = [
        VERIFIERS[name](work, request, data) for name, data in sorted(request.evidence.items()) if name in VERIFIERS
    ]
    attested = next((one.attested for one in found if one.attested is not None), None)
    return Standing(
        max((one.level for one in found), default=0),
        tuple(remark for one in found for remark in one.remarks),
        attested,
        () if attested is None else tuple(meter for one in found for meter in one.meters),
    )
