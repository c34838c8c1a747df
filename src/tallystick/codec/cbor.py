# SPDX-License-Identifier: Apache-2.0
"""Deterministic CBOR (RFC 8949, 4.2.1), strict at the trust boundary.

Accepted: integers of 64 bits, byte and text strings, arrays, maps with integer, text or byte keys, false, true, null;
definite lengths, shortest form, keys sorted bytewise and unique, nesting up to 16. Nothing else: no floats, no tags
(the one tag of a COSE message is cut off by `codec.cose`), no undefined, no trailing bytes. One rule makes it so: what
was decoded must encode to the very bytes received.

`cbor2` does the work; every tag it would interpret is overridden, because by default it builds regular expressions,
MIME messages and cyclic objects from hostile input (observed with 6.2.1).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final, NoReturn, TypeAlias

import cbor2

from tallystick.errors import error

Value: TypeAlias = Any
"""int | bytes | str | bool | None | list[Value] | dict[int | str | bytes, Value]"""

MAX_BYTES: Final = 1 << 20  # 1 MiB: larger than any message; R1 of the threat notes
MAX_DEPTH: Final = 16
_UINT64: Final = (1 << 64) - 1
_INT64_MIN: Final = -(1 << 64)

# Every tag for which cbor2 6.2 has a decoder of its own (its documentation, "Tag support"); all others reach the tag
# hook.
_KNOWN_TAGS: Final = (
    *range(6), *range(21, 31), *range(32, 38), 43, 52, 54, *range(64, 88), 100, 101, 256, 258, 260, 261, 1004, 1040,
    43000, 55799, 55800,
)  # fmt: skip


def _refuse(*_: object) -> NoReturn:
    raise error("malformed", "a CBOR tag where none is allowed")


_REFUSE_TAGS: Final = dict.fromkeys(_KNOWN_TAGS, _refuse)


def encode(value: Value) -> bytes:
    """Encode deterministically.

    Args:
        value: integers, strings, arrays (lists or tuples) and maps as the module describes.

    Returns:
        The only valid encoding.

    Raises:
        TypeError: the value has a type or a map key outside the profile (a defect of the caller).
    """
    return cbor2.dumps(_ordered(value))


def decode(data: bytes, limit: int = MAX_BYTES) -> Value:
    """Decode bytes nobody vouches for.

    Args:
        data: one CBOR item, nothing after it.
        limit: largest accepted size in bytes.

    Returns:
        The value.

    Raises:
        FormatError: ``too_large`` or ``malformed``.
    """
    if len(data) > limit:
        raise error("too_large", f"{len(data)} bytes where at most {limit} are allowed", size=len(data), limit=limit)
    try:
        value = cbor2.loads(
            data,
            semantic_decoders=_REFUSE_TAGS,
            tag_hook=_refuse,
            max_depth=MAX_DEPTH,
            allow_indefinite=False,
            allow_duplicate_keys=False,
        )
        exact = encode(value) == data
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError, MemoryError) as cause:
        raise error("malformed", "not deterministic CBOR") from cause
    if not exact:
        raise error("malformed", "CBOR that is not in its one deterministic form")
    return value


def decode_trusted(data: bytes) -> Value:
    """Decode bytes whose signature by a trusted key, or whose authenticated encryption, has been verified.

    Args:
        data: one CBOR item.

    Returns:
        The value; the encoder was ours or the issuer's, so the form is not checked again.

    Raises:
        FormatError: ``malformed`` (the signer's defect).
    """
    try:
        return cbor2.loads(data, semantic_decoders=_REFUSE_TAGS, tag_hook=_refuse)
    except (cbor2.CBORError, ValueError) as cause:
        raise error("malformed", "signed bytes that are not CBOR") from cause


def _ordered(value: Value) -> Value:
    """Check types and sort maps bytewise by encoded key (cbor2's canonical mode sorts by length first, RFC 7049)."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is int:
        if not _INT64_MIN <= value <= _UINT64:
            raise TypeError("integer of more than 64 bits")
        return value
    if kind is list or kind is tuple:
        return [_ordered(item) for item in value]
    if kind is dict:
        keys: list[Value] = list(value)
        for key in keys:
            if type(key) not in _KEY_TYPES:
                raise TypeError(f"map key of type {type(key).__name__}")
        if len(keys) > 1:
            keys.sort(key=_key_order)
        return {key: item if type(item := value[key]) in _PLAIN else _ordered(item) for key in keys}
    raise TypeError(f"{kind.__name__} has no place in a message")


_KEY_TYPES: Final = frozenset((int, str, bytes))
_PLAIN: Final = frozenset((bytes, str, bool, type(None)))
_MEMO: Final = 1024  # keys: every label there is, and the names of the day


@lru_cache(maxsize=_MEMO)
def _key_order(key: int | str | bytes) -> bytes:
    encoded: bytes = cbor2.dumps(key)
    return encoded
