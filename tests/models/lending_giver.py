# SPDX-License-Identifier: Apache-2.0
"""What a giver does: grant, extend, ask back, book receipts, and take a loan's seats back at its end.

Every rule yields the possible next states, each with a line that says what happened.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lending_receiver import Step, put
from lending_state import (
    ABSENT,
    ACCEPTED,
    CLOSED,
    DECLINED,
    FOREVER,
    GRANT,
    HELD,
    OPEN,
    RECALL,
    REQUEST,
    RETURNED,
    TRANSIT,
    Book,
    Part,
    Scenario,
    State,
    fits,
    is_open,
    may_run,
    minus,
    outstanding,
    plus,
)


def grants(scenario: Scenario, state: State) -> Iterator[Step]:
    """A request is answered: the amount leaves the giver's part with the same commit that writes the grant down."""
    zero = scenario.zero()
    for slot, terms in enumerate(scenario.slots):
        if state.books[slot].status != ABSENT or (REQUEST, terms.request) not in state.net:
            continue
        if slot and terms[:-1] == scenario.slots[slot - 1][:-1] and state.books[slot - 1].status == ABSENT:
            continue  # of equal slots the first comes first
        source = state.parts[terms.parent]
        end = terms.ends[0] if terms.ends else FOREVER
        if not _lasts(scenario, source, end) or not may_run(scenario, state.now, min(source.end, end)):
            continue
        for amount in terms.amounts:
            if fits(amount, source.available):
                label = f"{terms.giver} writes down grant {slot} to {terms.receiver}: {amount}"
                book = Book(TRANSIT, amount, end, 0, zero, zero, ended=False)
                yield label, _booked(state, scenario, slot, book, minus(zero, amount))
                if "a grant is emitted before its commit" in scenario.broken:
                    sent = state.net | {(GRANT, slot, 0, amount, end)}
                    yield f"{terms.giver} emits grant {slot} and crashes", state._replace(net=sent)


def extends(scenario: Scenario, state: State) -> Iterator[Step]:
    """A loan gets a later end, in the giver's books first; never after its seats came back."""
    for slot, terms in enumerate(scenario.slots):
        book, source = state.books[slot], state.parts[terms.parent]
        open_still = is_open(book) and not book.ended
        if book.ended and "a loan is extended after its end" in scenario.broken:
            open_still = True
        if not open_still or book.seq + 1 >= len(terms.ends):
            continue
        end = terms.ends[book.seq + 1]
        if _lasts(scenario, source, end) and may_run(scenario, state.now, source.end):
            longer = book._replace(end=end, seq=book.seq + 1)
            label = f"{terms.giver} writes down extension {longer.seq} of grant {slot}: until {end}"
            yield label, _booked(state, scenario, slot, longer, scenario.zero())


def recalls(scenario: Scenario, state: State) -> Iterator[Step]:
    """The giver asks for a part back: a message, nothing in the books."""
    if not scenario.recalls:
        return
    for slot, terms in enumerate(scenario.slots):
        book = state.books[slot]
        if is_open(book) and (RECALL, slot) not in state.net:
            after = state._replace(net=state.net | {(RECALL, slot)})
            if "a recall re-credits" in scenario.broken:
                after = _booked(after, scenario, slot, _all_back(book), outstanding(book))
            yield f"{terms.giver} recalls grant {slot}", after


def hears(scenario: Scenario, state: State) -> Iterator[Step]:
    """A receipt arrives."""
    for message in state.net:
        if message[0] not in {ACCEPTED, DECLINED, RETURNED}:
            continue
        for slot, terms in enumerate(scenario.slots):
            book = state.books[slot]
            if terms.xid != message[1] or not is_open(book):
                continue
            if message[0] == RETURNED:
                yield from _hears_return(scenario, state, slot, message)
            elif book.status == TRANSIT and message[0] == ACCEPTED:
                held = put(state.books, slot, book._replace(status=HELD))
                yield f"{terms.giver} hears that grant {slot} was accepted", state._replace(books=held)
            elif book.status == TRANSIT:
                label = f"{terms.giver} hears that grant {slot} was declined"
                yield label, _booked(state, scenario, slot, _all_back(book), outstanding(book))


def _hears_return(scenario: Scenario, state: State, slot: int, message: tuple[Any, ...]) -> Iterator[Step]:
    """Receipts say what came back since the grant, so that only what is new in them counts."""
    _, _, returned, used, final = message
    terms, book = scenario.slots[slot], state.books[slot]
    fresh = returned if "receipts are not cumulative" in scenario.broken else _above(returned, book.back)
    if book.ended and "what came back at the end comes back again" in scenario.broken:
        fresh = returned
    elif "a receipt is not held against its grant" not in scenario.broken:
        fresh = _least(fresh, outstanding(book))
    spent = _least(_above(used, book.used), minus(outstanding(book), fresh))
    after = book._replace(status=HELD, back=plus(book.back, fresh), used=plus(book.used, spent))
    if final or not any(outstanding(after)):
        after = after._replace(status=CLOSED)
    if after == book:
        return
    source = state.parts[terms.parent]
    richer = source._replace(available=plus(source.available, fresh), used=plus(source.used, spent))
    label = f"{terms.giver} books the receipt for grant {slot}: {returned} back, {used} used{', final' * final}"
    books, parts = put(state.books, slot, after), put(state.parts, terms.parent, richer)
    yield label, state._replace(books=books, parts=parts)


def ends(scenario: Scenario, state: State) -> Iterator[Step]:
    """A loan's seats come back by themselves at its end plus the tolerance; its units do not, nor does a transfer."""
    for slot, terms in enumerate(scenario.slots):
        book = state.books[slot]
        if not is_open(book) or book.ended:
            continue
        end = terms.ends[0] if terms.ends and "an extension counts from the old end" in scenario.broken else book.end
        due = end + scenario.giver_tolerance
        if not terms.ends:
            if "a transfer comes back on a timer" in scenario.broken and book.status == TRANSIT:
                label = f"{terms.giver} takes transfer {slot} back, as nothing was heard"
                yield label, _booked(state, scenario, slot, _all_back(book), outstanding(book))
        elif state.now + scenario.skew >= due:
            timed = {"seats", "units"} if "lent units come back on a timer" in scenario.broken else {"seats"}
            pairs = zip(outstanding(book), scenario.counters, strict=True)
            freed = tuple(amount if kind in timed else 0 for amount, kind in pairs)
            after = book._replace(back=plus(book.back, freed), ended=True)
            if not any(outstanding(after)) and "what came back at the end comes back again" not in scenario.broken:
                after = after._replace(status=CLOSED)
            label = f"{terms.giver}, whose clock reads {max(state.now, due)}, ends loan {slot}"
            yield label, _booked(state, scenario, slot, after, freed)


def _lasts(scenario: Scenario, source: Part, end: int) -> bool:
    """Whether a grant with this end may be taken from a part."""
    return source.status == OPEN and (
        end <= source.end or "a loan outlives the one it is taken from" in scenario.broken
    )


def _booked(state: State, scenario: Scenario, slot: int, book: Book, credit: tuple[int, ...]) -> State:
    """Write a book, and what it changes in the part the grant is taken from, with one commit."""
    parent = scenario.slots[slot].parent
    part = state.parts[parent]
    parts = put(state.parts, parent, part._replace(available=plus(part.available, credit)))
    return state._replace(books=put(state.books, slot, book), parts=parts)


def _all_back(book: Book) -> Book:
    return book._replace(status=CLOSED, back=plus(book.back, outstanding(book)))


def _above(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(max(x - y, 0) for x, y in zip(a, b, strict=True))


def _least(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(min(x, y) for x, y in zip(a, b, strict=True))
