# SPDX-License-Identifier: Apache-2.0
"""Lending at random: an issuer, three real containers, and a post that loses, repeats, reorders and replays.

A *story* is a world drawn from a seed and a list of steps; each step draws what it does from a seed of its own, so that
any of them can be left out and the others still mean the same. After each step the books of all containers must add up
(`conservation`); at the end everything is delivered and given back, and must add up with nothing left on its way.
"""

from __future__ import annotations

import random
from collections import Counter as Tally
from collections.abc import Callable
from typing import Any, NamedTuple

from lending.conservation import BrokenError
from lending.moves import STEPS, end, receiver_of
from lending.sites import Site
from lending.table import LONGEST_S, NEVER, CutError, Mail, Table
from tallystick.container.exchanges import CLOSED, HELD, Arrival
from tallystick.container.ledger_books import license_of
from tallystick.container.ledger_given import available
from tallystick.container.state import Holding
from tallystick.errors import TallystickError


class Step(NamedTuple):
    """One step of a story: what is done, and the seed of how."""

    name: str
    seed: int


class Machine(Table):
    """A table at which a story is played."""

    def run(self, steps: list[Step]) -> None:
        """Do the steps, then settle everything.

        Raises:
            AssertionError: a rule is broken; the message begins with the number of the step.
        """
        for number, step in enumerate(steps):
            try:
                self.step(step)
            except Exception as exc:
                raise AssertionError(f"step {number} ({step.name}): {exc!r}") from exc
        try:
            self.settle()
        except Exception as exc:
            raise AssertionError(f"at the end: {exc!r}") from exc

    def step(self, step: Step) -> None:
        """Do one step and check everything."""
        self.rng = random.Random(step.seed)
        self.may = Tally()
        action = STEPS[step.name][1]
        try:
            action(self)
        except CutError:
            self.done["cut in " + step.name] += 1
        except TallystickError as refusal:
            self.refused[step.name, refusal.code] += 1
            if refusal.code in NEVER:
                raise
        else:
            self.done[step.name] += 1
        self.check()

    # -- the end

    def settle(self) -> None:
        """Deliver everything, give everything back, and count: nothing lost, nothing doubled."""
        self.rng = random.Random("settle")
        self.call = self._plain  # type: ignore[method-assign] # no more accidents
        if self.true % 2:  # after the end of every loan; else before it
            ends = [entry.ends for site in self.sites for entry in site.state().given.values() if entry.ends]
            while self.true < max(ends, default=0) + 1000:
                self.pass_to(min(self.true + LONGEST_S, max(ends) + 1000), [])
        for site in self.sites:
            for seat in site.seats:
                end(self, site, seat)
            site.seats.clear()
        for _ in range(20):
            before = [site.container._session.current() for site in self.sites]
            for mail in self._newest():
                self.settle_one(mail)
            self.check()
            if all(site.container._session.current() is state for site, state in zip(self.sites, before, strict=True)):
                break
        self.check_settled()
        for mail in self.rng.sample(self.post, min(20, len(self.post))):
            self.settle_one(mail)
        self.check_settled()

    def check_settled(self) -> None:
        """Nothing is on its way, nothing is held by a grant, and every unit is at home or used."""
        books = self.books()
        account, states = books.check(), books.states
        for key, moving in account.moving.items():
            if moving:
                raise BrokenError(f"{moving} {key[1] or 'units'} are still on their way")
        for state in states:
            for xid, arrival in state.arrivals.items():
                if arrival.status == HELD and xid not in books.dead and self._anything(state.holdings[xid], arrival):
                    raise BrokenError(f"{arrival.product} did not go home")
        for index, roots in self.roots.items():
            for made in roots:
                for name, counter in states[index].holdings[made.license_id].counters.items():
                    if counter.in_transit or counter.lent:
                        raise BrokenError(f"{made.product} {name} is still out: {counter}")

    @staticmethod
    def _anything(part: Holding, arrival: Arrival) -> bool:
        """Whether something is left that could go home; what was transferred on and used there cannot."""
        return any(available(part, license_of(part), name) for name in arrival.amounts)

    def settle_one(self, mail: Mail) -> None:
        """Bring one message; a refusal is an answer too."""
        try:
            outcome = self.sites[mail.to].container.install(mail.data)
        except TallystickError as refusal:
            if refusal.code in NEVER:
                raise
            return
        if outcome.receipt and mail.sender >= 0:
            self.sites[mail.sender].container.install(outcome.receipt)

    def _newest(self) -> list[Mail]:
        """The newest word on every open exchange, after everything held was given back as far as it can be."""
        mails = []
        given = {xid: entry for site in self.sites for xid, entry in site.state().given.items()}
        for site in self.sites:
            lending, state = site.container.lending, site.state()
            for xid, entry in state.given.items():
                if entry.status != CLOSED:
                    mails.append(Mail("grant", lending.message(xid), receiver_of(self, entry), site.index))
            for xid, arrival in state.arrivals.items():
                if arrival.status == HELD:
                    try:
                        lending.give_back(xid)
                    except TallystickError as refusal:
                        if refusal.code != "held_elsewhere":
                            raise
                if xid in given and given[xid].status != CLOSED:
                    mails.append(Mail("receipt", lending.message(xid), self.index_of(arrival.giver), site.index))
        return mails

    def _plain(self, site: Site, function: Callable[..., Any], *args: Any, **values: Any) -> Any:
        return function(*args, **values)


def story(seed: int, count: int) -> list[Step]:
    """Draw the steps of a story."""
    rng = random.Random(f"steps {seed}")
    names, weights = list(STEPS), [weight for weight, _ in STEPS.values()]
    return [Step(name, rng.getrandbits(32)) for name in rng.choices(names, weights, k=count)]
