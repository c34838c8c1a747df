# SPDX-License-Identifier: Apache-2.0
"""Loans and transfers, as ``docs/format.md`` and ``docs/lending.md`` tell them: commands 15 to 24, and what an end of a
loan does by itself.

What containers sign arrives as facts, like what issuers sign: who signed it, and what is in it. Facts of a grant hold
those of what its giver holds by (``parent``), as the giver's own oracle knows them.
"""

from __future__ import annotations

import copy
from hashlib import sha256

from oracle.units import Facts, Refused, Repetition, Units, counted, free, gone

SEATS = "*seats"
TOLERANCE = 300
RETURN, RECALL, EXTEND, PULL, PUSH = 1, 2, 4, 8, 16
BORROW = 3
NO_POLICY: Facts = {"allowed": 0, "max_depth": 0, "min_level": 0, "low_water": 0, "receivers": ()}


def exchange_id(request: bytes, giver: bytes, number: int) -> bytes:
    """The id of the answer number `number` that this giver makes to a request."""
    return sha256(b"tallystick exchange" + request + giver + number.to_bytes(4, "big")).digest()[:16]


def out(entry: Facts, name: str) -> int:
    """How much of a counter is still out."""
    amount: int = entry["amounts"].get(name, 0)
    return amount - entry["returned"].get(name, 0) - entry["used"].get(name, 0)


# ------------------------------------------------------------------------------------------------------ the chain rule


def through(parent: Facts, grant: Facts) -> Facts:
    """What a receiver holds: the parent's rights, as far as the grant gives them. Refused where it gives more."""
    loan = grant["ends"] is not None
    policy = parent["terms"].get("lend" if loan else "transfer")
    if policy is None or (parent.get("until") is not None and not loan):
        raise Refused("grant_invalid")
    if parent.get("depth", 0) > policy["max_depth"]:
        raise Refused("grant_invalid")
    if policy["receivers"] and grant["receiver"] not in policy["receivers"]:
        raise Refused("grant_invalid")
    if loan and "max_duration" in policy and grant["ends"] - grant["iat"] > policy["max_duration"]:
        raise Refused("grant_invalid")
    _check_amounts(parent, grant)
    if loan and parent.get("until") is not None and grant["ends"] > parent["until"]:
        raise Refused("grant_invalid")
    held = copy.deepcopy(parent)
    terms = held["terms"]
    if loan:
        terms["expires"] = min(terms.get("expires", grant["ends"] - TOLERANCE), grant["ends"] - TOLERANCE)
        held["until"] = grant["ends"]
    terms["overage"] = 0
    terms["min_level"] = max(terms.get("min_level", 0), policy["min_level"])
    for name, key in (("units", ""), ("seats", SEATS)):
        if name in terms:
            terms[name] = grant["amounts"].get(key, 0)
    if grant["features"] is not None:
        held["features"] = {name: held["features"][name] for name in grant["features"]}
    for name, feature in held["features"].items():
        if "units" in feature:
            feature.update(units=grant["amounts"].get(name, 0), overage=0)
    origin = parent.get("origin", parent["message"])
    held.update(depth=parent.get("depth", 0) + 1, message=grant["message"], origin=origin)
    return held


def _check_amounts(parent: Facts, grant: Facts) -> None:
    if not any(grant["amounts"].values()):
        raise Refused("grant_invalid")
    if "seats" in parent["terms"] and not grant["amounts"].get(SEATS):
        raise Refused("grant_invalid")
    for name, amount in grant["amounts"].items():
        most = counted(parent, name)
        if most is None or amount > most:
            raise Refused("grant_invalid")
    if grant["features"] is not None and not set(grant["features"]) <= set(parent["features"]):
        raise Refused("grant_invalid")


class Loans(Units):
    """The commands about loans and transfers, of the account whose `books`, `now` and `me` these are."""

    me: bytes

    def come_home(self) -> None:
        """Before every command: seats of ended loans are back, whoever says nothing."""
        for entry in self.books["given"].values():
            if entry["ends"] is not None and self.now >= entry["ends"] + TOLERANCE and out(entry, SEATS) > 0:
                self._book(entry, {SEATS: entry["amounts"][SEATS]}, {}, "ended")

    # -- 15 to 18: the giver

    def give(
        self, request: Facts, part: bytes, amounts: Facts, features: list[str] | None, ends: int | None, level: int
    ) -> Facts:
        want = request["want"]
        if request["action"] != BORROW or want is None:
            raise Refused("wrong_kind")
        if want["lender"] not in (None, self.me):
            raise Refused("wrong_container")
        if request["container"] == self.me:
            raise Refused("usage")
        before = [entry for entry in self.books["given"].values() if entry["request"] == request["id"]]
        if before and want["count"] == 1:
            raise Repetition(before[0])
        if len(before) >= want["count"]:
            raise Refused("invitation_used")
        held = self._find(part)
        license = held["license"]
        self.evaluate(held, "", 0)
        if features is not None and set(features) - set(license["features"]):
            raise Refused("feature_not_licensed")
        amounts = self._asked(held, amounts, features)
        self._wanted(request, held, amounts, ends)
        self._permitted(request, held, amounts, ends, level)
        for name, amount in amounts.items():
            self._counter(held, name)["in_transit"] += amount
        for name, terms in (("", license["terms"]), *license["features"].items()):
            if "usage_period" in terms:
                held["first_use"].setdefault(name, self.now)
        number = len(before)
        while exchange_id(request["id"], self.me, number) in self.books["given"]:
            number += 1
        xid = exchange_id(request["id"], self.me, number)
        if len(self.books["given"]) >= 1024:
            closed = [key for key, entry in self.books["given"].items() if entry["status"] == "closed"]
            if not closed:
                raise Refused("full")
            del self.books["given"][closed[0]]
        entry = self.books["given"][xid] = {
            "xid": xid, "part": held["part"], "request": request["id"], "receiver": request["key"], "at": self.now,
            "amounts": amounts, "features": None if features is None else tuple(features), "ends": ends,
            "status": "in transit", "outcome": "", "seq": 0, "message": b"", "returned": {}, "used": {}, "recalled": 0,
        }  # fmt: skip
        self._log("granted", xid)
        return entry

    def _asked(self, held: Facts, asked: Facts, features: list[str] | None) -> Facts:
        """What is given: what is asked, or all there is."""
        license = held["license"]
        going = [*license["features"]] if features is None else features
        if not asked:
            names = [SEATS, "", *going]
            everything = {name: free(held, name) for name in names if counted(license, name) is not None}
            if everything[SEATS] == 0:
                raise Refused("not_available")
            return {name: amount for name, amount in everything.items() if amount > 0}
        if "seats" not in license["terms"] and SEATS in asked:
            raise Refused("whole_only")
        if "seats" in license["terms"] and not asked.get(SEATS):
            raise Refused("usage")
        for name, amount in asked.items():
            if counted(license, name) is None:
                raise Refused("whole_only")
            if name not in ("", SEATS) and name not in going:
                raise Refused("usage")
            if not 1 <= amount <= free(held, name):
                raise Refused("not_available")
        return dict(asked)

    def _wanted(self, request: Facts, held: Facts, amounts: Facts, ends: int | None) -> None:
        want = request["want"]
        named = want["product"] or want["license"]
        if named and request["vendor"] != held["vendor"]:
            raise Refused("not_wanted")
        if want["product"] not in ("", held["product"]):
            raise Refused("not_wanted")
        if want["license"] not in (None, held["license"]["id"]):
            raise Refused("not_wanted")
        if (want["transfer"] and ends is not None) or (want["duration"] is not None and ends is None):
            raise Refused("not_wanted")
        if want["amounts"] and any(amount > want["amounts"].get(name, 0) for name, amount in amounts.items()):
            raise Refused("not_wanted")

    def _permitted(self, request: Facts, held: Facts, amounts: Facts, ends: int | None, level: int) -> None:
        license = held["license"]
        terms = license["terms"]
        kind = "transfer" if ends is None else "lend"
        policy = terms.get(kind)
        if policy is None or (ends is None and license.get("until") is not None):
            raise Refused("lending_denied")
        if license.get("depth", 0) >= 4:
            raise Refused("depth_exceeded")
        if ends is not None and ends - self.now < 900:
            raise Refused("loan_too_short")
        if ends is not None and "expires" in terms and ends > terms["expires"]:
            raise Refused("duration_too_long")
        measure = "" if "seats" not in terms and "units" in terms else SEATS
        has = sum(
            out(entry, measure)
            for entry in self.books["given"].values()
            if entry["receiver"] == request["key"] and entry["part"] == held["part"]
        )
        want = request["want"]
        pull = want["count"] == 1 and bool(want["product"] or want["license"])
        asked = {"container": request["container"], "pull": pull, "has": has, "amount": amounts.get(measure, 0),
                 "left": free(held, measure) - amounts.get(measure, 0), "depth": license.get("depth", 0),
                 "lasts": None if ends is None else ends - self.now, "level": level}  # fmt: skip
        self._within(policy, "lending_denied", asked)
        local = self._local(kind, held["product"])
        if local is not None:
            self._within(local, "lending_restricted", asked)
        if terms.get("min_level", 0) > level:
            raise Refused("receiver_level")

    def _within(self, rule: Facts, denied: str, asked: Facts) -> None:
        """One policy, in the order of its conditions."""
        conditions = (
            (rule["allowed"] & (PULL | PUSH) == 0, denied),
            (rule["allowed"] & (PULL if asked["pull"] else PUSH) == 0, "direction_denied"),
            (asked["lasts"] is not None and asked["lasts"] > rule.get("max_duration", 1 << 60), "duration_too_long"),
            (asked["depth"] > rule["max_depth"], "depth_exceeded"),
            (bool(rule["receivers"]) and asked["container"] not in rule["receivers"], "receiver_denied"),
            (asked["level"] < rule["min_level"], "receiver_level"),
            (asked["amount"] > 0 and rule["low_water"] > 0 and asked["left"] < rule["low_water"], "low_water"),
            (asked["has"] + asked["amount"] > rule.get("max_per_receiver", 1 << 60), "receiver_limit"),
        )
        for refuses, code in conditions:
            if refuses:
                raise Refused(code)

    def _local(self, kind: str, product: str) -> Facts | None:
        policies = self.books["policies"]
        rule: Facts | None = policies.get(f"{kind}/{product}", policies.get(kind))
        return rule

    def keep_grant(self, xid: bytes, message: bytes) -> bytes:
        entry = self._given(xid)
        if entry["message"]:
            raise Repetition(entry["message"])
        entry["message"] = message
        return message

    def extend(self, xid: bytes, ends: int) -> Facts:
        entry = self._given(xid)
        if entry["seq"] and entry["ends"] == ends:
            raise Repetition(entry)
        if entry["ends"] is None:
            raise Refused("extend_denied")
        if entry["status"] == "closed" or self.now >= entry["ends"] + TOLERANCE:
            raise Refused("loan_over")
        if ends <= entry["ends"]:
            raise Refused("loan_too_short")
        held = self._find(entry["part"])
        terms = held["license"]["terms"]
        if "expires" in terms and ends > terms["expires"]:
            raise Refused("duration_too_long")
        local = self._local("lend", held["product"])
        for rule in (terms.get("lend", NO_POLICY), *([local] if local is not None else [])):
            if rule["allowed"] & EXTEND == 0:
                raise Refused("extend_denied")
            if "max_duration" in rule and ends - self.now > rule["max_duration"]:
                raise Refused("duration_too_long")
        entry.update(ends=ends, seq=entry["seq"] + 1, message=b"")
        self._log("extended", xid)
        return entry

    def recall(self, xid: bytes) -> Facts:
        entry = self._given(xid)
        if entry["status"] == "closed":
            raise Refused("loan_over")
        terms = self._find(entry["part"])["license"]["terms"]
        if terms.get("transfer" if entry["ends"] is None else "lend", NO_POLICY)["allowed"] & RECALL == 0:
            raise Refused("recall_denied")
        if entry["recalled"]:
            raise Repetition(entry)
        entry["recalled"] = self.now
        self._log("recalled", xid)
        return entry

    # -- 19: what receivers say

    def take_shares(self, purpose: str, signer: bytes, shares: list[Facts]) -> list[tuple[bytes, str]]:
        if purpose not in ("accepted", "returned", "declined") or not shares:
            raise Refused("wrong_kind")
        if any(share["giver"] != self.me for share in shares):
            raise Refused("wrong_container")
        if self._given(shares[0]["xid"])["receiver"] != signer:
            raise Refused("unknown_issuer")
        done = []
        for share in shares:
            entry = self._given(share["xid"])
            if entry["receiver"] != signer:
                raise Refused("wrong_container")
            done.append((share["xid"], purpose if self._share(entry, purpose, share) else "unchanged"))
        if {change for _, change in done} == {"unchanged"}:
            raise Repetition(done)
        return done

    def _share(self, entry: Facts, purpose: str, share: Facts) -> bool:
        """Whether it changed anything."""
        if purpose == "declined":
            if entry["status"] == "closed" and entry["outcome"] in ("declined", "ended"):
                return False
            if entry["status"] != "in transit":
                raise Refused("not_conserved")
            self._book(entry, entry["amounts"], {}, "declined")
            return True
        arrived = entry["status"] == "in transit"
        if arrived:
            held = self.books["held"].get(entry["part"])
            for name in entry["amounts"]:
                if held is not None:
                    held["counters"][name]["in_transit"] -= out(entry, name)
                    held["counters"][name]["given" if entry["ends"] is None else "lent"] += out(entry, name)
            entry["status"] = "accepted"
        more = any(
            share["returned"].get(name, 0) > entry["returned"].get(name, 0)
            or (entry["ends"] is not None and name != SEATS
                and share["used"].get(name, 0) > entry["used"].get(name, 0))
            for name in entry["amounts"]
        )  # fmt: skip
        if purpose == "returned" and more:
            self._book(entry, share["returned"], share["used"], "returned")
            return True
        return arrived

    def _book(self, entry: Facts, returned: Facts, used: Facts, outcome: str) -> None:
        """What came back since, and what was used since; never more than is out."""
        held = self.books["held"].get(entry["part"])
        place = "in_transit" if entry["status"] == "in transit" else "given" if entry["ends"] is None else "lent"
        for name in entry["amounts"]:
            back = max(0, returned.get(name, 0) - entry["returned"].get(name, 0))
            spent = max(0, used.get(name, 0) - entry["used"].get(name, 0))
            if entry["ends"] is None or name == SEATS:
                spent = 0
            if back + spent > out(entry, name):
                raise Refused("not_conserved")
            if held is not None:
                held["counters"][name][place] -= back + spent
                held["counters"][name]["used"] += spent
            for book, amount in (("returned", back), ("used", spent)):
                entry[book] = entry[book] | {name: entry[book].get(name, 0) + amount}
        if all(out(entry, name) == 0 for name in entry["amounts"]):
            entry.update(status="closed", outcome=outcome)
        self._log(outcome, entry["xid"])

    # -- 20 to 23: the receiver

    def accept(self, grant: Facts) -> tuple[bytes, str]:
        if grant["vendor"] not in self.books["vendors"]:
            raise Refused("vendor_unknown")
        book = dict(self.books["vendors"][grant["vendor"]])
        if grant["root"] != book["root"]:
            raise Refused("unknown_issuer")
        book["keyset"] = max(book["keyset"], grant["keyset"])
        if grant["receiver"] != self.me:
            raise Refused("wrong_container")
        if book["keyset"] > grant["good_until"]:
            raise Refused("unknown_issuer")
        license = through(grant["parent"], grant)
        known = self.books["arrivals"].get(grant["xid"])
        if known is not None:
            return self._again(known, grant, license)
        request = self._request(grant)
        self.books["vendors"][grant["vendor"]] = book
        arrival = self._arrival(grant, license["id"], license["product"])
        if request["status"] != "open" or request["taken"] >= request["count"]:
            self._declined(arrival)
            return (grant["xid"], "declined")
        if len(self.books["held"]) >= 1000:
            raise Refused("full")
        self._count(request, grant["xid"])
        self._put(arrival)
        self.books["held"][grant["xid"]] = {
            "vendor": grant["vendor"], "product": license["product"], "seq": grant["seq"], "license": license,
            "at": self.now, "contact": grant["contact"], "counters": {}, "first_use": dict(grant["first_use"]),
            "reservations": {}, "part": grant["xid"],
        }  # fmt: skip
        change = "received" if grant["ends"] is None else "borrowed"
        self._log(change, grant["xid"])
        return (grant["xid"], change)

    def _again(self, known: Facts, grant: Facts, license: Facts) -> tuple[bytes, str]:
        if known["giver"] != grant["giver"]:
            raise Refused("grant_invalid")
        part = self.books["held"].get(grant["xid"])
        later = part is not None and grant["ends"] is not None and known["ends"] is not None
        if part is None or not later or grant["seq"] <= part["seq"] or grant["ends"] <= known["ends"]:
            raise Repetition((grant["xid"], "unchanged"))
        if grant["amounts"] != known["amounts"]:
            raise Repetition((grant["xid"], "unchanged"))
        part.update(seq=grant["seq"], license=license)
        known["ends"] = grant["ends"]
        self._log("extended", grant["xid"])
        return (grant["xid"], "extended")

    def decline(self, grant: Facts) -> tuple[bytes, str]:
        if grant["receiver"] != self.me:
            raise Refused("wrong_container")
        known = self.books["arrivals"].get(grant["xid"])
        if known is not None and known["status"] == "held":
            raise Refused("idempotency_conflict")
        if known is not None:
            raise Repetition((grant["xid"], "unchanged"))
        request = self._request(grant)
        if request["status"] == "open" and request["taken"] < request["count"]:
            self._count(request, grant["xid"])
        self._declined(self._arrival(grant, b"", request["product"]))
        return (grant["xid"], "declined")

    def give_back(self, xid: bytes, amounts: Facts, recall: Facts | None) -> Facts:
        arrival = self._arrived(xid)
        if recall is not None:
            if (recall["xid"], recall["receiver"], recall["giver"]) != (xid, self.me, arrival["giver"]):
                raise Refused("grant_not_found")
        if arrival["status"] != "held":
            raise Repetition(arrival | {"recalled": arrival["recalled"] or recall is not None})
        held = self.books["held"][xid]
        rule = held["license"]["terms"].get("transfer" if arrival["ends"] is None else "lend", NO_POLICY)
        over = arrival["ends"] is not None and self.now >= arrival["ends"]
        if not over and rule["allowed"] & (RETURN if recall is None else RECALL) == 0:
            raise Refused("return_denied" if recall is None else "recall_denied")
        out_again = any(one["lent"] or one["in_transit"] for one in held["counters"].values())
        if out_again and not amounts:
            raise Refused("held_elsewhere")
        for name, amount in (amounts or {name: free(held, name) for name in arrival["amounts"]}).items():
            if amount > free(held, name) or (amounts and amount <= 0):
                raise Refused("not_available")
            self._counter(held, name)["returned"] += amount
        names = [*arrival["amounts"]]
        stays = any(free(held, name) > 0 for name in names) or any(
            one["lent"] or one["in_transit"] or one["given"] for one in held["counters"].values()
        )
        blocks = [] if not stays else [*held["reservations"].values()]
        arrival["recalled"] = arrival["recalled"] or recall is not None
        arrival["receipt"] = b""
        arrival["returned"] = {name: held["counters"].get(name, {}).get("returned", 0) for name in names}
        arrival["used"] = {
            name: held["counters"].get(name, {}).get("used", 0) - sum(units for of, units in blocks if of == name)
            for name in names
            if name != SEATS
        }
        if not stays:
            arrival["status"] = "returned"
            del self.books["held"][xid]
        self._log("given back", xid)
        return arrival

    def keep_share(self, xid: bytes, message: bytes) -> bytes:
        arrival = self._arrived(xid)
        if arrival["receipt"]:
            raise Repetition(arrival["receipt"])
        arrival["receipt"] = message
        return message

    # -- 24

    def set_policy(self, key: str, policy: Facts | None) -> None:
        self.books["policies"].pop(key, None)
        if policy is not None:
            self.books["policies"][key] = policy
        if len(self.books["policies"]) > 256:
            raise Refused("full")
        self._log("policy", b"")

    # -- shared

    def declined_ahead(self, request_id: bytes, request: Facts) -> None:
        """A request is cancelled: the one grant that may answer it is declined, where it is known which one that is."""
        want = request["want"]
        if request["action"] != BORROW or want is None or want["lender"] is None or want["count"] != 1:
            return
        xid = exchange_id(request_id, want["lender"], 0)
        if xid not in self.books["arrivals"]:
            self._declined({
                "license": b"", "vendor": request["vendor"], "product": request["product"], "request": request_id,
                "giver": want["lender"], "at": self.now, "amounts": want["amounts"], "ends": None, "status": "declined",
                "recalled": False, "receipt": b"", "returned": {}, "used": {}, "xid": xid,
            })  # fmt: skip

    def _request(self, grant: Facts) -> Facts:
        request: Facts | None = self.books["requests"].get(grant["in_reply_to"])
        if request is None or request["action"] != BORROW:
            raise Refused("request_not_found")
        if request["product"] and request["vendor"] != grant["vendor"]:
            raise Refused("request_not_found")
        good = [exchange_id(grant["in_reply_to"], grant["giver"], number) for number in range(request["count"])]
        if grant["xid"] not in good:
            raise Refused("grant_invalid")
        return request

    def _count(self, request: Facts, xid: bytes) -> None:
        request.update(taken=request["taken"] + 1, answer=xid)
        if request["taken"] >= request["count"]:
            request["status"] = "answered"

    def _arrival(self, grant: Facts, license: bytes, product: str) -> Facts:
        return {
            "xid": grant["xid"], "license": license, "vendor": grant["vendor"], "product": product,
            "request": grant["in_reply_to"], "giver": grant["giver"], "at": self.now, "amounts": dict(grant["amounts"]),
            "ends": grant["ends"], "status": "held", "recalled": False, "receipt": b"", "returned": {}, "used": {},
        }  # fmt: skip

    def _declined(self, arrival: Facts) -> None:
        self._put(arrival | {"status": "declined"})
        self._log("declined", arrival["xid"])

    def _put(self, arrival: Facts) -> None:
        arrivals = self.books["arrivals"]
        arrivals[arrival["xid"]] = arrival
        waiting = {id for id, request in self.books["requests"].items() if request["status"] == "open"}
        closed = [key for key, one in arrivals.items() if one["status"] != "held" and one["request"] not in waiting]
        while len(closed) > 4096 or sum(len(arrivals[key]["receipt"]) for key in closed) > 2_097_152:
            del arrivals[closed.pop(0)]

    def _given(self, xid: bytes) -> Facts:
        if xid not in self.books["given"]:
            raise Refused("grant_not_found")
        entry: Facts = self.books["given"][xid]
        return entry

    def _arrived(self, xid: bytes) -> Facts:
        if xid not in self.books["arrivals"]:
            raise Refused("grant_not_found")
        arrival: Facts = self.books["arrivals"][xid]
        return arrival


__all__ = ["Loans", "exchange_id", "gone", "out", "through"]
