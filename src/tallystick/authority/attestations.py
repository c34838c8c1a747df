# SPDX-License-Identifier: Apache-2.0
"""What TPMs said of their containers, contact by contact, and whether it fits together.

Restoring the files of a container is seen by its TPM. Restoring a TPM together with them, a snapshot of a virtual
machine, is seen by nobody but here, at the next contact: counters and clocks of a TPM never go back, and one counter
never had two accounts. A container that breaks this is *rewound*: a case is put on record, and its requests are refused
until somebody settles it (`settle`); the newest reading counts then. A request that was merely overtaken by a later one
is refused alone.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from tallystick.authority.correspondence import thumbprints
from tallystick.authority.office import Office, Work
from tallystick.authority.plain import one_line, to_json
from tallystick.authority.receiving import open_case
from tallystick.authority.schema import CONTAINER
from tallystick.authority.schema_tpm import ATTESTED
from tallystick.authority.settings import KEEP_EK_CERTIFICATES, YES, value_of
from tallystick.authority.sql import sa
from tallystick.authority.standing import Standing
from tallystick.authority.succession import forget
from tallystick.authority.tpm_advisories import dotted
from tallystick.codec.ident import container_id
from tallystick.errors import TallystickError, error
from tallystick.license.messages import REPAIR, Request

if TYPE_CHECKING:
    from tallystick.authority.attest.verify import Attested

_EK: Final = b"tallystick endorsement key"
_SHOWN: Final[Mapping[str, str]] = MappingProxyType(
    {
        "counter": "its counter went back from {} to {}",
        "generation": "its account went back from state {} to {}",
        "resets": "its TPM was started {} times, and now {}",
        "restarts": "its TPM was resumed {} times, and now {}",
        "clock": "its TPM's clock went back from {} to {} ms",
    }
)


@dataclass(frozen=True, slots=True)
class AttestedContainer:
    """A container and what its TPM said last.

    Attributes:
        container: printed id.
        level: assurance level on the books; where it never got a license, that of its last evidence.
        manufacturer, model, firmware: of the TPM.
        counter, resets, restarts: as certified.
        clock: of the TPM, ms.
        certificate_kept: the certificate of its TPM is on the books.
        seen_at: seconds since 1970.
        rewound_at: since when it is taken for rewound; None where it is not.
        reason: why.
    """

    container: str
    level: int
    manufacturer: str
    model: str
    firmware: str
    counter: int
    clock: int
    resets: int
    restarts: int
    certificate_kept: bool
    seen_at: int
    rewound_at: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class Contact:
    """How a request fits to what was said before.

    Attributes:
        warnings: for the operator.
        refusal: why it is refused; None where nothing is wrong.
    """

    warnings: tuple[str, ...] = ()
    refusal: TallystickError | None = None


def compare(work: Work, request: Request, standing: Standing) -> Contact:
    """Compare what a container's TPM says with what it said last, and put it on record.

    Args:
        work: the transaction.
        request: accepted: its signature proves the key it names.
        standing: what its evidence proves.

    Returns:
        Warnings, and the refusal of a container that is rewound.
    """
    container, attested = request.key.thumbprint, standing.attested
    shown = container_id(container)
    known = work.find(ATTESTED, container=container)
    if attested is None:
        if known is None:
            return Contact()
        warning = f"{shown} proved its TPM before, and does not now: its level is L{standing.level}"
        return Contact((warning,), None if known.rewound_at is None else _rewound(known.reason))
    reading = _reading(work, request, standing, attested)
    if known is None:
        work.insert(ATTESTED, container=container, **reading, rewound_at=None, reason="")
        work.audit("container.attest", shown, level=standing.level, manufacturer=reading["manufacturer"])
        return Contact()
    reasons = _contradictions(known, reading, repair=request.action == REPAIR)
    if reasons and _overtaken(known, reading):
        message = f"this request is older than one of {shown} that was answered since"
        return Contact(refusal=error("container_rewound", message, "Make a new request: it is answered."))
    if known.rewound_at is not None:
        work.update(ATTESTED, {"container": container}, **reading)
        return Contact((f"{shown} is rewound, and not settled yet",), _rewound(known.reason))
    if not reasons:
        work.update(ATTESTED, {"container": container}, **reading)
        return Contact()
    reason = "; ".join(reasons)
    work.update(ATTESTED, {"container": container}, **reading, rewound_at=work.now, reason=reason)
    case = _open_case(work, request, known, reading, reason)
    work.audit("container.rewound", shown, case=case, reason=reason)
    hint = f"`tally vendor tpm settle {shown}` lets it go on"
    return Contact((f"{shown} was set back or exists twice: {reason} (case {case}; {hint})",), _rewound(reason))


def settle(office: Office, shown: str, reason: str = "") -> AttestedContainer:
    """Let a container that is rewound go on; its newest reading is what the next one is compared with.

    Args:
        office: whose.
        shown: its printed id, in any case, with or without hyphens.
        reason: kept in the audit log.

    Returns:
        The container.

    Raises:
        AuthorityError: ``record_not_found``, also for a container that is not rewound.
        StorageError: the database refuses.
    """
    ends = thumbprints(shown)

    def change(work: Work) -> AttestedContainer:
        row = None
        if ends is not None:
            row = work.db.execute(sa.select(ATTESTED).where(ATTESTED.c.container.between(*ends))).first()
        if row is None or row.rewound_at is None:
            raise error("record_not_found", f"no container {shown[:40]} is rewound", "See `tally vendor tpm list`.")
        clear(work, row.container, one_line(reason))
        return _shown(work, work.one(ATTESTED, "container", container=row.container))

    return office.write(change)


def clear(work: Work, container: bytes, reason: str) -> None:
    """Settle a container that is rewound, inside a transaction; one that is not stays as it is.

    Args:
        work: the transaction.
        container: its thumbprint.
        reason: kept in the audit log.
    """
    known = work.find(ATTESTED, container=container)
    if known is not None and known.rewound_at is not None:
        work.update(ATTESTED, {"container": container}, rewound_at=None, reason="")
        forget(work, container)
        work.audit("container.settle", container_id(container), was=known.reason, reason=reason)


def attested(office: Office, *, limit: int | None = None) -> tuple[AttestedContainer, ...]:
    """List the containers that proved a TPM, latest contact first.

    Args:
        office: whose.
        limit: how many at most.

    Raises:
        StorageError: the database cannot be read.
    """
    query = sa.select(ATTESTED).order_by(ATTESTED.c.seen_at.desc(), ATTESTED.c.container).limit(limit)
    return office.read(lambda work: tuple(_shown(work, row) for row in work.db.execute(query).all()))


def _reading(work: Work, request: Request, standing: Standing, attested: Attested) -> dict[str, Any]:
    """What is put on record. The endorsement key identifies a computer for ever: a digest without the pepper tells
    nobody which.
    """
    keep = value_of(work, KEEP_EK_CERTIFICATES) == YES
    return {
        "level": standing.level,
        "ek_digest": hmac.new(work.office.pepper, _EK + attested.machine, sha256).digest(),
        "manufacturer": one_line(attested.manufacturer),
        "model": one_line(attested.model),
        "firmware": dotted(attested.firmware),
        "counter": attested.counter,
        "chain": attested.chain,
        "clock": attested.clock,
        "resets": attested.resets,
        "restarts": attested.restarts,
        "generation": request.generation,
        "made_at": request.created_at,
        "seen_at": work.now,
        "ek_certificate": attested.ek_certificate or None if keep else None,
    }


def _contradictions(known: sa.Row[Any], reading: Mapping[str, Any], *, repair: bool) -> list[str]:
    """What cannot be true of one container that only went on. One that asks for repair says itself that its files are
    older than its TPM; what the TPM says counts all the same.
    """
    found = []
    if not hmac.compare_digest(known.ek_digest, reading["ek_digest"]):
        found.append("its TPM is another one")
    elif known.resets == reading["resets"]:
        found += _lower(known, reading, "restarts", "clock")
    else:
        found += _lower(known, reading, "resets")
    if known.counter == reading["counter"] and known.chain != reading["chain"]:
        found.append(f"its counter shows {known.counter} for two different accounts")
    return found + _lower(known, reading, "counter", *(() if repair else ("generation",)))


def _lower(known: sa.Row[Any], reading: Mapping[str, Any], *names: str) -> list[str]:
    before = known._mapping
    return [_SHOWN[name].format(before[name], reading[name]) for name in names if reading[name] < before[name]]


def _overtaken(known: sa.Row[Any], reading: Mapping[str, Any]) -> bool:
    """A request that was made before the last one and says so throughout: it came late. Whoever restores a container
    and sets its clock back gets no further than this: refused until the counter is past the last one.
    """
    before = known._mapping
    earlier = (known.resets, known.restarts, known.clock) >= (reading["resets"], reading["restarts"], reading["clock"])
    return (
        earlier
        and hmac.compare_digest(known.ek_digest, reading["ek_digest"])
        and all(reading[name] < before[name] for name in ("counter", "made_at"))
    )


def _rewound(reason: str) -> TallystickError:
    return error("container_rewound", f"this container was set back or exists twice: {reason}")


def _open_case(work: Work, request: Request, known: sa.Row[Any], reading: Mapping[str, Any], reason: str) -> str:
    names = ("counter", "chain", "clock", "resets", "restarts", "generation", "made_at", "seen_at")
    before = {name: known._mapping[name] for name in names}
    after = {name: reading[name] for name in names}
    facts = {"request": request.request_id, "reason": reason, "before": before, "after": after}
    return open_case(work, request.key.thumbprint, "container_rewound", to_json(facts).encode())


def _shown(work: Work, row: sa.Row[Any]) -> AttestedContainer:
    known = work.find(CONTAINER, thumbprint=row.container)
    return AttestedContainer(
        container_id(row.container),
        row.level if known is None else known.level,
        row.manufacturer,
        row.model,
        row.firmware,
        row.counter,
        row.clock,
        row.resets,
        row.restarts,
        row.ek_certificate is not None,
        row.seen_at,
        row.rewound_at,
        row.reason,
    )
