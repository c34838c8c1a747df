# SPDX-License-Identifier: Apache-2.0
"""Loans and transfers by files: ask, answer, extend, and see beforehand what would move.

Each function works on one container; `exchange.direct` puts two of them together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from tallystick.codec import kinds
from tallystick.codec.ident import container_id
from tallystick.container.base import Container, LicenseView
from tallystick.container.lending_base import CANCELLED, EXPIRED, IN_TRANSIT, RECALLED, RETURNED, Loan
from tallystick.container.lending_parts import OVER
from tallystick.errors import error
from tallystick.exchange.identify import expect
from tallystick.exchange.loan_lookup import loan_of, xids_of
from tallystick.exchange.loan_words import loan_in_words
from tallystick.exchange.lookup import find_license
from tallystick.license.dates import show
from tallystick.license.grant_policy import SEATS
from tallystick.license.messages import Request, read_request
from tallystick.license.trust import Trust
from tallystick.license.want import Want
from tallystick.record import Record

Result = TypeVar("Result")

MANY: Final = 1000  # grants an invitation may ask for
_WHAT_BECAME: Final = {
    RETURNED: "was returned", RECALLED: "was returned", CANCELLED: "was declined", EXPIRED: "has ended",
}  # fmt: skip


class Wish(Record):
    """What somebody wants lent or transferred, as typed on either side.

    Attributes:
        product: product id; empty where one thing only can be meant.
        license_: a license or part held by the giver, by id or the beginning of one; empty for any.
        amounts: how much, by counter; what it does not name is left to the other side, 0 leaves a counter out.
        whole: everything that is left.
        features: only these; None for all.
        duration: of a loan, in seconds.
        ends: end of a loan, in seconds since 1970; instead of `duration`.
        transfer: for good.
        count: how many grants may answer a request.
        lender: thumbprint of the only container asked.
    """

    product: str = ""
    license_: str = ""
    amounts: Mapping[str, int] = {}
    whole: bool = False
    features: tuple[str, ...] | None = None
    duration: int | None = None
    ends: int | None = None
    transfer: bool = False
    count: int = 1
    lender: bytes | None = None


def ask(container: Container, wish: Wish, trust: Trust | None = None) -> bytes:
    """Ask for a loan or a transfer.

    Args:
        container: of the receiver.
        wish: what is wanted; an end is asked for as a duration from now on.
        trust: the vendor, where the container does not know it, or knows several.

    Returns:
        The request.

    Raises:
        UsageError: ``usage``, ``vendor_needed``, ``closed``.
        ContainerError, LockedError, StorageError, BackendError: as `Lending.ask`.
    """
    duration = wish.duration
    if wish.ends is not None:
        duration = wish.ends - container.info().now
        if duration <= 0:
            raise error("usage", "a loan cannot end in the past", "Choose a later end.")
    return container.lending.ask(
        trust,
        product=wish.product,
        amounts=wish.amounts,
        features=wish.features,
        duration=duration,
        transfer=wish.transfer,
        count=wish.count,
        lender=wish.lender,
    )


def answer(container: Container, request: bytes, wish: Wish) -> tuple[bytes, Loan]:
    """Lend or transfer to the container that made a request. The same pull again: the same grant.

    Args:
        container: of the giver.
        request: as received, armor taken off.
        wish: what is given; what it leaves open is as the request asks.

    Returns:
        The grant, and its entry in the giver's book.

    Raises:
        FormatError: ``wrong_kind`` and others; VerificationError: the request is not genuine.
        LendingError: ``invitation_used`` where what answered the request has come back.
        UsageError: ``usage`` where neither side says how much, or until when; ``ambiguous``.
        LendingError, NotLicensedError, LockedError, StorageError, BackendError: as `Lending.give`.
    """
    read = _read(request)
    want = read.want or Want()
    if wish.transfer != want.transfer and (want.transfer or want.duration is not None):
        asked, command = ("a transfer", "transfer") if want.transfer else ("a loan", "lend")
        raise error("not_wanted", f"the receiver asks for {asked}", f"Use `tally {command} FILE`.")
    if want.lender not in (None, container.info().thumbprint):
        lender = container_id(want.lender)
        raise error("wrong_container", f"this request is for {lender}", "Give it to that container: `tally lend FILE`.")
    if want.count == 1:
        _refuse_answered(container, read.request_id)
    view = find_license(container, wish.license_) if wish.license_ else None
    ends = wish.ends
    if ends is None and wish.duration is not None:
        ends = container.info().now + wish.duration
    if ends is None and not wish.transfer and want.duration is None:
        raise error("usage", "a loan needs an end", "Pass `--for 3d` or `--until DATE`.")
    message = container.lending.give(
        request,
        part=None if view is None else view.license_id,
        product=wish.product or ("" if view is None else view.product),
        amounts=_amounts(container, want, wish, view),
        features=wish.features,
        ends=ends,
        transfer=wish.transfer,
    )
    return message, loan_of(container, xids_of(message)[0])


def wanted(request: bytes) -> Want:
    """Read what a request of another container asks; the request proves itself.

    Raises:
        FormatError: ``wrong_kind`` for a request to a vendor, and for what is no request.
        VerificationError: it is not genuine.
    """
    return _read(request).want or Want()


def answer_of(container: Container, request: bytes) -> Loan | None:
    """Find what answered a request for one grant; None where nothing did. Raises as `wanted`."""
    read = _read(request)
    if read.want is None or read.want.count > 1:
        return None
    loans = container.lending.loans()
    return next((loan for loan in loans if loan.outgoing and loan.request_id == read.request_id), None)


def extend(container: Container, loan: Loan, ends: int) -> bytes:
    """Extend a loan.

    Args:
        container: of the giver.
        loan: its entry.
        ends: its new end.

    Returns:
        The grant that says so.

    Raises:
        LendingError: ``loan_over`` also for one that was asked back: the recall may be on its way already; else as
            `Lending.extend`.
        NotFoundError, LockedError, StorageError, BackendError: as `Lending.extend`.
    """
    check_extendable(loan)
    return container.lending.extend(loan.xid, ends)


def check_extendable(loan: Loan) -> None:
    """Refuse to extend what came back, or was asked back; raises ``loan_over``."""
    if loan.state in _WHAT_BECAME and loan.state != EXPIRED:
        raise error("loan_over", f"this loan {_WHAT_BECAME[loan.state]}")
    if loan.recalled and loan.ends is not None and loan.state != EXPIRED:
        remedy = f"Bring the recall to {loan.peer_id} (`tally recall {loan.xid.hex()[:8]}`), then lend it anew."
        raise error("loan_over", "this loan was asked back and is not extended", remedy)


def staying(container: Container, receiver: bytes, vendor: str | None = None) -> tuple[str, ...]:
    """Say what a move of everything leaves behind, and why.

    Args:
        container: of the giver.
        receiver: thumbprint of the other container; what is in transit to it goes with the move.
        vendor: only this vendor's.

    Returns:
        One clause for each.
    """
    found = [
        f"{view.product}: {view.verdict.message}"
        for view in container.licenses()
        if vendor in (None, view.vendor) and view.verdict is not None and view.verdict.code in OVER
    ]
    for loan in container.lending.loans():
        mine = loan.outgoing and loan.open and vendor in (None, loan.vendor)
        if mine and (not loan.transfer or (loan.state == IN_TRANSIT and loan.peer != receiver)):
            found.append(loan_in_words(loan, divisible=is_divisible(container, loan)))
    return tuple(found)


def is_divisible(container: Container, loan: Loan) -> bool:
    """Tell whether a loan's license counts seats; True where the license is not here any more."""
    licenses = (view.license_ for view in container.licenses() if view.license_ is not None)
    return next((one.terms.seats is not None for one in licenses if one.license_id == loan.license_id), True)


def rehearse(container: Container, act: Callable[[Container], Result]) -> Result:
    """Do something in memory only.

    Args:
        container: open; nothing in it changes.
        act: does it, to the container passed.

    Returns:
        What `act` returns.

    Raises:
        ContainerError: ``not_supported`` where the backend cannot; and what `act` raises.
    """
    with container.rehearsal() as stage:
        return act(stage)


def _read(request: bytes) -> Request:
    expect(request, kinds.REQUEST)
    read = read_request(request)
    if read.want is None:
        raise error("wrong_kind", "this request is for the vendor", "Send it to the vendor it names.")
    return read


def _refuse_answered(container: Container, request_id: bytes) -> None:
    """Refuse to hand out a grant that is dead. One that is open is given again, the very same bytes."""
    for loan in container.lending.loans():
        if loan.outgoing and loan.request_id == request_id and not loan.open:
            kind, became = "transfer" if loan.transfer else "loan", _WHAT_BECAME[loan.state]
            raise error("invitation_used", f"this request was answered on {show(loan.at)}; that {kind} {became}")


def _amounts(container: Container, want: Want, wish: Wish, view: LicenseView | None) -> Mapping[str, int] | None:
    """Tell how much is given: never everything of what can be divided, unless somebody said so."""
    if wish.whole:
        return {}
    if wish.amounts:
        asked = {name: amount for name, amount in want.amounts.items() if _goes(name, wish.features)}
        given = {name: amount for name, amount in {**asked, **wish.amounts}.items() if amount}
        if not given:
            raise error("usage", "nothing is given", "Give at least one of what is asked.")
        return given
    if want.amounts:
        return None
    product = wish.product or want.product
    views = [view] if view else [one for one in container.licenses() if product in ("", one.product)]
    licenses = [one.license_ for one in views if one.license_ is not None]
    if any(one.terms.seats is not None or one.terms.units is not None for one in licenses):
        remedy = "Pass `--seats N`, `--units N`, or `--whole` for everything that is left."
        raise error("usage", "neither the request nor the command says how much", remedy)
    return {}


def _goes(counter: str, features: tuple[str, ...] | None) -> bool:
    """Tell whether a counter goes with the features that are given."""
    return features is None or counter in ("", SEATS, *features)
