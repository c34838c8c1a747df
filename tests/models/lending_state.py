# SPDX-License-Identifier: Apache-2.0
"""What a state of the lending model is: requests, the givers' books, the receivers' parts, and every message so far.

A state is one nested tuple, so that equal situations are equal states. An amount is a vector with one entry for each
counter of the scenario; a counter counts units, which are used up, or seats, which are not. ``parts`` begins with what
the issuer gave (the roots) and goes on with one part for each slot, a slot being one grant that may come to be.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

Vector: TypeAlias = tuple[int, ...]
# (REQUEST, request) | (GRANT, slot, seq, amount, end) | (ACCEPTED | DECLINED, xid)
# | (RETURNED, xid, returned so far, used so far, final) | (RECALL, slot)
Message: TypeAlias = tuple[object, ...]

REQUEST, GRANT, ACCEPTED, DECLINED, RETURNED, RECALL = range(6)
# A request, a book or a part that does not exist yet is ABSENT; TRANSIT and HELD are for books, REFUSED is for parts.
ABSENT, OPEN, TRANSIT, HELD, REFUSED, CLOSED = range(6)
FOREVER = 1_000


class Request(NamedTuple):
    """What the receiver keeps about a request of its own: how many grants may still answer it."""

    status: int
    left: int


class Book(NamedTuple):
    """What the giver keeps about a grant. ``back`` and ``used`` are what it has booked so far."""

    status: int
    amount: Vector
    end: int
    seq: int
    back: Vector
    used: Vector
    ended: bool  # its seats came back by themselves


class Part(NamedTuple):
    """What a container holds: of its own license, or by one grant. ``returned`` and ``used`` are since the grant."""

    status: int
    available: Vector
    used: Vector
    end: int
    seq: int
    returned: Vector


class State(NamedTuple):
    """Everything, at one real instant. ``consumed`` is what was truly used, whatever the books say."""

    now: int
    consumed: Vector
    requests: tuple[Request, ...]
    books: tuple[Book, ...]
    parts: tuple[Part, ...]
    net: frozenset[Message]  # every message ever emitted; each may be delivered any number of times, or never
    saved: tuple[object, ...]  # an old copy of one container, for the variants that restore it


class Slot(NamedTuple):
    """One grant that may come to be.

    ``parent`` is the part it is taken from, ``ends`` its end and then the ends of its extensions (none: a transfer),
    ``xid`` what receipts name it by.
    """

    giver: str
    receiver: str
    parent: int
    request: int
    amounts: tuple[Vector, ...]
    ends: tuple[int, ...]
    xid: int


@dataclass(frozen=True)
class Scenario:
    """A small world with its bounds.

    ``skew`` is how far a clock may be from real time, either way and anew at each reading; the two tolerances are those
    of the protocol. ``eager`` emits with the commit: as a message may be delivered late or never, this only leaves out
    states that differ in what was emitted. ``broken`` names the rules that are broken on purpose.
    """

    name: str
    counters: tuple[str, ...]
    roots: tuple[tuple[str, Vector], ...]
    requests: tuple[tuple[str, int], ...]
    slots: tuple[Slot, ...]
    horizon: int = 0
    consumers: str = ""
    partial: bool = False
    cancels: bool = False
    recalls: bool = False  # a part goes back only when it is asked for
    skew: int = 1
    giver_tolerance: int = 1
    receiver_tolerance: int = 1
    eager: bool = False
    restored: str = ""  # the container an old copy of which may be put back
    broken: frozenset[str] = frozenset()

    def part_of(self, slot: int) -> int:
        """The index of the part a slot brings."""
        return len(self.roots) + slot

    def owner(self, part: int) -> str:
        """The container that holds a part."""
        roots = len(self.roots)
        return self.roots[part][0] if part < roots else self.slots[part - roots].receiver

    def issued(self) -> Vector:
        """All that exists, for each counter."""
        return total(self.zero(), [amount for _, amount in self.roots])

    def zero(self) -> Vector:
        """Nothing, for each counter."""
        return (0,) * len(self.counters)


def total(start: Vector, amounts: list[Vector]) -> Vector:
    """Add up."""
    for amount in amounts:
        start = plus(start, amount)
    return start


def plus(a: Vector, b: Vector) -> Vector:
    """Add, counter by counter."""
    return tuple(x + y for x, y in zip(a, b, strict=True))


def minus(a: Vector, b: Vector) -> Vector:
    """Subtract, counter by counter."""
    return tuple(x - y for x, y in zip(a, b, strict=True))


def fits(a: Vector, b: Vector) -> bool:
    """Whether no counter of the first is above the second's."""
    return all(x <= y for x, y in zip(a, b, strict=True))


def outstanding(book: Book) -> Vector:
    """What the giver still expects back, or to hear the use of."""
    return minus(minus(book.amount, book.back), book.used)


def is_open(book: Book) -> bool:
    """Whether a grant was made and is not closed."""
    return book.status in {TRANSIT, HELD}


def may_run(scenario: Scenario, now: int, end: int) -> bool:
    """Whether a holder whose clock is as far behind as it may be would still use a part with this end."""
    return end == FOREVER or now - scenario.skew < end - scenario.receiver_tolerance


def beginning(scenario: Scenario) -> State:
    """The state in which nothing happened yet."""
    zero = scenario.zero()
    roots = [Part(OPEN, amount, zero, FOREVER, 0, zero) for _, amount in scenario.roots]
    return State(
        now=0,
        consumed=zero,
        requests=(Request(ABSENT, 0),) * len(scenario.requests),
        books=(Book(ABSENT, zero, 0, 0, zero, zero, ended=False),) * len(scenario.slots),
        parts=(*roots, *[Part(ABSENT, zero, zero, 0, 0, zero)] * len(scenario.slots)),
        net=frozenset(),
        saved=(),
    )
