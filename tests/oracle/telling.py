# SPDX-License-Identifier: Apache-2.0
"""Between the oracle and the code: what a signed message says, as facts; what a state holds, as the oracle's books."""

from __future__ import annotations

import copy
from typing import Any

from issuer import Issuer
from oracle.account import Oracle
from oracle.units import Facts
from tallystick.container.exchanges import Arrival, Given
from tallystick.container.ledger_install import Installed
from tallystick.container.ledger_shares import Taken
from tallystick.container.state import PENDING_NAMES, Holding, State
from tallystick.license.grant_policy import GrantPolicy
from tallystick.license.messages import Account
from tallystick.license.model import ACTIVE, SUSPENDED, License

FOR_EVER = 1 << 40
_GIVEN = ("in transit", "accepted", "closed")
_ARRIVED = ("held", "returned", "declined")


class Teller:
    """A vendor whose messages come with their facts.

    Args:
        issuer: the vendor.
        container: thumbprint of the container it speaks to.
    """

    def __init__(self, issuer: Issuer, container: bytes) -> None:
        self.issuer = issuer
        self.container = container
        self._signed: list[Facts] = []

    def update(self, licenses: list[License], in_reply_to: bytes | None, **changes: Any) -> tuple[bytes, Facts]:
        """Sign an update."""
        signed = [self.issuer.sign(license_) for license_ in licenses]
        told = [self._license(license_, message) for license_, message in zip(licenses, signed, strict=True)]
        container = changes.pop("container", self.container)
        facts: Facts = {
            "vendor": self.issuer.name, "at": self.issuer.now, "id": b"", "in_reply_to": in_reply_to,
            "keyset": self.issuer.seq, "root": self.issuer.root.public_key.cose, "licenses": told,
            "signed_by": changes.pop("signed_by", "license"),
            "good_until": FOR_EVER, "here": container == self.container,
        }  # fmt: skip
        fields: dict[str, Any] = {"message_id": self.issuer.id(), "in_reply_to": in_reply_to, "licenses": tuple(signed)}
        if changes.pop("status_list", False):
            fields["status_list"] = self.issuer.status_list(0, 0, 0, 0)
            facts["status_list"] = self.issuer.now
        if changes.pop("time", False):
            fields["time"] = self.issuer.time()
            facts["time"] = self.issuer.now
        if changes.get("clock_reset"):
            fields["clock_reset"] = facts["clock_reset"] = True
        facts["id"] = fields["message_id"]
        keys, self.issuer.keys = self.issuer.keys, {**self.issuer.keys, "license": self._key(facts["signed_by"])}
        try:
            message = self.issuer.update(container, **fields)
        finally:
            self.issuer.keys = keys
        self._signed.append(facts)
        return message, facts

    def refusal(self, request: bytes, request_id: bytes) -> tuple[bytes, Facts]:
        """Sign a refusal."""
        message = self.issuer.refuse(request)
        facts: Facts = {
            "vendor": self.issuer.name, "at": self.issuer.now, "id": inner_id(message), "in_reply_to": request_id,
            "keyset": self.issuer.seq, "root": self.issuer.root.public_key.cose, "signed_by": "license",
            "good_until": FOR_EVER, "here": True,
        }  # fmt: skip
        self._signed.append(facts)
        return message, facts

    def rotate(self) -> None:
        """Replace the license key: what it signed is believed until the new key set is known."""
        for facts in self._signed:
            facts["good_until"] = min(facts["good_until"], self.issuer.seq)
        self.issuer.rotate("license")

    def _key(self, signed_by: str) -> Any:
        return self.issuer.root if signed_by == "root" else self.issuer.keys[signed_by]

    def _license(self, license_: License, message: bytes) -> Facts:
        facts: Facts = {
            "id": license_.license_id, "vendor": license_.vendor, "product": license_.product, "seq": license_.seq,
            "iat": license_.issued_at, "message": message, "by": self.issuer.name, "good_until": FOR_EVER,
            "status": {ACTIVE: "active", SUSPENDED: "suspended"}.get(license_.status, "revoked"),
            "terms": _plain(license_.terms), "here": license_.container == self.container,
            "features": {name: _plain(feature) for name, feature in license_.features.items()},
        }  # fmt: skip
        self._signed.append(facts)
        return facts


def inner_id(message: bytes) -> bytes:
    """The `cti` of a message."""
    from tallystick.codec import cbor, cose

    id_: bytes = cbor.decode(cose.cut(message)[1])[7]
    return id_


def _plain(terms: Any) -> Facts:
    values = {name: getattr(terms, name) for name in type(terms).fields if getattr(terms, name) is not None}
    return {name: _plain(value) if isinstance(value, GrantPolicy) else value for name, value in values.items()}


def policy_told(policy: GrantPolicy) -> Facts:
    """A policy as facts."""
    return _plain(policy)


def result_of(result: Any) -> Any:
    """What a command of the code gave, as the oracle says it."""
    if isinstance(result, Installed):
        changes = [(change.license_id, change.change, change.seq) for change in result.changes]
        return "repeated" if result.repeated else changes
    if isinstance(result, Given):
        return _given(result)
    if isinstance(result, Arrival):
        return _arrived(result)
    if isinstance(result, Taken):
        return (result.xid, result.change)
    if isinstance(result, tuple):
        return [(taken.xid, taken.change) for taken in result]
    if isinstance(result, Account):
        return {
            "id": result.license_id, "seq": result.seq, "used": dict(result.used), "first_use": dict(result.first_use),
        }  # fmt: skip
    return result if isinstance(result, int | bytes) else None


def _given(entry: Given) -> Facts:
    return {
        "xid": entry.xid, "part": entry.part, "request": entry.request_id, "receiver": entry.receiver, "at": entry.at,
        "amounts": _told(entry.amounts), "features": entry.features, "ends": entry.ends,
        "status": _GIVEN[entry.status], "outcome": entry.outcome, "seq": entry.seq, "message": entry.message,
        "returned": _told(entry.returned), "used": _told(entry.used), "recalled": entry.recalled_at,
    }  # fmt: skip


def _arrived(arrival: Arrival) -> Facts:
    return {
        "xid": arrival.xid, "license": arrival.license_id, "vendor": arrival.vendor, "product": arrival.product,
        "request": arrival.request_id, "giver": arrival.giver, "at": arrival.at, "amounts": _told(arrival.amounts),
        "ends": arrival.ends, "status": _ARRIVED[arrival.status], "recalled": arrival.recalled,
        "receipt": arrival.receipt, "returned": _told(arrival.returned), "used": _told(arrival.used),
    }  # fmt: skip


def _told(amounts: Any) -> dict[str, int]:
    """Amounts in one order, and without those that are none."""
    return {name: amounts[name] for name in sorted(amounts) if amounts[name]}


def exchange_told(entry: Facts) -> Facts:
    """An entry of the oracle, as that of the code is told."""
    told = {name: _told(entry[name]) for name in ("amounts", "returned", "used")}
    return {name: told.get(name, value) for name, value in sorted(entry.items())}


def _counters(holding: Holding) -> Facts:
    return _some({
        name: {
            "used": one.used, "lent": one.lent, "in_transit": one.in_transit, "given": one.given,
            "returned": one.returned,
        }
        for name, one in holding.counters.items()
    })  # fmt: skip


def _some(counters: Facts) -> Facts:
    return {name: counters[name] for name in sorted(counters) if any(counters[name].values())}


def books_of(state: State) -> Facts:
    """A state as books; where the order matters, as lists."""
    clock = state.clock
    return {
        "created": state.created_at,
        "generation": state.generation,
        "clock": {
            "floor": clock.floor, "certified": clock.certified, "uptime": clock.uptime, "boot": clock.boot_id,
            "jump": clock.jump, "jump_uptime": clock.jump_uptime, "jump_boot": clock.jump_boot_id,
        },
        "vendors": {
            book.name: {
                "root": book.root, "keyset": book.keyset_seq, "list": bool(book.status_list), "list_at": book.status_at,
            }
            for book in state.vendors.values()
        },
        "held": {
            key: {
                "vendor": holding.vendor, "product": holding.product, "seq": holding.seq, "license": holding.message,
                "at": holding.installed_at, "contact": holding.contact,
                "counters": _counters(holding), "first_use": dict(sorted(holding.first_use.items())),
                "reservations": dict(holding.reservations), "part": holding.license_id,
            }
            for key, holding in state.holdings.items()
        },
        "buried": {key: grave.receipt for key, grave in state.tombstones.items()},
        "requests": {
            key: {
                "vendor": one.vendor, "product": one.product, "action": one.action, "at": one.created_at,
                "message": one.message, "status": PENDING_NAMES[one.status], "answer": one.answer, "count": one.count,
                "taken": one.taken,
            }
            for key, one in state.pending.items()
        },
        "receipts": dict(state.receipts),
        "retries": dict(state.retries),
        "variables": dict(sorted(state.variables.items())),
        "history": [(event.at, event.kind, event.subject) for event in state.history],
        "given": {xid: exchange_told(_given(entry)) for xid, entry in state.given.items()},
        "arrivals": {xid: exchange_told(_arrived(arrival)) for xid, arrival in state.arrivals.items()},
        "policies": {key: policy_told(policy) for key, policy in state.policies.items()},
        "written": {vendor: list(ids) for vendor, ids in state.written.items()},
    }  # fmt: skip


def books_told(oracle: Oracle) -> Facts:
    """The oracle's books, with licenses as their messages."""
    books = copy.deepcopy(oracle.books)
    for held in books["held"].values():
        held["license"] = held["license"]["message"]
        held["first_use"] = dict(sorted(held["first_use"].items()))
        held["counters"] = _some(held["counters"])
    for request in books["requests"].values():
        del request["want"]
    for exchanges in ("given", "arrivals"):
        books[exchanges] = {xid: exchange_told(entry) for xid, entry in books[exchanges].items()}
    books["variables"] = dict(sorted(books["variables"].items()))
    return books


def differences(code: Any, told: Any, where: str = "") -> list[str]:
    """Where two books differ, and in what order."""
    if isinstance(code, dict) and isinstance(told, dict):
        if list(code) != list(told):
            return [f"{where}: {list(code)} instead of {list(told)}"]
        return [line for key in code for line in differences(code[key], told[key], f"{where}/{key!r}")]
    return [] if code == told else [f"{where}: {code!r} instead of {told!r}"]
