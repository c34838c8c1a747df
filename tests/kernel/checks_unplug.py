# SPDX-License-Identifier: Apache-2.0
"""In the guest: a dongle is pulled out, also during a commit, and put back; the seat goes on, no unit is lost."""

from __future__ import annotations

import base64
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from checks_story import TRUST, uri
from guest_bus import attach, detach, devices, eventually, pulled
from guest_people import refusal
from guest_raw import Counted, Raw, milliseconds

import tallystick
from tallystick.container.seat import Seat
from tallystick.dongle.backend import UsbBackend
from tallystick.dongle.usb_link import find
from tallystick.license.trust import Trust

if TYPE_CHECKING:
    from guest import Guest

UNITS = 1000
ROUNDS = 9
NOTICED_S = 20.0  # on an emulated processor beside other tests; a tenth of a second on an idle machine


class Running:
    """An application that runs on a dongle: a container and a seat of it, held through all that happens."""

    def __init__(self, guest: Guest, where: str, product: str) -> None:
        trust = TRUST.read_text()
        self.container = tallystick.open(where, trust=trust, background=False)
        request = self.container.request(Trust.from_text(trust), product=product)
        asked = base64.b64encode(request).decode()
        self.container.install(base64.b64decode(guest.ask("issue", request=asked, units=UNITS)))
        self.seat: Seat = self.container.checkout(product)
        self.product = product

    def used(self) -> int:
        """Units used, as the dongle counts them."""
        (view,) = (one for one in self.container.licenses() if one.license_ and one.license_.product == self.product)
        return view.usage.used.get("", 0)

    def close(self) -> None:
        self.seat.close()
        self.container.close()


def figures(guest: Guest, label: str, serial: str, running: Running) -> Any:
    """Measure one attachment; nothing is asserted of the numbers."""
    backend, trusts = UsbBackend(), (Trust.from_text(TRUST.read_text()),)
    opening = milliseconds(lambda: backend.open(f"usb:serial={serial}", trusts, background=False).close(), 3)
    host: Any = running.seat._host
    with Counted() as proof:
        host._prove()
    with Counted() as consume:
        running.seat.consume(1)
    found: dict[str, Any] = {"open": opening, "re-proof": milliseconds(host._prove, ROUNDS)}
    found["consume"] = milliseconds(lambda: running.seat.consume(1), ROUNDS)
    with Raw(serial) as raw:
        for name, counted in (("re-proof", proof), ("consume", consume)):
            calls = -(-counted.out // 16)
            raw.echo(calls)
            found[f"echo of as much as a {name}"] = milliseconds(partial(raw.echo, calls), ROUNDS)
            found[f"bytes of a {name}"] = [counted.out, counted.back]
    guest.figure(f"through the kernel, {label}, ms", **found)
    return found


def figures_at_high_speed(guest: Guest) -> Any:
    guest.running["1-1"] = Running(guest, uri(guest, "1-1"), "render")
    return figures(guest, "USB/IP at high speed", guest.serials["1-1"], guest.running["1-1"])


def figures_at_full_speed(guest: Guest) -> Any:
    guest.running["1-2"] = Running(guest, uri(guest, "1-2"), "render")
    return figures(guest, "USB/IP at full speed", guest.serials["1-2"], guest.running["1-2"])


def _replug(guest: Guest, busid: str) -> None:
    """Put it back after somebody pulled it out, or its power failed."""
    serial = guest.serials[busid]
    pulled(serial)
    guest.ask("plug", busid=busid)
    guest.ports[busid] = attach(busid)
    eventually(lambda: serial in devices())
    eventually(lambda: any(one.serial == serial for one in find()))  # libusb hears of it from udev, a moment later


def _interrupted(guest: Guest, busid: str, interrupt: Callable[[], Any]) -> list[int]:
    """Use units until that is interrupted, put the dongle back, and look whether any were lost or made.

    Returns:
        Units of the calls that succeeded, and units used according to the account.
    """
    running = guest.running[busid]
    before, whole = running.used(), 0
    interrupt()
    while not (code := refusal(lambda: running.seat.consume(7))):
        whole += 7
    assert code in {"device_removed", "device_silent"}, code
    _replug(guest, busid)
    used = running.used() - before
    assert used in {whole, whole + 7}, "before or after, never between"
    assert running.seat.consume(1) == UNITS - before - used - 1, "the seat goes on"
    return [whole, used]


def an_unplugged_dongle_is_noticed_and_goes_on_when_it_is_back(guest: Guest) -> Any:
    running, seat = guest.running["1-1"], guest.running["1-1"].seat
    before = running.used()
    assert seat.check()
    guest.ask("unplug", busid="1-1")
    begun = time.monotonic()
    assert refusal(lambda: seat.consume(1)) == "device_removed"
    took = time.monotonic() - begun
    seat.renew()
    assert not seat.check(), "what the renewing thread does once in an interval takes the permission away"
    assert refusal(seat.require) == "device_removed"
    pulled(guest.serials["1-1"])
    assert not os.path.lexists(f"/dev/tallystick/{guest.serials['1-1']}")
    assert refusal(lambda: tallystick.open(uri(guest), trust=TRUST.read_text())) == "container_not_found"
    _replug(guest, "1-1")
    assert seat.consume(1) == UNITS - before - 1
    seat.renew()
    assert seat.check()
    assert took < NOTICED_S
    return round(took, 3)


def the_power_fails_during_a_commit(guest: Guest) -> Any:
    """At several of the 15 flash operations of a consume: afterwards the account is before it or after it."""
    found = {}
    for operations in (8, 14):
        found[operations] = _interrupted(guest, "1-1", partial(guest.ask, "cut", busid="1-1", operations=operations))
    return found


def the_cable_is_pulled_during_a_commit(guest: Guest) -> Any:
    """By the guest's own kernel, at several moments after a consume began; at full speed."""
    found = {}
    usual = milliseconds(lambda: guest.running["1-2"].seat.consume(1), 5) / 1000
    for part in (0.3, 0.7):
        timer = threading.Timer(usual * part, detach, (guest.ports["1-2"],))
        found[part] = _interrupted(guest, "1-2", timer.start)
        timer.join()
    return found


def applications_end_in_order(guest: Guest) -> Any:
    for running in guest.running.values():
        running.close()


CHECKS = (
    figures_at_high_speed,
    figures_at_full_speed,
    an_unplugged_dongle_is_noticed_and_goes_on_when_it_is_back,
    the_power_fails_during_a_commit,
    the_cable_is_pulled_during_a_commit,
    applications_end_in_order,
)
