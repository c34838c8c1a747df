# SPDX-License-Identifier: Apache-2.0
"""A real container against the oracle: several handles, opened, abandoned and closed in any order, one story.

What a call of the container does in commands of the ledger is told here once more, from the docstrings of `Container`.
``HYPOTHESIS_PROFILE=thorough ./run test tests/oracle -o faulthandler_timeout=0`` tries very many steps.
"""

from __future__ import annotations

import copy
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, multiple, precondition, rule

from backends.computer import ALL, Hand
from fakes import START, FakeClock
from issuer import DAY, Issuer
from oracle import timekeeping as clocks
from oracle.account import Oracle, Refused
from oracle.telling import Teller, books_of, books_told, differences
from tallystick.backends.file import FileBackend
from tallystick.codec import cose
from tallystick.container.sealed import SealedContainer
from tallystick.container.seat import Seat
from tallystick.errors import TallystickError
from tallystick.license.messages import read_request
from tallystick.license.model import Feature, License, Terms
from tallystick.license.receipts import Receipt
from tallystick.registry import Backend

maybe = st.none()
products = st.sampled_from(["cad", "render", "plan"])
features = st.sampled_from(["", "", "pdf", "sim"])
amounts = st.sampled_from([1, 1, 2, 5, 40])
keys = st.sampled_from(["", "", "a", "b"])
terms = st.builds(
    Terms,
    expires=maybe | st.just(START + 20 * DAY),
    usage_period=maybe | st.just(5 * DAY),
    units=maybe | st.sampled_from([4, 50]),
    overage=st.sampled_from([0, 2]),
    check_in=maybe | st.just(10 * DAY),
    min_level=st.sampled_from([0, 0, 0, 1]),
)
feature_maps = st.fixed_dictionaries({}, optional={
    "pdf": st.just(Feature()),
    "sim": st.builds(Feature, units=maybe | st.sampled_from([3, 30]), usage_period=maybe | st.just(2 * DAY)),
})  # fmt: skip


class ContainerMachine(RuleBasedStateMachine):
    """One container, up to three handles, one oracle."""

    updates = Bundle("updates")
    seats = Bundle("seats")

    def __init__(self) -> None:
        super().__init__()
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.folder = Path(tempfile.mkdtemp(prefix="tallystick-", dir=memory))
        self.clock = FakeClock()
        self.acme = Issuer()
        self.backend, self.uri = self.computer()
        self.handles: list[SealedContainer] = []
        self.abandoned: list[SealedContainer] = []
        self.made: dict[bytes, License] = {}
        self.forfeited: set[bytes] = set()  # reservations whose rest the container takes back no more

    def computer(self) -> tuple[Backend, str]:
        """The backend, and where the container is."""
        return FileBackend(self.clock, [Hand(ALL)]), f"file:{self.folder / 'c'}"

    def power_fails(self) -> None:
        """What that does to the container itself, beside the programs that use it: nothing, where it is a file."""

    @initialize()
    def begin(self) -> None:
        # Whoever creates renews seats from a thread, which wakes by real time: that could not be repeated.
        self.backend.create(self.uri, [self.acme.trust]).close()
        container: Any = self.backend.open(self.uri, [self.acme.trust], background=False)
        self.handles.append(container)
        self.oracle = Oracle(self.reading)
        self.teller = Teller(self.acme, container.info().thumbprint)
        for product in ("cad", "render"):
            self.activate(product, Terms(units=50), {"pdf": Feature(), "sim": Feature(units=30)})

    def teardown(self) -> None:
        for container in self.handles:
            container.close()
        for container in self.abandoned:
            container._session.close()  # descriptors only: what a killed process had reserved stays reserved
        shutil.rmtree(self.folder)

    @property
    def reading(self) -> clocks.Reading:
        reading = self.clock.read()
        return reading.wall, reading.uptime, reading.boot_id

    @property
    def handle(self) -> SealedContainer:
        """Each call goes to another handle than the one before."""
        self.handles.append(self.handles.pop(0))
        return self.handles[-1]

    # -- the two at once

    def both(self, call: Callable[[], Any], tell: Callable[[Any], Any]) -> Any:
        """Call the container, tell the oracle what it was asked, and compare result or refusal, and the books."""
        outcome: Any
        result = None
        try:
            result = outcome = call()
        except TallystickError as refusal:
            outcome = refusal.code
        try:
            told = tell(result)
        except Refused as refusal:
            told = refusal.code
        if isinstance(outcome, str) or isinstance(told, str):
            assert outcome == told, f"{outcome!r}, the oracle says {told!r}"
        for container in self.handles:
            assert differences(books_of(container._session.current()), books_told(self.oracle)) == []
        return result

    def tell(self, command: str, **values: Any) -> Any:
        return self.oracle.apply(command, self.reading, **values)

    def tell_receipt(self, about: bytes, message: bytes, repeated: bool = False) -> None:
        _, claims = cose.peek(message)
        receipt = Receipt.from_claims(claims)
        assert repeated or receipt.previous == self.written
        facts = {"vendor": receipt.vendor, "id": receipt.message_id}
        assert self.tell("keep_receipt", about=about, message=message, **facts) == message

    @property
    def written(self) -> tuple[bytes, ...]:
        return tuple(self.oracle.books["written"].get("acme", ()))

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """All of these commands, or none."""
        before = copy.deepcopy(self.oracle.books)
        try:
            yield
        except Refused:
            self.oracle.books = before
            raise

    def look(self) -> None:
        """What a checkout does with time: the floor on disk follows in steps of a quarter of an hour."""
        now, memory = clocks.assess(self.oracle.books["clock"], self.reading)
        clock = self.oracle.books["clock"]
        if memory["floor"] - clock["floor"] >= 900 or memory["jump"] != clock["jump"]:
            self.tell("observe")
        self.oracle.now = now
        self.oracle.level_known = True

    def permitted(self, license: bytes, *names: str) -> None:
        """Evaluate for the product and some features; what is permitted begins its usage periods."""
        for name in ("", *names):
            self.oracle.now = clocks.assess(self.oracle.books["clock"], self.reading)[0]
            self.oracle.level_known = True
            self.oracle.evaluate(self.oracle._find(license), name, 0)
            self.begin_usage(license, name)

    def begin_usage(self, license: bytes, feature: str) -> None:
        held = self.oracle._find(license)
        for name, counted in (("", held["license"]["terms"]), (feature, held["license"]["features"].get(feature))):
            if counted and "usage_period" in counted and name not in held["first_use"]:
                self.tell("first_use", license=license, feature=name)

    def decided_anew(self, seats: list[tuple[bytes, list[str]]]) -> None:
        """What installing and giving up does to the seats of that handle: each decides anew."""
        for license, names in seats:
            for name in names:
                if license not in self.oracle.books["held"]:
                    continue
                self.look()
                try:
                    self.oracle.evaluate(self.oracle._find(license), name, 0)
                except Refused:
                    continue
                self.begin_usage(license, name)

    def of_product(self, product: str) -> bytes | None:
        held = [key for key, one in self.oracle.books["held"].items() if one["product"] == product]
        return held[0] if held else None

    # -- time and handles

    @rule(seconds=st.sampled_from([0, 10, 600, 1800, DAY, 6 * DAY]))
    def time_passes(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @rule(wall=st.sampled_from([0, START, START + 30 * DAY, START + 9000 * DAY]))
    def the_clock_is_set(self, wall: int) -> None:
        self.clock.set_wall(wall)

    @rule(off=st.sampled_from([10, DAY, 40 * DAY]))
    def the_machine_starts_again(self, off: int) -> None:
        self.abandoned += self.handles
        self.handles.clear()
        self.clock.reboot(off)
        self.power_fails()
        self.open()

    @precondition(lambda self: len(self.handles) < 3)
    @rule()
    def open(self) -> None:
        for other in self.handles:  # still at work: a dongle forgets the program not heard of for longest
            other._session.current()
        container: Any = self.backend.open(self.uri, [self.acme.trust], background=False)
        self.handles.append(container)
        assert differences(books_of(container._session.peek()), books_told(self.oracle)) == []

    @precondition(lambda self: len(self.handles) > 1)
    @rule()
    def abandon(self) -> None:
        """A process is killed: nobody closes anything, and what it had reserved is forfeited."""
        self.abandoned.append(self.handles.pop())

    # -- requests and answers

    def ask(self, product: str, refresh: bool, variables: dict[str, str]) -> Any:
        def tell(message: bytes | None) -> None:
            with self.at_once():
                self.tell("add_vendor", vendor="acme", root=self.acme.root.public_key.cose)
                for name, value in variables.items():
                    self.tell("set_variable", name=name, value=value)
                made = read_request(message) if message else None
                id = made.request_id if made else bytes(16)
                assert made is None or made.previous == self.written
                action = 2 if refresh else 1
                values = {"vendor": "acme", "product": product, "action": action, "message": message or b""}
                self.tell("open_request", id=id, **values)

        handle = self.handle
        return self.both(lambda: handle.request(product=product, refresh=refresh, variables=variables), tell)

    def install(self, update: tuple[bytes, Any]) -> Any:
        def tell(outcome: Any) -> Any:
            told = self.tell("install", **update[1])
            if outcome is not None:
                self.tell_receipt(update[1]["id"], outcome.receipt, outcome.repeated)
                changes = [(change.license_id, change.change, change.seq) for change in outcome.changes]
                assert told == ("repeated" if outcome.repeated else changes)
                self.decided_anew(seats)

        handle = self.handle
        seats = seats_of(handle)
        return self.both(lambda: handle.install(update[0]), tell)

    def activate(self, product: str, terms: Terms, features: dict[str, Feature]) -> License | None:
        request = self.ask(product, False, {})
        if request is None or self.of_product(product) is not None:
            return None
        license_ = self.acme.license(request, features=features).replace(terms=terms)
        self.install(self.teller.update([license_], read_request(request).request_id))
        self.made[license_.license_id] = license_
        return license_

    @rule(product=products, terms=terms, features=feature_maps)
    def buy(self, product: str, terms: Terms, features: dict[str, Feature]) -> None:
        self.activate(product, terms, features)

    @rule(refresh=st.booleans(), variables=st.dictionaries(st.sampled_from(["a", "b"]), st.sampled_from(["", "x"])))
    def request(self, refresh: bool, variables: dict[str, str]) -> None:
        self.ask("", refresh, variables)

    @rule(target=updates, product=products, terms=terms, seq=st.sampled_from([-1, 0, 1, 2]), later=st.booleans())
    def refresh(self, product: str, terms: Terms, seq: int, later: bool) -> Any:
        license = self.of_product(product)
        if license is None:
            return multiple()
        newer = self.made[license].replace(seq=max(0, self.made[license].seq + seq), terms=terms)
        self.acme.now = max(self.acme.now, min(int(self.clock.wall), START + 400 * DAY))
        update = self.teller.update([newer.replace(issued_at=self.acme.now)], None)
        if seq > 0:
            self.made[license] = newer
        if not later:
            self.install(update)
        return update

    @rule(update=updates)
    def install_again(self, update: tuple[bytes, Any]) -> None:
        self.install(update)

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        known = [*self.oracle.books["requests"], bytes(16)]
        id = data.draw(st.sampled_from(known))
        self.both(lambda: self.handle.cancel_request(id), lambda _: self.tell("cancel_request", id=id))

    @rule()
    def refuse(self) -> None:
        waiting = [key for key, one in self.oracle.books["requests"].items() if one["status"] == "open"]
        if waiting:
            message, facts = self.teller.refusal(self.oracle.books["requests"][waiting[0]]["message"], waiting[0])
            handle = self.handle
            seats = seats_of(handle)

            def tell(_: Any) -> None:
                self.tell("take_refusal", **facts)
                self.decided_anew(seats)  # as after an update: another handle may have installed one before

            self.both(lambda: handle.install(message), tell)

    # -- seats

    def seat(self, product: str, feature: str, reserve: int) -> tuple[Seat, SealedContainer, int] | None:
        asked = [feature] if feature else []

        def tell(seat: Seat | None) -> None:
            self.look()
            license = self.of_product(product)
            if license is None:
                raise Refused("not_licensed")
            for name in ("", *asked):
                self.oracle.evaluate(self.oracle._find(license), name, 0)
            if reserve:
                new = self.new_reservation(license) if seat is not None else bytes(16)
                own = self.oracle._find(license)["license"]["features"].get(feature, {})
                values = {"feature": feature if "units" in own else "", "units": reserve, "reservation": new}
                self.oracle.level_known = False
                self.tell("reserve", license=license, **values)
            self.permitted(license, *asked)

        handle = self.handle
        seat = self.both(lambda: handle.checkout(product, features=asked, reserve=reserve), tell)
        return None if seat is None else (seat, handle, reserve)

    @rule(target=seats, product=products, feature=features, reserve=st.sampled_from([2, 30]))
    def reserve(self, product: str, feature: str, reserve: int) -> Any:
        return self.seat(product, feature, reserve) or multiple()

    @rule(product=products, feature=features, units=amounts, key=keys, more=st.booleans())
    def use(self, product: str, feature: str, units: int, key: str, more: bool) -> None:
        """Take a seat and consume, often twice."""
        for _ in range(1 + more):
            taken = self.seat(product, feature, 0)
            if taken is not None:
                self.consume(taken[0], feature, units, key)

    def new_reservation(self, license: bytes) -> bytes:
        state = self.handles[0]._session.current()
        (new,) = state.holdings[license].reservations.keys() - self.oracle._find(license)["reservations"].keys()
        return new

    def consume(self, seat: Seat, feature: str, units: int, key: str) -> None:
        license = seat.license_.license_id

        def tell(_: Any) -> Any:
            self.oracle._find(license)
            with self.at_once():
                if license in self.oracle.books["held"]:
                    self.begin_usage(license, feature)
                self.oracle.level_known = False
                return self.tell("consume", license=license, feature=feature, units=units, key=key.encode())

        self.both(lambda: seat.consume(units, feature, idempotency_key=key), tell)

    @rule(held=seats)
    def leave(self, held: tuple[Seat, SealedContainer, int]) -> None:
        seat, handle, reserved = held
        block = seat._block
        if seat._host is None or handle not in self.handles:
            return

        def tell(_: Any) -> None:
            if block is not None and seat.license_.license_id in self.oracle.books["held"]:
                open_ = self.oracle._find(seat.license_.license_id)["reservations"]
                if block.reservation_id in open_ and block.reservation_id not in self.forfeited:
                    license = seat.license_.license_id
                    self.tell("release", license=license, reservation=block.reservation_id, rest=reserved)

        self.both(seat.close, tell)

    @rule(product=products)
    def deactivate(self, product: str) -> None:
        license = self.of_product(product) or bytes(16)

        def tell(receipt: bytes | None) -> None:
            self.tell("deactivate", license=license)
            assert receipt is not None
            self.tell_receipt(license, receipt)
            self.decided_anew(seats)

        handle = self.handle
        seats = seats_of(handle)
        self.both(lambda: handle.deactivate(license), tell)


def seats_of(container: SealedContainer) -> list[tuple[bytes, list[str]]]:
    """The seats of a handle and the features they have permitted."""
    return [(seat.license_.license_id, [*seat._deadlines]) for seat in container._seating._renewer.seats]


TestContainer = ContainerMachine.TestCase
TestContainer.settings = settings(stateful_step_count=25)
