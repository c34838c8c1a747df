# SPDX-License-Identifier: Apache-2.0
"""Which part of a license is given, and whether programs that run here can spare it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from tallystick.clock import assess
from tallystick.codec.ident import container_id
from tallystick.codec.keys import PublicKey
from tallystick.container import commands as c
from tallystick.container.exchanges import CLOSED, IN_TRANSIT, Arrival, Given
from tallystick.container.ledger_books import license_of
from tallystick.container.ledger_given import available, told
from tallystick.container.ledger_install import keys_of
from tallystick.container.session import Transaction
from tallystick.container.state import Holding, State
from tallystick.errors import (
    FormatError,
    LendingError,
    NotLicensedError,
    TallystickError,
    VerificationError,
    error,
)
from tallystick.license.dates import number_of, show
from tallystick.license.device import EVIDENCE, proven_level
from tallystick.license.grant_policy import SEATS
from tallystick.license.messages import Request
from tallystick.license.policy import Facts, evaluate

Taken = Callable[[bytes], int]
OVER: Final = ("expired", "usage_period_over", "revoked")  # for good, unless the vendor says otherwise


def debited(tx: Transaction, command: c.Give, product: str, request: Request, taken: Taken) -> Given:
    """Debit the first part of a license that will do.

    Args:
        tx: the transaction.
        command: what is given; its `part` may be empty.
        product: product id, where known.
        request: the receiver's.
        taken: seats of a license in use on this machine.

    Returns:
        The grant's entry.

    Raises:
        LendingError: why the first candidate does not do.
        NotLicensedError: the same; ``not_licensed`` where nothing of the kind is held.
        UsageError: ``ambiguous`` where nothing says which license is meant.
    """
    refusal: TallystickError | None = None
    wanted = None if request.want is None else request.want.license_id
    for part in [command.part] if command.part else _candidates(tx.state, product, wanted):
        before = tx.state
        try:
            entry: Given = tx.apply(command.replace(part=part, level=_proven(tx.state, part, request)))
        except (LendingError, NotLicensedError) as reason:
            refusal = refusal or reason
            continue
        if tx.state is not before:
            check_given(tx.state, entry, taken)
        return entry
    if refusal is not None:
        raise refusal
    remedy = "Only what is held can be given: `tally list` shows what is here."
    raise error("not_licensed", f"this container holds no license for {product or 'that'}", remedy)


def answered(state: State, request_id: bytes) -> bytes:
    """Return the grant that answered a request for one, whatever is held by now; empty where there is none."""
    return next((entry.message for entry in state.given.values() if entry.request_id == request_id), b"")


def is_here(holding: Holding, now: int) -> bool:
    """Tell whether the right to run is here, or some of it; what is over for good is nowhere."""
    license_ = license_of(holding)
    if evaluate(license_, holding.usage(), Facts(now)).code in OVER:
        return False
    return available(holding, license_, SEATS) > 0


def left_here(state: State, vendor: str, now: int) -> list[str]:
    """Say what of a vendor may be used here, or is lent or in transit, so that it may come back.

    Args:
        state: the account at `now`.
        vendor: its name.
        now: seconds since 1970.

    Returns:
        One clause for each; empty where nothing is left.
    """
    found = []
    for holding in state.holdings.values():
        if holding.vendor != vendor:
            continue
        if is_here(holding, now):
            found.append(f"{holding.product} is still here")
        for entry in state.given.values():
            out = {name: entry.out(name) for name in entry.amounts if entry.out(name)}
            loan = entry.ends is not None
            if entry.part != holding.license_id or entry.status == CLOSED or not (loan or entry.status == IN_TRANSIT):
                continue
            where = "in transit to" if entry.status == IN_TRANSIT else "lent to"
            until = f" until {show(entry.ends)}" if entry.ends is not None else ""
            peer = container_id(PublicKey.from_cose(entry.receiver).thumbprint)
            found.append(f"{told(out)} of {holding.product} {where} {peer}{until} may come back")
    return found


def moved(
    tx: Transaction, message: bytes, request: Request, vendor: str | None, full: int, taken: Taken
) -> Iterator[Given]:
    """Debit everything that may be used here, part by part, for a move.

    Args:
        tx: the transaction.
        message: the receiver's invitation.
        request: what it says.
        vendor: only this vendor's; None for all.
        full: bytes of licenses after which the rest must wait for another file.
        taken: seats of a license in use on this machine.

    Yields:
        The entry of each grant.

    Raises:
        LendingError: the rule that forbids one of them; ``invitation_used`` for a request that asks for one thing.
    """
    size, now = 0, assess(tx.state.clock, tx.reading).now
    for holding in tuple(tx.state.holdings.values()):
        if vendor not in (None, holding.vendor) or not is_here(holding, now) or size > full:
            continue
        before = tx.state
        level = _proven(before, holding.license_id, request)
        entry: Given = tx.apply(c.Give(message, holding.license_id, {}, level=level))
        if tx.state is before:
            raise error("invitation_used", "this request asked for one thing, and was answered")
        check_given(tx.state, entry, taken)
        size += len(holding.message)
        yield entry


def _proven(state: State, part: bytes, request: Request) -> int:
    """Derive the level a receiver proves to the vendor of a part, whose key set names the factories it believes."""
    certificate, holding = request.evidence.get(EVIDENCE), state.holdings.get(part)
    if certificate is None or holding is None:
        return 0
    try:
        return proven_level(certificate, keys_of(state.vendors[holding.vendor]).keyset.factories, request.key)
    except (FormatError, VerificationError):
        return 0


def check_given(state: State, entry: Given, taken: Taken) -> None:
    """Refuse to give away a seat that a program runs on.

    Raises:
        NotLicensedError: ``seats_in_use``.
    """
    if entry.amounts.get(SEATS):
        _check_seats(state, license_of(state.holdings[entry.part]).license_id, taken)


def check_returned(state: State, arrival: Arrival, amounts: Mapping[str, int] | None, taken: Taken) -> None:
    """Refuse to give back a seat that a program runs on.

    Raises:
        NotLicensedError: ``seats_in_use``.
    """
    if SEATS in (arrival.amounts if amounts is None else amounts):
        _check_seats(state, arrival.license_id, taken)


def _candidates(state: State, product: str, license_id: bytes | None) -> list[bytes]:
    if not product and license_id is None and len(state.holdings) > 1:
        raise error("ambiguous", "several licenses are held", "Name the product.")
    return [
        key
        for key, holding in state.holdings.items()
        if product in ("", holding.product) and license_id in (None, license_of(holding).license_id)
    ]


def _check_seats(state: State, license_id: bytes, taken: Taken) -> None:
    in_use = taken(license_id)
    if not in_use:
        return
    left = sum(
        available(part, license_of(part), SEATS)
        for part in state.holdings.values()
        if license_of(part).license_id == license_id
    )
    if in_use > left:
        remedy = "End programs that use it (`tally seats` lists them), then repeat."
        raise error("seats_in_use", f"{number_of(in_use, 'seat')} in use, {left} would remain", remedy)
