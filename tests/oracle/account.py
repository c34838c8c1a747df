# SPDX-License-Identifier: Apache-2.0
"""An account as sections 14 and 15 of ``docs/format.md`` tell it: dictionaries, no cleverness, nothing of the code's.

    oracle = Oracle(container, reading)
    result = oracle.apply("consume", reading, license=..., feature="", units=3, key=b"")     # or raises Refused

What issuers sign arrives here as facts: the test that signed a message knows what is in it, whether a good key signed
it (``signed_by``), up to which key set that key is named (``good_until``), and whether it is for this container
(``here``).
"""

from __future__ import annotations

import copy
from typing import Any

from oracle import timekeeping as clocks
from oracle.loans import Loans
from oracle.timekeeping import Reading
from oracle.units import Facts, Refused, Repetition

__all__ = ["Oracle", "Refused"]


class Oracle(Loans):
    """The account of one container.

    Attributes:
        books: everything it knows.
        me: its thumbprint.
    """

    def __init__(self, reading: Reading, me: bytes = b"") -> None:
        self.me = me
        now, memory = clocks.assess(clocks.EMPTY, reading)
        self.books: dict[str, Any] = {
            "created": now, "generation": 0, "clock": memory, "vendors": {}, "held": {}, "buried": {}, "requests": {},
            "receipts": {}, "retries": {}, "variables": {}, "history": [], "given": {}, "arrivals": {}, "policies": {},
            "written": {},
        }  # fmt: skip
        self.now = now
        self.reading = reading
        self._log("created", b"")

    def apply(self, command: str, reading: Reading, **values: Any) -> Any:
        """Apply a command; the books change unless it is refused or a repetition."""
        before = copy.deepcopy(self.books)
        self.reading = reading
        self.now, self.books["clock"] = clocks.assess(self.books["clock"], reading)
        self.books["generation"] += 1
        self.come_home()
        try:
            return getattr(self, command)(**values)
        except Repetition as repetition:
            self.books = before
            return repetition.result
        except Refused:
            self.books = before
            raise

    # -- 1 to 3, 12 to 14

    def add_vendor(self, vendor: str, root: bytes) -> None:
        known = self.books["vendors"].get(vendor)
        if known is not None and known["root"] == root:
            raise Repetition
        if known is not None:
            raise Refused("wrong_vendor")
        if len(self.books["vendors"]) == 64:
            raise Refused("full")
        self.books["vendors"][vendor] = {"root": root, "keyset": 0, "list": False, "list_at": 0}
        self._log("vendor", b"")

    def open_request(self, id: bytes, vendor: str, product: str, action: int, message: bytes, **more: Any) -> None:
        requests = self.books["requests"]
        if vendor not in self.books["vendors"]:
            raise Refused("vendor_unknown")
        if id in requests:
            raise Refused("idempotency_conflict")
        if len([r for r in requests.values() if r["status"] == "open"]) >= 64:
            raise Refused("full")
        if action == 1 and len(self.books["held"]) >= 1000:
            raise Refused("full")
        requests[id] = {
            "vendor": vendor, "product": product, "action": action, "at": self.now, "message": message,
            "status": "open", "answer": b"", "count": more.get("count", 1), "taken": 0, "want": more.get("want"),
        }  # fmt: skip
        while True:
            closed = [key for key, r in requests.items() if r["status"] != "open"]
            if len(closed) <= 256 and sum(len(requests[key]["message"]) for key in closed) <= 1_048_576:
                break
            del requests[closed[0]]
        if action in (1, 2):
            self._note(vendor, id)
        self._log("requested", id)

    def cancel_request(self, id: bytes) -> None:
        request = self.books["requests"].get(id)
        if request is None:
            raise Refused("request_not_found")
        if request["status"] == "cancelled":
            raise Repetition
        if request["status"] != "open":
            raise Refused("request_not_found")
        request.update(status="cancelled", answer=b"")
        self.declined_ahead(id, request)
        self._log("cancelled", id)

    def observe(self) -> None:
        pass

    def set_variable(self, name: str, value: str) -> None:
        symbols = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-"
        if not 1 <= len(name) <= 64 or set(name) - set(symbols) or len(value) > 256:
            raise Refused("usage")
        self.books["variables"].pop(name, None)
        if value:
            self.books["variables"][name] = value
        if len(self.books["variables"]) > 32:
            raise Refused("full")

    def note(self, kind: str, text: str) -> None:
        self._log(kind, b"")

    # -- 4 to 6: the facts of a message are told by whoever signed it

    def _open(self, facts: Facts) -> dict[str, Any]:
        """Steps 1 to 3 of install, and the head of take refusal."""
        if facts["vendor"] not in self.books["vendors"]:
            raise Refused("vendor_unknown")
        book = self.books["vendors"][facts["vendor"]]
        if facts.get("keyset"):
            if facts["root"] != book["root"]:
                raise Refused("unknown_issuer")
            book["keyset"] = max(book["keyset"], facts["keyset"])
        if not book["keyset"]:
            raise Refused("unknown_issuer")
        if facts["signed_by"] in ("status", "time"):
            raise Refused("key_use")
        if facts["signed_by"] != "license" or book["keyset"] > facts["good_until"]:
            raise Refused("unknown_issuer")
        if not facts["here"]:
            raise Refused("wrong_container")
        return book

    def install(self, **facts: Any) -> list[tuple[bytes, str, int]] | str:
        book = self._open(facts)
        if facts["id"] in self.books["receipts"]:
            raise Repetition("repeated")
        answers = facts["in_reply_to"]
        if answers is not None:
            request = self.books["requests"].get(answers)
            if request is None or request["vendor"] != facts["vendor"] or request["status"] != "open":
                raise Refused("request_not_found")
            request.update(status="answered", answer=facts["id"])
        if facts.get("status_list") is not None and facts["status_list"] >= book["list_at"]:
            book.update(list=True, list_at=facts["status_list"])
        changes = [self._take(one, facts, book) for one in facts["licenses"]]
        passed_over = {change for _, change, _ in changes}
        if changes and passed_over <= {"given up", "not held"}:
            raise Refused("deactivated" if "given up" in passed_over else "license_not_found")
        signed = max(facts["at"], facts.get("time") or 0)
        if facts.get("clock_reset") and signed >= self.books["clock"]["certified"]:
            self.books["clock"] = clocks.reset(signed, self.reading)
            self._log("clock", b"", signed)
        else:
            self.books["clock"] = clocks.certify(self.books["clock"], signed, self.reading)
        for held in self.books["held"].values():
            if held["vendor"] == facts["vendor"]:
                held["contact"] = max(held["contact"], facts["at"])
        receipts = self.books["receipts"]
        while len(receipts) > 4095 or sum(map(len, receipts.values())) > 2_097_152:
            del receipts[next(iter(receipts))]
        receipts[facts["id"]] = b""
        return changes

    def _take(self, one: Facts, update: Facts, book: Facts) -> tuple[bytes, str, int]:
        id, seq = one["id"], one["seq"]
        if one["by"] != update["vendor"] or book["keyset"] > one["good_until"]:
            raise Refused("unknown_issuer")
        if one["vendor"] != update["vendor"]:
            raise Refused("wrong_vendor")
        if not one["here"]:
            raise Refused("wrong_container")
        if id in self.books["buried"]:
            return (id, "given up", seq)
        held = self.books["held"].get(id)
        if held is None:
            if update["in_reply_to"] is None:
                return (id, "not held", seq)
            if len(self.books["held"]) >= 1000:
                raise Refused("full")
            self.books["held"][id] = {
                "vendor": one["vendor"], "product": one["product"], "seq": seq, "license": one, "at": self.now,
                "contact": update["at"], "counters": {}, "first_use": {}, "reservations": {}, "part": id,
            }  # fmt: skip
            self._log("installed", id)
            return (id, "installed", seq)
        if (held["vendor"], held["product"]) != (one["vendor"], one["product"]):
            raise Refused("wrong_vendor")
        if seq <= held["seq"]:
            return (id, "unchanged" if seq == held["seq"] else "older", seq)
        names = {"active": "resumed", "suspended": "suspended", "revoked": "revoked"}
        same = one["status"] == held["license"]["status"]
        change = "refreshed" if same else names[one["status"]]
        held.update(seq=seq, license=one)
        self._log(change, id)
        return (id, change, seq)

    def take_refusal(self, **facts: Any) -> None:
        self._open(facts)
        request = self.books["requests"].get(facts["in_reply_to"])
        if request is None or request["vendor"] != facts["vendor"]:
            raise Refused("request_not_found")
        if request["status"] == "refused":
            raise Repetition
        if request["status"] != "open":
            raise Refused("request_not_found")
        request.update(status="refused", answer=facts["id"])
        self.books["clock"] = clocks.certify(self.books["clock"], facts["at"], self.reading)
        self._log("refused", facts["in_reply_to"])

    def _note(self, vendor: str, id: bytes) -> None:
        self.books["written"].setdefault(vendor, []).insert(0, id[:8])
        del self.books["written"][vendor][16:]

    def keep_receipt(self, about: bytes, message: bytes, vendor: str = "", id: bytes = b"") -> bytes:
        place = self.books["buried"] if about in self.books["buried"] else self.books["receipts"]
        if about not in place:
            raise Refused("receipt_unknown")
        if place[about]:
            raise Repetition(place[about])
        place[about] = message
        if vendor in self.books["vendors"]:
            self._note(vendor, id)
        return message
