# SPDX-License-Identifier: Apache-2.0
"""Sections 14 (commands 7 to 11) and 15 of ``docs/format.md``: what is counted, and what is permitted."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

Facts = dict[str, Any]
PLACES = ("used", "lent", "in_transit", "given", "returned")


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
        left = self._use_up_somewhere(self._find(license), feature, units)
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
        if license in self.books["arrivals"]:
            raise Refused("usage")
        if any(
            counter[place] > 0 for counter in held["counters"].values() for place in ("lent", "in_transit", "given")
        ):
            raise Refused("held_elsewhere")
        del self.books["held"][license]
        self.books["buried"][license] = b""
        self._log("deactivated", license)
        used = {name: counter["used"] for name, counter in held["counters"].items() if counter["used"] > 0}
        return {"id": license, "seq": held["seq"], "used": used, "first_use": held["first_use"]}

    # -- shared

    def _find(self, license: bytes) -> Facts:
        if license in self.books["held"]:
            return self.books["held"][license]
        raise Refused("deactivated" if license in self.books["buried"] else "license_not_found")

    def _counter(self, held: Facts, name: str) -> Facts:
        return held["counters"].setdefault(name, dict.fromkeys(PLACES, 0))

    def _use_up_somewhere(self, held: Facts, feature: str, units: int) -> int:
        """From this part, and from the others of the same license where it has not enough."""
        license = held["license"]
        others = [
            one
            for one in self.books["held"].values()
            if one is not held
            and (one["vendor"], one["product"], one["license"]["id"])
            == (held["vendor"], held["product"], license["id"])
        ]
        if not others:
            return self._use_up(held, feature, units)[1]
        if type(units) is not int or not 1 <= units <= 2**53 - 1:
            raise Refused("usage")
        counter, available = self.evaluate(held, feature, 0)
        if available is None:
            raise Refused("not_counted")
        sources = [(held, counter, available)]
        for one in others:
            try:
                counter, more = self.evaluate(one, feature, 0)
            except Refused:
                continue
            sources.append((one, counter, more or 0))
        total = sum(most for _, _, most in sources)
        if units > total:
            raise Refused("units_exhausted")
        rest = units
        for one, counter, most in sources:
            if min(rest, most):
                self._counter(one, counter)["used"] += min(rest, most)
                rest -= min(rest, most)
        return total - units

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
        if gone(held, "*seats") >= (terms.get("seats", 1) or 1):
            raise Refused("lent_out")
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
        available = max(0, counted["units"] + counted.get("overage", 0) - gone(held, counter))
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


def gone(held: Facts, counter: str) -> int:
    """What is not available any more."""
    return sum(held["counters"].get(counter, {}).values())


def counted(license: Facts, counter: str) -> int | None:
    """How much of a counter a license gives; a license without a number of seats is one. None: it does not count it."""
    if counter == "*seats":
        seats: int = license["terms"].get("seats", 1)
        return seats
    found: int | None = (license["features"].get(counter, {}) if counter else license["terms"]).get("units")
    return found


def free(held: Facts, counter: str) -> int:
    """How much of a counter can still be given."""
    return max(0, (counted(held["license"], counter) or 0) - gone(held, counter))
