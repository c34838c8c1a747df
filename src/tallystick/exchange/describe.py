# SPDX-License-Identifier: Apache-2.0
"""One kind of message in words, for `exchange.inspect`: unverified claims in, half a `Report` out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from tallystick.codec.ident import container_id
from tallystick.exchange.describe_device import certified_lines, halt_lines, meter_lines, meter_plain, resync_lines
from tallystick.exchange.describe_lending import share_lines, want_lines
from tallystick.exchange.report import Report, container_named, vendor_named
from tallystick.exchange.words import (
    STATUS_NAMES,
    Line,
    code_redacted,
    counts,
    key_in_words,
    plain,
    summary,
    terms_in_words,
)
from tallystick.license.answers import Refusal, TimeToken, Update
from tallystick.license.dates import show
from tallystick.license.device import EVIDENCE
from tallystick.license.messages import ACTION_NAMES, Account, Request
from tallystick.license.model import License
from tallystick.license.receipts import ACCEPTED, DECLINED, EMPTIED, PURPOSE_NAMES, RETURNED, Receipt
from tallystick.license.status import StatusToken
from tallystick.license.trust import USES, KeySet

Claims = Mapping[int, Any]
_CONFIRMS: Final = {
    ACCEPTED: "a grant was imported",
    RETURNED: "a grant was given back, all or in part",
    DECLINED: "a grant is refused for good",
    EMPTIED: "nothing of the vendor may be used in this container, as of the instant it was made",
}


def describe_license(claims: Claims) -> Report:
    """Say what a license grants.

    Raises:
        FormatError: it cannot be read.
    """
    license_ = License.from_claims(claims)
    license_.require_complete()
    lines: list[Line] = [("product", _named(license_.product, license_.product_name))]
    if license_.licensee:
        lines.append(("licensee", license_.licensee))
    lines += [
        ("license", license_.license_id.hex()),
        ("issue", f"{license_.seq}, {show(license_.issued_at)}"),
        ("container", container_id(license_.container)),
    ]
    if license_.status:
        lines.append(("status", f"{STATUS_NAMES[license_.status]}: {license_.reason or 'no reason given'}"))
    lines += terms_in_words(license_.terms) or [("terms", "without limit")]
    lines += meter_lines(license_)
    lines += [(f"feature {name}", summary(license_.features[name])) for name in license_.features]
    lines += [("content key", name) for name in license_.content_keys]
    lines += [("protected data", f"{name}, {len(value)} bytes") for name, value in license_.protected_data.items()]
    if license_.entitlement:
        lines.append(("entitlement", license_.entitlement))
    return Report(
        "",
        0,
        vendor_named(license_.vendor),
        container_named(license_.container),
        "",
        tuple(lines),
        license_plain(license_),
    )


def license_plain(license_: License) -> dict[str, Any]:
    """Return a license in plain values; of sealed keys and protected data only the names.

    Args:
        license_: a license.

    Returns:
        ``{"vendor", "product", "product_name", "licensee", "license_id", "seq", "issued_at", "container", "status",
        "reason", "terms", "features", "content_keys", "protected_data", "entitlement", "meter"}``.
    """
    return {
        "vendor": license_.vendor,
        "product": license_.product,
        "product_name": license_.product_name,
        "licensee": license_.licensee,
        "license_id": license_.license_id.hex(),
        "seq": license_.seq,
        "issued_at": license_.issued_at,
        "container": license_.container.hex(),
        "status": STATUS_NAMES[license_.status],
        "reason": license_.reason,
        "terms": plain(license_.terms),
        "features": plain(license_.features),
        "content_keys": list(license_.content_keys),
        "protected_data": list(license_.protected_data),
        "entitlement": license_.entitlement,
        "meter": meter_plain(license_),
    }


def describe_request(claims: Claims) -> Report:
    """Say what a container asks for; the activation code is redacted.

    Raises:
        FormatError, VerificationError (``bad_key``): it cannot be read.
    """
    request = Request.from_claims(claims)
    action = ACTION_NAMES[request.action]
    lines: list[Line] = [("asks to", f"{action} {request.product}".strip())]
    lines += halt_lines(request)
    if request.want is not None:
        lines += want_lines(request.want)
    if request.code:
        lines.append(("activation code", code_redacted(request.code)))
    lines += [
        ("quantity", str(request.quantity)),
        ("made", show(request.created_at)),
        ("request", request.request_id.hex()),
        ("container", f"{container_id(request.key.thumbprint)} ({request.backend or 'backend not named'})"),
        ("identity key", key_in_words(request.key)),
        ("opens content", "no" if request.agreement_key is None else "yes"),
        ("evidence", ", ".join(f"{name}, {len(value)} bytes" for name, value in request.evidence.items()) or "none"),
        *certified_lines(request.evidence.get(EVIDENCE)),
        ("generation", str(request.generation)),
    ]
    lines += _accounts(request.accounts)
    lines += [(f"device variable {name}", value) for name, value in request.variables.items()]
    if request.software:
        lines.append(("made by", request.software))
    shown = plain(request.replace(code=code_redacted(request.code) if request.code else "", evidence={}))
    shown |= {"action": action, "evidence": {name: len(value) for name, value in request.evidence.items()}}
    sender = container_named(request.key.thumbprint)
    receiver = vendor_named(request.vendor)
    if request.want is not None:
        receiver = "any container" if request.want.lender is None else container_named(request.want.lender)
    return Report("", 0, sender, receiver, "", tuple(lines), shown)


def describe_receipt(claims: Claims) -> Report:
    """Say what a container confirms.

    Raises:
        FormatError: it cannot be read.
    """
    receipt = Receipt.from_claims(claims)
    purpose = PURPOSE_NAMES[receipt.purpose]
    lines: list[Line] = [
        ("confirms", _CONFIRMS.get(receipt.purpose, f"licenses {purpose}")),
        ("made", show(receipt.created_at)),
        ("receipt", receipt.message_id.hex()),
        ("container", container_id(receipt.container)),
    ]
    if receipt.about is not None:
        lines.append(("about exchange" if receipt.shares else "about update", receipt.about.hex()))
    lines += share_lines(receipt)
    lines += _accounts(receipt.accounts)
    lines += [(f"device variable {name}", value) for name, value in receipt.variables.items()]
    lines.append(("generation", str(receipt.generation)))
    shown = {**plain(receipt), "purpose": purpose}
    receiver = container_named(receipt.shares[0].giver) if receipt.shares else vendor_named(receipt.vendor)
    return Report("", 0, container_named(receipt.container), receiver, "", tuple(lines), shown)


def describe_update(claims: Claims, inner: Callable[[bytes], Report]) -> Report:
    """Say what an issuer sends, with the messages inside.

    Args:
        claims: of the update.
        inner: reports a message inside.

    Raises:
        FormatError: it cannot be read.
    """
    update = Update.from_claims(claims)
    carried = [*update.licenses, *(one for one in (update.keyset, update.status_list, update.time) if one is not None)]
    answers = "no request: it refreshes" if update.in_reply_to is None else update.in_reply_to.hex()
    lines: list[Line] = [
        ("signed at", show(update.issued_at)),
        ("update", update.message_id.hex()),
        ("answers request", answers),
        ("for container", container_id(update.container)),
        ("licenses", "sealed: only the container's TPM reads them" if update.sealed else str(len(update.licenses))),
        *resync_lines(update),
    ]
    if update.clock_reset:
        lines.append(("clock", f"resets the container's clock to {show(update.issued_at)}"))
    if update.note:
        lines.append(("note", update.note))
    shown = {
        "vendor": update.vendor,
        "issued_at": update.issued_at,
        "message_id": update.message_id.hex(),
        "container": update.container.hex(),
        "in_reply_to": plain(update.in_reply_to),
        "clock_reset": update.clock_reset,
        "note": update.note,
        "sealed": update.sealed is not None,
        "resync": plain(update.resync),
    }
    sender, receiver = vendor_named(update.vendor), container_named(update.container)
    return Report("", 0, sender, receiver, "", tuple(lines), shown, tuple(inner(message) for message in carried))


def describe_refusal(claims: Claims) -> Report:
    """Say why an issuer refuses.

    Raises:
        FormatError: it cannot be read.
    """
    refusal = Refusal.from_claims(claims)
    lines = (
        ("refuses request", refusal.in_reply_to.hex()),
        ("because", f"{refusal.message} ({refusal.code})"),
        ("remedy", refusal.remedy or "none given"),
        ("signed at", show(refusal.issued_at)),
        ("for container", container_id(refusal.container)),
    )
    sender, receiver = vendor_named(refusal.vendor), container_named(refusal.container)
    return Report("", 0, sender, receiver, "", lines, plain(refusal))


def describe_keyset(claims: Claims) -> Report:
    """Say which keys a vendor names.

    Raises:
        FormatError, VerificationError (``bad_key``): it cannot be read.
    """
    keyset = KeySet.from_claims(claims)
    lines: list[Line] = [("number", str(keyset.seq)), ("signed at", show(keyset.issued_at))]
    for record in keyset.keys:
        since = "" if record.not_before is None else f" from {show(record.not_before)}"
        until = "" if record.not_after is None else f" to {show(record.not_after)}"
        lines.append((f"{USES[record.use]} key", f"{key_in_words(record.key)}{since}{until}"))
    keys = [{**plain(record), "use": USES[record.use]} for record in keyset.keys]
    return Report(
        "", 0, vendor_named(keyset.vendor), "every container", "", tuple(lines), {**plain(keyset), "keys": keys}
    )


def describe_status(claims: Claims) -> Report:
    """Say what a status list covers.

    Raises:
        FormatError: it cannot be read.
    """
    token = StatusToken.from_claims(claims)
    entries = len(token.status_list.data) * 8 // token.status_list.bits
    lines = (("list", token.subject), ("signed at", show(token.issued_at)), ("entries", str(entries)))
    shown = {"subject": token.subject, "issued_at": token.issued_at, "entries": entries, "expires": token.expires}
    return Report("", 0, "", "every container", "", lines, shown)


def describe_time(claims: Claims) -> Report:
    """Say what time an issuer tells.

    Raises:
        FormatError: it cannot be read.
    """
    token = TimeToken.from_claims(claims)
    lines = (("time", show(token.issued_at)),)
    return Report("", 0, vendor_named(token.vendor), "every container", "", lines, plain(token))


def _accounts(accounts: Sequence[Account]) -> list[Line]:
    lines = []
    for account in accounts:
        used = f", used: {counts(account.used)}" if account.used else ""
        first = "".join(f", {name or 'license'} first used {show(at)}" for name, at in account.first_use.items())
        lines.append(("license", f"{account.license_id.hex()}, issue {account.seq}{used}{first}"))
    return lines


def _named(product: str, name: str) -> str:
    return f"{product} ({name})" if name else product
