# SPDX-License-Identifier: Apache-2.0
"""Ledger rules for what is counted: consumption, reservations, first use."""

from __future__ import annotations

from typing import Final

from tallystick.clock import Assessment, Reading
from tallystick.codec.digest import sha256
from tallystick.container import commands as c
from tallystick.container.ledger_books import (
    counter_name,
    holding_of,
    license_of,
    logged,
    parts_beside,
    with_counter,
    with_holding,
)
from tallystick.container.state import Counter, Holding, State
from tallystick.errors import error
from tallystick.license.dates import number_of
from tallystick.license.model import License
from tallystick.license.policy import BORROW_MORE, Facts, Verdict, evaluate
from tallystick.license.schema import MAX_UNITS

MAX_RETRIES: Final = 1024  # idempotency keys remembered; a retry comes within seconds, not after a thousand other uses
MAX_RESERVATIONS: Final = 64  # beyond it the oldest open block is forfeited: its program is long gone
MAX_KEY: Final = 64
MAX_PROOFS: Final = 128  # of 200 bytes each: they are written with every state
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
    state, left = _debit_units(state, command.license_id, command.feature, command.units, time)
    if key:
        retries = dict(state.retries)
        if len(retries) >= MAX_RETRIES:
            del retries[next(iter(retries))]
        retries[key] = (digest, left)
        state = state.replace(retries=retries)
    return state, left


def metered(state: State, command: c.Metered, _time: Assessment, _: Reading) -> tuple[State, None]:
    """Book what a TPM counted, where that is more than was booked: uses that a crash cut off were counted too."""
    holding = holding_of(state, command.license_id)
    counter = holding.counters.get("", _ZERO)
    if command.used > counter.used:
        state = with_holding(state, with_counter(holding, "", counter.replace(used=command.used)))
    if command.proof:
        retries = dict(state.retries)
        proofs = {key: proof for key, proof in state.proofs.items() if key in retries}
        while len(proofs) >= MAX_PROOFS:
            oldest = next(iter(proofs))
            del proofs[oldest], retries[oldest]  # a key without its proof would be refused for ever
        state = state.replace(retries=retries, proofs={**proofs, command.idempotency_key: command.proof})
    return state, None


def reserve(state: State, command: c.Reserve, time: Assessment, _: Reading) -> tuple[State, int]:
    """Debit a block. Result: units left beside it."""
    holding = holding_of(state, command.license_id)
    if command.reservation_id in holding.reservations:
        raise error("idempotency_conflict", "a reservation of that id is open")
    left = _reserved(holding, command, time)
    holding = _taken(holding, license_of(holding), command.feature, command.units)
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
    holding = with_counter(holding, name, counter.replace(used=counter.used - command.rest))
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


def _debit_units(state: State, license_id: bytes, feature: str, units: int, time: Assessment) -> tuple[State, int]:
    """Take units out of a part, and of the other parts of the same license where it has not enough.

    Returns:
        The account, and what is left in all parts.
    """
    holding = holding_of(state, license_id)
    if type(units) is not int or not 0 < units <= MAX_UNITS:
        raise error("usage", "units must be a whole number above 0")
    license_ = license_of(holding)
    others = parts_beside(state, holding, license_)
    if not others:
        verdict = evaluate(license_, holding.usage(), Facts(time.now, feature, units, wall=time.wall))
        verdict.require()
        holding = _taken(holding, license_, feature, units)
        return with_holding(state, holding), _counted(verdict, holding, feature) - units
    verdict = evaluate(license_, holding.usage(), Facts(time.now, feature, wall=time.wall))
    verdict.require()
    left = {license_id: _counted(verdict, holding, feature)}
    for other in others:
        more = evaluate(license_of(other), other.usage(), Facts(time.now, feature, wall=time.wall))
        if more.ok and more.available:
            left[other.license_id] = more.available
    total = sum(left.values())
    if units > total:
        message = f"{feature or holding.product}: {number_of(units, 'unit')} asked, {total} left"
        remedy = None if license_.borrowed_until is None else BORROW_MORE
        raise error("units_exhausted", message, remedy, available=total)
    rest = units
    for part, most in left.items():
        amount = min(rest, most)
        if amount:
            held = state.holdings[part]
            state = with_holding(state, _taken(held, license_of(held), feature, amount))
        rest -= amount
    return state, total - units


def _reserved(holding: Holding, command: c.Reserve, time: Assessment) -> int:
    """Tell what a block leaves in its part; a block is of one part, so that its rest goes back where it came from."""
    if type(command.units) is not int or not 0 < command.units <= MAX_UNITS:
        raise error("usage", "units must be a whole number above 0")
    verdict = evaluate(
        license_of(holding), holding.usage(), Facts(time.now, command.feature, command.units, wall=time.wall)
    )
    verdict.require()
    return _counted(verdict, holding, command.feature) - command.units


def _counted(verdict: Verdict, holding: Holding, feature: str) -> int:
    if verdict.available is None:
        raise error("not_counted", f"{holding.product} {feature} counts no units".replace("  ", " "))
    return verdict.available


def _taken(holding: Holding, license_: License, feature: str, units: int) -> Holding:
    name = counter_name(license_, feature)
    counter = holding.counters.get(name, _ZERO)
    return with_counter(holding, name, counter.replace(used=counter.used + units))


def _digest(command: c.Consume) -> bytes:
    what = b"%b|%b|%d" % (command.license_id, command.feature.encode(), command.units)
    return sha256(what)[:16]
