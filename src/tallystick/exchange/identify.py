# SPDX-License-Identifier: Apache-2.0
"""What a file is, by parsing and never by its name.

| begins with | is |
|---|---|
| ``d2 84`` | a signed message; its protected header says of which kind |
| ``83`` | encrypted content |
| ``TLYS`` | a snapshot of a container's state |
| a map with ``type`` | a repair request |
| ``tallytrust:`` | a vendor's trust text |
"""

from __future__ import annotations

from typing import Final

from tallystick.codec import cbor, cose, kinds
from tallystick.codec.envelope import Content
from tallystick.codec.kinds import Kind
from tallystick.container.view import REPAIR_TYPE, read_repair_request
from tallystick.errors import TallystickError, error
from tallystick.license.messages import BORROW
from tallystick.license.receipts import ACCEPTED, DECLINED, EMPTIED, RETURNED
from tallystick.license.trust import TRUST_PREFIX, Trust
from tallystick.record import Record

MAX_TRUST_BYTES: Final = 8192
_MESSAGE: Final = b"\xd2\x84"
_SNAPSHOT: Final = b"TLYS"
_CONTENT: Final = b"\x83"
_MAPS: Final = frozenset(range(0xA0, 0xB8))  # CBOR maps of up to 23 entries


class Found(Record):
    """What a file is.

    Attributes:
        name: the word people use.
        next_step: what to do with it.
        kind: row of the table of kinds, for signed messages.
    """

    name: str
    next_step: str
    kind: Kind | None = None


CONTENT: Final = Found("encrypted content", "The licensed application opens it; there is nothing to import.")
SNAPSHOT: Final = Found("container snapshot", "It belongs into its container's folder and never leaves it.")
REPAIR: Final = Found(kinds.REPAIR.name, kinds.REPAIR.next_step)  # without a kind: it is no signed message
TRUST: Final = Found(
    "trust text", "An application pins it; on the command line pass it as `--trust` when a request is made."
)

BORROW_REQUEST: Final = Found(
    "request to borrow", "Give it to the container that is to lend: `tally lend FILE`, or `tally transfer FILE`.",
    kinds.REQUEST,
)  # fmt: skip
SHARE_RECEIPT: Final = Found(
    "receipt for a lender", "Import it into the container that gave the grant: `tally import FILE`.", kinds.RECEIPT,
)  # fmt: skip
STATEMENT: Final = Found(
    "statement of emptiness", "Keep it, or send it to the vendor it names; `tally verify FILE` tests it.",
    kinds.RECEIPT,
)  # fmt: skip
_ACTION: Final = -65553  # of a request, see `license.messages`
_PURPOSE: Final = -65585  # of a receipt, see `license.receipts`

# What people pick by mistake -> what to do instead.
_FOREIGN: Final = (
    (b"\x89PNG", "a picture", "Scan the QR code in it and paste the text the scanner shows."),
    (b"\xff\xd8\xff", "a picture", "Scan the QR code in it and paste the text the scanner shows."),
    (b"%PDF", "a PDF document", "Copy the whole text block with both dashed lines out of it."),
    (b"PK\x03\x04", "an archive", "Unpack it first."),
    (b"\x1f\x8b", "an archive", "Unpack it first."),
    (b"-----BEGIN", "a PEM file", "A Tallystick block begins with `-----BEGIN TALLYSTICK`."),
    (b"SQLite format 3", "a database", "Ask the sender for the file again."),
)


def identify(data: bytes) -> Found:
    """Tell what bytes are, without trusting them.

    Args:
        data: a file's contents, armor taken off (`exchange.files.read_message`).

    Returns:
        What it is.

    Raises:
        FormatError: ``malformed``, ``too_large``, ``wrong_kind`` for a signed message of another system.
        VerificationError: never for its contents: nothing is verified here.
    """
    if data.startswith(_MESSAGE):
        return _message(data)
    if data.startswith(_SNAPSHOT):
        return SNAPSHOT
    if data.startswith(_CONTENT):
        Content(data)
        return CONTENT
    if _names_repair(data):
        return REPAIR
    if trust_of(data) is not None:
        return TRUST
    for magic, name, remedy in _FOREIGN:
        if data.startswith(magic):
            raise error("malformed", f"this is {name}, not a Tallystick file", remedy)
    raise error("malformed", "this is not a Tallystick file")


def expect(data: bytes, *kinds: Kind) -> Kind:
    """Refuse what is not a message of the kinds wanted, by name.

    Args:
        data: a file's contents.
        kinds: what is wanted.

    Returns:
        The kind it is.

    Raises:
        FormatError: ``wrong_kind`` saying what it is, what is needed and where it belongs; else as `identify`.
    """
    found = identify(data)
    if found.kind is None or found.kind not in kinds:
        wanted = " or ".join(with_article(kind.name) for kind in kinds)
        message = f"this is {with_article(found.name)}; {wanted} is needed here"
        raise error("wrong_kind", message, found.next_step, found=found.name, wanted=[kind.name for kind in kinds])
    return found.kind


def trust_of(data: bytes) -> Trust | None:
    """Read bytes as a trust text.

    Args:
        data: a file's contents.

    Returns:
        The trust; None for anything else.
    """
    if len(data) > MAX_TRUST_BYTES or not data.strip().startswith(f"{TRUST_PREFIX}:".encode()):
        return None
    try:
        return Trust.from_text(data.decode("ascii"))
    except (UnicodeDecodeError, TallystickError):
        return None


def with_article(name: str) -> str:
    """Put ``a`` or ``an`` before a name, nothing before what cannot be counted."""
    return name if name == CONTENT.name else kinds.with_article(name)


def _message(data: bytes) -> Found:
    kind = cose.header_of(cose.cut(data)[0]).kind
    if kind in (kinds.REQUEST, kinds.RECEIPT):
        try:
            claims = cose.peek(data)[1]
        except TallystickError:  # damaged inside: whoever reads on says how
            claims = {}
        if kind is kinds.REQUEST and claims.get(_ACTION) == BORROW:
            return BORROW_REQUEST
        if kind is kinds.RECEIPT and claims.get(_PURPOSE) in (ACCEPTED, RETURNED, DECLINED):
            return SHARE_RECEIPT
        if kind is kinds.RECEIPT and claims.get(_PURPOSE) == EMPTIED:
            return STATEMENT
    return Found(kind.name, kind.next_step, kind)


def _names_repair(data: bytes) -> bool:
    if not data or data[0] not in _MAPS:
        return False
    try:
        fields = cbor.decode(data)
    except TallystickError:
        return False
    if fields.get("type") != REPAIR_TYPE:
        return False
    read_repair_request(data)
    return True
