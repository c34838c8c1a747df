# SPDX-License-Identifier: Apache-2.0
"""`Seat`: the answer to "may this run?", in nanoseconds.

A seat keeps one deadline on the monotonic clock for each feature asked: the earliest of the effective end of the
license, the next re-proof of the container's key, and whatever shortened it since. `Seat.check` reads the clock once,
looks the feature up once and compares. Everything else happens on the slow path, when a deadline has passed: the
container proves its key on a fresh nonce, the account and the clocks are read again, the policy decides, and the
deadline is set anew. An event that ends a right clears the deadlines; there is no flag that could stay true when a
thread dies.

By default a thread renews deadlines before they pass (`container.proof`), so that `check` never blocks. `consume` and
`unlock` wait for a disk or a device: from asyncio, call them with ``asyncio.to_thread``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from types import TracebackType
from typing import Any, Final, ParamSpec, Self, TypeVar, cast

from tallystick.codec.envelope import Content
from tallystick.container.block import Block
from tallystick.container.ledger_books import counter_name
from tallystick.container.seat_host import SeatHost
from tallystick.container.slots_claim import Claim
from tallystick.errors import TallystickError, error
from tallystick.license.model import License
from tallystick.license.policy import Facts, Verdict

_CO_COROUTINE: Final = 0x80  # inspect.CO_COROUTINE, without the cost of importing inspect

P = ParamSpec("P")
R = TypeVar("R")


class Repeated(int):
    """Units left after the first call with an idempotency key; this call used nothing."""


class Seat:
    """A right to run, held while the application runs. Use it as a context manager, or `close` it.

    Attributes:
        license_: the license it stands on: licensee, protected data, terms.
    """

    __slots__ = (
        "__weakref__", "_block", "_claim", "_deadlines", "_facts", "_host", "_linger", "_now", "_refusals", "_until",
        "license_",
    )  # fmt: skip

    def __init__(
        self,
        host: SeatHost,
        license_: License,
        facts: Facts,
        block: Block | None = None,
        claim: Claim | None = None,
        *,
        linger: bool = True,
    ) -> None:
        self.license_ = license_
        self._host: SeatHost | None = host
        self._facts = facts
        self._now = host.monotonic
        self._deadlines: dict[str, float] = {}
        self._refusals: dict[str, TallystickError] = {}
        self._until: int | None = None
        self._block = block
        self._claim = claim
        self._linger = linger

    def check(self, feature: str = "") -> bool:
        """Tell whether a feature may be used now; never raises for a refusal.

        Args:
            feature: its name; empty for the product itself.

        Returns:
            True or False; `refusal` says why not.
        """
        if self._now() < self._deadlines.get(feature, 0.0):
            return True
        return self._decide(feature)

    def require(self, feature: str = "") -> None:
        """Raise unless a feature may be used now.

        Args:
            feature: its name; empty for the product itself.

        Raises:
            NotLicensedError: the refusal, with its remedy.
            UsageError: ``closed``.
            BackendError, LockedError: the container cannot prove its key any more.
        """
        if not self.check(feature):
            raise self._refusals[feature]

    def refusal(self, feature: str = "") -> TallystickError | None:
        """Return why the last check of a feature said no; None if it did not."""
        return self._refusals.get(feature)

    @property
    def valid_until(self) -> int | None:
        """Effective end of the product's right, seconds since 1970; None for ever. Warnings are in `verdict`."""
        return self._until

    def verdict(self, feature: str = "", *, warn: int | None = None) -> Verdict:
        """Evaluate now, with message, remedy, warnings and units left.

        Args:
            feature: its name; empty for the product itself.
            warn: seconds before an end at which warnings begin; None: as checked out.

        Raises:
            UsageError: ``closed``.
            LockedError, BackendError, StorageError.
        """
        facts = self._facts.replace(feature=feature, warn=self._facts.warn if warn is None else warn)
        return self._open_host().decide(self.license_.part, facts)[0]

    def consume(self, units: int = 1, feature: str = "", *, idempotency_key: str | bytes = b"") -> int:
        """Use up exactly `units`, or nothing; durable before it returns.

        Args:
            units: how many, above 0.
            feature: whose counter, where the feature has one of its own.
            idempotency_key: repeat a call with the same key and the units are used once; remembered for the last 1,024
                keys.

        Returns:
            Units left, overage included; a `Repeated` where the key was booked before.

        Raises:
            NotLicensedError: ``units_exhausted`` with ``details["available"]``, or any refusal of the license.
            UsageError: ``usage`` for anything but a whole number above 0, ``not_counted``, ``closed``.
            ContainerError: ``idempotency_conflict``, ``busy``.
            LockedError, StorageError, BackendError: nothing was acknowledged.
        """
        host = self._open_host()
        if type(units) is not int:
            raise error("usage", "units must be a whole number above 0")
        host.proven_until()
        block = self._block
        if block is not None and not idempotency_key and block.counter == counter_name(self.license_, feature):
            self.require(feature)
            left = block.take(units)
            if left is not None:
                return left
        key = idempotency_key.encode() if isinstance(idempotency_key, str) else idempotency_key
        return host.consume(self.license_.part, feature, units, key)

    def unlock(self, content: bytes) -> bytes:
        """Decrypt content that only licensed containers open.

        Args:
            content: what ``tally vendor seal`` made.

        Returns:
            The plaintext.

        Raises:
            NotLicensedError: the license has ended, or holds no key for this content.
            FormatError: not content.
            VerificationError: ``decrypt_failed``.
            ContainerError: ``not_supported`` where the anchor cannot agree.
        """
        host = self._open_host()
        self.require()
        parts = Content(content)
        return parts.open(host.content_key(self.license_, parts.key_id))

    def renew(self) -> None:
        """Set the deadlines of every feature asked so far anew; called by the renewing thread."""
        for feature in tuple(self._deadlines):
            self._decide(feature)

    def expire(self, reason: TallystickError) -> None:
        """End every deadline at once; the next check decides anew."""
        self._deadlines.clear()
        self._refusals[""] = reason

    def close(self, *, linger: bool | None = None) -> None:
        """Give the seat up, and the rest of a reserved block back. Closing twice is allowed.

        Args:
            linger: False frees the seat at once, whatever linger time the license has; None: as checked out.
        """
        host, self._host = self._host, None
        if host is None:
            return
        self._deadlines.clear()
        host.leave(self)
        if self._claim is not None:
            self._claim.leave(self, linger=self._linger if linger is None else linger)
        block, self._block = self._block, None
        rest = None if block is None else block.drain()
        if block is not None and rest is not None:
            host.release(self.license_.part, block.reservation_id, rest)

    def _open_host(self) -> SeatHost:
        if self._host is None:
            raise error("closed", "the seat is closed")
        return self._host

    def _decide(self, feature: str) -> bool:
        """The slow path: prove, evaluate, set the deadline."""
        try:
            host = self._open_host()
            if self._claim is not None:
                self._claim.ensure()
            proven = host.proven_until()
            verdict, now = host.decide(self.license_.part, self._facts.replace(feature=feature))
            verdict.require()
        except TallystickError as refusal:
            self._deadlines.pop(feature, None)
            self._refusals[feature] = refusal
            return False
        if not feature:
            self._until = verdict.valid_until
        if verdict.valid_until is not None:
            proven = min(proven, host.monotonic() + verdict.valid_until - now)
        self._deadlines[feature] = proven
        self._refusals.pop(feature, None)
        if self._host is None:  # closed meanwhile, while the renewing thread decided
            self._deadlines.clear()
            return False
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Seat({self.license_.vendor}/{self.license_.product})"


def requires(
    seat: Seat | Callable[[], Seat], feature: str = "", *, units: int = 0
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function or coroutine function so that it runs only while licensed.

    Args:
        seat: the seat, or a function that returns it when the decorated function is called.
        feature: feature that must be licensed.
        units: units consumed before each call.

    Returns:
        The decorator. A refusal is raised in place of the call.
    """

    def guard() -> None:
        held = seat if isinstance(seat, Seat) else seat()
        if units:
            held.consume(units, feature)
        else:
            held.require(feature)

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        code = getattr(function, "__code__", None)
        if code is not None and code.co_flags & _CO_COROUTINE:

            @wraps(function)
            async def guarded_coroutine(*args: P.args, **kwargs: P.kwargs) -> Any:
                if units:
                    import asyncio

                    await asyncio.to_thread(guard)
                else:
                    guard()
                return await cast("Any", function(*args, **kwargs))

            return cast("Callable[P, R]", guarded_coroutine)

        @wraps(function)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            guard()
            return function(*args, **kwargs)

        return guarded

    return decorate
