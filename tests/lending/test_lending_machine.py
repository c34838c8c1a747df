# SPDX-License-Identifier: Apache-2.0
"""A slice of the stories of lending (`campaign` tells a million steps of them), and proof that they can fail: every
rule that keeps units and seats whole is broken once, and the machine must notice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lending.campaign import failure, report, shortest
from lending.machine import Machine, story
from tallystick.clock import Assessment, Reading
from tallystick.container import commands as c
from tallystick.container import ledger_give, ledger_given, ledger_lending, ledger_shares, ledger_take
from tallystick.container.exchanges import Given
from tallystick.container.ledger_books import with_counter, with_holding
from tallystick.container.session import Session
from tallystick.container.state import State
from tallystick.license import lineage

STORIES = 14
LENGTH = 150


@pytest.mark.parametrize("seed", range(STORIES))
def test_whatever_happens_every_unit_is_somewhere_once(seed: int) -> None:
    machine = Machine(seed)
    try:
        machine.run(story(seed, LENGTH))
    except AssertionError:
        pytest.fail(report(seed, LENGTH), pytrace=False)
    assert sum(machine.done.values()) > LENGTH // 2


def test_the_stories_are_about_something() -> None:
    names = {step.name for seed in range(STORIES) for step in story(seed, LENGTH)}
    assert STORIES * LENGTH >= 2000
    assert len(names) >= 18


def test_a_story_is_the_same_each_time() -> None:
    done = []
    for _ in range(2):
        machine = Machine(3)
        machine.run(story(3, 60))
        done.append((machine.done, machine.refused, machine.true, [mail[::2] for mail in machine.post]))
    assert done[0] == done[1]


# ---------------------------------------------------------------------------------- each rule, broken, is noticed

RULES: Any = ledger_lending.RULES  # a dictionary, which only tests change
Patch = Callable[[pytest.MonkeyPatch], None]


def recredits_twice(patch: pytest.MonkeyPatch) -> None:
    """Units that were returned come home with every copy of the receipt."""

    def book_share(state: State, entry: Given, purpose: int, share: Any, now: int) -> State:
        after = booked(state, entry, purpose, share, now)
        if after is not state or entry.part not in state.holdings or not share.returned.get(""):
            return after
        holding = state.holdings[entry.part]
        counter = holding.counters[""]
        less = counter.replace(lent=counter.lent - share.returned[""])
        return with_holding(state, with_counter(holding, "", less))

    booked = ledger_shares._book_share
    patch.setattr(ledger_shares, "_book_share", book_share)


def recredits_on_a_timer(patch: pytest.MonkeyPatch) -> None:
    """The units of a loan come home with its seats, whatever was used of them."""

    def book(state: State, entry: Given, returned: Any, used: Any, now: int, outcome: str) -> State:
        everything = dict(entry.amounts) if outcome == "ended" else returned
        return booked(state, entry, everything, used, now, outcome)

    booked = ledger_given.book
    patch.setattr(ledger_given, "book", book)


def takes_a_grant_again(patch: pytest.MonkeyPatch) -> None:
    """A receiver that gave something back takes the old grant once more."""

    def accept(state: State, command: c.Accept, time: Assessment, reading: Reading) -> Any:
        arrivals = {xid: entry for xid, entry in state.arrivals.items() if not entry.status}
        pending = {key: entry.replace(status=0, taken=0) for key, entry in state.pending.items()}
        return accepts(state.replace(arrivals=arrivals, pending=pending), command, time, reading)

    accepts = ledger_take.accept
    patch.setitem(RULES, c.Accept, accept)


def emits_without_debit(patch: pytest.MonkeyPatch) -> None:
    """The debit of a grant is forgotten."""

    def give(state: State, command: c.Give, time: Assessment, reading: Reading) -> Any:
        after, entry = gives(state, command, time, reading)
        return after.replace(holdings=state.holdings), entry

    gives = ledger_give.give
    patch.setitem(RULES, c.Give, give)


def gives_back_and_keeps(patch: pytest.MonkeyPatch) -> None:
    """What was given back stays usable."""

    def give_back(state: State, command: c.Return, time: Assessment, reading: Reading) -> Any:
        after, arrival = gives(state, command, time, reading)
        return after.replace(holdings=state.holdings), arrival

    gives = ledger_take.give_back
    patch.setitem(RULES, c.Return, give_back)


def forgets_what_was_used(patch: pytest.MonkeyPatch) -> None:
    """A receiver's receipt does not tell what was used up."""
    patch.setattr(ledger_take, "_used", lambda *_args, **_values: {})


def lends_one_seat_twice(patch: pytest.MonkeyPatch) -> None:
    """The giver's seats come home before the receiver stops."""
    patch.setattr(ledger_given, "TOLERANCE_S", -600)


def borrower_does_not_stop(patch: pytest.MonkeyPatch) -> None:
    """The receiver goes on until its lender has the seats again."""
    patch.setattr(lineage, "TOLERANCE_S", -600)


def emits_before_commit(patch: pytest.MonkeyPatch) -> None:
    """What a transaction says leaves, and every third of them never reaches the disk."""
    commits = Session._commit
    counted = [0]

    def commit(session: Session, tx: Any) -> None:
        counted[0] += 1
        if counted[0] % 3 or not any(isinstance(one, c.Give | c.Accept) for one in tx.commands):
            commits(session, tx)

    patch.setattr(Session, "_commit", commit)


def loses_what_was_passed_on(patch: pytest.MonkeyPatch) -> None:
    """A part is closed though something of it was transferred on, and has nowhere to come back to."""

    def returned(state: State, arrival: Any, holding: Any, license_: Any, now: int) -> Any:
        after, entry = returns(state, arrival, holding, license_, now)
        if any(counter.lent or counter.in_transit for counter in holding.counters.values()):
            return after, entry
        if any(ledger_given.available(holding, license_, name) for name in arrival.amounts):
            return after, entry
        holdings = {key: part for key, part in after.holdings.items() if key != arrival.xid}
        entry = entry.replace(status=1)
        return after.replace(holdings=holdings, arrivals={**after.arrivals, entry.xid: entry}), entry

    returns = ledger_take._returned
    patch.setattr(ledger_take, "_returned", returned)


def declines_what_was_taken(patch: pytest.MonkeyPatch) -> None:
    """A receiver may decline a grant it holds."""

    def decline(state: State, command: c.Decline, time: Assessment, reading: Reading) -> Any:
        return declines(state.replace(arrivals={}), command, time, reading)

    declines = ledger_take.decline
    patch.setitem(RULES, c.Decline, decline)


BROKEN: tuple[Patch, ...] = (
    recredits_twice, recredits_on_a_timer, takes_a_grant_again, emits_without_debit, gives_back_and_keeps,
    forgets_what_was_used, lends_one_seat_twice, borrower_does_not_stop, emits_before_commit,
    loses_what_was_passed_on, declines_what_was_taken,
)  # fmt: skip


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_a_broken_rule_is_noticed(broken: Patch, monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch)
    assert any(failure(seed, None, LENGTH) for seed in range(120)), "120 stories, and nobody noticed"


def test_a_failure_is_told_in_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    gives_back_and_keeps(monkeypatch)
    seed = next(seed for seed in range(50) if failure(seed, None, 80))
    left, why = shortest(seed, 80)
    assert len(left) < 20
    assert "Broken" in why
    assert failure(seed, left, 80) == why
