# SPDX-License-Identifier: Apache-2.0
"""How many seats of a license may be taken here, now: the one place that says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from tallystick.container.state import Counter
from tallystick.license.grant_policy import SEATS
from tallystick.license.model import License


class Account(Protocol):
    """What is counted of a license: a holding, or a view of one."""

    @property
    def counters(self) -> Mapping[str, Counter]:
        """The counters by name; absent means untouched."""


def seats_available(license_: License, holding: Account, now: int) -> int | None:
    """Count the seats that programs of this computer may share.

    Args:
        license_: what the holding's message says.
        holding: its account, with the seats of ended loans back.
        now: seconds since 1970, the time licenses go by.

    Returns:
        How many; None where the license does not limit them by number.
    """
    seats = license_.terms.seats
    if seats is None:
        return None
    counter = holding.counters.get(SEATS)
    return seats if counter is None else max(0, seats - counter.gone)
