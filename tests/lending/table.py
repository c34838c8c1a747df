# SPDX-License-Identifier: Apache-2.0
"""Where lending happens: an issuer, three containers, and a post that keeps every message that was ever sent.

A `Table` calls the containers, cuts their power now and then in the middle of a call, and demands after everything that
the books of all of them add up (`conservation`), and that nothing a container had let out is gone.
"""

from __future__ import annotations

import random
from collections import Counter as Tally
from collections.abc import Callable
from typing import Any, NamedTuple

from simfs import PowerCut

from fakes import START
from issuer import DAY, Issuer
from lending.conservation import Books, BrokenError, Key
from lending.sites import Site
from tallystick.errors import TallystickError
from tallystick.license.grant_policy import MAY_ALL, GrantPolicy
from tallystick.license.model import Feature, License

SITES = 3
SKEW_S = 100  # clocks are off by less than the tolerance between lender and borrower allows
LONGEST_S = 5 * DAY  # less than a jump of a clock that a container would not believe
# What no honest container may ever answer to another honest one.
NEVER = {
    "not_conserved", "bad_signature", "grant_invalid", "malformed", "tampered", "rolled_back", "io_error",
    "backend_failed", "wrong_vendor", "bad_key", "closed", "binding_lost", "busy", "unsupported_version", "too_large",
}  # fmt: skip


class Mail(NamedTuple):
    """A message that was ever sent; it is never taken out of the post."""

    kind: str
    data: bytes
    to: int
    sender: int


class CutError(Exception):
    """The power was cut in the middle of a call; what it would have returned is lost."""


class Table:
    """One story under way.

    Args:
        seed: of the world.

    Attributes:
        refused: how often which step was refused with which code.
        done: how often which step was done.
        crashes: how often a computer or a process died.
    """

    def __init__(self, seed: int) -> None:
        rng = random.Random(f"world {seed}")
        self.acme = Issuer()
        self.true = START
        self.sites = [
            Site(index, self.acme.trust, anchored=rng.random() < 0.25, rng=random.Random(f"ids {seed} {index}"))
            for index in range(SITES)
        ]
        self.post: list[Mail] = []
        self.requests: list[Mail] = []
        self.roots: dict[int, list[License]] = {}
        self.parts: dict[bytes, bytes] = {}
        self.used: Tally[Key] = Tally()
        self.may: Tally[Key] = Tally()
        self.promises: list[dict[bytes, tuple[str, dict[str, int]]]] = [{} for _ in self.sites]
        self.refused: Tally[tuple[str, str]] = Tally()
        self.done: Tally[str] = Tally()
        self.rng = rng
        self.calls = 0
        self._sell(rng)
        self.check()

    @property
    def crashes(self) -> int:
        """How often a computer or a process died."""
        return sum(site.crashes for site in self.sites)

    def check(self) -> None:
        """Demand that the books add up, that units used are those that were served, and that open seats stand.

        Raises:
            BrokenError: they do not.
        """
        account = self.books().check()
        for key in account.issued:
            least, most = sorted((self.used[key], self.used[key] + self.may[key]))
            if not least <= account.used[key] <= most:
                raise BrokenError(
                    f"{account.used[key]} {key[1] or 'units'} used by the books, {self.used[key]} by programs"
                )
            self.used[key] = account.used[key]  # where a cut left it open, the books have decided
        self.may = Tally()
        for site in self.sites:
            arrivals = site.container._session.peek().arrivals if site.seats else {}
            for seat in site.seats:
                loan = arrivals.get(seat.license_.part)  # an extension may have come since the program started
                if loan is not None and loan.ends is not None and self.true >= loan.ends and seat.check():
                    raise BrokenError("a program still runs on a loan that is over")

    def books(self) -> Books:
        """Open the books of all containers, as they are at this moment."""
        looked = [site.look() for site in self.sites]
        return Books([state for state, _ in looked], [now for _, now in looked], self.parts)

    # -- calls, in the middle of which the power may be cut

    def call(self, site: Site, function: Callable[..., Any], *args: Any, **values: Any) -> Any:
        """Call a container; now and then its power is cut meanwhile, or its process killed right after."""
        self.calls += 1
        fate = self.rng.random()
        if fate < 0.12:
            site.arm(self.rng.randint(1, self.rng.choice((2, 4, 20))))
        try:
            return function(*args, **values)
        except PowerCut:
            self.crash(site)
            raise CutError from None
        finally:
            site.arm(0)

    def crash(self, site: Site) -> None:
        """Let a computer die, start again, and show that what it had promised is there."""
        if self.rng.random() < 0.3:
            site.kill()
        else:
            site.cut(self.rng)
            for again in (True, True, False):
                site.computer = site._start()
                site.arm(self.rng.randint(1, 9) if again and self.rng.random() < 0.2 else 0)
                try:
                    site.open()
                    break
                except PowerCut:
                    site.cut(self.rng)
        site.arm(0)
        state = site.container._session.current()
        for xid, (what, amounts) in self.promises[site.index].items():
            if what == "given" and xid not in state.given:
                raise BrokenError("a grant was emitted, and the debit is gone")
            if what == "asked" and xid not in state.pending:
                raise BrokenError("a request was emitted, and it is gone")
            if what == "arrived" and xid not in state.arrivals:
                raise BrokenError("a receipt was emitted, and what it tells of is gone")
            if what == "arrived":
                holding = state.holdings.get(xid)
                for name, amount in amounts.items():
                    told = state.arrivals[xid].returned.get(name, 0)
                    if (holding.counters[name].returned if holding else told) < amount:
                        raise BrokenError("a return was emitted, and it is here again")

    def promise(self, site: Site, what: str, xid: bytes) -> None:
        """Remember what a container let out, which no accident may take back."""
        amounts: dict[str, int] = {}
        if what == "arrived":
            amounts = dict(site.container._session.peek().arrivals[xid].returned)
        self.promises[site.index][xid] = what, amounts

    def send(self, kind: str, data: bytes, to: int, sender: Site) -> None:
        """Put a message into the post, for ever."""
        self.post.append(Mail(kind, data, to, sender.index))

    def index_of(self, thumbprint: bytes) -> int:
        """Name a container by its key."""
        return next(site.index for site in self.sites if site.thumbprint == thumbprint)

    def pick(self, mails: list[Mail]) -> Mail | None:
        """Take a message, rather a new one than an old one; it stays in the post."""
        if not mails:
            return None
        if self.rng.random() < 0.7:
            return mails[-self.rng.randint(1, min(5, len(mails)))]
        return self.rng.choice(mails)

    # -- time

    def pass_to(self, target: int, stops: list[int]) -> None:
        """Let time pass, looking at some of the moments in between."""
        for stop in [*[stop for stop in stops if stop < target][:4], target]:
            for site in self.sites:
                site.clock.advance(max(0, stop - self.true))
            self.true = max(self.true, stop)
            for site in self.sites:
                if self.true - site.container._session.peek().clock.floor > DAY:
                    self.observe(site)
            if stop != target:
                self.books().check()

    def observe(self, site: Site) -> None:
        """Something runs on that computer, so that its container follows the clock."""
        try:
            site.container.checkout("nothing")
        except TallystickError as refusal:
            if refusal.code != "not_licensed":
                raise

    # -- the world

    def _sell(self, rng: random.Random) -> None:
        depth = rng.choice((0, 1, 2, 3))
        policy = GrantPolicy(MAY_ALL, max_depth=depth, max_duration=rng.choice((None, 20 * DAY)))
        strict = GrantPolicy(MAY_ALL, max_depth=depth, low_water=rng.choice((0, 1)), max_per_receiver=20)
        both = {"lend": policy, "transfer": policy}
        cad = {"render": Feature(units=rng.randint(3, 12)), "pdf": Feature()}
        end = rng.choice((None, START + 40 * DAY))
        self._activate(0, product="cad", units=40, seats=rng.choice((1, 5)), features=cad, expires=end, **both)
        self._activate(rng.choice((0, 1)), product="plan", usage_period=rng.choice((None, 90 * DAY)), **both)
        self._activate(1, product="meter", units=rng.randint(5, 30), lend=strict, transfer=policy)

    @property
    def sold(self) -> list[set[str]]:
        """Which products the issuer sold to which container."""
        return [{made.product for made in self.roots.get(index, ())} for index in range(SITES)]

    def _activate(self, index: int, product: str, **terms: Any) -> None:
        container = self.sites[index].container
        request = container.request(product=product)
        made = self.acme.license(request, **terms)
        container.install(self.acme.answer(request, made))
        self.roots.setdefault(index, []).append(made)
