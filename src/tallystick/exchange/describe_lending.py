# SPDX-License-Identifier: Apache-2.0
"""What containers send each other in words, for `exchange.inspect`: grants, moves, recalls, and what is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tallystick.codec import cose, kinds
from tallystick.codec.ident import container_id
from tallystick.exchange.loan_words import amounts_in_words
from tallystick.exchange.report import Report, container_named
from tallystick.exchange.words import Line, plain
from tallystick.license.dates import number_of, show, span
from tallystick.license.grants import Grant, Move, Recall
from tallystick.license.model import License
from tallystick.license.receipts import Receipt
from tallystick.license.want import Want

Claims = Mapping[int, Any]


def describe_grant(claims: Claims, inner: Callable[[bytes], Report]) -> Report:
    """Say what a grant gives, and what it comes from.

    Args:
        claims: of the grant.
        inner: reports a message inside.

    Raises:
        FormatError, VerificationError (``bad_key``): it cannot be read.
    """
    grant = Grant.from_claims(claims)
    source = _source(grant)
    divisible = source is None or source.terms.seats is not None
    lines: list[Line] = [
        ("gives", amounts_in_words(grant.amounts, divisible=divisible)),
        ("of", "a license that cannot be read" if source is None else source.product),
        ("features", "all" if grant.features is None else ", ".join(grant.features) or "none"),
        ("kind", "transfer, for good" if grant.ends is None else f"loan until {show(grant.ends)}"),
        ("made", show(grant.issued_at)),
        ("exchange", grant.xid.hex() + (f", extension {grant.seq}" if grant.seq else "")),
        ("answers request", grant.in_reply_to.hex()),
        ("vendor", grant.vendor),
    ]
    lines += [(f"{name or 'product'} first used", show(at)) for name, at in grant.first_use.items()]
    lines += [("content key", name) for name in grant.content_keys]
    shown = plain(grant.replace(parent=b"", keyset=None, content_keys={}))
    shown.pop("parent", None)
    shown["content_keys"] = list(grant.content_keys)
    giver, receiver = container_named(grant.giver.thumbprint), container_named(grant.receiver)
    return Report("", 0, giver, receiver, "", tuple(lines), shown, (inner(grant.parent),))


def describe_move(claims: Claims, inner: Callable[[bytes], Report]) -> Report:
    """Say what a move brings; raises as `describe_grant`."""
    move = Move.from_claims(claims)
    lines = (
        ("brings", number_of(len(move.grants), "grant")),
        ("made", show(move.issued_at)),
        ("move", move.message_id.hex()),
    )
    shown = {"issued_at": move.issued_at, "message_id": move.message_id.hex(), "grants": len(move.grants)}
    giver, receiver = container_named(move.giver.thumbprint), container_named(move.receiver)
    return Report("", 0, giver, receiver, "", lines, shown, tuple(inner(grant) for grant in move.grants))


def describe_recall(claims: Claims) -> Report:
    """Say what a recall asks back; raises as `describe_grant`."""
    recall = Recall.from_claims(claims)
    lines = (("asks back", recall.xid.hex()), ("made", show(recall.issued_at)), ("vendor", recall.vendor))
    giver, receiver = container_named(recall.giver.thumbprint), container_named(recall.receiver)
    return Report("", 0, giver, receiver, "", lines, plain(recall))


def want_lines(want: Want) -> list[Line]:
    """Say what is asked of another container."""
    lines: list[Line] = [
        ("wants", amounts_in_words(want.amounts) if want.amounts else "what the giver decides"),
        ("of", want.product or "anything"),
    ]
    if want.license_id is not None:
        lines.append(("license", want.license_id.hex()))
    if want.features is not None:
        lines.append(("features", ", ".join(want.features)))
    ends = f"loan of {span(want.duration)}" if want.duration else "loan or transfer, as the giver decides"
    lines.append(("kind", "transfer, for good" if want.transfer else ends))
    if want.count > 1:
        lines.append(("invites", f"up to {want.count} grants"))
    if want.lender is not None:
        lines.append(("asks only", container_id(want.lender)))
    return lines


def share_lines(receipt: Receipt) -> list[Line]:
    """Say what a receipt confirms of grants, one line each."""
    lines = []
    for share in receipt.shares:
        told = [f"returned {amounts_in_words(share.returned)}"] if any(share.returned.values()) else []
        told += [f"used {amounts_in_words(share.used)}"] if any(share.used.values()) else []
        told += ["nothing of it is held any more"] if share.final else []
        lines.append(("exchange", "; ".join([share.xid.hex(), *told])))
    return lines


def _source(grant: Grant) -> License | None:
    """Read the license a grant comes from, through the grants between; None where that is not possible."""
    message = grant.parent
    while cose.seems(message, kinds.GRANT):
        message = Grant.from_claims(cose.peek(message)[1]).parent
    if not cose.seems(message, kinds.LICENSE):
        return None
    return License.from_claims(cose.peek(message)[1])
