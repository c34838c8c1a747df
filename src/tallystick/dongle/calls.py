# SPDX-License-Identifier: Apache-2.0
"""What a program can ask of a dongle: one table, read by both sides.

    call    = [number, argument, ...]
    answer  = [0, result] / [1, code, message, remedy, {* name => int / text}]

Every argument and result has one exact type and bounds (`license.schema`); the dongle refuses any other call, the host
any other answer. A `reading` is the host's look at its clocks, ``[wall, uptime, boot id]``: a dongle has no clock of
its own, but time in its account never goes back (`tallystick.clock`).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from tallystick.clock import Reading
from tallystick.codec import cbor
from tallystick.errors import CODES, TallystickError, error
from tallystick.license import device
from tallystick.license.schema import MAX_TIME, MAX_UNITS, Check, array, flag, mapping, name, octets, text, uint
from tallystick.license.want import AMOUNTS, MAX_COUNT
from tallystick.record import Record

PAGE_BYTES: Final = 1 << 16
MAX_PIN: Final = 64
_ANY_MESSAGE: Final = octets(1, cbor.MAX_BYTES)
_ID: Final = octets(16, 16)
_TIME: Final = uint(MAX_TIME)
_GENERATION: Final = uint(MAX_UNITS)
_PIN: Final = text(MAX_PIN)


class Call(Record):
    """One row of the table.

    Attributes:
        number: on the wire; never changes.
        arguments: what each must be.
        result: what the answer must be.
        open: allowed before the PIN was given.
    """

    number: int
    arguments: tuple[Check, ...]
    result: Check
    open: bool = False


def optional(check: Check) -> Check:
    """Check for null or a value."""
    return lambda value: None if value is None else check(value)


def reading(value: Any) -> Any:
    """Check for a look at the clocks."""
    match value:
        case [int(wall), int(uptime), str(boot)] if type(wall) is type(uptime) is int:
            if 0 <= wall <= MAX_TIME and 0 <= uptime <= MAX_TIME and len(boot) <= 64:
                return Reading(wall, uptime, boot)
    raise error("malformed", "a reading of the clocks is needed")


def _nothing(value: Any) -> Any:
    if value is not None:
        raise error("malformed", "nothing is needed")
    return None


def rows(*checks: Check) -> Check:
    """Check for an array of exactly these items."""

    def check(value: Any) -> Any:
        if type(value) is not list or len(value) != len(checks):
            raise error("malformed", f"an array of {len(checks)} items is needed")
        return tuple([one(item) for one, item in zip(checks, value, strict=True)])

    return check


_BODIES: Final = optional(array(octets(1, cbor.MAX_BYTES), 256))
_CHANGE: Final = rows(octets(0, 32), text(64), text(64), uint(1 << 32))
_OUTCOME: Final = rows(octets(0, 32), text(64), array(_CHANGE, 1024), text(4096), flag, octets(0, cbor.MAX_BYTES))
_FEATURES: Final = optional(array(name, 256))
_AMOUNTS: Final = optional(AMOUNTS)

CALLS: Final[Mapping[str, Call]] = MappingProxyType({
    # generation, agreement key, lifetime left in thousandths, PIN tries left (null: none is set), PIN given, largest
    # message, firmware
    "status": Call(1, (), rows(
        _GENERATION, octets(1, 256), uint(1000), optional(uint(255)), flag, uint(1 << 24), text(64)), open=True),
    # generation known -> generation, size of the state, journal records since (null: read it by pages)
    "state": Call(2, (_GENERATION,), rows(_GENERATION, uint(1 << 24), _BODIES)),
    "page": Call(3, (_GENERATION, uint(1 << 24)), octets(1, PAGE_BYTES)),
    "apply": Call(4, (_GENERATION, octets(1, 1 << 16)), _GENERATION),
    "prove": Call(5, (octets(32, 32),), octets(64, 64)),
    "request": Call(6, (
        reading, name, octets(1, 4096), text(256), text(64), uint(1 << 20), flag, mapping(text(64), text(1024), 64),
    ), _ANY_MESSAGE),
    "install": Call(7, (reading, _ANY_MESSAGE), _OUTCOME),
    "deactivate": Call(8, (reading, _ID), _ANY_MESSAGE),
    "ask": Call(9, (
        reading, name, octets(1, 4096), text(64), optional(_ID), AMOUNTS, _FEATURES, optional(_TIME), flag,
        uint(MAX_COUNT), optional(octets(32, 32)),
    ), _ANY_MESSAGE),
    "give": Call(10, (
        reading, _ANY_MESSAGE, optional(_ID), text(64), _AMOUNTS, _FEATURES, optional(_TIME), flag,
    ), _ANY_MESSAGE),
    "move": Call(11, (reading, _ANY_MESSAGE, optional(name)), _ANY_MESSAGE),
    "extend": Call(12, (reading, _ID, _TIME), octets(0, cbor.MAX_BYTES)),
    "recall": Call(13, (reading, _ID), _ANY_MESSAGE),
    "give_back": Call(14, (reading, _ID, _AMOUNTS, octets(0, cbor.MAX_BYTES)), _ANY_MESSAGE),
    "decline": Call(15, (reading, _ANY_MESSAGE), _ANY_MESSAGE),
    "message": Call(16, (reading, octets(1, 64)), octets(0, cbor.MAX_BYTES)),
    "statement": Call(17, (reading, name), _ANY_MESSAGE),
    "content_key": Call(18, (reading, _ID, text(64)), octets(32, 32)),
    "verify_pin": Call(19, (_PIN,), _nothing, open=True),
    "change_pin": Call(20, (_PIN, _PIN), _nothing, open=True),
    "unblock_pin": Call(21, (_PIN, _PIN), _nothing, open=True),
    "identify": Call(22, (), _nothing, open=True),
    "change_puk": Call(23, (_PIN, _PIN), _nothing),
    # chip id, whether its debug port is closed for good, kind of device
    "chip": Call(24, (), rows(octets(16, 16), flag, name), open=True),
    # a device certificate, once: `license.device`
    "certify": Call(25, (octets(1, device.MAX_BYTES),), _nothing),
})  # fmt: skip
_BY_NUMBER: Final = {call.number: (named, call) for named, call in CALLS.items()}


def encode_call(named: str, *arguments: Any) -> bytes:
    """Encode a call.

    Args:
        named: a key of `CALLS`.
        arguments: as the table says; a `Reading` for a reading.

    Returns:
        The message.

    Raises:
        UsageError: ``usage`` for what has no encoding.
    """
    try:
        return cbor.encode([CALLS[named].number, *[_plain(argument) for argument in arguments]])
    except (TypeError, UnicodeEncodeError):  # its text may be a PIN, so the error must not lead there
        pass
    raise error("usage", f"{named}: an argument that cannot be sent")


def decode_call(message: bytes) -> tuple[str, Call, list[Any]]:
    """Read a call: the dongle's side.

    Args:
        message: as it came out of the channel.

    Returns:
        Its name, its row and the checked arguments.

    Raises:
        FormatError: ``malformed``, ``too_large``, ``unsupported_version`` for a call this firmware does not know.
    """
    match cbor.decode(message, 1 << 21):
        case [int(number), *arguments] if type(number) is int:
            pass
        case _:
            raise error("malformed", "not a call")
    if number not in _BY_NUMBER:
        raise error("unsupported_version", f"call {number} is not known to this firmware")
    named, call = _BY_NUMBER[number]
    return named, call, list(rows(*call.arguments)(arguments))


def encode_result(result: Any) -> bytes:
    """Encode what a call returned."""
    return cbor.encode([0, _plain(result)])


def encode_refusal(refusal: TallystickError) -> bytes:
    """Encode why a call was refused."""
    details = {key: value for key, value in refusal.details.items() if type(value) in (int, str)}
    return cbor.encode([1, refusal.code, refusal.message, refusal.remedy, details])


def decode_answer(named: str, message: bytes) -> tuple[Any, TallystickError | None]:
    """Read an answer: the host's side.

    Args:
        named: the call it answers.
        message: as it came out of the channel.

    Returns:
        The checked result and None; or None and the dongle's refusal, of the class its code has.

    Raises:
        FormatError: ``malformed`` or ``too_large``: not an answer to this call.
    """
    match cbor.decode(message, 1 << 21):
        case [0, result]:
            return CALLS[named].result(result), None
        case [1, str(code), str(said), str(remedy), dict(details)] if code in CODES:
            return None, error(code, said, remedy, **{str(key): value for key, value in details.items()})
        case _:
            raise error("malformed", "not an answer of a Tallystick dongle")


def _plain(value: Any) -> Any:
    if isinstance(value, Reading):
        return [value.wall, value.uptime, value.boot_id]
    if isinstance(value, Mapping):
        return dict(value)
    return value
