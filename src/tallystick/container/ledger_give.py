# SPDX-License-Identifier: Apache-2.0
"""Ledger rules of the giver: debit, extend, recall (`ledger_given` keeps the book)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tallystick.clock import Assessment, Reading
from tallystick.codec import cose
from tallystick.codec.ident import container_id
from tallystick.codec.keys import PublicKey
from tallystick.container import commands as c
from tallystick.container.exchanges import CLOSED, Given, exchange_id, policy_key
from tallystick.container.ledger_books import holding_of, license_of, logged, with_counter, with_holding
from tallystick.container.ledger_given import available, given_of, told, with_given
from tallystick.container.state import Counter, Holding, State
from tallystick.errors import error
from tallystick.license import lending
from tallystick.license.dates import show
from tallystick.license.grant_policy import MAY_EXTEND, MAY_RECALL, SEATS, TOLERANCE_S, GrantPolicy, held, policy_of
from tallystick.license.messages import BORROW, Request, read_request
from tallystick.license.model import License
from tallystick.license.policy import Facts, evaluate
from tallystick.license.want import Want

MAX_GIVEN: Final = 1024
MAX_POLICIES: Final = 256
MAX_FORGOTTEN: Final = 4096  # receivers
_ZERO: Final = Counter()


def give(state: State, command: c.Give, time: Assessment, _: Reading) -> tuple[State, Given]:
    """Debit a grant. Result: its entry; a pull answered before gives the entry of that time."""
    request = read_request(command.request)
    want = _wanted(request, state.container)
    before = [entry for entry in state.given.values() if entry.request_id == request.request_id]
    if before and want.count == 1:
        return state, before[0]
    if len(before) >= want.count:
        raise error("invitation_used", f"{want.count} grants answered this request already")
    if request.created_at <= state.forgotten.get(request.key.thumbprint, -1):
        raise error("invitation_used", "this request is older than one whose answer is forgotten here")
    holding = holding_of(state, command.part)
    license_ = license_of(holding)
    evaluate(license_, holding.usage(), Facts(time.now, wall=time.wall)).require()
    unknown = sorted(set(command.features or ()) - set(license_.features))
    if unknown:
        raise error("feature_not_licensed", f"{holding.product} is licensed without {unknown[0]}")
    amounts = _amounts(holding, license_, command)
    if (want.product or want.license_id) and request.vendor != holding.vendor:
        raise error("not_wanted", f"the receiver asks for a license of {request.vendor}, not of {holding.vendor}")
    _check_want(want, license_, amounts, command.ends)
    _check_offer(state, holding, license_, amounts, command, request, time.now)
    for name, amount in amounts.items():
        counter = holding.counters.get(name, _ZERO)
        holding = with_counter(holding, name, counter.replace(in_transit=counter.in_transit + amount))
    holding = _started(holding, license_, time.now)
    entry = Given(
        exchange_id(request.request_id, state.container, len(before)),
        holding.license_id,
        request.request_id,
        request.key.cose,
        time.now,
        amounts,
        None if command.features is None else tuple(command.features),
        command.ends,
        asked_at=request.created_at,
    )
    state = with_holding(with_given(_with_room(state), entry), holding)
    kind = "transferred" if entry.ends is None else f"lent until {show(entry.ends)}"
    text = f"{told(amounts)} of {holding.product} {kind} to {container_id(request.key.thumbprint)}"
    return logged(state, time.now, "granted", entry.xid, text), entry


def keep_grant(state: State, command: c.KeepGrant, _time: Assessment, _: Reading) -> tuple[State, bytes]:
    """Keep the signed grant. Result: the one that counts, which for each end of a loan is the first one kept."""
    cose.cut(command.message)
    entry = given_of(state, command.xid)
    if entry.message:
        return state, entry.message
    return with_given(state, entry.replace(message=command.message)), command.message


def extend(state: State, command: c.Extend, time: Assessment, _: Reading) -> tuple[State, Given]:
    """Move the end of a loan. Result: its entry, with no message until the new grant is signed."""
    entry = given_of(state, command.xid)
    if entry.ends == command.ends and entry.seq:
        return state, entry
    if entry.ends is None:
        raise error("extend_denied", "a transfer has no end", "There is nothing to extend.")
    home = (
        0 < entry.amounts.get(SEATS, 0) <= entry.returned.get(SEATS, 0)
    )  # used here again, whatever the clock says now
    if entry.status == CLOSED or home or time.now >= entry.ends + TOLERANCE_S:
        raise error("loan_over", _over(entry, entry.ends, time.now))
    if command.ends <= entry.ends:
        raise error("loan_too_short", f"it is lent until {show(entry.ends)} already", "Recall it to have it earlier.")
    holding = holding_of(state, entry.part)
    license_ = license_of(holding)
    terms, local = policies_of(state, license_, command.ends)
    last = license_.terms.expires
    if last is not None and command.ends > last:
        raise error("duration_too_long", f"{holding.product} itself ends {show(last)}")
    rules = [(terms, "the license"), *([(local, "this container's administrator")] if local is not None else [])]
    for policy, who in rules:
        if policy is None or not policy.allowed & MAY_EXTEND:
            raise error("extend_denied", f"{who} does not allow to extend loans of {holding.product}")
        lending.check_duration(policy, who, command.ends - time.now)
    entry = entry.replace(ends=command.ends, seq=entry.seq + 1, message=b"")
    text = f"loan of {holding.product} extended until {show(command.ends)}"
    return logged(with_given(state, entry), time.now, "extended", entry.xid, text), entry


def _over(entry: Given, ends: int, now: int) -> str:
    if entry.outcome in ("declined", "returned"):
        return f"this loan was {entry.outcome}"
    if entry.outcome == "ended" or now >= ends:
        return f"this loan ended {show(ends)}"
    return "the seats of this loan were returned"


def recall(state: State, command: c.Recall, time: Assessment, _: Reading) -> tuple[State, Given]:
    """Remember that a loan was asked back; the books do not change before its receipt. Result: its entry."""
    entry = given_of(state, command.xid)
    if entry.status == CLOSED:
        over = "was declined" if entry.outcome == "declined" else "came back already"
        raise error("loan_over", f"this {over}")
    holding = holding_of(state, entry.part)
    terms, _local = policies_of(state, license_of(holding), entry.ends)
    if terms is None or not terms.allowed & MAY_RECALL:
        raise error("recall_denied", f"the license does not allow to recall {holding.product}")
    if entry.recalled_at:
        return state, entry
    entry = entry.replace(recalled_at=time.now)
    return logged(with_given(state, entry), time.now, "recalled", entry.xid, f"{holding.product} asked back"), entry


def set_policy(state: State, command: c.SetPolicy, time: Assessment, _: Reading) -> tuple[State, None]:
    """Set what the administrator allows."""
    policies = {key: policy for key, policy in state.policies.items() if key != command.key}
    if command.policy:
        policies[command.key] = GrantPolicy.from_map(command.policy)
    if len(policies) > MAX_POLICIES:
        raise error("full", f"at most {MAX_POLICIES} rules")
    what = "changed" if command.policy else "removed"
    return logged(state.replace(policies=policies), time.now, "policy", b"", f"rule for {command.key} {what}"), None


def policies_of(state: State, license_: License, ends: int | None) -> tuple[GrantPolicy | None, GrantPolicy | None]:
    """Return what the license and the administrator say of a loan (``ends``) or a transfer (None)."""
    transfer = ends is None
    local = state.policies.get(policy_key(transfer, license_.product)) or state.policies.get(policy_key(transfer))
    return policy_of(license_, ends), local


def _wanted(request: Request, giver: bytes) -> Want:
    want = request.want
    if request.action != BORROW or want is None:
        raise error("wrong_kind", "this request is for the vendor", "Send it to the vendor it names.")
    if want.lender is not None and want.lender != giver:
        raise error("wrong_container", f"this request is for {container_id(want.lender)}")
    if request.key.thumbprint == giver:
        raise error("usage", "a container cannot lend to itself")
    return want


def _check_want(want: Want, license_: License, amounts: Mapping[str, int], ends: int | None) -> None:
    if want.product and want.product != license_.product:
        raise error("not_wanted", f"the receiver asks for {want.product}, not {license_.product}")
    if want.license_id is not None and want.license_id != license_.license_id:
        raise error("not_wanted", "the receiver asks for another license")
    if (want.transfer or want.duration is not None) and want.transfer != (ends is None):
        raise error("not_wanted", f"the receiver asks for a {'transfer' if want.transfer else 'loan'}")
    if want.amounts and not all(amount <= want.amounts.get(name, 0) for name, amount in amounts.items()):
        raise error("not_wanted", f"the receiver asks for {told(want.amounts)}, not {told(amounts)}")


def _amounts(holding: Holding, license_: License, command: c.Give) -> dict[str, int]:
    """Tell what is given: what is asked, or everything the part has; no units of a feature that is not given."""
    asked, features = command.amounts, license_.features if command.features is None else command.features
    if not asked:
        names = [SEATS, *([""] if license_.terms.units is not None else [])]
        names += [name for name in features if license_.features[name].units is not None]
        everything = {name: available(holding, license_, name) for name in names}
        if not everything[SEATS]:
            raise error("not_available", f"no seat of {holding.product} is left")
        return {name: amount for name, amount in everything.items() if amount}
    counted = license_.terms.seats is not None
    if not counted and SEATS in asked:
        raise error("whole_only", f"{holding.product} has no number of seats")
    if counted and not asked.get(SEATS):
        raise error("usage", f"{holding.product} counts seats: nothing runs without at least one of them", "Add one.")
    for name, amount in asked.items():
        most = held(license_, name)
        if most is None:
            raise error("whole_only", f"{holding.product} counts no {name or 'units'}")
        if name not in ("", SEATS, *features):
            raise error("usage", f"units of {name} are given, but not {name} itself")
        left = available(holding, license_, name)
        if not 0 < amount <= left:
            raise error("not_available", f"{told({name: amount})} asked, {left} left", available=left)
    return dict(asked)


def _check_offer(
    state: State,
    holding: Holding,
    license_: License,
    amounts: Mapping[str, int],
    command: c.Give,
    request: Request,
    now: int,
) -> None:
    measure = lending.measure_of(license_)
    receiver = request.key
    want = request.want or Want()
    policies = policies_of(state, license_, command.ends)
    out = 0
    if any(policy is not None and policy.max_per_receiver is not None for policy in policies):
        out = sum(
            entry.out(measure)
            for entry in state.given.values()
            if entry.receiver == receiver.cose and entry.part == holding.license_id and entry.status != CLOSED
        )
    offer = lending.Offer(
        license_,
        amounts,
        {measure: available(holding, license_, measure)},
        command.ends,
        now,
        receiver.thumbprint,
        command.level,
        want.count == 1 and bool(want.product or want.license_id),
        out,
    )
    lending.check_offer(offer, *policies)
    if license_.terms.min_level > command.level:
        level = license_.terms.min_level
        raise error("receiver_level", f"{holding.product} needs level L{level}; the receiver proved L{command.level}")


def _started(holding: Holding, license_: License, now: int) -> Holding:
    """Giving is a use: a usage period begins here, so that it cannot begin anew wherever a part goes."""
    names = [name for name in license_.features if license_.features[name].usage_period is not None]
    names += [""] if license_.terms.usage_period is not None else []
    started = {name: now for name in names if name not in holding.first_use}
    return holding.replace(first_use={**holding.first_use, **started}) if started else holding


def _with_room(state: State) -> State:
    """Forget the oldest closed entries when the book is full.

    With one entry of a request all of its entries go, and from then on no request that its receiver made before it is
    answered: a forgotten answer must not be given again.
    """
    if len(state.given) < MAX_GIVEN:
        return state
    still = {entry.request_id for entry in state.given.values() if entry.status != CLOSED}
    gone = next((entry for entry in state.given.values() if entry.request_id not in still), None)
    if gone is None:
        raise error("full", f"{MAX_GIVEN} loans and transfers are open")
    receiver = PublicKey.from_cose(gone.receiver).thumbprint
    forgotten = {key: at for key, at in state.forgotten.items() if key != receiver}
    forgotten[receiver] = max(gone.asked_at, state.forgotten.get(receiver, 0))
    if len(forgotten) > MAX_FORGOTTEN:
        del forgotten[next(iter(forgotten))]
    given = {xid: entry for xid, entry in state.given.items() if entry.request_id != gone.request_id}
    return state.replace(given=given, forgotten=forgotten)
