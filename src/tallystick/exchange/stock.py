# SPDX-License-Identifier: Apache-2.0
"""What a container holds of each counter, with what is out: the numbers that must add up on both sides of a loan.

For every counter of every part ``total = here + used + lent + in transit + given + returned``; units used beyond the
total (overage) are told apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tallystick.container.base import Container, LicenseView
from tallystick.container.lending_base import IN_TRANSIT, Loan
from tallystick.container.state import Counter
from tallystick.license.grant_policy import SEATS, held
from tallystick.license.model import License
from tallystick.record import Record

_UNTOUCHED = Counter()


class Stock(Record):
    """One counter of one part of a license.

    Attributes:
        product: what for.
        license_id: of the license, the same in every container that holds a part of it.
        part: the holding: the license id, or the id of the grant that brought it.
        counter: ``"*seats"``, ``""`` for units, or a feature's name.
        divisible: False where the license counts no seats, and 1 stands for the right to run.
        total: what the license or the grant gives.
        here: what is left here.
        used, lent, in_transit, given, returned: where the rest is.
    """

    product: str
    license_id: bytes
    part: bytes
    counter: str
    divisible: bool
    total: int
    here: int
    used: int = 0
    lent: int = 0
    in_transit: int = 0
    given: int = 0
    returned: int = 0

    @property
    def whole(self) -> bool:
        """Whether all of it is here."""
        return self.here == self.total

    def to_plain(self) -> dict[str, Any]:
        """Return what `json.dumps` takes: every field."""
        plain = {name: getattr(self, name) for name in type(self).fields}
        return {**plain, "license_id": self.license_id.hex(), "part": self.part.hex()}


def stock_of(view: LicenseView) -> tuple[Stock, ...]:
    """Count one part.

    Args:
        view: of it.

    Returns:
        One for seats, one for units if they are counted, one for each feature with units; nothing where the container
        is locked.
    """
    license_ = view.license_
    if license_ is None:
        return ()
    names = [SEATS, *([""] if license_.terms.units is not None else [])]
    names += [name for name, feature in license_.features.items() if feature.units is not None]
    return tuple(_counted(view, license_, name) for name in names)


def stocks(container: Container) -> tuple[Stock, ...]:
    """Count everything a container holds.

    Args:
        container: open.

    Returns:
        The counters, part by part.
    """
    return tuple(stock for view in container.licenses() for stock in stock_of(view))


def arriving(loan: Loan, divisible: bool) -> tuple[Stock, ...]:
    """Count what a grant brings to its receiver.

    Args:
        loan: as its giver lists it.
        divisible: whether the license counts seats.

    Returns:
        The counters of the new part.
    """
    return tuple(
        Stock(loan.product, loan.license_id, loan.xid, name, divisible or name != SEATS, amount, amount)
        for name, amount in loan.amounts.items()
    )


def home_again(stock: Stock, loan: Loan, returned: Mapping[str, int], used: Mapping[str, int]) -> Stock:
    """Count a giver's part as it will be when a return has been booked.

    Args:
        stock: one counter of the part the loan came from.
        loan: as its giver lists it now.
        returned, used: as the receiver has them now.

    Returns:
        The counter then.
    """
    name = stock.counter
    back = returned.get(name, 0) - loan.returned.get(name, 0)
    gone = 0 if loan.transfer else used.get(name, 0) - loan.used.get(name, 0)
    field = "in_transit" if loan.state == IN_TRANSIT else "given" if loan.transfer else "lent"
    less = {field: getattr(stock, field) - back - gone}
    return stock.replace(here=stock.here + back, used=stock.used + gone, **less)


def _counted(view: LicenseView, license_: License, name: str) -> Stock:
    counter = view.counters.get(name, _UNTOUCHED)
    total = held(license_, name) or 0
    return Stock(
        product=view.product,
        license_id=license_.license_id,
        part=view.license_id,
        counter=name,
        divisible=name != SEATS or license_.terms.seats is not None,
        total=total,
        here=max(0, total - counter.gone),
        used=counter.used,
        lent=counter.lent,
        in_transit=counter.in_transit,
        given=counter.given,
        returned=counter.returned,
    )
