# SPDX-License-Identifier: Apache-2.0
"""Who holds seats, listed, and the refusal that names them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from tallystick.clock import Reading
from tallystick.container.slots_folder import SlotFolder
from tallystick.container.slots_record import (
    LINGERING,
    MODE_OF,
    RUNNING,
    SERIES,
    WAITING,
    Mark,
    SeatHolder,
    user_name,
)
from tallystick.container.slots_survey import EXCLUSIVE, STATION, TICKETS, USERS, Survey, ticket_number
from tallystick.errors import TallystickError, error

_NAMED: Final = 5  # holders named in a message; `details` has all of them


def listed(folder: SlotFolder, held: Mapping[bytes, tuple[str, str]], reading: Reading) -> tuple[SeatHolder, ...]:
    """List who holds seats of licenses, and who waits for one.

    Args:
        folder: entered.
        held: vendor and product by license id.
        reading: of the clocks, now.

    Returns:
        In the order they came, those that wait last.
    """
    found: list[tuple[bool, int, int, SeatHolder]] = []
    for license_id, (vendor, product) in held.items():
        survey = Survey(folder, license_id.hex(), "", 0, reading)
        for name in survey.every(*MODE_OF, TICKETS):
            mark = survey.mark(name)
            if mark is not None:
                place = ticket_number(name)
                holder = _holder(SeatHolder(license_id, vendor, product, ""), name, mark, reading)
                found.append((place is not None, mark.since if place is None else place, mark.pid, holder))
    return tuple(row[3] for row in sorted(found, key=lambda row: row[:3]))


def seats_taken(known: Sequence[SeatHolder]) -> int:
    """Count the seats that the holders of one license take: each its own, but for the station's, and no limit none."""
    running = [SERIES[one.mode] for one in known if one.state != WAITING]
    return sum(series in (USERS, EXCLUSIVE) for series in running) + (STATION in running)


def in_use(product: str, mode: str, seats: int | None, known: Sequence[SeatHolder]) -> TallystickError:
    """Make the refusal for want of a seat.

    Args:
        product: product id.
        mode: asked for.
        seats: how many there are; None for any number.
        known: who holds or waits.

    Returns:
        ``seats_in_use``.
    """
    running = [one for one in known if one.state != WAITING]
    alone = [one for one in running if SERIES[one.mode] == EXCLUSIVE]
    if alone:
        message = f"{product} is in exclusive use: {_named(alone)}"
    elif SERIES[mode] == EXCLUSIVE and running:
        message = f"{product} cannot be used exclusively while others use it: {_named(running)}"
    elif seats == 0:
        message = f"there is no seat of {product} here: all are lent or given away, or none was licensed"
    elif running:
        every = f"the only seat of {product} is" if seats == 1 else f"all {seats} seats of {product} are"
        message = f"{every} in use: {_named(running)}"
    else:
        message = f"others wait for {product}: {_named(known)}"
    details = [{**one.plain(), "license_id": one.license_id.hex()} for one in known]
    return error("seats_in_use", message, holders=details, seats=seats, mode=mode)


def _named(holders: Sequence[SeatHolder]) -> str:
    more = len(holders) - _NAMED
    return ", ".join(map(str, holders[:_NAMED])) + (f" and {more} more" if more > 0 else "")


def _holder(base: SeatHolder, name: str, mark: Mark, reading: Reading) -> SeatHolder:
    slot = name.rpartition(".")[2]
    waits = slot[0] == TICKETS
    state = WAITING if waits else LINGERING if mark.until else RUNNING
    until = reading.wall + mark.until - reading.uptime if mark.until else None
    return base.replace(
        mode=MODE_OF[slot[-1] if waits else slot[0]], pid=mark.pid, user=user_name(mark.user), program=mark.program,
        since=mark.since, state=state, until=until,
    )  # fmt: skip
