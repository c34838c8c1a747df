# SPDX-License-Identifier: Apache-2.0
"""The account over all containers at once: what can still be used, what was used, and what is on its way, is what was
issued.

Everything is computed here from the books of both ends, part by part and exchange by exchange; nothing of how the
ledger moves them is repeated. A *part* is one container's share of a license: the license itself, or what one grant
brought. Counters of seats follow one more rule: what hangs below a loan whose seats came home by themselves is dead.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tallystick.container.exchanges import ACCEPTED, CLOSED, DECLINED, HELD, IN_TRANSIT, Arrival, Given
from tallystick.container.ledger_books import license_of
from tallystick.container.state import Counter, Holding, State
from tallystick.license.grant_policy import SEATS, TOLERANCE_S, held
from tallystick.license.model import License

Key = tuple[bytes, str]
_ZERO = Counter()


class BrokenError(AssertionError):
    """A rule of the books does not hold."""


@dataclass
class Account:
    """The whole, by license and counter.

    Attributes:
        issued: what the issuer's licenses say that are installed.
        available: what can still be used or given somewhere.
        used: what was used up, each unit once.
        moving: debited at one end and not yet booked at the other.
    """

    issued: Tally[Key] = field(default_factory=Tally)
    available: Tally[Key] = field(default_factory=Tally)
    used: Tally[Key] = field(default_factory=Tally)
    moving: Tally[Key] = field(default_factory=Tally)


@dataclass(frozen=True)
class Exchange:
    """Both ends of one grant; None for an end that knows nothing of it."""

    xid: bytes
    giver: int
    given: Given | None
    receiver: int
    arrival: Arrival | None


class Books:
    """The books of all containers at one moment.

    Args:
        states: of each container, as of its own time.
        times: the times they go by.
        licenses: which license a part belongs to, kept by the caller from one moment to the next.
    """

    def __init__(self, states: Sequence[State], times: Sequence[int], licenses: dict[bytes, bytes]) -> None:
        self.states = states
        self.times = times
        self.licenses = licenses
        self.read: dict[tuple[int, bytes], License] = {}
        for index, state in enumerate(states):
            for part, holding in state.holdings.items():
                self.read[index, part] = license_ = license_of(holding)
                licenses[part] = license_.license_id
        self.exchanges = self._exchanges()
        self.dead = self._dead()

    def check(self) -> Account:
        """Demand every rule.

        Returns:
            The account.

        Raises:
            BrokenError: what does not hold.
        """
        for index, state in enumerate(self.states):
            self._check_parts(index, state)
        for exchange in self.exchanges.values():
            self._check_exchange(exchange)
        account = self._account()
        for key in account.issued:
            have = account.available[key] + account.used[key] + account.moving[key]
            if have != account.issued[key]:
                word, name = "doubled" if have > account.issued[key] else "lost", key[1] or "units"
                raise BrokenError(
                    f"{abs(have - account.issued[key])} {name} {word}: {account.available[key]} available, "
                    f"{account.used[key]} used, {account.moving[key]} moving, {account.issued[key]} issued"
                )
        self.check_seats()
        return account

    def check_seats(self) -> None:
        """At this very moment no seat may work at two places.

        Raises:
            BrokenError: more seats work than were issued.
        """
        working, issued = Tally[bytes](), Tally[bytes]()
        for (index, part), license_ in self.read.items():
            if _uncounted(license_):
                continue
            holding = self.states[index].holdings[part]
            if license_.xid is None:
                issued[license_.license_id] += held(license_, SEATS) or 0
            if license_.terms.expires is None or self.times[index] < license_.terms.expires:
                working[license_.license_id] += _available(holding, license_, SEATS)
        for license_id, seats in working.items():
            if seats > issued[license_id]:
                raise BrokenError(f"{seats} seats work at this moment, {issued[license_id]} issued; times {self.times}")

    # -- reading

    def _exchanges(self) -> dict[bytes, Exchange]:
        given = {xid: (index, one) for index, state in enumerate(self.states) for xid, one in state.given.items()}
        taken = {xid: (index, one) for index, state in enumerate(self.states) for xid, one in state.arrivals.items()}
        for what, found, each in (
            ("given", given, [state.given for state in self.states]),
            ("taken", taken, [state.arrivals for state in self.states]),
        ):
            if sum(map(len, each)) != len(found):
                raise BrokenError(f"one grant was {what} by two containers")
        none: tuple[int, None] = (-1, None)
        return {
            xid: Exchange(xid, *given.get(xid, none), *taken.get(xid, none))
            for xid in {**given, **taken}
        }  # fmt: skip

    def _dead(self) -> set[bytes]:
        """Name the grants whose seats came home by themselves, and what hangs below them."""
        dead = {
            xid
            for xid, one in self.exchanges.items()
            if one.given is not None
            and one.given.ends is not None
            and SEATS in one.given.amounts
            and not one.given.out(SEATS)
            and self.times[one.giver] >= one.given.ends + TOLERANCE_S
        }
        while more := {
            xid for xid, one in self.exchanges.items() if xid not in dead and one.given and one.given.part in dead
        }:
            dead |= more
        return dead

    # -- rules

    def _check_parts(self, index: int, state: State) -> None:
        out: dict[tuple[bytes, str, int], int] = Tally()
        for given in state.given.values():
            for name in given.amounts:
                if given.out(name) < 0:
                    raise BrokenError(f"{index}: more came back of {given} than was given")
                place = IN_TRANSIT if given.status == IN_TRANSIT else (1 if given.ends is None else 2)
                if given.status != CLOSED:
                    out[given.part, name, place] += given.out(name)
                elif given.out(name):
                    raise BrokenError(f"{index}: closed, and {given.out(name)} {name} are still out")
        for part, holding in state.holdings.items():
            license_ = self.read[index, part]
            for name, counter in holding.counters.items():
                if min(getattr(counter, where) for where in Counter.fields) < 0:
                    raise BrokenError(f"{index}: {counter} of {license_.product} {name}")
                if counter.gone > (held(license_, name) or 0) and not (_uncounted(license_) and name == SEATS):
                    raise BrokenError(f"{index}: {counter} of {held(license_, name)} {name}")
                books = (counter.in_transit, counter.given, counter.lent)
                told = tuple(out[part, name, place] for place in (IN_TRANSIT, 1, 2))
                if books != told:
                    raise BrokenError(
                        f"{index}: {license_.product} {name} in transit, given, lent {books}; by grants {told}"
                    )

    def _check_exchange(self, one: Exchange) -> None:
        given, arrival = one.given, one.arrival
        if arrival is None:
            if given is not None and given.status == ACCEPTED:
                raise BrokenError("accepted by the giver's books, and it never arrived")
            return
        if given is None:
            if arrival.status != DECLINED:
                raise BrokenError(f"{one.receiver} took a grant that nobody's books tell of")
            return
        if given.outcome == "declined" and arrival.status != DECLINED:
            raise BrokenError("declined in the giver's books, and taken in the receiver's")
        if arrival.status != DECLINED:
            self._check_taken(one, given, arrival)
        elif given.status == ACCEPTED:
            raise BrokenError("accepted in the giver's books, and declined in the receiver's")

    def _check_taken(self, one: Exchange, given: Given, arrival: Arrival) -> None:
        if dict(arrival.amounts) != dict(given.amounts):
            raise BrokenError(f"{dict(given.amounts)} given, {dict(arrival.amounts)} arrived")
        if (given.ends is None) != (arrival.ends is None) or (given.ends or 0) < (arrival.ends or 0):
            raise BrokenError(f"the giver says until {given.ends}, the receiver until {arrival.ends}")
        returned, used = self._told(one, arrival)
        for name in given.amounts:
            if name == SEATS and one.xid in self.dead:
                continue
            if given.returned.get(name, 0) > returned.get(name, 0):
                raise BrokenError(f"{given.returned} came back of {returned} returned")
            if given.used.get(name, 0) > used.get(name, 0):
                raise BrokenError(f"{given.used} booked as used of {used}")

    def _told(self, one: Exchange, arrival: Arrival) -> tuple[Mapping[str, int], Mapping[str, int]]:
        """What the receiver's own books say was returned and used."""
        if arrival.status != HELD:
            return arrival.returned, arrival.used
        license_ = self.read[one.receiver, one.xid]
        counters = self.states[one.receiver].holdings[one.xid].counters
        for name, amount in arrival.amounts.items():
            if held(license_, name) != amount:
                raise BrokenError(f"a grant of {amount} {name} became a part of {held(license_, name)}")
        names = {**arrival.amounts, **counters}
        return (
            {name: counters.get(name, _ZERO).returned for name in names},
            {name: counters.get(name, _ZERO).used for name in names if name != SEATS},
        )

    # -- sums

    def _account(self) -> Account:
        account = Account()
        for (index, part), license_ in self.read.items():
            holding = self.states[index].holdings[part]
            for name in _counters(license_):
                key = license_.license_id, name
                if license_.xid is None:
                    account.issued[key] += held(license_, name) or 0
                if name != SEATS or part not in self.dead:
                    account.available[key] += _available(holding, license_, name)
                account.used[key] += holding.counters.get(name, _ZERO).used
        for one in self.exchanges.values():
            if one.given is not None:
                self._add_exchange(account, one, one.given)
        return account

    def _add_exchange(self, account: Account, one: Exchange, given: Given) -> None:
        license_id = self.licenses[given.part]
        arrived = one.arrival is not None and one.arrival.status != DECLINED
        returned: Mapping[str, int] = {}
        used: Mapping[str, int] = {}
        if arrived and one.arrival is not None:
            returned, used = self._told(one, one.arrival)
        for name in given.amounts:
            key = license_id, name
            if name == SEATS and one.xid in self.dead:
                continue
            account.used[key] -= given.used.get(name, 0)  # once: it is in the books of the giver's part, too
            if not arrived:
                account.moving[key] += given.out(name)
                continue
            account.moving[key] += returned.get(name, 0) - given.returned.get(name, 0)
            if one.arrival is not None and one.arrival.status != HELD:
                account.used[key] += used.get(name, 0)


def _available(holding: Holding, license_: License, name: str) -> int:
    return (held(license_, name) or 0) - holding.counters.get(name, _ZERO).gone


def _uncounted(license_: License) -> bool:
    """Whether parts of it run without a number: a license of units alone, which may run wherever units of it are."""
    return license_.terms.seats is None and license_.terms.units is not None


def _counters(license_: License) -> list[str]:
    names = [] if _uncounted(license_) else [SEATS]
    names += [""] if license_.terms.units is not None else []
    return names + [name for name, feature in license_.features.items() if feature.units is not None]
