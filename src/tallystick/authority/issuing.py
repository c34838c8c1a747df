# SPDX-License-Identifier: Apache-2.0
"""Answering requests. Every request gets one answer, an update or a signed refusal, and the same answer for ever.

Steps of `issue`:

(1) The request proves the key it names, and is addressed to this vendor. Else there is nobody to answer: an error.
(2) A request answered before: the stored answer, byte for byte.
(3) Its evidence is examined (`levels`), and what a TPM says is compared with what it said last (`attestations`).
(4) The rules of `_decided`, reading only; what they refuse, and a container that is rewound, gets a signed refusal. A
    repair (`resync`) is answered by leave to go on, and by nothing else.
(5) Activations are charged, one for each license the container does not have yet (`charging`).
(6) The update carries the licenses asked for, those the container holds in an older form, and, revoked, those it still
    says it holds after it gave them up or they were released: it was restored from a copy. What it holds in a newer
    form than the books know, it keeps: they were `restored`. `outbox` leaves out what needs more proof, and seals it
    where the container has a TPM.
(7) Request, answer, charge and audit lines are committed together, before the answer leaves.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from tallystick.authority import levels, lost_meters, metering, resync
from tallystick.authority.attestations import compare
from tallystick.authority.charging import Decision, charge, entitled, require_licenses
from tallystick.authority.containers import meet, overhear
from tallystick.authority.exchanges import reconcile
from tallystick.authority.office import Office, Work
from tallystick.authority.outbox import Sent, active_licenses, send_refusal, send_resync, send_update, sent_again
from tallystick.authority.restored import stays
from tallystick.authority.schema import LICENSE, OUTBOX, REQUEST
from tallystick.authority.sql import sa
from tallystick.authority.standing import Standing
from tallystick.clock import JUMP_S
from tallystick.codec import kinds
from tallystick.codec.ident import container_id
from tallystick.errors import AuthorityError, ContainerError, NotLicensedError, VerificationError, error
from tallystick.exchange.identify import expect
from tallystick.license.messages import ACTION_NAMES, BORROW, REFRESH, REPAIR, Request, read_request

_REFUSALS: Final = (AuthorityError, NotLicensedError, ContainerError)


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
    standing = levels.derive(work, request)
    contact = compare(work, request, standing)  # (3)
    remarks = standing.remarks + contact.warnings
    try:
        if contact.refusal is not None:
            raise contact.refusal
        decision = _decided(work, request, offline, standing)  # (4)
    except _REFUSALS as reason:
        sent = send_refusal(work, container, request.request_id, reason)
        _record(work, request, digest, sent, "")
        if contact.refusal is None:  # a rewound container is on record as such
            remarks += overhear(work, request)
        return IssueResult(sent, request.request_id.hex(), warnings=remarks + reconcile(work, request))
    warnings = remarks + meet(work, request, standing.level)
    if decision is not None:
        charge(work, request, decision)  # (5)
    warnings += metering.take_values(work, request, standing)
    metering.assign(work, request, standing)
    warnings += lost_meters.missing(work, request, standing)
    key = "" if decision is None else decision.entitlement.id
    ahead = request.created_at - work.now
    clock_ahead = ahead if ahead > JUMP_S else 0
    if request.action == REPAIR:
        sent = send_resync(work, container, resync.granted(request), request.request_id)
        _record(work, request, digest, sent, "")
        return IssueResult(sent, request.request_id.hex(), warnings=warnings)
    licenses, missing = _due(work, request, key)  # (6)
    sent = send_update(
        work, container, licenses, in_reply_to=request.request_id, clock_ahead=clock_ahead, standing=standing
    )
    _record(work, request, digest, sent, key)
    charged = 0 if decision is None else decision.more
    return IssueResult(sent, request.request_id.hex(), key, charged=charged, warnings=(*warnings, *missing))


def _decided(work: Work, request: Request, offline: bool, standing: Standing) -> Decision | None:
    """What the request gets by its action; None: what its container has already."""
    if request.action == REFRESH:
        require_licenses(work, request)
        return None
    if request.action == REPAIR:
        resync.grant(work, request, standing)
        return None
    return entitled(work, request, offline, standing)


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
        if stays(work, row, said.get(row.id)):
            continue
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
