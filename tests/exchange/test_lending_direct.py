# SPDX-License-Identifier: Apache-2.0
"""Direct mode: whatever step a command is killed at, the same command again finishes it, and nothing happens twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lending_pair import DAY, POLICY, Fragile, Fuse, Killed, Pair, only

from tallystick.container.lending_base import ACTIVE, RECALLED, RETURNED
from tallystick.errors import (
    LendingError,
    NotFoundError,
    NotLicensedError,
    TallystickError,
    UsageError,
    VerificationError,
)
from tallystick.exchange.direct import Direct
from tallystick.exchange.lending import Wish
from tallystick.exchange.settling import Done
from tallystick.license.grant_policy import MAY_PULL, SEATS, GrantPolicy

TWO_SEATS = Wish(product="cad", amounts={SEATS: 2, "": 30}, duration=3 * DAY)
FIVE_SEATS = Wish(product="cad", amounts={SEATS: 5}, transfer=True)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    yield made
    made.close()


def line(pair: Pair, fuse: Fuse | None = None) -> Direct:
    fuse = fuse or Fuse()
    giver: Any = Fragile(pair.office, fuse)
    receiver: Any = Fragile(pair.laptop, fuse)
    return Direct(giver, receiver)


def lent(pair: Pair) -> None:
    line(pair).lend(TWO_SEATS)


def nothing(_: Pair) -> None:
    """No exchange before."""


Command = Callable[[Direct], Done]
Case = tuple[Callable[[Pair], None], Command, tuple[int, int, int]]
END = 1_798_761_600 + 9 * DAY
CASES: dict[str, Case] = {
    "lend": (nothing, lambda line: line.lend(TWO_SEATS), (18, 2, 0)),
    "lend until": (nothing, lambda line: line.lend(TWO_SEATS.replace(duration=None, ends=END)), (18, 2, 0)),
    "transfer": (nothing, lambda line: line.lend(FIVE_SEATS), (15, 5, 0)),
    "return": (lent, lambda line: line.give_back("cad"), (20, 0, 0)),
    "return a part": (lent, lambda line: line.give_back("cad", {SEATS: 1}), (19, 1, 0)),
    "extend": (lent, lambda line: line.extend("cad", END), (18, 2, 0)),
    "recall": (lent, lambda line: line.recall("cad"), (20, 0, 0)),
    "rehost": (nothing, lambda line: line.rehost(), (0, 20, 0)),
}


def steps_of(folder: Path, name: str) -> int:
    """How many steps a command has when nobody disturbs it."""
    before, command, _ = CASES[name]
    pair, fuse = Pair(folder), Fuse()
    before(pair)
    command(line(pair, fuse))
    pair.close()
    return fuse.steps


@pytest.mark.parametrize("name", CASES)
def test_a_command_killed_at_any_step_is_finished_by_the_same_command(tmp_path: Path, name: str) -> None:
    before, command, seats = CASES[name]
    (tmp_path / "whole").mkdir()
    steps = steps_of(tmp_path / "whole", name)
    assert steps >= 2
    for at in range(steps):
        folder = tmp_path / str(at)
        folder.mkdir()
        pair = Pair(folder)
        before(pair)
        with pytest.raises(Killed):
            command(line(pair, Fuse(at)))
        last = at == steps - 1 and name == "return a part"  # it had ended; it would rightly return one more
        if not last:
            command(line(pair))
        assert pair.seats() == seats, (name, at)
        assert pair.units() == 100, (name, at)
        for container in (pair.office, pair.laptop):
            assert not {"in transit", "requested"} & {state for _, state in pair.loans(container)}, (name, at)
        pair.close()


@pytest.mark.parametrize("name", [name for name in CASES if name != "return a part"])
def test_the_same_command_again_changes_nothing(pair: Pair, name: str) -> None:
    before, command, seats = CASES[name]
    before(pair)
    first = command(line(pair))
    assert not first.repeated
    generations = [container.info().generation for container in (pair.office, pair.laptop)]
    second = command(line(pair))
    assert second.repeated
    assert {loan.xid for loan in second.loans} == {loan.xid for loan in first.loans}
    assert [container.info().generation for container in (pair.office, pair.laptop)] == generations
    assert pair.seats() == seats


def test_as_much_once_more_is_said_explicitly(pair: Pair) -> None:
    line(pair).lend(FIVE_SEATS)
    done = line(pair).lend(FIVE_SEATS, again=True)
    assert not done.repeated
    assert pair.seats() == (10, 10, 0)
    assert line(pair).lend(FIVE_SEATS).repeated


def test_another_wish_is_another_loan(pair: Pair) -> None:
    line(pair).lend(TWO_SEATS)
    line(pair).lend(TWO_SEATS.replace(amounts={SEATS: 1}))
    line(pair).lend(TWO_SEATS.replace(duration=None, ends=END))
    line(pair).lend(TWO_SEATS.replace(duration=None, ends=END + DAY))
    assert pair.seats() == (13, 7, 0)


def test_what_was_returned_may_be_borrowed_anew(pair: Pair) -> None:
    line(pair).lend(TWO_SEATS)
    line(pair).give_back("cad")
    assert not line(pair).lend(TWO_SEATS).repeated
    assert pair.seats() == (18, 2, 0)


@pytest.mark.parametrize(
    ("wish", "code"),
    [
        (TWO_SEATS.replace(amounts={SEATS: 21}), "not_available"),
        (TWO_SEATS.replace(product="nothing"), "not_licensed"),
        (TWO_SEATS.replace(amounts={}), "usage"),
        (TWO_SEATS.replace(duration=None), "usage"),
        (TWO_SEATS.replace(duration=60), "loan_too_short"),
        (TWO_SEATS.replace(features=("unknown",)), "feature_not_licensed"),
    ],
)
def test_what_the_giver_refuses_leaves_nothing_behind(pair: Pair, wish: Wish, code: str) -> None:
    with pytest.raises(TallystickError) as refusal:
        line(pair).lend(wish)
    assert refusal.value.code == code
    assert refusal.value.remedy
    assert pair.laptop.requests() == ()
    assert pair.loans(pair.laptop) == []


def test_a_license_may_be_named_by_its_id(pair: Pair) -> None:
    license_id = pair.office.licenses()[0].license_id.hex()
    done = line(pair).lend(TWO_SEATS.replace(product="", license_=license_id[:8]))
    assert only(done.loans).license_id.hex() == license_id


def test_a_container_cannot_lend_to_itself(pair: Pair) -> None:
    with pytest.raises(UsageError, match="same container"):
        Direct(pair.office, pair.office)


def test_an_exchange_with_somebody_else_is_named(pair: Pair) -> None:
    Direct(pair.office, pair.other).lend(TWO_SEATS)
    with pytest.raises(VerificationError, match="went to"):
        line(pair).extend("cad", END)
    with pytest.raises(NotFoundError):
        line(pair).give_back("cad")
    with pytest.raises(VerificationError, match="came from"):
        Direct(pair.laptop, pair.other).give_back("cad")


def test_a_direct_command_brings_what_files_had_left_in_transit(pair: Pair) -> None:
    request = pair.laptop.lending.ask(product="cad", amounts={SEATS: 1}, duration=DAY)
    pair.office.lending.give(request)
    delivered, notes = line(pair).settle()
    assert (len(delivered), notes) == (1, ())
    assert pair.loans(pair.office) == [("given", ACTIVE)]
    loan = only(pair.office.lending.loans())
    pair.office.lending.recall(loan.xid)
    line(pair).settle()
    assert pair.loans(pair.office) == [("given", RECALLED)]
    assert line(pair).settle() == ((), ())


def test_what_cannot_be_delivered_is_noted_and_does_not_stop_the_rest(pair: Pair) -> None:
    line(pair).lend(TWO_SEATS)
    Direct(pair.laptop, pair.other).lend(TWO_SEATS.replace(amounts={SEATS: 1}, duration=DAY))
    pair.office.lending.recall(only(pair.office.lending.loans()).xid)
    done = line(pair).lend(FIVE_SEATS)
    assert len(done.notes) == 1
    assert "lent on" in done.notes[0]
    assert pair.seats() == (13, 6, 1)


def test_a_seat_that_a_program_runs_on_is_not_given_away(tmp_path: Path) -> None:
    pair = Pair(tmp_path, seats=2, lend=POLICY)
    wish = TWO_SEATS.replace(amounts={SEATS: 2})
    with pair.office.checkout("cad"):
        for attempt in (line(pair).try_lend, line(pair).lend):
            with pytest.raises(TallystickError) as refusal:
                attempt(wish)
            assert refusal.value.code == "seats_in_use"
        line(pair).lend(wish.replace(amounts={SEATS: 1}))
    assert pair.seats() == (1, 1, 0)
    assert pair.laptop.requests()[0].taken == 1, "only what was given was ever asked for"
    pair.close()


def test_a_part_is_given_on_and_comes_home_in_order(pair: Pair) -> None:
    line(pair).lend(TWO_SEATS)
    onward = Direct(pair.laptop, pair.other)
    onward.lend(TWO_SEATS.replace(amounts={SEATS: 1}, duration=DAY))
    assert pair.seats() == (18, 1, 1)
    with pytest.raises(TallystickError) as refusal:
        line(pair).give_back("cad")
    assert refusal.value.code == "held_elsewhere"
    onward.give_back("cad")
    line(pair).give_back("cad")
    assert pair.seats() == (20, 0, 0)
    assert pair.loans(pair.office) == [("given", RETURNED)]


def test_rehost_goes_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    pair = Pair(tmp_path, seats=3, transfer=GrantPolicy(MAY_PULL))
    with pytest.raises(LendingError) as refusal:
        line(pair).rehost()
    assert refusal.value.code == "direction_denied"
    assert pair.laptop.requests() == ()
    assert pair.seats() == (3, 0, 0)
    pair.close()


def test_rehost_moves_every_license_and_leaves_a_statement(pair: Pair) -> None:
    request = pair.office.request(pair.acme.trust, product="sim")
    pair.office.install(pair.acme.answer(request, pair.acme.license(request, transfer=POLICY)))
    loans, after = line(pair).try_rehost()
    assert len(loans) == 2
    assert all(stock.here == 0 for stock in after)
    assert pair.seats() == (21, 0, 0), "a rehearsal changes nothing"
    done = line(pair).rehost()
    assert {loan.product for loan in done.loans} == {"cad", "sim"}
    assert pair.seats() == (0, 21, 0)
    assert pair.office.lending.statement("acme")
    with pytest.raises(NotLicensedError):
        pair.office.checkout("sim")
    pair.laptop.checkout("sim").close()


def test_a_rehearsal_shows_what_would_happen_and_changes_nothing(pair: Pair) -> None:
    before = pair.office.info().generation, pair.laptop.info().generation
    loans, after = line(pair).try_lend(TWO_SEATS)
    assert only(loans).amounts == {SEATS: 2, "": 30}
    assert {stock.counter: (stock.here, stock.in_transit) for stock in after} == {SEATS: (18, 2), "": (70, 30)}
    assert (pair.office.info().generation, pair.laptop.info().generation) == before
    assert pair.laptop.requests() == ()
    lent(pair)
    loans, after = line(pair).try_lend(TWO_SEATS)
    assert only(loans).state == ACTIVE


def test_what_a_rehearsal_signs_is_worth_nothing(pair: Pair) -> None:
    request = pair.laptop.lending.ask(product="cad", amounts={SEATS: 2}, duration=DAY)
    with pair.office.rehearsal() as stage:
        grant = stage.lending.give(request)
    with pytest.raises(VerificationError):
        pair.laptop.install(grant)
    assert pair.seats() == (20, 0, 0)
