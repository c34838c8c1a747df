# SPDX-License-Identifier: Apache-2.0
"""The rules of a container, once: ``(state, command, reading) -> (state', result)``.

Pure: no I/O, no clock, no randomness; the same command on the same state gives the same result, on a host or inside a
dongle. Every command is total: it returns a new state, or raises a typed error and changes nothing. What holds in every
state:

* ``granted = available + used + lent + in transit + given`` for every counter, available never below minus the overage;
* a license id is held or buried (tombstone), never both, and a buried one never comes back;
* a request is open, answered, refused or cancelled, and leaves *open* once;
* an update or idempotency key acts once; the second time it returns the first result;
* a grant is debited before it leaves, taken once, and comes home only as `ledger_given` says;
* what was written to a vendor is remembered with it, before it is emitted;
* the clock floor never falls, unless the vendor orders it.

Units are in `container.ledger_units`, updates in `container.ledger_install`, loans and transfers in
`container.ledger_give` and `container.ledger_take`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from tallystick.clock import Assessment, Reading, assess
from tallystick.codec import cose, kinds
from tallystick.codec.keys import PublicKey
from tallystick.container import commands as c
from tallystick.container import ledger_install as install
from tallystick.container import ledger_units as units
from tallystick.container.ledger_books import MAX_LICENSES, holding_of, logged, noted, without_old_requests
from tallystick.container.standing import as_of
from tallystick.container.state import CANCELLED, OPEN, REFUSED, Pending, State, Tombstone, VendorBook
from tallystick.errors import FormatError, error
from tallystick.license.answers import Refusal
from tallystick.license.messages import ACTION_NAMES, ACTIVATE, BORROW, FOLLOWED, VARIABLE, Account
from tallystick.license.schema import name

MAX_OPEN: Final = 64
MAX_VENDORS: Final = 64
MAX_VARIABLES: Final = 32


def create(container: bytes, reading: Reading) -> State:
    """Begin an account.

    Args:
        container: thumbprint of the identity key.
        reading: the clocks.

    Returns:
        The first state.
    """
    empty = State(container, 0)
    time = assess(empty.clock, reading)
    return logged(empty.replace(created_at=time.now, clock=time.memory), time.now, "created", b"", "container created")


def apply(state: State, command: c.Command, reading: Reading) -> tuple[State, Any]:
    """Apply one command.

    Args:
        state: the account before.
        command: what is asked.
        reading: the clocks.

    Returns:
        The account after (the very same object where nothing changed), and the command's result (see each command's
        function).

    Raises:
        TallystickError: the refusal; the state before remains.
    """
    time = assess(state.clock, reading)
    timed = as_of(state.replace(clock=time.memory, generation=state.generation + 1), time.now)
    rule = _RULES.get(type(command)) or _lending_rules()[type(command)]
    after, result = rule(timed, command, time, reading)
    if after is timed and type(command) is not c.Observe:
        return state, result  # a repetition: nothing to commit
    return after, result


def _add_vendor(state: State, command: c.AddVendor, time: Assessment, _: Reading) -> tuple[State, None]:
    known = state.vendors.get(command.vendor)
    if known is not None:
        if known.root != command.root:
            message = f"this container knows {command.vendor} with another root key"
            raise error("wrong_vendor", message, "Check the trust text; a vendor's root key never changes.")
        return state, None
    if len(state.vendors) >= MAX_VENDORS:
        raise error("full", f"the container knows {MAX_VENDORS} vendors already")
    PublicKey.from_cose(command.root)
    book = VendorBook(command.vendor, command.root)
    state = state.replace(vendors={**state.vendors, command.vendor: book})
    return logged(state, time.now, "vendor", b"", f"vendor {command.vendor} added"), None


def _open_request(state: State, command: c.OpenRequest, time: Assessment, _: Reading) -> tuple[State, None]:
    if command.vendor not in state.vendors:
        raise error("vendor_unknown", f"this container does not know {command.vendor}")
    if command.request_id in state.pending:
        raise error("idempotency_conflict", "a request of that id exists")
    open_now = sum(pending.status == OPEN for pending in state.pending.values())
    if open_now >= MAX_OPEN:
        remedy = "Import the answers that have come, or cancel requests that will not be answered."
        raise error("full", f"{open_now} requests are open", remedy)
    if command.action == ACTIVATE and len(state.holdings) >= MAX_LICENSES:
        raise error("full", f"{len(state.holdings)} licenses are held")
    pending = Pending(
        command.request_id, command.vendor, command.product, command.action, time.now, command.message,
        count=command.count,
    )  # fmt: skip
    state = state.replace(pending=without_old_requests({**state.pending, command.request_id: pending}))
    if command.action in FOLLOWED:
        state = noted(state, command.vendor, command.request_id)
    what = f"{ACTION_NAMES[command.action]} {command.product or 'request'} at {command.vendor}"
    return logged(state, time.now, "requested", command.request_id, what), None


def _cancel_request(state: State, command: c.CancelRequest, time: Assessment, _: Reading) -> tuple[State, None]:
    pending = state.pending.get(command.request_id)
    if pending is None:
        raise error("request_not_found", "this container never made that request")
    if pending.status == CANCELLED:
        return state, None
    if pending.status != OPEN:
        raise error("request_not_found", "that request has been answered", "There is nothing to cancel.")
    state = install.close_request(state, command.request_id, CANCELLED, b"", "cancelled here")
    if pending.action == BORROW:
        from tallystick.container.ledger_take import declined_ahead

        state = declined_ahead(state, pending, time.now)
    return logged(state, time.now, "cancelled", command.request_id, f"request to {pending.vendor} cancelled"), None


def _take_refusal(state: State, command: c.TakeRefusal, time: Assessment, reading: Reading) -> tuple[State, Refusal]:
    """Result: the refusal, also when it was taken before."""
    before = state
    state, ring, claims, _ = install.open_answer(state, command.message, kinds.REFUSAL)
    refusal = Refusal.from_claims(claims)
    install.check_receiver(state, refusal.container, ring.vendor, refusal.vendor)
    pending = state.pending.get(refusal.in_reply_to)
    if pending is None or pending.vendor != refusal.vendor:
        raise error("request_not_found", "this refusal answers a request this container never made")
    if pending.status == REFUSED:
        return before, refusal
    if pending.status != OPEN:
        raise error("request_not_found", "the request this refusal answers is closed", "There is nothing to do.")
    state = install.close_request(state, refusal.in_reply_to, REFUSED, refusal.message_id, refusal.message)
    state = install.certify_time(state, refusal.issued_at, reading)
    return logged(state, time.now, "refused", refusal.in_reply_to, f"{refusal.vendor}: {refusal.message}"), refusal


def _keep_receipt(state: State, command: c.KeepReceipt, _time: Assessment, _: Reading) -> tuple[State, bytes]:
    """Result: the receipt that counts, which is the first one kept."""
    cose.cut(command.message)
    buried = state.tombstones.get(command.about)
    if buried is not None:
        if buried.receipt:
            return state, buried.receipt
        tombstones = {**state.tombstones, command.about: buried.replace(receipt=command.message)}
        return _noted(state.replace(tombstones=tombstones), command), command.message
    if command.about not in state.receipts:
        raise error("receipt_unknown", "nothing here is waiting for that receipt")
    kept = state.receipts[command.about]
    if kept:
        return state, kept
    state = state.replace(receipts={**state.receipts, command.about: command.message})
    return _noted(state, command), command.message


def _noted(state: State, command: c.KeepReceipt) -> State:
    return noted(state, command.vendor, command.message_id) if command.vendor in state.vendors else state


def _deactivate(state: State, command: c.Deactivate, time: Assessment, _: Reading) -> tuple[State, Account | None]:
    """Result: the final account, or None where the license was given up before (its tombstone has the receipt)."""
    if command.license_id in state.tombstones:
        return state, None
    holding = holding_of(state, command.license_id)
    if command.license_id in state.arrivals:
        raise error("usage", f"this {holding.product} came from another container", "Give it back: `tally return`.")
    if any(counter.lent or counter.in_transit or counter.given for counter in holding.counters.values()):
        raise error("held_elsewhere", f"part of {holding.product} is lent or in transit")
    holdings = {key: value for key, value in state.holdings.items() if key != command.license_id}
    grave = Tombstone(command.license_id, holding.vendor, holding.product, time.now)
    state = state.replace(holdings=holdings, tombstones={**state.tombstones, command.license_id: grave})
    state = logged(state, time.now, "deactivated", command.license_id, f"{holding.product} given up")
    return state, install.account_of(holding)


def _observe(state: State, _command: c.Observe, _time: Assessment, _: Reading) -> tuple[State, None]:
    return state, None


def _set_variable(state: State, command: c.SetVariable, _time: Assessment, _: Reading) -> tuple[State, None]:
    try:
        name(command.name)
        VARIABLE(command.value)
        command.value.encode()
    except (FormatError, UnicodeEncodeError) as cause:  # kept, it would spoil every later request
        raise error("usage", "a device variable is a name of letters, digits or . _ + - and a text of 256") from cause
    variables = {known: value for known, value in state.variables.items() if known != command.name}
    if command.value:
        variables[command.name] = command.value
    if len(variables) > MAX_VARIABLES:
        raise error("full", f"at most {MAX_VARIABLES} device variables")
    return state.replace(variables=variables), None


def _note(state: State, command: c.Note, time: Assessment, _: Reading) -> tuple[State, None]:
    return logged(state, time.now, command.kind, b"", command.text), None


_Rule = Callable[[State, Any, Assessment, Reading], tuple[State, Any]]

_RULES: Final[dict[type[c.Command], _Rule]] = {
    c.AddVendor: _add_vendor,
    c.OpenRequest: _open_request,
    c.CancelRequest: _cancel_request,
    c.Install: install.install,
    c.TakeRefusal: _take_refusal,
    c.KeepReceipt: _keep_receipt,
    c.Consume: units.consume,
    c.Metered: units.metered,
    c.Reserve: units.reserve,
    c.Release: units.release,
    c.FirstUse: units.first_use,
    c.Deactivate: _deactivate,
    c.Observe: _observe,
    c.SetVariable: _set_variable,
    c.Note: _note,
}


def _lending_rules() -> Mapping[type[c.Command], _Rule]:
    """Load the rules of loans and transfers with the first of their commands: most applications never need them."""
    from tallystick.container.ledger_lending import RULES

    return RULES
