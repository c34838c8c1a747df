# SPDX-License-Identifier: Apache-2.0
"""Answering requests. Every request gets one answer, an update or a signed refusal, and the same answer for ever.

Steps of `issue`:

(1) The request proves the key it names, and is addressed to this vendor. Else there is nobody to answer: an error.
(2) A request answered before: the stored answer, byte for byte.
(3) The rules of `_entitled`, reading only; what they refuse becomes a signed refusal.
(4) Activations are charged, one for each license the container does not have yet: by entitlement and container, never
    by request.
(5) The update carries the licenses asked for, those the container holds in an older form, and, revoked, those it still
    says it holds after it gave them up or they were released: it was restored from a copy.
(6) Request, answer, charge and audit lines are committed together, before the answer leaves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from tallystick.authority import levels
from tallystick.authority.code_records import by_code
from tallystick.authority.containers import meet
from tallystick.authority.exchanges import reconcile
from tallystick.authority.offers import Offer, resolve
from tallystick.authority.office import Office, Work
from tallystick.authority.outbox import Sent, active_licenses, send_refusal, send_update, sent_again
from tallystick.authority.plain import counts
from tallystick.authority.schema import ENTITLEMENT, LICENSE, OUTBOX, REQUEST, SLOT
from tallystick.authority.sql import sa
from tallystick.clock import JUMP_S
from tallystick.codec import kinds
from tallystick.codec.ident import container_id
from tallystick.errors import AuthorityError, ContainerError, NotLicensedError, VerificationError, error
from tallystick.exchange.identify import expect
from tallystick.license.dates import show
from tallystick.license.messages import ACTION_NAMES, BORROW, REFRESH, Request, read_request
from tallystick.license.model import ACTIVE

_REFUSALS: Final = (AuthorityError, NotLicensedError, ContainerError)
_NEW_REQUEST: Final = "Then make a new request: this one keeps its answer."


@dataclass(frozen=True, slots=True)
class IssueResult:
    """The answer to a request.

    Attributes:
        sent: the update or refusal.
        request_id: hexadecimal.
        entitlement: id of the entitlement it was about; empty for a refresh or a code that cannot be used.
        repeated: the request had been answered before; nothing changed.
        charged: how many activations it took.
        warnings: for the operator.
    """

    sent: Sent
    request_id: str
    entitlement: str = ""
    repeated: bool = False
    charged: int = 0
    warnings: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """``update`` or ``refusal``."""
        return self.sent.kind

    @property
    def message(self) -> bytes:
        """The answer's bytes."""
        return self.sent.message

    @property
    def text(self) -> str:
        """One sentence for people."""
        return self.sent.text


@dataclass(frozen=True, slots=True)
class _Decision:
    """What a request is entitled to: the licenses its container has of an entitlement, and how many it gets more."""

    entitlement: sa.Row[Any]
    held: Sequence[sa.Row[Any]]
    more: int


def issue(office: Office, message: bytes, *, offline: bool = True) -> IssueResult:
    """Answer a request.

    Args:
        office: whose.
        message: the request's bytes.
        offline: it came as a file, not over a connection.

    Returns:
        The answer; also where it is a refusal.

    Raises:
        FormatError: not a request, or malformed.
        AuthorityError: ``proof_failed``; ``key_missing``.
        VerificationError: ``wrong_vendor``; ``bad_key`` for a signing key of this vendor.
        StorageError, BackendError: the database or a key cannot be used.
    """
    expect(message, kinds.REQUEST)
    try:
        request = read_request(message)  # (1)
    except VerificationError as cause:
        raise error("proof_failed", f"this request does not prove its key: {cause.message}") from cause
    if request.action == BORROW:
        remedy = "Give it to the container that is to lend: `tally lend FILE`."
        raise error("wrong_kind", "this request asks another container for a loan or a transfer", remedy)
    if request.vendor != office.vendor:
        raise error("wrong_vendor", f"this request is addressed to {request.vendor}; this is {office.vendor}")
    office.unlock("license", "time")
    return office.write(lambda work: _answer(work, request, sha256(message).digest(), offline))


def _answer(work: Work, request: Request, digest: bytes, offline: bool) -> IssueResult:
    container = request.key.thumbprint
    known = work.find(REQUEST, container=container, id=request.request_id)
    if known is not None:  # (2)
        if known.digest != digest:
            raise error("proof_failed", "another request with this id was answered before")
        sent = sent_again(work.one(OUTBOX, "message", id=known.answer))
        return IssueResult(sent, request.request_id.hex(), known.entitlement, repeated=True)
    level, remarks = levels.derive(work, request)
    try:
        if request.action == REFRESH:
            decision = None
            _require_licenses(work, request)
        else:
            decision = _entitled(work, request, offline, level)  # (3)
    except _REFUSALS as reason:
        sent = send_refusal(work, container, request.request_id, reason)
        _record(work, request, digest, sent, "")
        return IssueResult(sent, request.request_id.hex(), warnings=remarks + reconcile(work, request))
    warnings = remarks + meet(work, request, level)
    if decision is not None:
        _charge(work, request, decision)  # (4)
    key = "" if decision is None else decision.entitlement.id
    ahead = request.created_at - work.now
    clock_ahead = ahead if ahead > JUMP_S else 0
    licenses, missing = _due(work, request, key)  # (5)
    sent = send_update(work, container, licenses, in_reply_to=request.request_id, clock_ahead=clock_ahead)
    _record(work, request, digest, sent, key)
    charged = 0 if decision is None else decision.more
    return IssueResult(sent, request.request_id.hex(), key, charged=charged, warnings=(*warnings, *missing))


def _require_licenses(work: Work, request: Request) -> None:
    """A refresh is for containers that have something to refresh."""
    held = sa.select(LICENSE.c.id).where(LICENSE.c.container == request.key.thumbprint).limit(1)
    if work.db.execute(held).one_or_none() is None:
        shown = container_id(request.key.thumbprint)
        raise error(
            "license_not_found", f"no license was issued to {shown}", "Activate first, with an activation code."
        )


def _entitled(work: Work, request: Request, offline: bool, level: int) -> _Decision:
    """Decide, reading only. The code comes first: who has none learns nothing else."""
    row = by_code(work, request.code)
    if request.product and request.product != row.product:
        raise error("wrong_product", f"the code is for {row.product}, not for {request.product}")
    offer = Offer.from_bytes(row.offer)
    if offline and not offer.terms.offline:
        raise error("offline_denied", f"{row.product} may not be activated by file")
    if level < offer.terms.min_level:
        raise error(
            "level_too_low", f"{row.product} needs a container of level L{offer.terms.min_level}; this is L{level}"
        )
    expires = resolve(offer, work.now, {}, {}).terms.expires
    if expires is not None and expires <= work.now:
        raise error(
            "expired", f"what this code is for ended {show(expires)}", "Ask the vendor's sales desk for a renewal."
        )
    query = sa.select(LICENSE).filter_by(entitlement=row.id, container=request.key.thumbprint)
    held = work.db.execute(query.where(LICENSE.c.freed_at.is_(None)).order_by(LICENSE.c.ordinal)).all()
    more = max(0, max(1, request.quantity) - len(held))
    if more > row.quantity - row.taken:
        asked = f"; {more} asked" if more > 1 else ""
        message = f"{row.taken} of {row.quantity} activations of this code are in use{asked}"
        remedy = f"Deactivate one and send its receipt, or buy more. {_NEW_REQUEST}"
        raise error("quantity_exhausted", message, remedy)
    return _Decision(row, held, more)


def _charge(work: Work, request: Request, decision: _Decision) -> None:
    """Take slots and make a license for each: slots given back first, with what is left of them, then new ones."""
    key, container = decision.entitlement.id, request.key.thumbprint
    if not decision.more:
        return
    work.update(ENTITLEMENT, {"id": key}, taken=decision.entitlement.taken + decision.more)
    free = set(range(max(1, request.quantity))) - {row.ordinal for row in decision.held}
    for ordinal, slot in zip(sorted(free), _slots(work, decision), strict=False):
        offer = resolve(Offer.from_bytes(slot.offer), work.now, counts(slot.used), counts(slot.first_use))
        license_id = work.new_id()
        work.insert(
            LICENSE,
            id=license_id,
            entitlement=key,
            slot=slot.number,
            container=container,
            ordinal=ordinal,
            offer=offer.to_bytes(),
            seq=0,
            message=b"",
            agreement=None,
            status=ACTIVE,
            reason="",
            issued_at=work.now,
            installed_at=None,
            used="{}",
            first_use="{}",
            freed_at=None,
            freed_by="",
        )
        work.audit(
            "license.issue", license_id.hex(), entitlement=key, slot=slot.number, container=container_id(container)
        )


def _slots(work: Work, decision: _Decision) -> Sequence[sa.Row[Any]]:
    key = decision.entitlement.id
    last = work.db.execute(sa.select(sa.func.max(SLOT.c.number)).where(SLOT.c.entitlement == key)).scalar() or 0
    found: list[sa.Row[Any]] = []
    if last > decision.entitlement.taken:  # some were given back; looking for them takes as long as there are slots
        busy = sa.select(LICENSE.c.slot).where(LICENSE.c.entitlement == key, LICENSE.c.freed_at.is_(None))
        given_back = sa.select(SLOT).where(SLOT.c.entitlement == key, SLOT.c.number.not_in(busy))
        found += work.db.execute(given_back.order_by(SLOT.c.number).limit(decision.more))
    for number in range(last + 1, last + 1 + decision.more - len(found)):
        values = {"entitlement": key, "number": number, "offer": decision.entitlement.offer}
        work.insert(SLOT, **values, used="{}", first_use="{}")
        found.append(work.one(SLOT, "slot", entitlement=key, number=number))
    return found


def _due(work: Work, request: Request, entitlement: str) -> tuple[list[sa.Row[Any]], tuple[str, ...]]:
    """The licenses an answer carries, and warnings about those the container had and has no more."""
    container = request.key.thumbprint
    said = {account.license_id: account.seq for account in request.accounts}
    due, warnings = [], []
    for row in active_licenses(work, container):
        gone = row.id not in said and row.installed_at is not None
        if gone:
            warnings.append(
                f"{container_id(container)} does not hold license {row.id.hex()} any more, but never proved to have "
                "given it up: ask for its receipt"
            )
        asked = request.action == REFRESH and not gone
        if asked or row.entitlement == entitlement or said.get(row.id, row.seq) < row.seq:
            due.append(row)
    for license_id in said:
        freed = work.find(LICENSE, id=license_id)
        if freed is not None and freed.container == container and freed.freed_at is not None:
            due.append(freed)  # REVOKED since; a container that gave it up, and asked before it did, passes it over
    return due, tuple(warnings)


def _record(work: Work, request: Request, digest: bytes, sent: Sent, entitlement: str) -> None:
    values: dict[str, Any] = {"container": request.key.thumbprint, "id": request.request_id, "digest": digest}
    values |= {"action": request.action, "entitlement": entitlement, "answer": bytes.fromhex(sent.message_id)}
    work.insert(REQUEST, **values, received_at=work.now)
    work.audit(
        f"request.{'refuse' if sent.code else 'answer'}",
        request.request_id.hex(),
        action=ACTION_NAMES[request.action],
        container=sent.container,
        entitlement=entitlement,
        answer=sent.message_id,
        code=sent.code,
    )
