# SPDX-License-Identifier: Apache-2.0
"""The giver's book of loans and transfers: what is out, what came home, what an end brings home by itself.

A part that was given stands in one of three places of its counter, and moves only as follows:

    available -> in transit   `ledger_give.give`, before the grant leaves
    in transit -> lent, given   the receiver's receipt (of a loan, of a transfer)
    in transit -> available     the receiver declined
    lent, given -> available    the receiver returned it; of loans, units used meanwhile go to `used`
    lent, in transit -> available   seats of a loan, and nothing else, at its end plus tolerance (`as_of`)

A transfer never comes back on a timer. Lent units do not either: only the receiver knows how many of them were used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tallystick.container.exchanges import ACCEPTED, CLOSED, IN_TRANSIT, Given
from tallystick.container.ledger_books import logged, with_counter, with_holding
from tallystick.container.state import Counter, Holding, State
from tallystick.errors import error
from tallystick.license.grant_policy import SEATS, TOLERANCE_S, held
from tallystick.license.model import License

_ZERO: Final = Counter()
_NEVER: Final = 1 << 62


def given_of(state: State, xid: bytes) -> Given:
    """Find what was given.

    Raises:
        NotFoundError: ``grant_not_found``.
    """
    entry = state.given.get(xid)
    if entry is None:
        raise error("grant_not_found", "this container gave nothing of that id")
    return entry


def as_of(state: State, now: int) -> State:
    """Let the seats of ended loans come home.

    Args:
        state: the account.
        now: seconds since 1970.

    Returns:
        The account at that time; the very same object where no loan has ended.
    """
    if now < _next_end(state):
        return state
    for entry in state.given.values():
        if _is_due(entry) and entry.ends is not None and now >= entry.ends + TOLERANCE_S:
            state = book(state, entry, {SEATS: entry.amounts[SEATS]}, {}, now, "ended")
    state.__dict__.pop("_next_end", None)
    return state


def book(
    state: State, entry: Given, returned: Mapping[str, int], used: Mapping[str, int], now: int, outcome: str
) -> State:
    """Book what came back of a grant and what was used of it, both counted from the grant on.

    Args:
        state: the account.
        entry: the grant.
        returned, used: by counter; what was booked before is not booked again.
        now: seconds since 1970.
        outcome: how the grant closes if nothing of it is out any more.

    Returns:
        The account after.

    Raises:
        ContainerError: ``not_conserved`` for more than was given.
    """
    holding, before = state.holdings.get(entry.part), entry
    for name in entry.amounts:
        back = max(0, returned.get(name, 0) - entry.returned.get(name, 0))
        gone = max(0, used.get(name, 0) - entry.used.get(name, 0)) if uses_up(entry, name) else 0
        if back + gone > entry.out(name):
            raise error("not_conserved", f"{back + gone} come back of {entry.out(name)}")
        if holding is not None and back + gone:
            counter, field = holding.counters[name], _field(entry)
            less = {field: getattr(counter, field) - back - gone}
            holding = with_counter(holding, name, counter.replace(**less, used=counter.used + gone))
        entry = entry.replace(
            returned={**entry.returned, name: entry.returned.get(name, 0) + back},
            used={**entry.used, name: entry.used.get(name, 0) + gone},
        )
    if holding is not None:
        state = with_holding(state, holding)
    if not any(entry.out(name) for name in entry.amounts):
        entry = entry.replace(status=CLOSED, outcome=outcome)
    text = told_since(before.returned, entry.returned, holding.product if holding else "a license given up", outcome)
    return logged(with_given(state, entry), now, outcome, entry.xid, text)


def accepted(state: State, entry: Given) -> State:
    """Move a grant from in transit to lent or given."""
    if entry.status != IN_TRANSIT:
        return state
    after = entry.replace(status=ACCEPTED)
    holding = state.holdings.get(entry.part)
    if holding is not None:
        for name in entry.amounts:
            out, counter, field = entry.out(name), holding.counters[name], _field(after)
            moved = {field: getattr(counter, field) + out}
            holding = with_counter(holding, name, counter.replace(in_transit=counter.in_transit - out, **moved))
        state = with_holding(state, holding)
    return with_given(state, after)


def available(holding: Holding, license_: License, counter: str) -> int:
    """Tell how much of a counter is left in a part."""
    return max(0, (held(license_, counter) or 0) - holding.counters.get(counter, _ZERO).gone)


def _field(entry: Given) -> str:
    if entry.status == IN_TRANSIT:
        return "in_transit"
    return "given" if entry.ends is None else "lent"


def told(amounts: Mapping[str, int]) -> str:
    """Write amounts for people."""
    return ", ".join([_counted(amounts[name], name) for name in sorted(amounts) if amounts[name]]) or "nothing"


def told_since(before: Mapping[str, int], after: Mapping[str, int], product: str, what: str) -> str:
    """Write what was returned now, and in all where something had been returned before."""
    now = {name: amount - before.get(name, 0) for name, amount in after.items()}
    if not any(before.values()):
        return f"{told(now)} of {product} {what}"
    return f"{told(now)} more of {product} {what}, {told(after)} in all"


def _counted(amount: int, counter: str) -> str:
    name = {"": "unit", SEATS: "seat"}.get(counter)
    return f"{amount} {counter}" if name is None else f"{amount} {name}{'' if amount == 1 else 's'}"


def with_given(state: State, entry: Given) -> State:
    """Put a changed entry back."""
    end = (entry.ends or 0) + TOLERANCE_S if _is_due(entry) else _NEVER
    soonest = min(_next_end(state), end)  # perhaps too soon, where this entry's end was it: then `as_of` looks in vain
    state = state.replace(given={**state.given, entry.xid: entry})
    state.__dict__["_next_end"] = (state.given, soonest)
    return state


def uses_up(entry: Given, counter: str) -> bool:
    """Tell whether a receiver can use a counter up at the giver's cost: units of a loan, not seats, nothing given."""
    return entry.ends is not None and counter != SEATS


def _is_due(entry: Given) -> bool:
    return entry.status != CLOSED and entry.ends is not None and entry.out(SEATS) > 0


def _next_end(state: State) -> int:
    """Tell when the next loan ends; remembered as long as the book is the same object."""
    kept: Any = state.__dict__.get("_next_end")
    if kept is None or kept[0] is not state.given:
        ends = [(entry.ends or 0) + TOLERANCE_S for entry in state.given.values() if _is_due(entry)]
        kept = state.__dict__["_next_end"] = (state.given, min(ends, default=_NEVER))
    return int(kept[1])
