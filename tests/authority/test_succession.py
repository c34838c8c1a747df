# SPDX-License-Identifier: Apache-2.0
"""Messages of one container follow each other, whatever is lost, late, or comes twice; those of copies do not."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from chips import Chip
from hypothesis import given
from hypothesis import strategies as st
from shop import DAY, Shop

from fakes import START
from made import Device
from tallystick.authority import attestations
from tallystick.authority.audit import rows
from tallystick.authority.containers import hear
from tallystick.authority.issuing import issue
from tallystick.authority.receiving import receive
from tallystick.authority.schema import CONTAINER
from tallystick.authority.schema_tpm import ATTESTED
from tallystick.authority.succession import Fit, Found, examine
from tallystick.codec import cose
from tallystick.codec.ident import container_id
from tallystick.container.base import Container
from tallystick.errors import TallystickError
from tallystick.license.messages import Request, read_request
from tallystick.license.receipts import EMPTIED, Receipt

DEVICE = Device()
COPIED, LOST = "restored from a copy, or copied", "more than 16 messages of it never arrived, or it was copied"


def beginning(number: int, branch: int = 0) -> bytes:
    return bytes([branch]) + number.to_bytes(7)


def said(number: int, previous: Iterable[bytes] | None, branch: int = 0, **changes: Any) -> Request:
    """A message; every other one that is asked for is a receipt."""
    names = None if previous is None else tuple(previous)
    id_ = beginning(number, branch) + bytes(8)
    return DEVICE.request(request_id=id_, previous=names, accounts=(), **changes)


def line(*numbers: int) -> tuple[bytes, ...]:
    return tuple(map(beginning, numbers))


def fit(kept: Iterable[int], message: Request, *, earlier: bool = False, behind: bool = False) -> Found:
    return examine(b"".join(line(*kept)), message, earlier=earlier, behind=behind)


def down(number: int) -> tuple[int, ...]:
    """What the message of that number names."""
    return tuple(range(number - 1, max(number - 17, 0), -1))


# ------------------------------------------------------------------------------------------------------------ the rule


def test_the_first_word_is_kept() -> None:
    assert fit((), said(3, line(2, 1))) == (Fit.UNTOLD, b"".join(line(3, 2, 1)))
    assert fit((), said(1, ())) == (Fit.UNTOLD, beginning(1))


def test_it_is_not_where_it_is_older_than_what_is_known() -> None:
    """It was written before the container went on from an older state, and is named by nothing that follows."""
    assert fit((), said(3, line(2, 1)), earlier=True) == (Fit.UNTOLD, b"")


def test_who_does_not_tell_is_not_compared() -> None:
    assert fit((), said(3, None)) == (Fit.UNTOLD, b"")
    assert fit((2, 1), said(3, None)) == (Fit.UNTOLD, b"".join(line(2, 1)))


@pytest.mark.parametrize("number", [1, 2, 3])
def test_what_is_named_by_what_is_kept_comes_late_or_again(number: int) -> None:
    kept = line(3, 2, 1)
    assert fit((3, 2, 1), said(number, line(*down(number)))) == (Fit.LATE, b"".join(kept))


@pytest.mark.parametrize("number", [4, 5, 19])
def test_what_names_the_newest_follows_it_also_with_up_to_15_lost_between(number: int) -> None:
    message = said(number, line(*down(number)))
    assert fit((3, 2, 1), message) == (Fit.FOLLOWS, b"".join((beginning(number), *(message.previous or ()))))


def test_who_does_not_know_the_newest_is_of_another_copy() -> None:
    for message in (said(3, line(2, 1), 1), said(1, (), 1), said(9, (*line(8), beginning(7, 1), *line(2, 1)), 1)):
        assert fit((3, 2, 1), message, earlier=True, behind=True)[0] is Fit.FORKED
        found, kept = fit((3, 2, 1), message)
        assert (found, kept[:8]) == (Fit.FORKED, message.request_id[:8])


def test_who_names_16_and_none_known_may_have_lost_more() -> None:
    assert fit((3, 2, 1), said(20, line(*down(20))))[0] is Fit.GAP
    shared = [beginning(number, 1) for number in range(19, 4, -1)]
    assert fit((3, 2, 1), said(20, (*shared, *line(2)), 1))[0] is Fit.FORKED, "it names one, but not the newest"


def test_what_is_older_than_anything_kept_reaches_back_to_is_not_told_apart() -> None:
    kept = (40, *down(40))
    late = said(20, line(*down(20)))
    assert fit(kept, late, earlier=True, behind=True) == (Fit.LATE, b"".join(line(*kept)))
    for less in ({"earlier": True}, {"behind": True}, {}):
        assert fit(kept, late, **less)[0] is Fit.GAP, "it does not say that it is older"
    assert fit(kept, said(5, line(*down(5))), earlier=True, behind=True)[0] is Fit.LATE
    assert fit(kept, said(5, line(*down(5))))[0] is Fit.FORKED
    assert fit(kept, said(25, line(*down(25)), 1), earlier=True, behind=True)[0] is Fit.FORKED, "it names some"


# -------------------------------------------------------------------------------------------------- all that may happen


class Desk:
    """A container's row and the audit log, without a database."""

    now = START

    def __init__(self) -> None:
        self.known = SimpleNamespace(
            thumbprint=DEVICE.thumbprint, reported_at=0, generation=0, variables="{}", last_ids=None
        )
        self.actions: list[str] = []

    def update(self, _table: object, _keys: object, **values: Any) -> None:
        vars(self.known).update(values)

    def audit(self, action: str, *_: object, **__: object) -> None:
        self.actions.append(action)

    def hear(self, message: Request) -> bool:
        """Whether a message is flagged; never twice."""
        before = len(self.actions)
        warnings = hear(self, self.known, message)  # type: ignore[arg-type]  # all it asks for
        assert len(warnings) == len(self.actions) - before <= 1
        return bool(warnings)


def honest(number: int) -> Request:
    """A container's messages; three are made in one second."""
    return said(number, line(*down(number)), created_at=START + number // 3, generation=3 * number)


@given(st.integers(1, 40), st.lists(st.integers(1, 16) | st.integers(-40, 0), max_size=40))
def test_nothing_an_honest_container_sends_is_flagged_while_16_of_its_messages_are_not_lost_in_a_row(
    first: int, steps: list[int]
) -> None:
    """Each step is a message so many after the newest that arrived, or as many before it: late, or again."""
    desk, newest = Desk(), first
    assert not desk.hear(honest(first))
    for step in steps:
        number = max(1, newest + step)
        assert not desk.hear(honest(number))
        newest = max(newest, number)
        assert (desk.known.generation, desk.known.last_ids[:8]) == (3 * newest, beginning(newest))


def test_what_was_lost_is_flagged_once_and_by_its_own_name() -> None:
    desk = Desk()
    assert [desk.hear(honest(number)) for number in (1, 18, 35)] == [False, True, True]
    assert [desk.hear(honest(number)) for number in (36, 20, 35, 52)] == [False] * 4
    assert desk.actions == ["container.gap"] * 2


class Arrival(NamedTuple):
    """A message of a copy, and how many of its own it made since the one before."""

    copy: int
    made: int
    commits: int


arrivals = st.builds(Arrival, st.integers(1, 2), st.integers(1, 16), st.integers(1, 50))


@given(st.integers(0, 30), st.booleans(), st.lists(arrivals, max_size=20))
def test_of_two_copies_each_message_is_flagged_that_comes_after_one_of_the_other(
    before: int, known: bool, events: list[Arrival]
) -> None:
    """However much each of them counts on: the second to write after the copy was made is found out at once."""
    desk = Desk()
    if known and before:
        assert not desk.hear(honest(before))
    shared = line(*range(before, 0, -1))
    made = {1: shared, 2: shared}
    generations = dict.fromkeys(made, 3 * before)
    last = 0
    for at, event in enumerate(events):
        for _ in range(event.made):
            made[event.copy] = (beginning(len(made[event.copy]) + 1, event.copy), *made[event.copy])
        generations[event.copy] += event.made + event.commits
        own, *previous = made[event.copy]
        message = said(
            int.from_bytes(own[1:]), previous[:16], event.copy,
            created_at=START + before + at, generation=generations[event.copy],
        )  # fmt: skip
        assert message.request_id[:8] == own
        flagged = desk.hear(message)
        assert flagged == (last not in (0, event.copy)), (event, desk.actions)
        last = event.copy


# ----------------------------------------------------------------------------------------------------- real containers


@pytest.fixture
def one(sqlite_shop: Shop) -> Any:
    """A container with 1000 units."""
    with sqlite_shop.machine("one") as container:
        sqlite_shop.activate(container, sqlite_shop.entitle(quantity=3).code.reveal())
        yield container


def copied(shop: Shop, container: Container) -> Container:
    """Its folder, copied, and opened there."""
    container.close()
    shutil.copytree(shop.folder / "one", shop.folder / "two")
    return shop.reopen("two")


def asked(shop: Shop, container: Container, units: int = 0) -> bytes:
    """A request for a refresh, a minute later, after some units were used."""
    shop.clock.advance(60)
    if units:
        with container.checkout("cad") as seat:
            for _ in range(units):
                seat.consume()
    return container.request(refresh=True)


def contact(shop: Shop, container: Container, units: int = 0) -> tuple[str, ...]:
    """Write to the vendor, and install the answer."""
    result = issue(shop.office, asked(shop, container, units))
    assert result.kind == "update"
    container.install(result.message)
    return result.warnings


def flags(shop: Shop) -> list[str]:
    """What is in the audit log about containers, but that they are new."""
    actions = [row.action for row in shop.office.read(lambda work: rows(work.db))]
    return [action for action in actions if action.startswith("container.") and action != "container.new"]


def receipt_of(message: bytes) -> Receipt:
    return Receipt.from_claims(cose.peek(message)[1])


def test_requests_and_receipts_name_those_before_them_and_statements_do_not(sqlite_shop: Shop) -> None:
    with sqlite_shop.machine("one") as container:
        sqlite_shop.clock.advance(1)
        request = container.request(code=sqlite_shop.entitle().code.reveal())
        assert read_request(request).previous == ()
        receipt = container.install(issue(sqlite_shop.office, request).message).receipt
        first = read_request(request).request_id[:8]
        assert receipt_of(receipt).previous == (first,)
        second = receipt_of(receipt).message_id[:8]
        given_up = container.deactivate(container.licenses()[0].license_id)
        assert receipt_of(given_up).previous == (second, first)
        third = receipt_of(given_up).message_id[:8]
        statements = [container.lending.statement("acme")]
        assert receipt_of(statements[0]).previous is None
        assert read_request(asked(sqlite_shop, container)).previous == (third, second, first)
        statements += [container.lending.statement("acme")]
        sqlite_shop.clock.advance(DAY)
        statements += [container.lending.statement("acme")]
    for message in (receipt, given_up, *statements):
        assert receive(sqlite_shop.office, message).warnings == ()
    assert receipt_of(statements[-1]).purpose == EMPTIED
    assert flags(sqlite_shop) == []


def test_copies_that_take_turns_being_ahead_are_noticed(sqlite_shop: Shop, one: Container) -> None:
    with copied(sqlite_shop, one) as two, sqlite_shop.reopen("one") as first:
        shown = container_id(two.info().thumbprint)
        found = [
            contact(sqlite_shop, container, 2 + 6 * turn)
            for turn, container in enumerate([first, two, first, two, two])
        ]
    assert found[0] == found[4] == ()
    for warnings in found[1:4]:
        (warning,) = warnings
        assert warning.startswith(f"{shown} does not know what it last wrote (state ")
        assert warning.endswith(COPIED)
    assert flags(sqlite_shop) == ["container.forked"] * 3


def test_a_copy_that_is_behind_is_warned_of_once(sqlite_shop: Shop, one: Container) -> None:
    with copied(sqlite_shop, one) as two, sqlite_shop.reopen("one") as first:
        assert contact(sqlite_shop, first, 9) == ()
        (warning,) = contact(sqlite_shop, two)
        assert "is older than when it last wrote" in warning
    assert flags(sqlite_shop) == ["container.went_back"]


def test_a_copy_that_only_sends_a_receipt_is_noticed(sqlite_shop: Shop, one: Container) -> None:
    with copied(sqlite_shop, one) as two, sqlite_shop.reopen("one") as first:
        assert contact(sqlite_shop, first) == ()
        asked(sqlite_shop, two, 20)
        (warning,) = receive(sqlite_shop.office, two.deactivate(two.licenses()[0].license_id)).warnings
        assert warning.endswith(COPIED)
        (warning,) = contact(sqlite_shop, first, 40)
        assert warning.endswith(COPIED)
    assert flags(sqlite_shop) == ["container.forked"] * 2


def test_a_copy_that_is_refused_is_noticed(sqlite_shop: Shop, one: Container) -> None:
    with copied(sqlite_shop, one) as two, sqlite_shop.reopen("one") as first:
        assert contact(sqlite_shop, first) == ()
        asked(sqlite_shop, two, 20)
        result = issue(sqlite_shop.office, two.request(code="AAAAA-AAAAA-AAAAA-AAAAA"))
        assert result.kind == "refusal"
        assert [warning.endswith(COPIED) for warning in result.warnings] == [True]
        assert issue(sqlite_shop.office, two.request(code="AAAAA-AAAAA-AAAAA-AAAAA")).warnings == ()


def test_requests_that_were_refused_did_arrive(sqlite_shop: Shop, one: Container) -> None:
    for _ in range(20):
        sqlite_shop.clock.advance(60)
        result = issue(sqlite_shop.office, one.request(code="AAAAA-AAAAA-AAAAA-AAAAA"))
        assert (result.kind, result.warnings) == ("refusal", ())
        one.install(result.message)
    assert contact(sqlite_shop, one) == ()
    assert flags(sqlite_shop) == []


def test_requests_that_arrive_late_or_twice_are_not_flagged(sqlite_shop: Shop, one: Container) -> None:
    late = [asked(sqlite_shop, one, 1) for _ in range(4)]
    for message in (late[3], late[1], late[1], late[0], late[3]):
        assert issue(sqlite_shop.office, message).warnings == ()
    assert contact(sqlite_shop, one) == ()
    assert issue(sqlite_shop.office, late[2]).warnings == ()
    assert flags(sqlite_shop) == []


def test_a_receipt_that_was_forgotten_for_a_year_is_not_flagged(sqlite_shop: Shop, one: Container) -> None:
    """Receipts are emitted again for ever."""
    sqlite_shop.activate(one, sqlite_shop.entitle().code.reveal())
    forgotten = one.deactivate(one.licenses()[0].license_id)
    for _ in range(12):
        sqlite_shop.clock.advance(30 * DAY)
        assert "does not know" not in str(contact(sqlite_shop, one))
    assert receive(sqlite_shop.office, forgotten).warnings == ()
    assert contact(sqlite_shop, one) == ()
    assert flags(sqlite_shop) == []


def test_who_wrote_17_messages_that_never_arrived_is_flagged_in_words_of_its_own(
    sqlite_shop: Shop, one: Container
) -> None:
    shown = container_id(one.info().thumbprint)
    for _ in range(17):
        asked(sqlite_shop, one)
    (warning,) = contact(sqlite_shop, one)
    assert warning.startswith(f"{shown} does not know what it last wrote")
    assert warning.endswith(LOST)
    assert contact(sqlite_shop, one) == ()
    assert flags(sqlite_shop) == ["container.gap"]


def test_a_container_of_the_books_of_before_is_compared_from_its_next_word_on(
    sqlite_shop: Shop, one: Container
) -> None:
    sqlite_shop.office.write(lambda work: work.db.execute(CONTAINER.update().values(last_ids=None)))
    with copied(sqlite_shop, one) as two, sqlite_shop.reopen("one") as first:
        assert contact(sqlite_shop, first, 3) == ()
        (warning,) = contact(sqlite_shop, two, 9)
        assert warning.endswith(COPIED)


def test_what_is_settled_goes_on_from_its_next_word(shop: Shop) -> None:
    """What its copy wrote, or what it wrote itself before it was set back, is nothing it must know."""
    chip = Chip(shop)
    ask(shop, chip.step(), (), code=shop.entitle().code.reveal())
    known = shop.office.read(lambda work: work.one(CONTAINER, "container", thumbprint=chip.thumbprint))
    assert len(known.last_ids) == 8
    values = {"rewound_at": 1, "reason": "its counter went back"}
    shop.office.write(lambda work: work.db.execute(ATTESTED.update().values(**values)))
    assert ask(shop, chip.step(), (b"unknown.",)).kind == "refusal"
    known = shop.office.read(lambda work: work.one(CONTAINER, "container", thumbprint=chip.thumbprint))
    assert len(known.last_ids) == 8, "a container that is rewound is on record as such"
    attestations.settle(shop.office, container_id(chip.thumbprint), "ticket 7")
    result = ask(shop, chip.step(), (b"unknown.",))
    assert (result.kind, "does not know" in str(result.warnings)) == ("update", False)


def ask(shop: Shop, chip: Chip, previous: tuple[bytes, ...], **more: Any) -> Any:
    """A request that names those before it."""
    return issue(shop.office, chip.request(**more, previous=previous))


def test_nothing_of_it_refuses_anybody(sqlite_shop: Shop, one: Container) -> None:
    with copied(sqlite_shop, one) as two, sqlite_shop.reopen("one") as first:
        for turn in range(6):
            for container in (first, two):
                contact(sqlite_shop, container, turn)  # an update, each time
        with pytest.raises(TallystickError) as refusal, first.checkout("cad") as seat:
            seat.consume(1000)
        assert refusal.value.code == "units_exhausted"
