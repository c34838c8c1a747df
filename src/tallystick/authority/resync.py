# SPDX-License-Identifier: Apache-2.0
"""Letting a container go on whose files and anchor parted.

What is granted is one state at one place of the anchor, as the container's own TPM certified it, or, for a container on
a token, whose anchor proves nothing to anybody, as the container says: who has its PIN could have made it say anything
without asking. What was used after that state was made is lost to the vendor but for what the container reported before
(and so is what it wrote since: its next message is compared with none, see `succession`), so there is a quota for each
container (settings ``resync_quota``, ``resync_days``), and each grant is in the audit log.

What counts against it is a place that a TPM certified, once however often it is asked about: the container's first
commit moves the counter on, and nothing brings it back there. On a token everything can be brought back, the place with
the state, so each request counts. A request that is only sent again, because its answer was lost, has its answer on
record and does not come here: containers keep what they asked until they or their anchor move.
"""

from __future__ import annotations

from typing import Final

from tallystick.authority.office import Work
from tallystick.authority.schema import CONTAINER
from tallystick.authority.schema_tpm import ATTESTED, RESYNC
from tallystick.authority.settings import RESYNC_DAYS, RESYNC_QUOTA, value_of
from tallystick.authority.sql import sa
from tallystick.authority.standing import TOKENS, Standing
from tallystick.authority.succession import forget
from tallystick.codec.ident import container_id
from tallystick.errors import error
from tallystick.license.mending import Resync
from tallystick.license.messages import Request

_DAY: Final = 86_400


def grant(work: Work, request: Request, standing: Standing) -> None:
    """Decide about a repair request, and book what is granted.

    Args:
        work: the transaction.
        request: accepted, of action REPAIR.
        standing: what its evidence proves.

    Raises:
        NotFoundError: ``license_not_found`` for a container nothing was issued to.
        AuthorityError: ``proof_failed`` without the TPM's own word, ``resync_quota``.
    """
    container, halt, attested = request.key.thumbprint, request.halt, standing.attested
    shown = container_id(container)
    known = work.find(CONTAINER, thumbprint=container)
    if known is None:
        raise error("license_not_found", f"no license was issued to {shown}", "Make an ordinary request.")
    if halt is None:
        raise error("proof_failed", "a repair request that does not say where the container stands")
    if attested is None:
        if request.backend != TOKENS or work.find(ATTESTED, container=container) is not None:
            remedy = "Make the request where the container's TPM is, with its endorsement hierarchy switched on."
            raise error("proof_failed", "a repair needs the word of the container's TPM about where it stands", remedy)
    elif (attested.counter, attested.chain) != (halt.counter, halt.chain):
        raise error("proof_failed", "the container says another place than its TPM does")
    place = {"counter": halt.counter, "digest": halt.digest}
    granted = work.db.execute(sa.select(RESYNC).where(RESYNC.c.container == container)).all()
    again = attested is not None and (halt.counter, halt.digest) in {(row.counter, row.digest) for row in granted}
    if not again:
        _require_quota(work, shown, [row.granted_at for row in granted])
        work.insert(RESYNC, container=container, request=request.request_id, **place, granted_at=work.now)
    forget(work, container)
    work.audit(
        "container.resync",
        shown,
        reason=halt.reason,
        attested=attested is not None,
        counted=not again,
        **place,
        state=halt.generation,
        account=request.generation,
        last_reported=known.generation,
    )


def granted(request: Request) -> Resync:
    """Return the leave to go on that a repair request asks for.

    Args:
        request: as `grant` took it.
    """
    if request.halt is None:
        raise error("proof_failed", "a repair request that does not say where the container stands")
    return Resync(request.halt.counter, request.halt.digest, request.halt.chain)


def _require_quota(work: Work, shown: str, granted: list[int]) -> None:
    days, quota = int(value_of(work, RESYNC_DAYS)), int(value_of(work, RESYNC_QUOTA))
    recent = sum(at > work.now - days * _DAY for at in granted)
    if recent >= quota:
        raise error(
            "resync_quota",
            f"{shown} was repaired {recent} times in {days} days, and {quota} are allowed",
            "Ask the vendor's support to look at it; then make a new repair request.",
        )
