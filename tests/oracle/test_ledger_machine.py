# SPDX-License-Identifier: Apache-2.0
"""The ledger against its oracle: any commands, in any order, at any time of any clock. Loans and transfers need more
than one account: `test_lending_machine`.

``HYPOTHESIS_PROFILE=thorough ./run test tests/oracle -o faulthandler_timeout=0`` tries some hundred thousand steps, CI
some thousand.
"""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, precondition, rule

from fakes import START, FakeClock
from issuer import DAY, Issuer
from oracle.account import Oracle, Refused
from oracle.telling import Teller, books_of, books_told, differences, result_of
from tallystick.codec import cbor
from tallystick.codec.signing import SoftwareKey
from tallystick.container import commands as c
from tallystick.container import ledger
from tallystick.container.state import State
from tallystick.errors import TallystickError
from tallystick.license.grant_policy import GrantPolicy
from tallystick.license.messages import Request
from tallystick.license.model import ACTIVE, REVOKED, SUSPENDED, Feature, Terms

IDENTITY = SoftwareKey.generate()
CONTAINER = IDENTITY.public_key.thumbprint
STRANGER = bytes(32)
VENDORS = ("acme", "brick")

small = st.integers(0, 6)
ids = small.map(lambda number: number.to_bytes(16))
spans = st.sampled_from([0, 1, 10, 3600, DAY, 10 * DAY, 400 * DAY])
features = st.sampled_from(["", "render", "pdf", "nowhere"])
amounts = st.sampled_from([0, 1, 2, 3, 7, 100, 2**53])
maybe = st.none()
terms = st.builds(
    Terms,
    not_before=maybe | st.just(START + DAY),
    expires=maybe | st.sampled_from([START + 20 * DAY, START + 500 * DAY]),
    usage_period=maybe | st.just(5 * DAY),
    units=maybe | st.sampled_from([0, 3, 50]),
    overage=st.sampled_from([0, 2]),
    seats=maybe | st.just(2),
    min_level=st.sampled_from([0, 0, 0, 2]),
    check_in=maybe | st.just(10 * DAY),
    grace=st.sampled_from([0, DAY]),
    lend=maybe | st.just(GrantPolicy(1)),
    transfer=maybe | st.just(GrantPolicy(0)),
)
feature_maps = st.fixed_dictionaries(
    {},
    optional={
        "render": st.builds(Feature, units=maybe | st.sampled_from([0, 2, 20]), overage=st.sampled_from([0, 1]),
                            expires=maybe | st.just(START + 15 * DAY), usage_period=maybe | st.just(DAY)),
        "pdf": st.just(Feature()),
    },
)  # fmt: skip


class LedgerMachine(RuleBasedStateMachine):
    """Both do the same; both must say the same."""

    updates = Bundle("updates")
    requests = Bundle("requests")
    licenses = Bundle("licenses")

    @initialize(target=licenses, terms=terms, features=feature_maps)
    def begin(self, terms: Terms, features: Any) -> Any:
        """Begin with two licenses: one that permits everything, and any other."""
        self.clock = FakeClock()
        self.tellers = {name: Teller(Issuer(name), CONTAINER) for name in VENDORS}
        self.state = ledger.create(CONTAINER, self.clock.read())
        self.oracle = Oracle(self.reading, CONTAINER)
        self.drawn = 0
        self.add_vendor("acme", False)
        rich = Terms(units=50, overage=2, seats=2, lend=GrantPolicy(1), transfer=GrantPolicy(0))
        first = self.answer(
            self.open_request("acme", 1, None), rich, {"render": Feature(units=20), "pdf": Feature()}, 0
        )
        second = self.answer(self.open_request("acme", 1, None), terms, features, 0)
        return multiple(first, second)

    @property
    def reading(self) -> tuple[int, int, str]:
        reading = self.clock.read()
        return reading.wall, reading.uptime, reading.boot_id

    def fresh(self) -> bytes:
        self.drawn += 1
        return (1 << 64 | self.drawn).to_bytes(16)

    def both(self, command: c.Command, rule_: str, **values: Any) -> Any:
        """Apply a command to both, compare, and return the result, or the code of the refusal as a string."""
        reading, asked = c.decode(c.encode(self.clock.read(), (command,)))
        assert (reading, asked) == (self.clock.read(), (command,))
        before = self.state
        try:
            self.state, result = ledger.apply(before, command, reading)
            outcome = result_of(result)
        except TallystickError as refusal:
            outcome = refusal.code
            assert self.state is before
        try:
            told = self.oracle.apply(rule_, self.reading, **values)
        except Refused as refusal:
            told = refusal.code
        assert outcome == told, f"{rule_}: {outcome!r}, the oracle says {told!r}"
        assert differences(books_of(self.state), books_told(self.oracle)) == []
        return told

    # -- time

    @rule(seconds=spans)
    def time_passes(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @rule(wall=st.sampled_from([0, START - 9 * DAY, START + 30 * DAY, START + 7000 * DAY]))
    def the_clock_is_set(self, wall: int) -> None:
        self.clock.set_wall(wall)

    @rule(off=spans, right=st.booleans())
    def the_machine_starts_again(self, off: int, right: bool) -> None:
        self.clock.reboot(off, None if right else 1000)

    @rule(seconds=spans)
    def time_passes_at_the_vendors(self, seconds: int) -> None:
        for teller in self.tellers.values():
            teller.issuer.now += seconds

    @rule()
    def observe(self) -> None:
        self.both(c.Observe(), "observe")

    # -- vendors and requests

    @rule(vendor=st.sampled_from(VENDORS), impostor=st.sampled_from([False] * 7 + [True]))
    def add_vendor(self, vendor: str, impostor: bool) -> None:
        root = SoftwareKey.generate() if impostor else self.tellers[vendor].issuer.root
        self.both(c.AddVendor(vendor, root.public_key.cose), "add_vendor", vendor=vendor, root=root.public_key.cose)

    @rule(target=requests, vendor=st.sampled_from(VENDORS), action=st.sampled_from([1, 2, 3]), id=ids | maybe)
    def open_request(self, vendor: str, action: int, id: bytes | None) -> Any:
        id = id or self.fresh()
        message = Request(vendor, START, id, IDENTITY.public_key, action, product="cad").sign(IDENTITY)
        told = self.both(
            c.OpenRequest(id, vendor, "cad", action, message), "open_request",
            id=id, vendor=vendor, product="cad", action=action, message=message,
        )  # fmt: skip
        return multiple() if told is not None else (vendor, id, message)

    @precondition(lambda self: self.state.pending)
    @rule(data=st.data())
    def cancel_request(self, data: st.DataObject) -> None:
        id = self.pick(data, self.state.pending)
        self.both(c.CancelRequest(id), "cancel_request", id=id)

    # -- updates

    def install(self, made: tuple[bytes, Any]) -> None:
        self.both(c.Install(made[0]), "install", **made[1])

    @rule(
        target=licenses, request=requests, terms=terms, features=feature_maps, status=st.sampled_from([0, 0, 0, 1, 2])
    )
    def answer(self, request: tuple[str, bytes, bytes], terms: Terms, features: Any, status: int) -> Any:
        teller = self.tellers[request[0]]
        license_ = teller.issuer.license(request[2], features=features, status=status).replace(terms=terms)
        self.install(teller.update([license_], request[1]))
        return license_

    @rule(
        target=updates, held=licenses, more=licenses, terms=terms, seq=st.sampled_from([-1, 0, 1, 1, 1, 5]),
        status=st.sampled_from([ACTIVE, ACTIVE, SUSPENDED, REVOKED]), extras=st.sets(st.sampled_from(
            ["status_list", "time", "clock_reset", "both", "product", "later"])),
    )  # fmt: skip
    def refresh(self, held: Any, more: Any, terms: Terms, seq: int, status: int, extras: set[str]) -> Any:
        teller = self.tellers[held.vendor]
        newer = held.replace(seq=max(0, held.seq + seq), terms=terms, status=status, issued_at=teller.issuer.now)
        if "product" in extras and seq == 5:
            newer = newer.replace(product="other")
        licenses = [newer, more] if "both" in extras else [newer]
        changes = {name: True for name in ("status_list", "time", "clock_reset") if name in extras}
        made = teller.update(licenses, None, **changes)
        if "later" not in extras:
            self.install(made)
        return made

    @rule(
        target=updates, held=licenses, how=st.sampled_from(["status", "time", "root", "elsewhere", "license", "many"])
    )
    def a_strange_update(self, held: Any, how: str) -> Any:
        teller = self.tellers[held.vendor]
        newer = held.replace(seq=held.seq + 1)
        if how == "elsewhere":
            made = teller.update([newer], None, container=STRANGER)
        elif how == "license":
            made = teller.update([newer.replace(container=STRANGER)], None)
        elif how == "many":
            made = teller.update([newer, newer, held], self.fresh())
        else:
            made = teller.update([newer], None, signed_by=how)
        self.install(made)
        return made

    @rule(update=updates)
    def install_it(self, update: tuple[bytes, Any]) -> None:
        self.install(update)

    @rule(vendor=st.sampled_from(VENDORS))
    def rotate(self, vendor: str) -> None:
        self.tellers[vendor].rotate()

    @rule(request=requests)
    def refuse(self, request: tuple[str, bytes, bytes]) -> None:
        message, facts = self.tellers[request[0]].refusal(request[2], request[1])
        self.both(c.TakeRefusal(message), "take_refusal", **facts)

    @rule(data=st.data(), message=st.binary(min_size=1, max_size=2), vendor=st.sampled_from(["", *VENDORS]))
    def keep_receipt(self, data: st.DataObject, message: bytes, vendor: str) -> None:
        waiting = [*self.state.receipts, *self.state.tombstones, bytes(16)]
        about = data.draw(st.sampled_from(waiting))
        receipt = b"\xd2\x84\x40\xa0\x40" + cbor.encode(message)
        id = self.fresh() if vendor else b""
        command = c.KeepReceipt(about, receipt, vendor, id)
        self.both(command, "keep_receipt", about=about, message=receipt, vendor=vendor, id=id)

    # -- units

    def some(self, data: st.DataObject) -> bytes:
        """A license, mostly one that is held."""
        return self.pick(data, self.state.holdings, self.state.tombstones)

    def pick(self, data: st.DataObject, likely: Any, unlikely: Any = ()) -> bytes:
        """An id, mostly a likely one, at times nobody's."""
        chosen: bytes = data.draw(st.sampled_from([*likely] * 3 + [*unlikely, bytes(16)]))
        return chosen

    def of_license(self, data: st.DataObject, what: str) -> tuple[bytes, bytes]:
        """A license, and one of its reservations or grants."""
        license_ = self.some(data)
        holding = self.state.holdings.get(license_)
        return license_, self.pick(data, getattr(holding, what) if holding else ())

    @rule(data=st.data(), feature=features, units=amounts, key=st.sampled_from([b"", b"a", b"b", bytes(65)]))
    def consume(self, data: st.DataObject, feature: str, units: int, key: bytes) -> None:
        license_ = self.some(data)
        command = c.Consume(license_, feature, units, key)
        self.both(command, "consume", license=license_, feature=feature, units=units, key=key)

    @rule(data=st.data(), feature=features, units=amounts, id=ids)
    def reserve(self, data: st.DataObject, feature: str, units: int, id: bytes) -> None:
        license_ = self.some(data)
        command = c.Reserve(license_, feature, units, id)
        self.both(command, "reserve", license=license_, feature=feature, units=units, reservation=id)

    @precondition(lambda self: any(holding.reservations for holding in self.state.holdings.values()))
    @rule(data=st.data(), rest=amounts)
    def release(self, data: st.DataObject, rest: int) -> None:
        license_, id = self.of_license(data, "reservations")
        self.both(c.Release(license_, id, rest), "release", license=license_, reservation=id, rest=rest)

    @rule(data=st.data(), feature=features)
    def first_use(self, data: st.DataObject, feature: str) -> None:
        license_ = self.some(data)
        self.both(c.FirstUse(license_, feature), "first_use", license=license_, feature=feature)

    @precondition(lambda self: len(self.state.holdings) > 1)
    @rule(data=st.data())
    def deactivate(self, data: st.DataObject) -> None:
        license_ = self.some(data)
        self.both(c.Deactivate(license_), "deactivate", license=license_)

    @rule(name=st.sampled_from(["host", "rack", "bad name", ""]), value=st.sampled_from(["", "a", "b", "x" * 257]))
    def set_variable(self, name: str, value: str) -> None:
        self.both(c.SetVariable(name, value), "set_variable", name=name, value=value)

    @rule(kind=st.sampled_from(["drift", "note"]))
    def note(self, kind: str) -> None:
        self.both(c.Note(kind, "a line"), "note", kind=kind, text="a line")

    # -- what always holds

    @invariant()
    def the_state_is_what_it_encodes(self) -> None:
        if hasattr(self, "state"):
            assert State.from_bytes(self.state.to_bytes()) == self.state

    @invariant()
    def units_are_conserved(self) -> None:
        for holding in getattr(self, "state", State(b"", 0)).holdings.values():
            for name, counter in holding.counters.items():
                assert counter.gone == counter.used >= 0
                reserved = sum(units for of, units in holding.reservations.values() if of == name)
                assert counter.used >= reserved

    @invariant()
    def nothing_is_held_and_buried(self) -> None:
        if hasattr(self, "state"):
            assert not self.state.holdings.keys() & self.state.tombstones.keys()


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(stateful_step_count=40)
