# SPDX-License-Identifier: Apache-2.0
"""In the guest: what the person at the seat does with the installed ``tally`` and the rule's permission."""

from __future__ import annotations

import base64
import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guest_bus import location
from guest_people import HOMES, refusal, tally
from guest_raw import Raw
from initramfs import SEAT

import tallystick
from tallystick.codec import base32
from tallystick.dongle.usb_link import UsbLink, find

if TYPE_CHECKING:
    from guest import Guest

HOME = Path(HOMES[SEAT])
TRUST = HOME / "acme.trust"
OFFICE = f"file:{HOME}/office?identity-file={HOME}/identity"
_CODE = base32.grouped(base32.encode(0x0123456789ABCDEF0123456789ABCD, 24))


def uri(guest: Guest, busid: str = "1-1") -> str:
    """How a dongle is named."""
    return f"usb:serial={guest.serials[busid]}"


def _bring(guest: Guest, where: str, product: str, **terms: Any) -> Any:
    """Ask the vendor, who answers by mail, and import."""
    asked, answer = HOME / f"{product}.tallyreq", HOME / f"{product}.tallyupd"
    options = ("--trust", str(TRUST), "--code", _CODE, "--product", product, "-o", str(asked))
    done = tally("request", "--container", where, *options)
    assert done.status == 0, done
    update = guest.ask("issue", request=base64.b64encode(asked.read_bytes()).decode(), **terms)
    answer.write_bytes(base64.b64decode(update))
    return tally("import", str(answer), "--container", where, "--json").json()["changes"]


def two_dongles_are_told_apart_by_name(guest: Guest) -> Any:
    TRUST.write_text(guest.ask("trust"))
    TRUST.chmod(0o644)
    done = tally("list", "--container", "usb:")
    assert done.status != 0
    for busid in ("1-1", "1-2"):
        assert guest.serials[busid] in done.err
    assert "usb:serial=" in done.err
    return done.err


def a_license_is_activated(guest: Guest) -> Any:
    changes = _bring(guest, uri(guest), "cad", units=1000, seats=5)
    assert [(one["product"], one["change"]) for one in changes] == [("cad", "installed")]
    return changes


def it_is_checked_by_a_process_started_cold(guest: Guest) -> Any:
    done = tally("check", "cad", "--container", uri(guest), "--json", cold=True)
    assert done.json()["ok"] is True
    return done.json()["licensee"]


def units_are_used(guest: Guest) -> Any:
    used = tally("use", "cad", "3", "--container", uri(guest), "--json").json()
    assert (used["used"], used["available"]) == (3, 997)
    return used


def a_license_is_borrowed_from_a_file_and_given_back(guest: Guest) -> Any:
    identity = HOME / "identity"
    identity.write_bytes(bytes(range(32)))
    identity.chmod(0o644)
    assert tally("create", "--container", OFFICE, "--trust", str(TRUST)).status == 0
    _bring(guest, OFFICE, "fem", seats=4, lendable=True)
    direct = ("--from", OFFICE, "--to", uri(guest))
    lent = tally("borrow", "--product", "fem", "--seats", "1", "--for", "3d", *direct, "--json").json()
    assert [one["state"] for one in lent["exchanges"]] != []
    checked = tally("check", "fem", "--container", uri(guest), "--json").json()
    assert checked["ok"] is True
    back = tally("return", "fem", "--from", uri(guest), "--to", OFFICE, "--json").json()
    return back["moved"]


def the_doctor_finds_nothing_in_the_way(guest: Guest) -> Any:
    found = tally("doctor", "--json", "--container", uri(guest)).json()
    assert found["container"]["opens"] == "yes"
    usable = [name for name, text in found["dongles"].items() if text == "can be used"]
    assert sorted(name.partition(" ")[0] for name in usable) == sorted(guest.serials.values())
    return found["dongles"]


def two_programs_share_a_dongle(guest: Guest) -> Any:
    """Each has it for one transaction at a time; whoever waits longer than it wants is told that it is busy."""
    trust, serial = TRUST.read_text(), guest.serials["1-1"]
    with Raw(serial):
        (found,) = (one for one in find() if one.location == location(serial))
        link = UsbLink(lambda: found, time.monotonic, found)
        with contextlib.closing(link):
            code = refusal(lambda: link.claim(0.2))
    assert code == "busy"
    with tallystick.open(uri(guest), trust=trust, background=False) as one, one.checkout("cad") as seat:
        before = seat.consume(1)
        assert tally("use", "cad", "1", "--container", uri(guest)).status == 0
        assert seat.consume(1) == before - 2


CHECKS = (
    two_dongles_are_told_apart_by_name,
    a_license_is_activated,
    it_is_checked_by_a_process_started_cold,
    units_are_used,
    a_license_is_borrowed_from_a_file_and_given_back,
    the_doctor_finds_nothing_in_the_way,
    two_programs_share_a_dongle,
)
