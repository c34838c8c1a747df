# SPDX-License-Identifier: Apache-2.0
"""What a PKCS#11 module's process and its owner say to each other; `isolation` is one end, `worker` the other.

A frame is a length of 4 bytes, big endian, and as many bytes of deterministic CBOR, 1 MiB at most:

    request   [number, seconds, operation, [argument, ...]]
    answer    [number, "ok", value]  or  [number, "error", code, message, remedy, details]

An answer bears the number of its request. ``seconds`` is when the worker gives up on itself, should nobody be there any
more who does. A PIN is the second argument of ``login`` and nothing else is: what stands there is taken for one.

Neither end trusts the module, which shares the worker's memory: an answer that is not one, or whose value is not what
its operation returns, is malformed.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import FunctionType, NoneType, UnionType
from typing import Any, Final, cast

from tallystick.backends.pkcs11.port import Argument, Value
from tallystick.codec import cbor
from tallystick.container.secrets import Pin
from tallystick.errors import CODES, FormatError, TallystickError, error

HEAD: Final = 4
LIMIT: Final = cbor.MAX_BYTES
LOAD: Final = "load"
"""The first request to a worker: the path of its module, as the file system has it. The module is loaded when used."""

_LOGIN: Final = "login"
_LISTED_KEY: Final = (bytes, str)
_SAID: Final = (
    "sensitive", "extractable", "sign", "derive", "decrypt", "unwrap", "modifiable", "copyable", "local",
    "always_sensitive", "never_extractable", "always_authenticate",
)  # fmt: skip
"""What is told of a private key: `objects.READ` has it, with numbers of a library that may be missing here."""
_KEY_FACTS: Final = {"public": bytes, "wraps": bool, **dict.fromkeys(_SAID, bool | None)}
_NAMES: Final = ("label", "serial", "manufacturer", "model", "slot_description", "slot_manufacturer")
_LIBRARY: Final = ("library_manufacturer", "library_description", "library_version")
_BLANK_TOKEN: Final = {"slot": int, "flags": int, **dict.fromkeys(_LIBRARY, str)}
_TOKEN: Final = {**_BLANK_TOKEN, **dict.fromkeys(_NAMES, str), "mechanisms": [int], "slot_flags": int}
_SHAPES: Final[dict[str, Any]] = {
    LOAD: NoneType,
    "tokens": [lambda row: _is_row(row, _TOKEN) or _is_row(row, _BLANK_TOKEN)],
    "login": NoneType,
    "enter_freely": NoneType,
    "is_open": bool,
    "public_keys": [(*_LISTED_KEY, bytes)],
    "private_keys": [_LISTED_KEY],
    "certificates": [(*_LISTED_KEY, bytes)],
    "generate": _KEY_FACTS,
    "attributes": _KEY_FACTS,
    "sign": bytes,
    "sign_pss": bytes,
    "derive": bytes,
    "data": [(str, bytes)],
    "put_data": NoneType,
    "drop_data": int,
    "drop_key": int,
    "wrappers": [str],
    "leave": NoneType,
    "refresh": NoneType,
}
"""What an operation returns: a type, or one of several; [of each]; (of the first, of the second, ...); {of what is
there at least}; or a function that tells."""

_TAKEN: Final = frozenset(("self", "code", "message", "remedy"))  # what `error` calls its own


def request(number: int, seconds: int, operation: str, arguments: Sequence[Argument]) -> memoryview:
    """Frame a request.

    Args:
        number: of the request.
        seconds: after which the worker ends itself.
        operation: of the port's table.
        arguments: of the operation.

    Returns:
        The frame, in a type that does not show what is in it.

    Raises:
        TypeError: an argument has no place in a request (a defect of the caller).
        FormatError: ``too_large``.
    """
    try:
        payload = _encoded([number, seconds, operation, _bare(operation, arguments)])
    except (TypeError, ValueError):  # dropped with its traceback, whose variables show the PIN
        payload = None
    if payload is None:
        kinds = ", ".join(type(one).__name__ for one in arguments)
        raise TypeError(f"the arguments of {operation} have no place in a request: {kinds}")
    return _headed(payload)


def requested(payload: bytes) -> tuple[int, int, str, list[Argument]]:
    """Open a request.

    Returns:
        Its number, seconds, operation and arguments.

    Raises:
        FormatError: ``malformed``.
    """
    match cbor.decode(payload, LIMIT):
        case [int(number), int(seconds), str(operation), list(arguments)]:
            if operation == _LOGIN and len(arguments) > 1 and arguments[1] is not None:
                arguments[1] = Pin(str(arguments[1]))
            return number, seconds, operation, arguments
    raise error("malformed", "what was received is no request")


def answer(number: int, value: Value) -> memoryview:
    """Frame the answer to a request that was granted.

    Raises:
        TypeError: the value has no place in an answer.
        FormatError: ``too_large``.
    """
    return framed([number, "ok", value])


def refusal(number: int, reason: TallystickError) -> memoryview:
    """Frame the answer to a request that was refused."""
    head = [number, "error", reason.code, reason.message, reason.remedy]
    try:
        return framed([*head, reason.details])
    except (TypeError, ValueError, FormatError):
        return framed([*head, {name: str(value) for name, value in reason.details.items()}])


def answered(payload: bytes, number: int, operation: str) -> Value | TallystickError:
    """Open the answer to a request.

    Args:
        payload: of the frame.
        number: of the request.
        operation: of the request.

    Returns:
        The value; the error, not raised, where the request was refused.

    Raises:
        FormatError: it is not an answer to this request.
    """
    match cbor.decode(payload, LIMIT):
        case [int(told), "ok", value] if told == number and _fits(value, _SHAPES.get(operation, object)):
            result: Value = value
            return result
        case [int(told), "error", str(code), str(message), str(remedy), dict(details)] if told == number:
            if code in CODES and all(type(name) is str and name not in _TAKEN for name in details):
                return error(code, message, remedy, **details)
    raise error("malformed", f"what was received is no answer to {operation}")


def framed(value: object) -> memoryview:
    """Encode and frame.

    Raises:
        TypeError: the value is none of CBOR's.
        FormatError: ``too_large``.
    """
    return _headed(_encoded(value))


def length(head: bytes) -> int:
    """Read how long a frame's payload is.

    Args:
        head: the first `HEAD` bytes of a frame.

    Raises:
        FormatError: ``too_large``.
    """
    size = int.from_bytes(head)
    if size > LIMIT:
        raise error("too_large", f"a frame of {size} bytes, where at most {LIMIT} are allowed", size=size, limit=LIMIT)
    return size


def _encoded(value: object) -> memoryview:
    return memoryview(cbor.encode(value))


def _headed(payload: memoryview) -> memoryview:
    if len(payload) > LIMIT:
        message = f"{len(payload)} bytes to or from a PKCS#11 module, where at most {LIMIT} are allowed"
        raise error("too_large", message, size=len(payload), limit=LIMIT)
    return memoryview(len(payload).to_bytes(HEAD) + payload)


def _bare(operation: str, arguments: Sequence[Argument]) -> list[Argument]:
    """Replace the PIN of a login by its text; a PIN anywhere else cannot be encoded."""
    bare = list(arguments)
    if operation == _LOGIN and len(bare) > 1 and isinstance(pin := bare[1], Pin):
        bare[1] = pin.reveal()
    return bare


def _fits(value: object, shape: Any) -> bool:
    if isinstance(shape, list):
        return type(value) is list and all(_fits(one, shape[0]) for one in value)
    if isinstance(shape, tuple):
        return type(value) is list and len(value) == len(shape) and all(map(_fits, value, shape))
    if isinstance(shape, dict):
        return type(value) is dict and all(_fits(value.get(name), one) for name, one in shape.items())
    if isinstance(shape, UnionType):
        return type(value) in shape.__args__
    if isinstance(shape, FunctionType):
        return bool(shape(value))
    return shape is object or type(value) is shape


def _is_row(value: object, shape: dict[str, Any]) -> bool:
    """Tell whether a value is a map of these names and no other."""
    return _fits(value, shape) and len(cast("dict[str, Any]", value)) == len(shape)
