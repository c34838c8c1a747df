# SPDX-License-Identifier: Apache-2.0
"""COSE_Sign1 (RFC 9052) in the one shape Tallystick uses.

    message    = 18([protected, {}, payload, signature])
    protected  = << {1: alg, 4: kid, 16: typ} >>          exactly these three, deterministic
    kid        = 32-byte thumbprint of the signer's key     an index only: the key comes from the trusted ring
    payload    = << CWT claims >>

Because the shape is fixed, `cut` takes a message apart by position: no decoder runs over bytes whose signature has not
been verified. `Slices.to_be_signed` is the Sig_structure built from the very bytes received.
"""

from __future__ import annotations

from typing import Any, Final

from tallystick.codec import cbor
from tallystick.codec.kinds import BY_TYP, Kind, with_article
from tallystick.codec.signing import Signer
from tallystick.errors import error
from tallystick.record import Record

_PREFIX: Final = b"\xd2\x84"  # tag 18, array of four
_CONTEXT: Final = b"\x84\x6aSignature1"
_EMPTY: Final = b"\x40"
_HEADER_LABELS: Final = {1, 4, 16}
KID_BYTES: Final = 32
_HEAD: Final = 128  # bytes in which a protected header ends


class Header(Record):
    """A decoded protected header.

    Attributes:
        alg: COSE algorithm number.
        kid: thumbprint of the signer's key.
        kind: what the message is.
    """

    alg: int
    kid: bytes
    kind: Kind


def protected_header(alg: int, kid: bytes, kind: Kind) -> bytes:
    """Encode a protected header.

    Args:
        alg: COSE algorithm number.
        kid: 32 bytes, the signer's thumbprint.
        kind: what the message is.

    Returns:
        The bytes inside the byte string; a key ring compares them whole.
    """
    # {1: alg, 4: kid, 16: typ}, written out: one of these is made for every message read
    return b"".join((b"\xa3\x01", cbor.encode(alg), b"\x04\x58\x20", kid, b"\x10", cbor.encode(kind.typ)))


def sign(kind: Kind, claims: dict[int, Any], signer: Signer) -> bytes:
    """Sign claims.

    Args:
        kind: what the message is.
        claims: CWT claims (RFC 8392), see ``docs/format.md``.
        signer: whose key signs.

    Returns:
        The message.

    Raises:
        BackendError: the signer fails.
    """
    key = signer.public_key
    header = cbor.encode(protected_header(key.alg, key.thumbprint, kind))
    payload = cbor.encode(cbor.encode(claims))
    signature = signer.sign(_CONTEXT + header + _EMPTY + payload)
    return _PREFIX + header + b"\xa0" + payload + cbor.encode(signature)


def cut(message: bytes, limit: int = cbor.MAX_BYTES) -> tuple[bytes, bytes, bytes, bytes]:
    """Take a message apart by position.

    Args:
        message: the bytes received.
        limit: largest accepted size in bytes.

    Returns:
        ``(protected, payload, signature, to_be_signed)``.

    Raises:
        FormatError: ``too_large`` or ``malformed``.
    """
    if len(message) > limit:
        raise error(
            "too_large", f"{len(message)} bytes where at most {limit} are allowed", size=len(message), limit=limit
        )
    if message[:2] != _PREFIX:
        raise error("malformed", "not a COSE_Sign1 message")
    start, end = byte_string(message, 2)
    protected = message[start:end]
    head = message[2:end]
    if message[end : end + 1] != b"\xa0":
        raise error("malformed", "unprotected headers are not allowed")
    payload, signature, after = cut_rest(message, end + 1)
    return protected, payload, signature, b"".join((_CONTEXT, head, _EMPTY, message[end + 1 : after]))


def cut_rest(message: bytes, at: int) -> tuple[bytes, bytes, int]:
    """Take the second half of a message apart.

    Args:
        message: the bytes received.
        at: where the payload's head must be.

    Returns:
        Payload, signature, and where the payload ends.

    Raises:
        FormatError: ``malformed``.
    """
    start, after = byte_string(message, at)
    payload = message[start:after]
    start, end = byte_string(message, after)
    if end != len(message):
        raise error("malformed", "bytes after the message")
    return payload, message[start:end], after


def beginning(protected: bytes) -> tuple[bytes, bytes]:
    """Compute how a message with a known protected header begins, so that a key ring can compare it whole.

    Args:
        protected: the bytes inside the byte string.

    Returns:
        The bytes of a message up to its payload, and those of its Sig_structure up to the payload.
    """
    head = cbor.encode(protected)
    return _PREFIX + head + b"\xa0", _CONTEXT + head + _EMPTY


def header_of(protected: bytes) -> Header:
    """Decode a protected header strictly.

    Args:
        protected: the bytes inside the byte string.

    Returns:
        The header.

    Raises:
        FormatError: ``malformed`` for other labels or types, ``wrong_kind`` for a `typ` that is not ours.
    """
    labels = cbor.decode(protected, 256)
    if type(labels) is not dict or set(labels) != _HEADER_LABELS:
        raise error("malformed", "the protected header must hold algorithm, key id and type, nothing else")
    alg, kid, typ = labels[1], labels[4], labels[16]
    if type(alg) is not int or type(kid) is not bytes or len(kid) != KID_BYTES or type(typ) is not str:
        raise error("malformed", "a protected header field of the wrong type")
    kind = BY_TYP.get(typ)
    if kind is None:
        raise error("wrong_kind", "signed, but not a Tallystick message")
    return Header(alg, kid, kind)


def peek(message: bytes, limit: int = cbor.MAX_BYTES) -> tuple[Header, dict[int, Any]]:
    """Read a message without trusting it, to say what it is and whose.

    Args:
        message: the bytes received.
        limit: largest accepted size in bytes.

    Returns:
        The header and the claims, both unverified.

    Raises:
        FormatError: ``malformed``, ``wrong_kind`` or ``too_large``.
    """
    protected, payload, _, _ = cut(message, limit)
    header = header_of(protected)
    return header, claims_of(payload, limit)


def claims_of(payload: bytes, limit: int = cbor.MAX_BYTES) -> dict[int, Any]:
    """Decode claims strictly.

    Args:
        payload: the bytes inside the byte string.
        limit: largest accepted size in bytes.

    Returns:
        The claims.

    Raises:
        FormatError: ``malformed`` or ``too_large``.
    """
    claims = cbor.decode(payload, limit)
    if type(claims) is not dict:
        raise error("malformed", "claims must be a map")
    return claims


def seems(message: bytes, kind: Kind) -> bool:
    """Tell whether a message claims to be of a kind; whoever reads it finds out whether it is."""
    return message.find(kind.typ.encode(), 0, _HEAD) >= 0


def expect(header: Header, *kinds: Kind) -> None:
    """Refuse a message of another kind, by name.

    Args:
        header: of the message.
        kinds: what is wanted.

    Raises:
        FormatError: ``wrong_kind``, saying what it is, what is needed, and where it belongs.
    """
    if header.kind not in kinds:
        wanted = " or ".join(with_article(kind.name) for kind in kinds)
        raise error(
            "wrong_kind", f"this is {with_article(header.kind.name)}; {wanted} is needed here", header.kind.next_step
        )


def byte_string(data: bytes, at: int) -> tuple[int, int]:
    """Find the byte string whose head is at a position.

    Args:
        data: the bytes received.
        at: where the head must be.

    Returns:
        Start and end of its content; checked against what is there before anything is read.

    Raises:
        FormatError: ``malformed`` for another item, a head not in shortest form, or a length past the end.
    """
    head = data[at] if at < len(data) else 0
    if 0x40 <= head <= 0x57:
        start, size = at + 1, head - 0x40
    elif head == 0x58:
        start, size = at + 2, int.from_bytes(data[at + 1 : at + 2])
        if size < 24:
            raise error("malformed", "a length that is not in shortest form")
    elif head == 0x59:
        start, size = at + 3, int.from_bytes(data[at + 1 : at + 3])
        if size < 256:
            raise error("malformed", "a length that is not in shortest form")
    elif head == 0x5A:
        start, size = at + 5, int.from_bytes(data[at + 1 : at + 5])
        if size < 65536:
            raise error("malformed", "a length that is not in shortest form")
    else:
        raise error("malformed", "a byte string is missing")
    if start + size > len(data):
        raise error("malformed", "a byte string reaches past the end")
    return start, start + size
