# SPDX-License-Identifier: Apache-2.0
"""Three ledgers that lend to each other, against their oracles; their files are lost, repeated, late and forged.

``HYPOTHESIS_PROFILE=thorough ./run test tests/oracle -o faulthandler_timeout=0`` tries very many steps.
"""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fakes import START, FakeClock
from issuer import DAY, Issuer
from oracle.account import Oracle, Refused
from oracle.loans import SEATS, exchange_id, out
from oracle.telling import Teller, books_of, books_told, differences, exchange_told, policy_told, result_of
from oracle.units import PLACES, Facts, gone
from tallystick.codec.signing import SoftwareKey
from tallystick.container import commands as c
from tallystick.container import ledger
from tallystick.container.ledger_shares import shares_of
from tallystick.container.papers import write_grant, write_receipt
from tallystick.container.state import State
from tallystick.errors import TallystickError
from tallystick.license import receipts
from tallystick.license.grant_policy import MAY_ALL, GrantPolicy
from tallystick.license.grants import Recall
from tallystick.license.messages import BORROW, Request
from tallystick.license.model import Feature, Terms
from tallystick.license.want import Want

KEYS = [SoftwareKey.generate() for _ in range(3)]
FREE = GrantPolicy(MAY_ALL, max_depth=3)
PURPOSES = {receipts.ACCEPTED: "accepted", receipts.RETURNED: "returned", receipts.DECLINED: "declined"}

who = st.integers(0, len(KEYS) - 1)
spans = st.sampled_from([0, 60, 299, 300, 3600, DAY, 6 * DAY])
lasting = st.sampled_from([60, 900, 3600, DAY, 5 * DAY, 40 * DAY])
policies = st.sampled_from([
    FREE, FREE, FREE.replace(max_duration=DAY), FREE.replace(max_depth=0), FREE.replace(low_water=2),
    FREE.replace(max_per_receiver=2), FREE.replace(min_level=1), GrantPolicy(4 + 8), GrantPolicy(1 + 16),
    GrantPolicy(7), FREE.replace(receivers=(KEYS[1].public_key.thumbprint,)),
])  # fmt: skip
amounts = st.fixed_dictionaries({}, optional={
    "": st.sampled_from([1, 2, 5, 30, 51]), SEATS: st.sampled_from([1, 1, 2, 4]),
    "sim": st.sampled_from([1, 5, 21]), "pdf": st.just(1),
})  # fmt: skip
handfuls = st.sampled_from([{}, {SEATS: 1}, {SEATS: 1, "": 5}, {SEATS: 2, "": 10, "sim": 3}, {"": 4}])
terms = st.builds(
    Terms,
    expires=st.none() | st.just(START + 20 * DAY),
    usage_period=st.none() | st.just(4 * DAY),
    units=st.sampled_from([None, 3, 50]),
    overage=st.sampled_from([0, 2]),
    seats=st.sampled_from([None, 1, 3]),
    min_level=st.sampled_from([0, 0, 0, 1]),
    lend=st.none() | policies,
    transfer=st.none() | policies,
)


class Account:
    """A ledger and its oracle."""

    def __init__(self, key: SoftwareKey) -> None:
        self.key: Any = key
        self.me = key.public_key.thumbprint
        self.clock = FakeClock()
        self.state = ledger.create(self.me, self.clock.read())
        self.oracle = Oracle(self.reading, self.me)

    @property
    def reading(self) -> tuple[int, int, str]:
        reading = self.clock.read()
        return reading.wall, reading.uptime, reading.boot_id

    def both(self, command: c.Command, rule_: str, **values: Any) -> Any:
        """Apply a command to both, compare, and return the result; a refusal is returned as its code."""
        reading, (asked,) = c.decode(c.encode(self.clock.read(), (command,)))
        before = self.state
        outcome: Any
        try:
            self.state, result = ledger.apply(before, asked, reading)
            outcome = result_of(result)
            outcome = exchange_told(outcome) if isinstance(outcome, dict) and "xid" in outcome else outcome
        except TallystickError as refusal:
            outcome = refusal.code
            assert self.state is before
        try:
            told = self.oracle.apply(rule_, self.reading, **values)
            told = exchange_told(told) if isinstance(told, dict) and "xid" in told else told
        except Refused as refusal:
            told = refusal.code
        assert outcome == told, f"{rule_}: {outcome!r}, the oracle says {told!r}"
        assert differences(books_of(self.state), books_told(self.oracle)) == []
        return told


class LendingMachine(RuleBasedStateMachine):
    """Files are kept for ever, and any of them may be imported anywhere at any time."""

    @initialize(terms=terms)
    def begin(self, terms: Terms) -> None:
        self.acme = Issuer()
        self.accounts = [Account(key) for key in KEYS]
        self.licenses: dict[bytes, Any] = {}
        self.requests: list[tuple[bytes, Facts]] = []
        self.grants: list[tuple[bytes, Facts]] = []
        self.shares: list[tuple[bytes, Facts]] = []
        self.recalls: list[tuple[bytes, Facts]] = []
        self.tellers = [Teller(self.acme, account.me) for account in self.accounts]
        for account in self.accounts:
            account.both(c.AddVendor("acme", self.acme.root.public_key.cose), "add_vendor", vendor="acme",
                         root=self.acme.root.public_key.cose)  # fmt: skip
        self.buy(0, Terms(units=50, overage=2, seats=3, lend=FREE, transfer=FREE))
        self.buy(1, terms)
        self.lend(0, 1, {SEATS: 2, "": 20, "sim": 5}, None, 3)
        self.lend(1, 2, {SEATS: 1, "": 10}, 5 * DAY, 2)

    def lend(self, giver: int, receiver: int, amounts: Facts, seconds: int | None, steps: int) -> None:
        """Ask, give, take, confirm: as many of these as there are steps."""
        self.ask(receiver, "cad", 1, {}, "any", None)
        if steps < 1 or giver == receiver:
            return
        holdings = self.accounts[giver].state.holdings
        part = [*holdings][-1] if holdings else bytes(16)
        before = len(self.grants)
        self.give_some(giver, part, self.requests[-1], amounts, seconds)
        if steps < 2 or len(self.grants) == before:
            return
        self.take(self.accounts[receiver], self.grants[-1])
        if steps > 2 and self.shares:
            self.accounts[giver].both(c.TakeShares(self.shares[-1][0]), "take_shares", **self.shares[-1][1])

    @rule(giver=who, receiver=who, amounts=handfuls, seconds=st.none() | lasting, steps=st.integers(1, 3))
    def a_story(self, giver: int, receiver: int, amounts: Facts, seconds: int | None, steps: int) -> None:
        self.lend(giver, receiver, amounts, seconds, steps)

    def buy(self, number: int, terms: Terms) -> None:
        account, id_ = self.accounts[number], self.acme.id()
        request = Request("acme", START, id_, account.key.public_key, 1, product="cad")
        account.both(c.OpenRequest(id_, "acme", "cad", 1, b"x"), "open_request", id=id_, vendor="acme", product="cad",
                     action=1, message=b"x")  # fmt: skip
        features = {"pdf": Feature(), "sim": Feature(units=20, usage_period=terms.usage_period)}
        license_ = self.acme.license(request, features=features).replace(terms=terms)
        self.install(number, [license_], id_)
        self.licenses[license_.license_id] = (number, license_)

    def install(self, number: int, licenses: list[Any], in_reply_to: bytes | None) -> None:
        made, facts = self.tellers[number].update(licenses, in_reply_to)
        self.accounts[number].both(c.Install(made), "install", **facts)

    @rule(number=who, seconds=spans)
    def time_passes(self, number: int, seconds: int) -> None:
        self.accounts[number].clock.advance(seconds)

    @rule(seconds=spans)
    def time_passes_everywhere(self, seconds: int) -> None:
        for account in self.accounts:
            account.clock.advance(seconds)

    @rule(number=who)
    def observe(self, number: int) -> None:
        self.accounts[number].both(c.Observe(), "observe")

    @rule(data=st.data(), terms=terms)
    def refresh(self, data: st.DataObject, terms: Terms) -> None:
        """The vendor changes what was already lent."""
        id_ = data.draw(st.sampled_from([*self.licenses]))
        number, license_ = self.licenses[id_]
        newer = license_.replace(seq=license_.seq + 1, terms=terms)
        self.install(number, [newer], None)
        self.licenses[id_] = (number, newer)

    @rule(number=who)
    def rotate_and_tell(self, number: int) -> None:
        """A new license key: one container hears of it, what it gives tells others."""
        for teller in self.tellers:
            for facts in teller._signed:
                facts["good_until"] = min(facts["good_until"], self.acme.seq)
        self.acme.rotate("license")
        own = [license_ for owner, license_ in self.licenses.values() if owner == number]
        newer = [one.replace(seq=one.seq + 1) for one in own if one.license_id in self.accounts[number].state.holdings]
        self.install(number, newer, None)
        self.licenses |= {one.license_id: (number, one) for one in newer}

    # -- asking

    @rule(number=who, product=st.sampled_from(["cad", "cad", "cad", ""]), count=st.sampled_from([1, 1, 1, 2, 3]),
          wanted=st.sampled_from([{}, {}, {SEATS: 2, "": 30}]), kind=st.sampled_from(["any", "loan", "transfer"]),
          lender=st.none() | who)  # fmt: skip
    def ask(self, number: int, product: str, count: int, wanted: Facts, kind: str, lender: int | None) -> None:
        account, id_ = self.accounts[number], self.acme.id()
        thumbprint = None if lender is None else self.accounts[lender].me
        duration = DAY if kind == "loan" else None
        want = Want(product, None, wanted, None, duration, kind == "transfer", count, thumbprint)
        request = Request("acme", START, id_, account.key.public_key, BORROW, product=product, want=want)
        message = request.sign(account.key)
        told = {"product": product, "license": None, "amounts": wanted, "duration": duration, "count": count,
                "transfer": kind == "transfer", "lender": thumbprint}  # fmt: skip
        account.both(
            c.OpenRequest(id_, "acme", product, BORROW, message, count), "open_request",
            id=id_, vendor="acme", product=product, action=BORROW, message=message, count=count, want=told,
        )  # fmt: skip
        facts = {"id": id_, "action": BORROW, "want": told, "vendor": "acme", "container": account.me,
                 "key": account.key.public_key.cose, "by": number}  # fmt: skip
        self.requests.append((message, facts))

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        _, facts = data.draw(st.sampled_from(self.requests))
        self.accounts[facts["by"]].both(c.CancelRequest(facts["id"]), "cancel_request", id=facts["id"])

    # -- the giver

    @precondition(lambda self: self.requests)
    @rule(data=st.data(), number=who, asked=amounts, seconds=st.none() | lasting,
          features=st.sampled_from([None, None, None, [], ["sim"], ["nowhere"]]),
          level=st.sampled_from([0, 0, 1]))  # fmt: skip
    def give(
        self, data: st.DataObject, number: int, asked: Facts, seconds: int | None, features: Any, level: int
    ) -> None:
        giver = self.accounts[number]
        message, facts = data.draw(st.sampled_from(self.requests[-4:]))
        part = data.draw(st.sampled_from([*giver.state.holdings] * 9 + [bytes(16)]))
        self.give_some(number, part, (message, facts), asked, seconds, features, level)

    def give_some(
        self, number: int, part: bytes, request: tuple[bytes, Facts], asked: Facts, seconds: int | None,
        features: Any = None, level: int = 0,
    ) -> None:  # fmt: skip
        giver = self.accounts[number]
        amounts = {name: asked[name] for name in ("", "pdf", "sim", SEATS) if name in asked}  # as CBOR sorts them
        ends = None if seconds is None else int(giver.clock.wall) + seconds
        facts = {key: value for key, value in request[1].items() if key != "by"}
        told = giver.both(
            c.Give(request[0], part, amounts, features, ends, level), "give",
            request=facts, part=part, amounts=amounts, features=features, ends=ends, level=level,
        )  # fmt: skip
        if isinstance(told, dict):
            self.emit(number, told["xid"])

    def emit(self, number: int, xid: bytes) -> None:
        """Sign the grant that the books hold, and keep it; the facts are the oracle's."""
        giver = self.accounts[number]
        entry = giver.state.given[xid]
        told = copy.deepcopy(giver.oracle.books["given"][xid])
        if entry.message:
            return
        held = giver.oracle.books["held"][told["part"]]
        now = giver.oracle.now
        message = write_grant(giver.key, giver.state, entry, now, {})
        receiver = next(account.me for account in self.accounts if account.key.public_key.cose == told["receiver"])
        facts = {
            "xid": xid, "vendor": "acme", "receiver": receiver, "giver": giver.me, "in_reply_to": told["request"],
            "amounts": told["amounts"], "features": told["features"], "ends": told["ends"], "seq": told["seq"],
            "iat": now, "first_use": dict(held["first_use"]), "contact": held["contact"], "message": message,
            "keyset": giver.oracle.books["vendors"]["acme"]["keyset"], "root": self.acme.root.public_key.cose,
            "parent": copy.deepcopy(held["license"]),
        }  # fmt: skip
        giver.both(c.KeepGrant(xid, message), "keep_grant", xid=xid, message=message)
        self.grants.append((message, facts))

    def good_until(self, facts: Facts) -> int:
        """Up to which key set the issuer's license at the top of a grant is believed."""
        origin = facts["parent"].get("origin", facts["parent"]["message"])
        found: int = next(
            one["good_until"] for teller in self.tellers for one in teller._signed if one.get("message") == origin
        )
        return found

    @precondition(lambda self: any(account.state.given for account in self.accounts))
    @rule(data=st.data(), number=who, seconds=lasting)
    def extend(self, data: st.DataObject, number: int, seconds: int) -> None:
        giver = self.accounts[number]
        xid = data.draw(st.sampled_from([*giver.state.given] * 9 + [bytes(16)]))
        known = giver.state.given.get(xid)
        ends = (known.ends or START) + seconds if known is not None else START
        told = giver.both(c.Extend(xid, ends), "extend", xid=xid, ends=ends)
        if isinstance(told, dict):
            self.emit(number, xid)

    @precondition(lambda self: any(account.state.given for account in self.accounts))
    @rule(data=st.data(), number=who)
    def recall(self, data: st.DataObject, number: int) -> None:
        giver = self.accounts[number]
        xid = data.draw(st.sampled_from([*giver.state.given] * 9 + [bytes(16)]))
        told = giver.both(c.Recall(xid), "recall", xid=xid)
        if isinstance(told, dict):
            receiver = next(one.me for one in self.accounts if one.key.public_key.cose == told["receiver"])
            message = Recall("acme", told["recalled"], xid, receiver, giver.key.public_key).sign(giver.key)
            self.recalls.append((message, {"xid": xid, "receiver": receiver, "giver": giver.me}))

    @rule(number=who, key=st.sampled_from(["lend", "transfer", "lend/cad"]), policy=st.none() | policies)
    def set_policy(self, number: int, key: str, policy: GrantPolicy | None) -> None:
        told = None if policy is None else policy_told(policy)
        claims = {} if policy is None else policy.to_map()
        self.accounts[number].both(c.SetPolicy(key, claims), "set_policy", key=key, policy=told)

    # -- the receiver

    def receiver_of(self, data: st.DataObject, facts: Facts) -> Account:
        """Mostly the right one."""
        right = next(account for account in self.accounts if account.me == facts["receiver"])
        chosen: Account = data.draw(st.sampled_from([right, right, right, right, *self.accounts]))
        return chosen

    @precondition(lambda self: self.grants)
    @rule(data=st.data(), newest=st.booleans())
    def accept(self, data: st.DataObject, newest: bool) -> None:
        message, facts = self.grants[-1] if newest else data.draw(st.sampled_from(self.grants))
        self.take(self.receiver_of(data, facts), (message, facts))

    def take(self, receiver: Account, grant: tuple[bytes, Facts]) -> None:
        message, facts = grant
        told = receiver.both(c.Accept(message), "accept", grant=facts | {"good_until": self.good_until(facts)})
        if isinstance(told, tuple):
            self.tell(receiver, told[0])

    @precondition(lambda self: self.grants)
    @rule(data=st.data())
    def decline(self, data: st.DataObject) -> None:
        message, facts = data.draw(st.sampled_from(self.grants))
        receiver = self.receiver_of(data, facts)
        told = receiver.both(c.Decline(message), "decline", grant=facts)
        if isinstance(told, tuple):
            self.tell(receiver, told[0])

    @precondition(lambda self: any(account.state.arrivals for account in self.accounts))
    @rule(data=st.data(), number=who, asked=st.just({}) | amounts, by_recall=st.booleans())
    def give_back(self, data: st.DataObject, number: int, asked: Facts, by_recall: bool) -> None:
        receiver = self.accounts[number]
        xid = data.draw(st.sampled_from([*receiver.state.arrivals] * 9 + [bytes(16)]))
        message, facts = b"", None
        if by_recall and self.recalls:
            message, facts = data.draw(st.sampled_from(self.recalls))
            xid = facts["xid"] if data.draw(st.booleans()) else xid
        asked = {name: asked[name] for name in ("", "pdf", "sim", SEATS) if name in asked}
        command = c.Return(xid, asked, message)
        told = receiver.both(command, "give_back", xid=xid, amounts=asked, recall=facts)
        if isinstance(told, dict):
            self.tell(receiver, xid)

    @precondition(lambda self: any(account.state.arrivals for account in self.accounts))
    @rule(data=st.data(), number=who)
    def tell_again(self, data: st.DataObject, number: int) -> None:
        """What was declined ahead has no receipt yet."""
        receiver = self.accounts[number]
        if receiver.state.arrivals:
            self.tell(receiver, data.draw(st.sampled_from([*receiver.state.arrivals])))

    def tell(self, receiver: Account, xid: bytes) -> None:
        """Sign the receipt of an exchange, and keep it."""
        arrival = receiver.state.arrivals[xid]
        told = receiver.oracle.books["arrivals"][xid]
        if arrival.receipt:
            return
        purpose = {"held": receipts.ACCEPTED, "declined": receipts.DECLINED, "returned": receipts.RETURNED}
        chosen = receipts.RETURNED if any(told["returned"].values()) else purpose[told["status"]]
        share = {"xid": xid, "giver": told["giver"], "returned": told["returned"], "used": told["used"]}
        message = self.receipt(receiver, chosen, shares_of(receiver.state.arrivals, (xid,)))
        receiver.both(c.KeepShare(xid, message), "keep_share", xid=xid, message=message)
        self.shares.append((message, {"purpose": PURPOSES[chosen], "signer": receiver.key.public_key.cose,
                                      "shares": [copy.deepcopy(share)]}))  # fmt: skip

    def receipt(self, receiver: Account, purpose: int, shares: Any) -> bytes:
        return write_receipt(
            receiver.key, receiver.state, vendor="acme", now=START, message_id=self.acme.id(), purpose=purpose,
            about=shares[0].xid, accounts=(), shares=tuple(shares),
        )  # fmt: skip

    @precondition(lambda self: self.shares)
    @rule(data=st.data(), newest=st.booleans())
    def book(self, data: st.DataObject, newest: bool) -> None:
        message, facts = self.shares[-1] if newest else data.draw(st.sampled_from(self.shares))
        right = next((one for one in self.accounts if one.me == facts["shares"][0]["giver"]), self.accounts[0])
        giver = data.draw(st.sampled_from([right, right, right, right, *self.accounts]))
        giver.both(c.TakeShares(message), "take_shares", **facts)

    @precondition(lambda self: self.grants)
    @rule(data=st.data(), purpose=st.sampled_from([*PURPOSES]), returned=amounts, used=amounts, signer=who)
    def a_false_receipt(self, data: st.DataObject, purpose: int, returned: Facts, used: Facts, signer: int) -> None:
        """Signed by a container that says what it likes; not booked for real, for what it says is not true."""
        _, facts = data.draw(st.sampled_from(self.grants))
        giver = next(one for one in self.accounts if one.me == facts["giver"])
        share = receipts.Share(facts["xid"], giver.me, returned, used, True)
        message = self.receipt(self.accounts[signer], purpose, [share])
        kept = (giver.state, copy.deepcopy(giver.oracle.books))
        told = {"xid": facts["xid"], "giver": giver.me, "returned": returned, "used": used}
        giver.both(c.TakeShares(message), "take_shares", purpose=PURPOSES[purpose],
                   signer=self.accounts[signer].key.public_key.cose, shares=[told])  # fmt: skip
        self.what_always_holds()
        giver.state, giver.oracle.books = kept

    # -- using

    @rule(data=st.data(), number=who, feature=st.sampled_from(["", "", "sim", "pdf"]),
          units=st.sampled_from([0, 1, 2, 7, 40]))  # fmt: skip
    def consume(self, data: st.DataObject, number: int, feature: str, units: int) -> None:
        account = self.accounts[number]
        part = data.draw(st.sampled_from([*account.state.holdings] * 9 + [bytes(16)]))
        account.both(c.Consume(part, feature, units), "consume", license=part, feature=feature, units=units, key=b"")

    @rule(data=st.data(), number=who, units=st.sampled_from([1, 5]), release=st.booleans())
    def reserve(self, data: st.DataObject, number: int, units: int, release: bool) -> None:
        account = self.accounts[number]
        part = data.draw(st.sampled_from([*account.state.holdings] * 9 + [bytes(16)]))
        holding = account.state.holdings.get(part)
        if release and holding is not None and holding.reservations:
            id_ = next(iter(holding.reservations))
            rest = holding.reservations[id_][1]
            account.both(c.Release(part, id_, rest), "release", license=part, reservation=id_, rest=rest)
            return
        id_ = self.acme.id()
        account.both(c.Reserve(part, "", units, id_), "reserve", license=part, feature="", units=units, reservation=id_)

    @precondition(lambda self: sum(len(account.state.holdings) for account in self.accounts) > 4)
    @rule(data=st.data(), number=who)
    def deactivate(self, data: st.DataObject, number: int) -> None:
        account = self.accounts[number]
        parts = [part for part in account.state.holdings if part != next(iter(self.licenses))]
        part = data.draw(st.sampled_from([*parts, bytes(16)]))
        account.both(c.Deactivate(part), "deactivate", license=part)

    # -- what always holds

    @invariant()
    def what_always_holds(self) -> None:
        for account in getattr(self, "accounts", []):
            assert State.from_bytes(account.state.to_bytes()) == account.state
            books = account.oracle.books
            for part, held in books["held"].items():
                for name, places in held["counters"].items():
                    assert min(places.values()) >= 0
                    moving = dict.fromkeys(PLACES[1:4], 0)
                    for entry in books["given"].values():
                        if entry["part"] == part:
                            settled = "given" if entry["ends"] is None else "lent"
                            moving["in_transit" if entry["status"] == "in transit" else settled] += out(entry, name)
                    assert moving == {name: places[name] for name in moving}

    @invariant()
    def nothing_is_minted(self) -> None:
        """The giver never has back what the receiver has not returned; but for the seats of a loan, at its end."""
        accounts = {account.me: account for account in getattr(self, "accounts", [])}
        for account in accounts.values():
            for xid, arrival in account.oracle.books["arrivals"].items():
                entry = accounts[arrival["giver"]].oracle.books["given"].get(xid)
                held = account.oracle.books["held"].get(xid)
                if entry is None:
                    assert arrival["status"] == "declined", "ahead of a grant that was never made"
                    continue
                for name in entry["amounts"]:
                    back, spent = entry["returned"].get(name, 0), entry["used"].get(name, 0)
                    if arrival["status"] == "declined":
                        assert entry["status"] == "in transit" or entry["outcome"] in ("declined", "ended")
                        continue
                    assert arrival["amounts"] == entry["amounts"]
                    assert back <= arrival["returned"].get(name, 0) or (name == SEATS and entry["ends"] is not None)
                    assert spent <= arrival["used"].get(name, 0)
                    if held is not None:
                        assert spent <= held["counters"].get(name, {}).get("used", 0)
                        assert back <= gone(held, name) or name == SEATS

    @invariant()
    def exchanges_have_one_name(self) -> None:
        for _, facts in getattr(self, "grants", []):
            numbers = [exchange_id(facts["in_reply_to"], facts["giver"], number) for number in range(3)]
            assert facts["xid"] in numbers


TestLending = LendingMachine.TestCase
TestLending.settings = settings(stateful_step_count=40)
