# SPDX-License-Identifier: Apache-2.0
"""May this much be given, to that container, until then? The terms of the license and of the administrator, one rule
after the other; each refusal has a code of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tallystick.errors import error
from tallystick.license.dates import show, span
from tallystick.license.grant_policy import MAX_DEPTH, MAY_PULL, MAY_PUSH, SEATS, GrantPolicy
from tallystick.license.model import License
from tallystick.record import Record

SHORTEST_LOAN_S: Final = 900  # the receiver stops, and the giver waits, five minutes for their clocks (`lineage`)


class Offer(Record):
    """A grant somebody is about to make.

    Attributes:
        license_: the giver's effective license.
        amounts: how much, by counter.
        available: how much the giver has, by the same counters.
        ends: end of a loan; None for a transfer.
        now: seconds since 1970.
        receiver: thumbprint.
        level: what the receiver proved.
        pull: the receiver asked for it; else the giver uses an invitation.
        out: how much of `measure` that receiver holds already.
    """

    license_: License
    amounts: Mapping[str, int]
    available: Mapping[str, int]
    ends: int | None
    now: int
    receiver: bytes
    level: int
    pull: bool
    out: int

    @property
    def measure(self) -> str:
        """The counter that limits apply to: seats, or units where only those are counted."""
        return measure_of(self.license_)


def measure_of(license_: License) -> str:
    """Name the counter that limits apply to: seats, or units where only those are counted."""
    return "" if license_.terms.seats is None and license_.terms.units is not None else SEATS


def check_offer(offer: Offer, terms: GrantPolicy | None, local: GrantPolicy | None) -> None:
    """Refuse an offer that the license or the administrator forbids.

    Args:
        offer: what is about to be given.
        terms: of the license for this kind of grant; None forbids it.
        local: of the container's administrator; None adds nothing.

    Raises:
        LendingError: with the code of the first rule that refuses.
    """
    product = offer.license_.product
    if terms is None or (offer.ends is None and offer.license_.borrowed_until is not None):
        if terms is not None:
            remedy = "Return it first, `tally return`; its lender can transfer it."
            raise error("lending_denied", f"this {product} is borrowed and may not be transferred", remedy)
        kind = "transferred" if offer.ends is None else "lent"
        raise error("lending_denied", f"{product} may not be {kind}")
    if offer.license_.depth >= MAX_DEPTH:
        raise error("depth_exceeded", f"{product} was given on {MAX_DEPTH} times", "Ask the vendor.")
    if offer.ends is not None:
        _check_end(offer, offer.ends)
    _check_policy(offer, terms, "the license", "lending_denied")
    if local is not None:
        _check_policy(offer, local, "this container's administrator", "lending_restricted")


def _check_end(offer: Offer, ends: int) -> None:
    product = offer.license_.product
    if ends - offer.now < SHORTEST_LOAN_S:
        raise error("loan_too_short", f"a loan lasts at least {span(SHORTEST_LOAN_S)}; it is {show(offer.now)}")
    last = offer.license_.terms.expires
    if last is not None and ends > last:
        raise error("duration_too_long", f"{product} itself ends {show(last)}")


def check_duration(policy: GrantPolicy, who: str, seconds: int) -> None:
    """Refuse a loan longer than a policy allows.

    Raises:
        LendingError: ``duration_too_long``.
    """
    if policy.max_duration is not None and seconds > policy.max_duration:
        asked = span(-(-seconds // 60) * 60)  # its end was counted from a moment ago: 60 days are not to be told as 59
        raise error("duration_too_long", f"{who} allows {span(policy.max_duration)}, not {asked}")


def _check_policy(offer: Offer, policy: GrantPolicy, who: str, denied: str) -> None:
    product, measure = offer.license_.product, offer.measure
    if not policy.allowed & (MAY_PULL | MAY_PUSH):
        raise error(denied, f"{who} does not allow to {'transfer' if offer.ends is None else 'lend'} {product}")
    if not policy.allowed & (MAY_PULL if offer.pull else MAY_PUSH):
        how = "be fetched by its receiver" if offer.pull else "be given without the receiver asking for it"
        raise error("direction_denied", f"{who} does not allow that {product} may {how}")
    if offer.ends is not None:
        check_duration(policy, who, offer.ends - offer.now)
    if offer.license_.depth > policy.max_depth:
        raise error("depth_exceeded", f"{who} allows {product} to be given on {policy.max_depth} times")
    if policy.receivers and offer.receiver not in policy.receivers:
        raise error("receiver_denied", f"{who} names the containers that may receive {product}; this is none of them")
    if offer.level < policy.min_level:
        raise error("receiver_level", f"{who} asks for level L{policy.min_level}; the receiver proved L{offer.level}")
    given = offer.amounts.get(measure, 0)
    if policy.low_water and given and offer.available.get(measure, 0) - given < policy.low_water:
        raise error("low_water", f"{who} keeps {policy.low_water} of {product} here")
    if policy.max_per_receiver is not None and offer.out + given > policy.max_per_receiver:
        raise error(
            "receiver_limit", f"{who} allows one receiver {policy.max_per_receiver} of {product}; it has {offer.out}"
        )
