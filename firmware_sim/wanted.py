# SPDX-License-Identifier: Apache-2.0
"""Commands a program may have applied, read from bytes nobody vouches for.

Only commands whose rules need no signature stand in the table: what arrives from outside, and what is signed, goes by
calls of its own. Every field has one exact type and bounds; the ledger's rules come after.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from tallystick.clock import Reading
from tallystick.codec import cbor
from tallystick.container import commands as c
from tallystick.dongle.calls import reading as check_reading
from tallystick.dongle.calls import rows
from tallystick.errors import error
from tallystick.license.schema import MAX_UNITS, Check, name, octets, text, uint

MAX_COMMANDS: Final = 64
_ID: Final = octets(16, 16)
_COUNTER: Final = text(64)
_UNITS: Final = uint(MAX_UNITS)


def _policy(value: Any) -> Any:
    if type(value) is not dict:
        raise error("malformed", "a map is needed")
    return value  # the ledger reads it


ALLOWED: Final[Mapping[type[c.Command], tuple[Check, ...]]] = MappingProxyType({
    c.AddVendor: (name, octets(1, 4096)),
    c.CancelRequest: (_ID,),
    c.Consume: (_ID, _COUNTER, _UNITS, octets(0, 256)),
    c.Reserve: (_ID, _COUNTER, _UNITS, _ID),
    c.Release: (_ID, _ID, _UNITS),
    c.FirstUse: (_ID, _COUNTER),
    c.Observe: (),
    c.SetVariable: (text(64), text(256)),
    c.Note: (text(32), text(512)),
    c.SetPolicy: (text(80), _policy),
})  # fmt: skip


def read_commands(body: bytes) -> tuple[Reading, tuple[c.Command, ...]]:
    """Read what a program wants applied.

    Args:
        body: as `commands.encode` writes it.

    Returns:
        The reading and the commands.

    Raises:
        FormatError: ``malformed``, ``too_large``.
        ContainerError: ``not_supported`` for a command that a device applies by itself only.
    """
    match cbor.decode(body, 1 << 16):
        case [reading, *wanted] if 0 < len(wanted) <= MAX_COMMANDS:
            return check_reading(reading), tuple([_command(row) for row in wanted])
        case _:
            raise error("malformed", "not a transaction")


def _command(row: Any) -> c.Command:
    match row:
        case [int(number), *fields] if type(number) is int:
            cls = c.CODES.get(number)
        case _:
            raise error("malformed", "not a command")
    checks = None if cls is None else ALLOWED.get(cls)
    if cls is None or checks is None:
        what = number if cls is None else cls.__name__
        raise error("not_supported", f"a dongle applies no {what} it did not write itself")
    return cls(*rows(*checks)(fields))
