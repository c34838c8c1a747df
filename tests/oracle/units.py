# SPDX-License-Identifier: Apache-2.0
"""Sections 14 (commands 7 to 11, 15, 16) and 15 of ``docs/format.md``: what is counted, and what is permitted."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

Facts = dict[str, Any]


class Refused(Exception):  # noqa: N818 - it reads as the page does
    """A command was refused."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Repetition(Exception):  # noqa: N818 - as above
    """A command changes nothing."""

    def __init__(self, result: Any = None) -> None:
        super().__init__()
        self.result = result


class Units:
    """The commands about units, of the account whose `books` and `now` these are."""

    books: Facts
    now: int

    def _log(self, kind: str, subject: bytes, at: int | None = None) -> None:
        self.books["history"].append((self.now if at is None else at, kind, subject))
        del self.books["history"][:-256]

    # -- 7 to 11

    def consume(self, license: bytes, feature: str, units: int, key: bytes) -> int:
        digest = sha256(license + b"|" + feature.encode() + b"|" + str(units).encode()).digest()[:16]
        if len(key) > 64:
            raise Refused("usage")
        if key and key in self.books["retries"]:
            known, result = self.books["retries"][key]
            if known != digest:
                raise Refused("idempotency_conflict")
            raise Repetition(result)
        _, left = self._use_up(self._find(license), feature, units)
        if key:
            if len(self.books["retries"]) == 1024:
                del self.books["retries"][next(iter(self.books["retries"]))]
            self.books["retries"][key] = (digest, left)
        return left

    def reserve(self, license: bytes, feature: str, units: int, reservation: bytes) -> int:
        held = self._find(license)
        if reservation in held["reservations"]:
            raise Refused("idempotency_conflict")
        counter, left = self._use_up(held, feature, units)
        if len(held["reservations"]) == 64:
            del held["reservations"][next(iter(held["reservations"]))]
        held["reservations"][reservation] = (counter, units)
        return left

    def release(self, license: bytes, reservation: bytes, rest: int) -> None:
        held = self._find(license)
        if reservation not in held["reservations"]:
            raise Refused("no_reservation")
        counter, units = held["reservations"][reservation]
        if not 0 <= rest <= units:
            raise Refused("not_conserved")
        del held["reservations"][reservation]
        held["counters"][counter]["used"] -= rest

    def first_use(self, license: bytes, feature: str) -> int:
        held = self._find(license)
        if feature in held["first_use"]:
            raise Repetition(held["first_use"][feature])
        if feature and feature not in held["license"]["features"]:
            raise Refused("feature_not_licensed")
        held["first_use"][feature] = self.now
        self._log("first use", license)
        return self.now

    def deactivate(self, license: bytes) -> Facts | None:
        if license in self.books["buried"]:
            raise Repetition
        held = self._find(license)
        if any(counter["lent"] > 0 or counter["in_transit"] > 0 for counter in held["counters"].values()):
            raise Refused("held_elsewhere")
        del self.books["held"][license]
        self.books["buried"][license] = b""
        self._log("deactivated", license)
        used = {name: counter["used"] for name, counter in held["counters"].items() if counter["used"] > 0}
        return {"id": license, "seq": held["seq"], "used": used, "first_use": held["first_use"]}

    # -- 15 and 16

    def debit(
        self, license: bytes, exchange: bytes, counter: str, amount: int, receiver: bytes, ends: int | None
    ) -> Facts:
        held = self._find(license)
        grant = {"counter": counter, "amount": amount, "receiver": receiver, "ends": ends, "status": "in transit"}
        known = held["grants"].get(exchange)
        if known is not None:
            if {**known, "status": "in transit"} == grant:
                raise Repetition(known)
            raise Refused("idempotency_conflict")
        if not held["license"]["terms"].get("transfer" if ends is None else "lend"):
            raise Refused("lending_denied")
        if not 1 <= amount <= self.granted(held, counter) - _gone(held, counter):
            raise Refused("units_exhausted")
        if len(held["grants"]) >= 1024:
            raise Refused("full")
        self._counter(held, counter)["in_transit"] += amount
        held["grants"][exchange] = grant
        self._log("granted", exchange)
        return grant

    def settle(self, license: bytes, exchange: bytes, outcome: str) -> Facts:
        held = self._find(license)
        if exchange not in held["grants"]:
            raise Refused("request_not_found")
        grant = held["grants"][exchange]
        counter, amount, status = held["counters"][grant["counter"]], grant["amount"], grant["status"]
        loan = grant["ends"] is not None
        over = outcome == "returned" or (outcome == "ended" and loan and self.now >= grant["ends"])
        if outcome == "accepted" and status == "in transit":
            counter["in_transit"] -= amount
            counter["lent" if loan else "given"] += amount
            grant["status"] = "settled"
        elif outcome == "accepted" and status == "settled":
            raise Repetition(grant)
        elif outcome == "refused" and status == "in transit":
            counter["in_transit"] -= amount
            grant["status"] = "returned"
        elif over and loan and status in ("in transit", "settled"):
            counter["in_transit" if status == "in transit" else "lent"] -= amount
            grant["status"] = "returned"
        elif outcome in ("refused", "returned", "ended") and status == "returned":
            raise Repetition(grant)
        else:
            raise Refused("not_conserved")
        self._log("settled", exchange)
        return grant

    # -- shared

    def granted(self, held: Facts, counter: str) -> int:
        """What the license grants of a counter."""
        terms = held["license"]["terms"]
        if counter == "*seats":
            return terms.get("seats") or 0
        if counter == "":
            return terms.get("units") or 0
        return held["license"]["features"].get(counter, {}).get("units") or 0

    def _find(self, license: bytes) -> Facts:
        if license in self.books["held"]:
            return self.books["held"][license]
        raise Refused("deactivated" if license in self.books["buried"] else "license_not_found")

    def _counter(self, held: Facts, name: str) -> Facts:
        return held["counters"].setdefault(name, {"used": 0, "lent": 0, "in_transit": 0, "given": 0})

    def _use_up(self, held: Facts, feature: str, units: int) -> tuple[str, int]:
        if type(units) is not int or not 1 <= units <= 2**53 - 1:
            raise Refused("usage")
        counter, available = self.evaluate(held, feature, units)
        if available is None:
            raise Refused("not_counted")
        self._counter(held, counter)["used"] += units
        return counter, available - units

    def evaluate(self, held: Facts, feature: str, units: int) -> tuple[str, int | None]:
        """Section 15: the counter and what is available of it, None where nothing is counted."""
        license, now = held["license"], self.now
        terms, features = license["terms"], license["features"]
        if license["status"] != "active":
            raise Refused(license["status"])
        if terms.get("min_level", 0) > 0 and self.level_known:
            raise Refused("level_too_low")
        self._check(terms, held["first_use"].get(""))
        if feature:
            if feature not in features:
                raise Refused("feature_not_licensed")
            self._check(features[feature], held["first_use"].get(feature))
        if "check_in" in terms:
            due = max(held["contact"], license["iat"]) + terms["check_in"]
            if now >= due + terms.get("grace", 0):
                raise Refused("check_in_overdue")
        own = bool(feature) and features[feature].get("units") is not None
        counter, counted = (feature, features[feature]) if own else ("", terms)
        if counted.get("units") is None:
            return counter, None
        available = max(0, counted["units"] + counted.get("overage", 0) - _gone(held, counter))
        if units > available:
            raise Refused("units_exhausted")
        return counter, available

    level_known = False  # a ledger evaluates without the level

    def _check(self, terms: Facts, started: int | None) -> None:
        if "not_before" in terms and self.now < terms["not_before"]:
            raise Refused("not_yet_valid")
        if "expires" in terms and self.now >= terms["expires"]:
            raise Refused("expired")
        if "usage_period" in terms and started is not None and self.now >= started + terms["usage_period"]:
            raise Refused("usage_period_over")


def _gone(held: Facts, counter: str) -> int:
    return sum(held["counters"].get(counter, {}).values())
