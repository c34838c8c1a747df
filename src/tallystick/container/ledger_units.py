# SPDX-License-Identifier: Apache-2.0
"""Ledger rules for what is counted: consumption, reservations, first use, and the giver's side of grants."""

from __future__ import annotations

from typing import Any, Final

from tallystick.clock import Assessment, Reading
from tallystick.codec.digest import sha256
from tallystick.container import commands as c
from tallystick.container.ledger_books import counter_name, holding_of, license_of, logged, with_holding
from tallystick.container.state import IN_TRANSIT, RETURNED, SEATS, SETTLED, Counter, Grant, Holding, State
from tallystick.errors import error
from tallystick.license.model import License
from tallystick.license.policy import Facts, evaluate
from tallystick.license.schema import MAX_UNITS

MAX_RETRIES: Final = 1024  # idempotency keys remembered; a retry comes within seconds, not after a thousand other uses
MAX_RESERVATIONS: Final = 64  # beyond it the oldest open block is forfeited: its program is long gone
MAX_GRANTS: Final = 1024
MAX_KEY: Final = 64
_ZERO: Final = Counter()


def consume(state: State, command: c.Consume, time: Assessment, _: Reading) -> tuple[State, int]:
    """Use up exactly `units`, or nothing. Result: units left, overage included."""
    key = command.idempotency_key
    digest = _digest(command) if key else b""
    if key:
        if len(key) > MAX_KEY:
            raise error("usage", f"an idempotency key has at most {MAX_KEY} bytes")
        known = state.retries.get(key)
        if known is not None:
            if known[0] != digest:
                raise error("idempotency_conflict", "this idempotency key was used for another consumption")
            return state, known[1]
    holding = holding_of(state, command.license_id)
    holding, left = _debit_units(holding, command.feature, command.units, time.now)
    state = with_holding(state, holding)
    if key:
        retries = dict(state.retries)
        if len(retries) >= MAX_RETRIES:
            del retries[next(iter(retries))]
        retries[key] = (digest, left)
        state = state.replace(retries=retries)
    return state, left


def reserve(state: State, command: c.Reserve, time: Assessment, _: Reading) -> tuple[State, int]:
    """Debit a block. Result: units left beside it."""
    holding = holding_of(state, command.license_id)
    if command.reservation_id in holding.reservations:
        raise error("idempotency_conflict", "a reservation of that id is open")
    holding, left = _debit_units(holding, command.feature, command.units, time.now)
    reservations = dict(holding.reservations)
    if len(reservations) >= MAX_RESERVATIONS:
        del reservations[next(iter(reservations))]
    reservations[command.reservation_id] = (counter_name(license_of(holding), command.feature), command.units)
    return with_holding(state, holding.replace(reservations=reservations)), left


def release(state: State, command: c.Release, _time: Assessment, _: Reading) -> tuple[State, None]:
    """Give the rest of a block back, once."""
    holding = holding_of(state, command.license_id)
    found = holding.reservations.get(command.reservation_id)
    if found is None:
        raise error("no_reservation", "this reservation is closed or was forfeited")
    name, units = found
    if not 0 <= command.rest <= units:
        raise error("not_conserved", f"a rest of {command.rest} from a block of {units}")
    reservations = {key: value for key, value in holding.reservations.items() if key != command.reservation_id}
    counter = holding.counters[name]
    holding = _with_counter(holding, name, counter.replace(used=counter.used - command.rest))
    return with_holding(state, holding.replace(reservations=reservations)), None


def first_use(state: State, command: c.FirstUse, time: Assessment, _: Reading) -> tuple[State, int]:
    """Start a usage period, once. Result: the instant of first use."""
    holding = holding_of(state, command.license_id)
    started = holding.first_use.get(command.feature)
    if started is not None:
        return state, started
    if command.feature and command.feature not in license_of(holding).features:
        raise error("feature_not_licensed", f"{holding.product} is licensed without {command.feature}")
    holding = holding.replace(first_use={**holding.first_use, command.feature: time.now})
    what = f"{holding.product} {command.feature}".strip()
    return logged(
        with_holding(state, holding), time.now, "first use", command.license_id, f"{what} first used"
    ), time.now


def debit(state: State, command: c.Debit, time: Assessment, _: Reading) -> tuple[State, Grant]:
    """Take an amount out for a grant; the same exchange id again changes nothing. Result: the grant."""
    holding = holding_of(state, command.license_id)
    grant = Grant(command.counter, command.amount, command.receiver, command.ends)
    known = holding.grants.get(command.xid)
    if known is not None:
        if known.replace(status=IN_TRANSIT) != grant:
            raise error("idempotency_conflict", "this exchange id was used for another grant")
        return state, known
    license_ = license_of(holding)
    policy = license_.terms.transfer if command.ends is None else license_.terms.lend
    if policy is None:
        raise error(
            "lending_denied", f"{holding.product} may not be {'transferred' if command.ends is None else 'lent'}"
        )
    available = _granted(license_, command.counter) - holding.counters.get(command.counter, _ZERO).gone
    if not 0 < command.amount <= available:
        raise error("units_exhausted", f"{command.amount} asked, {max(0, available)} left", available=max(0, available))
    if len(holding.grants) >= MAX_GRANTS:
        raise error("full", f"{MAX_GRANTS} grants of {holding.product} are on the books")
    counter = holding.counters.get(command.counter, _ZERO)
    holding = _with_counter(holding, command.counter, counter.replace(in_transit=counter.in_transit + command.amount))
    holding = holding.replace(grants={**holding.grants, command.xid: grant})
    text = f"{command.amount} of {holding.product} granted"
    return logged(with_holding(state, holding), time.now, "granted", command.xid, text), grant


def settle(state: State, command: c.Settle, time: Assessment, _: Reading) -> tuple[State, Grant]:
    """Close a grant. Result: the grant after.

    ``accepted``: in transit -> lent or given. ``refused``: back, only while in transit. ``returned`` and ``ended``: a
    loan comes back; a transfer never does, and no loan ends before its end.
    """
    holding = holding_of(state, command.license_id)
    grant = holding.grants.get(command.xid)
    if grant is None:
        raise error("request_not_found", "no grant of that id is on the books")
    counter = holding.counters[grant.counter]
    amount, loan = grant.amount, grant.ends is not None
    match command.outcome, grant.status:
        case ("accepted", status) if status == IN_TRANSIT:
            field = "lent" if loan else "given"
            counter = counter.replace(
                in_transit=counter.in_transit - amount, **{field: getattr(counter, field) + amount}
            )
            grant = grant.replace(status=SETTLED)
        case ("refused", status) if status == IN_TRANSIT:
            counter = counter.replace(in_transit=counter.in_transit - amount)
            grant = grant.replace(status=RETURNED)
        case (("returned" | "ended") as outcome, status) if loan and status != RETURNED:
            if outcome == "ended" and time.now < (grant.ends or 0):
                raise error("not_conserved", "the loan has not ended")
            field = "lent" if status == SETTLED else "in_transit"
            counter = counter.replace(**{field: getattr(counter, field) - amount})
            grant = grant.replace(status=RETURNED)
        case ("accepted", status) if status == SETTLED:
            return state, grant
        case (("refused" | "returned" | "ended"), status) if status == RETURNED:
            return state, grant
        case _:
            raise error("not_conserved", f"a grant in this state cannot be {command.outcome[:16]}")
    holding = _with_counter(holding, grant.counter, counter).replace(grants={**holding.grants, command.xid: grant})
    text = f"{amount} of {holding.product} {command.outcome}"
    return logged(with_holding(state, holding), time.now, "settled", command.xid, text), grant


def _debit_units(holding: Holding, feature: str, units: int, now: int) -> tuple[Holding, int]:
    if type(units) is not int or not 0 < units <= MAX_UNITS:
        raise error("usage", "units must be a whole number above 0")
    license_ = license_of(holding)
    verdict = evaluate(license_, holding.usage(), Facts(now, feature, units))
    verdict.require()
    if verdict.available is None:
        raise error("not_counted", f"{holding.product} {feature} counts no units".replace("  ", " "))
    name = counter_name(license_, feature)
    counter = holding.counters.get(name, _ZERO)
    return _with_counter(holding, name, counter.replace(used=counter.used + units)), verdict.available - units


def _granted(license_: License, counter: str) -> int:
    if counter == SEATS:
        return license_.terms.seats or 0
    counted: Any = license_.features.get(counter) if counter else license_.terms
    return 0 if counted is None else counted.units or 0


def _with_counter(holding: Holding, name: str, counter: Counter) -> Holding:
    return holding.replace(counters={**holding.counters, name: counter})


def _digest(command: c.Consume) -> bytes:
    what = b"%b|%b|%d" % (command.license_id, command.feature.encode(), command.units)
    return sha256(what)[:16]
