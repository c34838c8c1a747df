# SPDX-License-Identifier: Apache-2.0
"""The assurance level of a container, derived from the evidence in its request: a container never declares its own.

No evidence is taken on trust: without a verifier for it, by its name, it counts for nothing. What a verifier believes
is on the vendor's books (for dongles `factories`, for TPMs `tpm_beliefs`, for YubiKeys `piv_beliefs`), never in this
source. Where no verifier has a say, `standing.unattested` tells the level.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from tallystick.authority import factories, metering, piv_beliefs, tpm_beliefs
from tallystick.authority.office import Work
from tallystick.authority.standing import Standing, unattested
from tallystick.license.device import EVIDENCE
from tallystick.license.messages import Request
from tallystick.license.meter import EVIDENCE as METERS

Verifier: TypeAlias = Callable[[Work, Request, bytes], Standing]
"""Given one piece of a request's evidence, returns what it proves. To believe another kind of token, write one and give
it a row in `VERIFIERS`.

It is called with the transaction that answers the request, the request, and the bytes under its name, at most 16384:
from anybody, so nothing in them is true before it was checked. The request's signature was verified: that its sender
has `Request.key` is proven, and nothing else about that key is. So a verifier must

- refuse evidence about another key than `Request.key`, and evidence that is not in its one form;
- where evidence can be made for one request, ask for `Request.challenge`; where it cannot, say why a copy is useless;
- take roots and advisories from the vendor's books through the transaction, never from its source or from evidence;
- return level 2 only for a key that cannot leave its token and whose maker is pinned, 3 only where the token keeps the
  account, too; what merely lacks a pin is level 1 with a remark that names the command that pins it;
- raise nothing for bad evidence: what is false counts as if it had not been sent (`standing.unattested`), with a remark
  that ends in the reason's name. It may raise ``malformed`` where the vendor's own books cannot be read;
- keep of what identifies a person or a device no more than a digest with the vendor's pepper, unless the vendor's
  settings say so. It may write to books of its own; the transaction ends with the answer.
"""

VERIFIERS: Final[Mapping[str, Verifier]] = {
    EVIDENCE: factories.examine,
    piv_beliefs.EVIDENCE: piv_beliefs.examine,
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
        max((one.level for one in found), default=unattested(request)),
        tuple(remark for one in found for remark in one.remarks),
        attested,
        () if attested is None else tuple(meter for one in found for meter in one.meters),
    )
