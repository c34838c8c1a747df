# SPDX-License-Identifier: Apache-2.0
"""What goes out to containers: updates and refusals, signed, and kept as sent.

Updates carry no status list: a container holds only licenses of its own, and what the vendor says of them, suspension
and revocation too, stands in the license messages themselves, which each answer brings up to date.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

from tallystick.authority.licensing import current_license, disbelieved, read_license
from tallystick.authority.office import Work
from tallystick.authority.plain import facts, to_json
from tallystick.authority.schema import LICENSE, OUTBOX, VENDOR
from tallystick.authority.sealing import is_sealed, may_leave, seal
from tallystick.authority.sql import sa
from tallystick.authority.standing import Standing
from tallystick.codec.ident import container_id
from tallystick.errors import TallystickError
from tallystick.exchange.words import STATUS_NAMES
from tallystick.license.answers import Refusal, TimeToken, Update
from tallystick.license.dates import span
from tallystick.license.mending import Resync
from tallystick.license.model import License

UPDATE, REFUSAL = "update", "refusal"


@dataclass(frozen=True, slots=True)
class SentLicense:
    """A license in an update.

    Attributes:
        license_id: hexadecimal.
        product: what for.
        seq: of the license.
        status: ``active``, ``suspended`` or ``revoked``.
    """

    license_id: str
    product: str
    seq: int
    status: str


@dataclass(frozen=True, slots=True)
class Sent:
    """A message for a container.

    Attributes:
        kind: ``update`` or ``refusal``.
        message: its bytes.
        message_id: hexadecimal.
        container: printed id of the container it is for.
        text: one sentence for people.
        licenses: in an update.
        withheld: ids of licenses that it would carry, had the container proven what they ask for; hexadecimal.
        code, remedy: of a refusal.
        clock_reset: it lowers the container's clock.
    """

    kind: str
    message: bytes
    message_id: str
    container: str
    text: str
    licenses: tuple[SentLicense, ...] = ()
    withheld: tuple[str, ...] = ()
    code: str = ""
    remedy: str = ""
    clock_reset: bool = False


def send_update(
    work: Work,
    container: bytes,
    licenses: Iterable[sa.Row[Any]],
    *,
    in_reply_to: bytes | None = None,
    clock_ahead: int = 0,
    standing: Standing | None = None,
) -> Sent:
    """Sign an update with the newest key set, the time and some licenses; sealed where its receiver has a TPM.

    Args:
        work: the transaction.
        container: thumbprint of the receiver.
        licenses: rows of the licenses it carries, brought up to date on the way; those signed by a key that the key
            set leaves out are added.
        in_reply_to: the request it answers.
        clock_ahead: seconds by which the container's clock is too far ahead; it is reset if not 0.
        standing: what the request it answers proves.

    Returns:
        The update; licenses that need more proof than there is are not in it.

    Raises:
        AuthorityError, VerificationError, StorageError, BackendError: a signing key cannot be used.
    """
    chosen = {row.id: row for row in licenses}
    chosen |= {row.id: row for row in disbelieved(work, active_licenses(work, container)) if row.id not in chosen}
    rows = [current_license(work, row) for row in chosen.values()]
    read = [read_license(row.message) for row in rows]
    leaves = may_leave(work, container, rows, read, standing)
    token = TimeToken(work.office.vendor, work.now, work.new_id()).sign(work.signer("time"))
    update = Update(
        vendor=work.office.vendor,
        issued_at=work.now,
        message_id=work.new_id(),
        container=container,
        in_reply_to=in_reply_to,
        keyset=work.one(VENDOR, "vendor", id=1).keyset,
        licenses=tuple(row.message for row in compress(rows, leaves)),
        time=token,
        clock_reset=clock_ahead > 0,
        note=f"This computer's clock was {span(clock_ahead)} ahead; licensed time is set right." if clock_ahead else "",
    )
    signed = seal(work, update, standing).sign(work.signer("license"))
    shown = [_shown(license_) for license_ in compress(read, leaves)]
    withheld = [license_.license_id.hex() for license_, goes in zip(read, leaves, strict=True) if not goes]
    text = _update_text(container, shown, len(withheld), is_sealed(standing))
    content = {"text": text, "licenses": shown, "withheld": withheld, "clock_reset": update.clock_reset}
    return _keep(work, update.message_id, container, UPDATE, signed, content)


def _shown(license_: License) -> SentLicense:
    return SentLicense(license_.license_id.hex(), license_.product, license_.seq, STATUS_NAMES[license_.status])


def _update_text(container: bytes, shown: Sequence[SentLicense], withheld: int, sealed: bool) -> str:
    named = ", ".join(f"{row.product} ({row.status})" if row.status != "active" else row.product for row in shown)
    text = f"update for {container_id(container)}: {named or 'no licenses'}"
    if withheld:
        text += f"; {withheld} withheld until its container proves more"
    return f"{text}; only its TPM opens it" if sealed else text


def send_resync(work: Work, container: bytes, resync: Resync, in_reply_to: bytes) -> Sent:
    """Sign an update that lets a container go on, and carries nothing else: it cannot open what is sealed now.

    Args:
        work: the transaction.
        container: thumbprint of the receiver.
        resync: the leave.
        in_reply_to: the request it answers.

    Returns:
        The update.

    Raises:
        AuthorityError, VerificationError, StorageError, BackendError: the license key cannot be used.
    """
    update = Update(
        vendor=work.office.vendor,
        issued_at=work.now,
        message_id=work.new_id(),
        container=container,
        in_reply_to=in_reply_to,
        keyset=work.one(VENDOR, "vendor", id=1).keyset,
        resync=resync,
    )
    signed = update.sign(work.signer("license"))
    text = f"repair for {container_id(container)}: it goes on from {resync.counter}, once"
    return _keep(work, update.message_id, container, UPDATE, signed, {"text": text})


def send_refusal(work: Work, container: bytes, in_reply_to: bytes, reason: TallystickError) -> Sent:
    """Sign a refusal.

    Args:
        work: the transaction.
        container: thumbprint of the receiver.
        in_reply_to: the request it answers.
        reason: why.

    Returns:
        The refusal.

    Raises:
        AuthorityError, VerificationError, StorageError, BackendError: the license key cannot be used.
    """
    refusal = Refusal(
        vendor=work.office.vendor,
        issued_at=work.now,
        message_id=work.new_id(),
        container=container,
        in_reply_to=in_reply_to,
        code=reason.code,
        message=reason.message,
        remedy=reason.remedy,
        keyset=work.one(VENDOR, "vendor", id=1).keyset,
    )
    text = f"refusal for {container_id(container)}: {reason.message}"
    signed = refusal.sign(work.signer("license"))
    content = {"text": text, "code": reason.code, "remedy": reason.remedy}
    return _keep(work, refusal.message_id, container, REFUSAL, signed, content)


def sent_again(row: sa.Row[Any]) -> Sent:
    """Return a message as it was sent.

    Args:
        row: of the outbox.
    """
    content = facts(row.content)
    return Sent(
        kind=row.kind,
        message=row.body,
        message_id=row.id.hex(),
        container=container_id(row.container),
        text=content["text"],
        licenses=tuple(SentLicense(**license_) for license_ in content.get("licenses", ())),
        withheld=tuple(content.get("withheld", ())),
        code=content.get("code", ""),
        remedy=content.get("remedy", ""),
        clock_reset=content.get("clock_reset", False),
    )


def active_licenses(work: Work, container: bytes) -> Sequence[sa.Row[Any]]:
    """Return the licenses a container has, oldest first.

    Args:
        work: the transaction.
        container: its thumbprint.
    """
    query = sa.select(LICENSE).where(LICENSE.c.container == container, LICENSE.c.freed_at.is_(None))
    return work.db.execute(query.order_by(LICENSE.c.issued_at, LICENSE.c.ordinal, LICENSE.c.id)).all()


def _keep(work: Work, key: bytes, container: bytes, kind: str, body: bytes, content: dict[str, Any]) -> Sent:
    values = {"id": key, "container": container, "kind": kind, "body": body, "content": to_json(content)}
    work.insert(OUTBOX, **values, sent_at=work.now)
    return sent_again(work.one(OUTBOX, "message", id=key))
