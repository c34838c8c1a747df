# SPDX-License-Identifier: Apache-2.0
"""Taking what containers send back: receipts, which prove, and repair requests, which only report.

A receipt is verified with the identity key the container proved when it asked for its licenses. *Installed* confirms an
update. *Emptied* states that a container gave everything away; it changes nothing. *Deactivated* frees the license's
slot, exactly once, and books what was used with the slot: the next license made from it has only the rest. The same
receipt again changes nothing and gives the same result. A repair request is unsigned: it is put on record as a case,
for a person to decide.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from tallystick.authority import metering
from tallystick.authority.containers import book, earliest, hear, highest
from tallystick.authority.office import Office, Work
from tallystick.authority.plain import counts, facts, one_line, to_json
from tallystick.authority.schema import CONTAINER, ENTITLEMENT, LICENSE, OUTBOX, RECEIPT, REPAIR_CASE
from tallystick.authority.sql import sa
from tallystick.codec import cose, kinds
from tallystick.codec.ident import container_id
from tallystick.codec.keys import PublicKey
from tallystick.container.view import read_repair_request
from tallystick.errors import TallystickError, error
from tallystick.exchange.identify import REPAIR, expect, identify
from tallystick.license.model import REVOKED
from tallystick.license.receipts import (
    ACCEPTED,
    DECLINED,
    EMPTIED,
    INSTALLED,
    PURPOSE_NAMES,
    RETURNED,
    Receipt,
    read_receipt,
)

BY_RECEIPT, BY_RELEASE = "receipt", "release"
_CASE_DIGITS: Final = 10


@dataclass(frozen=True, slots=True)
class ReceivedLicense:
    """What a receipt did to one license.

    Attributes:
        license_id: hexadecimal.
        entitlement: its entitlement.
        effect: ``installed``, ``freed``, or ``freed before``.
        used: units used in all, by counter; ``""`` is the license's own.
    """

    license_id: str
    entitlement: str
    effect: str
    used: dict[str, int]


@dataclass(frozen=True, slots=True)
class ReceiveResult:
    """What a receipt or repair request did.

    Attributes:
        kind: ``installed``, ``deactivated``, ``emptied`` or ``repair``.
        container: printed id of the container that sent it, or claims to have.
        text: one sentence for people.
        licenses: license by license.
        variables: device variables reported.
        repeated: it had been received before; nothing changed.
        case: id of the case a repair request is kept under.
        warnings: for the operator.
    """

    kind: str
    container: str
    text: str
    licenses: tuple[ReceivedLicense, ...] = ()
    variables: dict[str, str] | None = None
    repeated: bool = False
    case: str = ""
    warnings: tuple[str, ...] = ()


def receive(office: Office, message: bytes) -> ReceiveResult:
    """Take a receipt or a repair request.

    Args:
        office: whose.
        message: its bytes.

    Returns:
        What it did.

    Raises:
        FormatError: neither of them, by name; or malformed.
        AuthorityError: ``receipt_unknown``.
        VerificationError: ``bad_signature``, ``wrong_vendor``, ``wrong_container``.
        StorageError: the database refuses.
    """
    if identify(message) is REPAIR:
        fields = read_repair_request(message)
        return office.write(lambda work: _report(work, message, fields))
    expect(message, kinds.RECEIPT)
    _, claims = cose.peek(message)
    unverified = Receipt.from_claims(claims)
    if unverified.purpose in (ACCEPTED, RETURNED, DECLINED):
        remedy = "Import it into the container that lent or transferred: `tally import FILE`."
        raise error("wrong_kind", "this receipt is for the container that gave a grant", remedy)
    if unverified.vendor != office.vendor:
        raise error("wrong_vendor", f"this receipt is addressed to {unverified.vendor}; this is {office.vendor}")
    return office.write(lambda work: _take(work, message, unverified.container))


def free_slot(
    work: Work, row: sa.Row[Any], how: str, used: dict[str, int], first_use: dict[str, int], reason: str
) -> None:
    """Give a license's slot back, with what is left of it.

    Args:
        work: the transaction.
        row: of the license, which has its slot.
        how: BY_RECEIPT or BY_RELEASE.
        used: units used under it, by counter.
        first_use: when usage periods began, by counter.
        reason: told where the license comes up again.
    """
    book(work, row, used, first_use)
    changes = {"freed_at": work.now, "freed_by": how, "status": REVOKED, "reason": reason}
    changes |= {"used": to_json(used), "first_use": to_json(first_use)}
    work.update(LICENSE, {"id": row.id}, **changes)
    taken = work.one(ENTITLEMENT, "entitlement", id=row.entitlement).taken
    work.update(ENTITLEMENT, {"id": row.entitlement}, taken=taken - 1)


def _take(work: Work, message: bytes, claimed: bytes) -> ReceiveResult:
    known = work.find(CONTAINER, thumbprint=claimed)
    if known is None:
        raise error("receipt_unknown", f"no license was issued to {container_id(claimed)}, which signed this receipt")
    receipt = read_receipt(message, PublicKey.from_cose(known.identity))
    before = work.find(RECEIPT, container=claimed, id=receipt.message_id)
    if before is not None:
        content = facts(before.content)
        content["licenses"] = tuple(ReceivedLicense(**license_) for license_ in content["licenses"])
        return ReceiveResult(**content, variables=dict(receipt.variables), repeated=True)
    if receipt.purpose == INSTALLED:
        done = _installed(work, receipt)
    elif receipt.purpose == EMPTIED:
        done = []
    else:
        done = _deactivated(work, receipt)
    warnings = hear(work, known, receipt)
    kind, shown = PURPOSE_NAMES[receipt.purpose], container_id(claimed)
    ids = ", ".join(f"{row.license_id[:8]} {row.effect}" for row in done)
    content = {
        "kind": kind,
        "container": shown,
        "text": f"receipt of {shown}: {ids or 'no licenses'}",
        "licenses": done,
    }
    values = {"container": claimed, "id": receipt.message_id, "body": message, "purpose": receipt.purpose}
    work.insert(RECEIPT, **values, content=to_json(content), received_at=work.now)
    work.audit(
        f"receipt.{kind}", receipt.message_id.hex(), container=shown, licenses=done, variables=dict(receipt.variables)
    )
    return ReceiveResult(
        kind, shown, content["text"], tuple(done), variables=dict(receipt.variables), warnings=warnings
    )


def _installed(work: Work, receipt: Receipt) -> list[ReceivedLicense]:
    """The update it confirms must be one of ours, to this container; the counters are booked by `containers.hear`."""
    update = work.find(OUTBOX, id=receipt.about) if receipt.about else None
    if update is None or update.container != receipt.container:
        raise error("receipt_unknown", "this receipt confirms an update that was not made here")
    done = []
    for account in receipt.accounts:
        row = _own_license(work, receipt, account.license_id)
        used = highest(counts(row.used), account.used)
        effect = "installed" if row.freed_at is None else "freed before"
        done.append(ReceivedLicense(row.id.hex(), row.entitlement, effect, used))
    return done


def _deactivated(work: Work, receipt: Receipt) -> list[ReceivedLicense]:
    if not receipt.accounts:
        raise error("receipt_unknown", "this receipt gives no license up")
    done = []
    for account in receipt.accounts:
        row = _own_license(work, receipt, account.license_id)
        used = highest(counts(row.used), account.used)
        effect = "freed before"
        if row.freed_at is None:
            effect = "freed"
            used = metering.settled(work, row, used, receipt.given_back.get(row.id, ()))
            first_use = earliest(counts(row.first_use), account.first_use)
            free_slot(work, row, BY_RECEIPT, used, first_use, "given up by this container")
            work.audit("license.free", row.id.hex(), entitlement=row.entitlement, slot=row.slot, used=used)
        done.append(ReceivedLicense(row.id.hex(), row.entitlement, effect, used))
    return done


def _own_license(work: Work, receipt: Receipt, license_id: bytes) -> sa.Row[Any]:
    row = work.find(LICENSE, id=license_id)
    if row is None or row.container != receipt.container:
        raise _unknown(license_id)
    return row


def _unknown(license_id: bytes) -> TallystickError:
    return error(
        "receipt_unknown", f"license {license_id.hex()} was not issued to the container that signed this receipt"
    )


def open_case(work: Work, container: bytes, reason: str, body: bytes) -> str:
    """Put a case on record for a person to decide.

    Args:
        work: the transaction.
        container: thumbprint of the container it is about.
        reason: code.
        body: what is known of it; not on record yet.

    Returns:
        The case's id.
    """
    digest = sha256(body).digest()
    case = f"R-{digest.hex()[:_CASE_DIGITS].upper()}"
    values = {"id": case, "digest": digest, "container": container, "reason": reason}
    work.insert(REPAIR_CASE, **values, body=body, reported_at=work.now)
    return case


def _report(work: Work, message: bytes, fields: dict[str, Any]) -> ReceiveResult:
    shown, reason = container_id(fields["container"]), one_line(fields["reason"])[:64]
    known = work.find(REPAIR_CASE, digest=sha256(message).digest())
    text = f"{shown} is reported locked ({reason}); nothing in an unsigned report is proven"
    if known is not None:
        return ReceiveResult("repair", shown, text, repeated=True, case=known.id)
    case = open_case(work, fields["container"], reason, message)
    work.audit("repair.report", case, container=shown, reason=reason)
    warnings = () if work.find(CONTAINER, thumbprint=fields["container"]) else (f"no license was issued to {shown}",)
    return ReceiveResult("repair", shown, text, case=case, warnings=warnings)
