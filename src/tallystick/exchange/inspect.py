# SPDX-License-Identifier: Apache-2.0
"""What any Tallystick file says, who made it, for whom, and who must get it next. Nothing is verified here.

`inspect` decodes strictly and believes nothing: a `Report` repeats what a file claims. Activation codes are cut to
their first group, sealed keys and signatures are left out, so that a report may be pasted into a support case. Texts
are the file's own: whoever prints them strips control characters (rule R14).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from tallystick.codec import cose, kinds
from tallystick.codec.envelope import Content
from tallystick.codec.ident import container_id
from tallystick.codec.keys import ALGORITHMS
from tallystick.container.clear_header import read_clear_header
from tallystick.container.store_slot import parse as parse_slot
from tallystick.container.view import read_repair_request
from tallystick.errors import FormatError, TallystickError, VerificationError, error
from tallystick.exchange.describe import (
    describe_keyset,
    describe_license,
    describe_receipt,
    describe_refusal,
    describe_request,
    describe_status,
    describe_time,
    describe_update,
)
from tallystick.exchange.describe_device import describe_certificate
from tallystick.exchange.describe_lending import describe_grant, describe_move, describe_recall
from tallystick.exchange.identify import CONTENT, REPAIR, SNAPSHOT, identify, trust_of
from tallystick.exchange.report import Report, container_named, vendor_named
from tallystick.exchange.words import key_in_words, plain
from tallystick.license.dates import show

_BY_KIND: Final[Mapping[str, Callable[[Mapping[int, Any]], Report]]] = {
    kinds.LICENSE.name: describe_license,
    kinds.REQUEST.name: describe_request,
    kinds.RECEIPT.name: describe_receipt,
    kinds.REFUSAL.name: describe_refusal,
    kinds.KEYSET.name: describe_keyset,
    kinds.STATUS_LIST.name: describe_status,
    kinds.TIME.name: describe_time,
    kinds.RECALL.name: describe_recall,
    kinds.DEVICE.name: describe_certificate,
}
_NESTED: Final[Mapping[str, Callable[[Mapping[int, Any], Callable[[bytes], Report]], Report]]] = {
    kinds.UPDATE.name: describe_update,
    kinds.GRANT.name: describe_grant,
    kinds.MOVE.name: describe_move,
}


def inspect(data: bytes) -> Report:
    """Explain a file without trusting it.

    Args:
        data: its contents, armor taken off (`exchange.files.read_message`).

    Returns:
        The report. What a newer version added, or damage inside a well-formed message, is its `problem`.

    Raises:
        FormatError: ``malformed``, ``too_large`` or ``wrong_kind`` where it is no Tallystick file at all.
    """
    found = identify(data)
    if found.kind is not None:
        return _message(data)
    if found is CONTENT:
        key_id = Content(data).key_id
        lines = (("content key", key_id), ("size", f"{len(data)} bytes"))
        report = Report(
            found.name, len(data), "vendor", "licensed applications", lines=lines, claims={"key_id": key_id}
        )
    elif found is SNAPSHOT:
        report = _snapshot(data)
    elif found is REPAIR:
        report = _repair(data)
    else:
        report = _trust(data)
    return report.replace(next_step=found.next_step)


def _message(data: bytes) -> Report:
    header, claims = cose.peek(data)
    kind = header.kind
    signed = (("signed by key", f"{_algorithm(header.alg)} {header.kid.hex()[:16]}"),)
    try:
        if kind.name in _NESTED:
            report = _NESTED[kind.name](claims, _message)
        elif kind.name in _BY_KIND:
            report = _BY_KIND[kind.name](claims)
        else:
            problem = error("unsupported_version", f"this version does not read the contents of a {kind.name}")
            report = Report("", 0, problem=problem)
    except (FormatError, VerificationError) as problem:
        report = Report("", 0, problem=problem)
    sender = report.sender or (container_named(header.kid) if kind.use == "container" else "")
    return report.replace(
        what=kind.name,
        size=len(data),
        sender=sender,
        next_step=identify(data).next_step,
        lines=(*report.lines, *signed),
        claims={**report.claims, "alg": _algorithm(header.alg), "kid": header.kid.hex()},
    )


def _algorithm(number: int) -> str:
    return ALGORITHMS[number].name if number in ALGORITHMS else f"algorithm {number}"


def _snapshot(data: bytes) -> Report:
    try:
        slot = parse_slot("it", data)
        thumbprint, created, held, vendors = read_clear_header(slot.header)
    except TallystickError as cause:
        if isinstance(cause, FormatError):
            raise
        raise error("malformed", "this is a damaged snapshot of a container") from cause
    lines = [
        ("container", container_id(thumbprint)),
        ("created", show(created)),
        ("generation", str(slot.generation)),
        ("vendors", ", ".join(map(str, vendors)) or "none"),
    ]
    lines += [("held", f"{product} of {vendor} ({plain(key)})") for key, vendor, product in held]
    claims = {
        "container": thumbprint.hex(),
        "created_at": created,
        "generation": slot.generation,
        "vendors": plain(vendors),
        "licenses": [{"id": plain(key), "vendor": vendor, "product": product} for key, vendor, product in held],
    }
    holder = container_named(thumbprint)
    return Report(SNAPSHOT.name, len(data), holder, holder, lines=tuple(lines), claims=claims)


def _repair(data: bytes) -> Report:
    fields = read_repair_request(data)
    lines = [
        ("signed", "no: the container's key cannot be had"),
        ("container", container_id(fields["container"])),
        ("created", show(fields["created_at"])),
        ("reason", f"{fields['reason']}: {fields['message']}"),
    ]
    lines += [("held", ", ".join(str(plain(one)) for one in reversed(row))) for row in _rows(fields["licenses"])]
    lines += [("finding", f"{name}: {verdict}") for name, verdict in fields["findings"].items()]
    claims = {name: plain(value) for name, value in fields.items() if name != "type"}
    return Report(
        REPAIR.name, len(data), container_named(fields["container"]), "vendor", lines=tuple(lines), claims=claims
    )


def _rows(licenses: list[Any]) -> list[list[Any]]:
    return [row for row in licenses if isinstance(row, list)]


def _trust(data: bytes) -> Report:
    trust = trust_of(data)
    if trust is None:
        raise error("malformed", "this is not a trust text")
    lines = (("vendor", trust.vendor), ("root key", key_in_words(trust.root)))
    claims = {"vendor": trust.vendor, "root": plain(trust.root)}
    return Report("trust text", len(data), vendor_named(trust.vendor), "applications", lines=lines, claims=claims)
