# SPDX-License-Identifier: Apache-2.0
"""The button: a license says what needs a press of it (`Terms.touch`), and the device does nothing before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from dongle_rig import Wire

from conformance.dongle_cases import SocketBus
from fakes import FakeClock
from firmware_sim.dongle import DirectLink, SimulatedDongle
from firmware_sim.firmware import CHANNELS
from firmware_sim.flash import Flash
from firmware_sim.platform import SimulatedBoard
from firmware_sim.touch import TOUCH_MS
from firmware_sim.usb_backend import InProcessBackend
from firmware_sim.usb_device import UsbDevice
from issuer import CONTENT_KEY, Issuer
from tallystick.codec.envelope import seal_content
from tallystick.container import commands as c
from tallystick.container.anchor import Capability
from tallystick.container.base import Container
from tallystick.dongle import frames
from tallystick.dongle.anchor import CAPABILITIES, UNCERTIFIED
from tallystick.dongle.backend import UsbBackend
from tallystick.dongle.calls import decode_answer, encode_call
from tallystick.dongle.channel import Channel
from tallystick.dongle.client import BUSY_S, DongleClient
from tallystick.dongle.opening import open_dongle
from tallystick.errors import TallystickError, error
from tallystick.license.grant_policy import MAY_ALL, SEATS, GrantPolicy
from tallystick.license.model import TOUCH_ALL, TOUCH_LEND, TOUCH_UNLOCK, TOUCH_USE, License

FREE = GrantPolicy(MAY_ALL, max_depth=4)
DAY = 86_400
WAYS = ("direct", "usb-full", "usb-high", "usbip-full", "usbip-high")
VIRTUAL = WAYS[:3]


class Desk:
    """A dongle with a button, whoever sits before it, and a clock that both share.

    Attributes:
        asked: how often the program was told that the dongle waits.
        hand: what happens when it is told.
    """

    def __init__(self, folder: Path, way: str = "direct", acme: Issuer | None = None) -> None:
        self.clock = FakeClock()
        self.acme = acme or Issuer()
        self.board = SimulatedBoard(Flash(32), monotonic=self.clock.monotonic)
        self.dongle = SimulatedDongle(self.board, self.clock.read())
        self.asked = 0
        self.hand: Callable[[], None] = self.press
        self._way, self._folder = way, folder
        kind, _, speed = way.partition("-")
        self.device = UsbDevice(self.dongle, speed="full" if speed == "full" else "high")
        self.socket = SocketBus() if kind == "usbip" else None
        self.bus: Any = self.socket or InProcessBackend(elapse=self.clock.advance)
        if kind != "direct":
            self.bus.plug(self.device)
        self.container = self.open()

    def open(self) -> Container:
        """Open the container."""
        if self._way == "direct":
            link = DirectLink(self.dongle, self.clock.advance)
            opened: Container = open_dongle(
                "usb:", link, (self.acme.trust,), self.clock, folder=lambda _: str(self._folder / "seats"),
                background=False,
            )  # fmt: skip
        else:
            usb = self.socket.client if self.socket else self.bus
            backend = UsbBackend(self.clock, usb, lambda _: str(self._folder / "seats"))
            opened = backend.open("usb:", (self.acme.trust,), background=False)
        opened.on_touch = self._told
        return opened

    def license(self, **terms: Any) -> License:
        """Have a license installed that counts units and may be lent."""
        request = self.container.request(self.acme.trust, product="cad")
        made = self.acme.license(request, **{"units": 100, "seats": 5, "lend": FREE, "transfer": FREE} | terms)
        self.container.install(self.acme.answer(request, made))
        return made

    def press(self) -> None:
        """Press the button."""
        self.board.presses += 1

    def pull(self) -> None:
        """Pull the dongle out."""
        if self._way == "direct":
            self.dongle.unplug()
        else:
            self.bus.unplug(self.device)

    def used(self) -> int:
        """What the device's own books say."""
        (holding,) = self.dongle.firmware.account.current().holdings.values()
        return holding.usage().used.get("", 0)

    def close(self) -> None:
        """Leave."""
        self.container.close()
        if self.socket is not None:
            self.socket.close()

    def _told(self) -> None:
        self.asked += 1
        self.hand()


@contextmanager
def sat(folder: Path, way: str = "direct", acme: Issuer | None = None) -> Iterator[Desk]:
    desk = Desk(folder, way, acme)
    try:
        yield desk
    finally:
        desk.close()


@pytest.fixture(params=WAYS)
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    with sat(tmp_path, request.param) as there:
        yield there


@pytest.fixture(params=VIRTUAL)
def quick(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    """A desk where waiting takes no time."""
    with sat(tmp_path, request.param) as there:
        yield there


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Desk]:
    with sat(tmp_path) as there:
        yield there


def refused(code: str, call: Callable[..., object], *arguments: Any, **more: Any) -> TallystickError:
    with pytest.raises(TallystickError) as caught:
        call(*arguments, **more)
    assert caught.value.code == code, caught.value
    return caught.value


def consume(desk: Desk, units: int = 7, key: str = "") -> int:
    with desk.container.checkout("cad") as seat:
        return int(seat.consume(units, idempotency_key=key) if key else seat.consume(units))


def nothing() -> None:
    """Sit still."""


# -- what needs a press


def test_a_use_waits_for_the_button_and_is_booked_once(desk: Desk) -> None:
    desk.license(touch=TOUCH_USE)
    blinks = desk.board.blinks
    assert consume(desk) == 93
    assert (desk.asked, desk.used(), desk.board.presses) == (1, 7, 0)
    assert desk.board.blinks > blinks
    assert consume(desk) == 86
    assert (desk.asked, desk.used()) == (2, 14)


def other(folder: Path, desk: Desk) -> Desk:
    folder.mkdir()
    return Desk(folder, acme=desk.acme)


def act_consume(desk: Desk, _: License, __: Desk) -> None:
    consume(desk)


def act_reserve(desk: Desk, _: License, __: Desk) -> None:
    with desk.container.checkout("cad", reserve=5) as seat:
        seat.consume(2)


def act_first_use(desk: Desk, _: License, __: Desk) -> None:
    desk.container.checkout("cad").close()


def act_unlock(desk: Desk, _: License, __: Desk) -> None:
    content = seal_content(CONTENT_KEY, "models", b"the model")
    with desk.container.checkout("cad") as seat:
        assert seat.unlock(content) == b"the model"


def act_give(desk: Desk, _: License, peer: Desk) -> None:
    desk.container.lending.give(
        peer.container.lending.ask(desk.acme.trust, product="cad", amounts={SEATS: 1, "": 5}, duration=DAY)
    )


def act_move(desk: Desk, _: License, peer: Desk) -> None:
    desk.container.lending.move(peer.container.lending.ask(desk.acme.trust, transfer=True, count=100))


def act_deactivate(desk: Desk, made: License, _: Desk) -> None:
    desk.container.deactivate(made.license_id)


ACTS: dict[str, tuple[int, Callable[[Desk, License, Desk], None], dict[str, Any]]] = {
    "consume": (TOUCH_USE, act_consume, {}),
    "reserve": (TOUCH_USE, act_reserve, {}),
    "first use": (TOUCH_USE, act_first_use, {"usage_period": DAY}),
    "unlock": (TOUCH_UNLOCK, act_unlock, {}),
    "give": (TOUCH_LEND, act_give, {}),
    "move": (TOUCH_LEND, act_move, {}),
    "deactivate": (TOUCH_LEND, act_deactivate, {}),
}


@pytest.mark.parametrize("name", ACTS)
def test_each_act_asks_once_where_the_license_names_it_and_never_else(tmp_path: Path, plain: Desk, name: str) -> None:
    needed, act, more = ACTS[name]
    peer = other(tmp_path / "peer", plain)
    request = plain.container.request(plain.acme.trust, product="cad")
    keys = {"models": plain.acme.sealed(request)} if name == "unlock" else {}
    terms = {"units": 100, "seats": 5, "lend": FREE, "transfer": FREE, **more}
    made = plain.acme.license(request, touch=TOUCH_ALL - needed, content_keys=keys, **terms)
    plain.container.install(plain.acme.answer(request, made))
    image = plain.board.flash.image()
    act(plain, made, peer)
    assert plain.asked == 0
    plain.container.close()

    plain.board.flash = Flash.load(image)
    plain.dongle.unplug()
    plain.dongle.plug()
    plain.container = plain.open()
    request = plain.container.request(plain.acme.trust, refresh=True)
    made = made.replace(seq=1, terms=made.terms.replace(touch=needed))
    plain.container.install(plain.acme.answer(request, made))
    before = plain.dongle.firmware.account.current().generation
    plain.hand = nothing
    refused("touch_needed", act, plain, made, peer)
    after = plain.dongle.firmware.account.current()
    assert after.generation == before
    plain.hand = plain.press
    act(plain, made, peer)
    assert plain.asked == 2
    peer.close()


def test_what_was_borrowed_keeps_the_touch_of_the_license_it_comes_from(tmp_path: Path, plain: Desk) -> None:
    plain.license(touch=TOUCH_ALL)
    peer = other(tmp_path / "peer", plain)
    lending = peer.container.lending
    peer.container.install(
        plain.container.lending.give(
            lending.ask(plain.acme.trust, product="cad", amounts={SEATS: 1, "": 10}, duration=DAY)
        )
    )
    (view,) = peer.container.licenses()
    assert view.license_ is not None
    assert view.license_.terms.touch == TOUCH_ALL
    assert consume(peer, 2) == 8
    assert peer.asked == 1
    (loan,) = lending.loans()
    plain.asked = 0
    plain.container.lending.extend(loan.xid, int(plain.clock.wall) + 2 * DAY)
    assert plain.asked == 1
    recall = plain.container.lending.recall(loan.xid)
    assert plain.asked == 1, "to ask back takes nothing away"
    peer.hand = nothing
    refused("touch_needed", peer.container.install, recall)
    refused("touch_needed", lending.give_back, loan.xid)
    assert (peer.used(), peer.asked) == (2, 3), "nothing was given back"
    peer.hand = peer.press
    receipt = peer.container.install(recall).receipt
    plain.container.install(receipt)
    assert (peer.asked, plain.asked) == (4, 1)
    assert lending.give_back(loan.xid) == receipt
    assert peer.asked == 4, "what was done before is told again without a press"
    peer.close()


def test_what_would_be_refused_anyway_is_refused_at_once(plain: Desk) -> None:
    plain.license(touch=TOUCH_ALL)
    refused("units_exhausted", consume, plain, 101)
    with plain.container.checkout("cad") as seat:
        refused("feature_not_licensed", seat.unlock, seal_content(CONTENT_KEY, "models", b"x"))
    assert (plain.asked, plain.used()) == (0, 0)


def test_a_repeated_use_needs_no_second_press(plain: Desk) -> None:
    plain.license(touch=TOUCH_USE)
    assert consume(plain, key="job 1") == consume(plain, key="job 1") == 93
    assert (plain.asked, plain.used()) == (1, 7)


def test_the_rehearsal_of_the_host_asks_for_nothing(tmp_path: Path, plain: Desk) -> None:
    plain.license(touch=TOUCH_LEND, seats=1)
    peer = other(tmp_path / "peer", plain)
    request = peer.container.lending.ask(plain.acme.trust, product="cad", amounts={SEATS: 1, "": 5}, duration=DAY)
    with plain.container.checkout("cad"):
        refused("seats_in_use", plain.container.lending.give, request)
        assert plain.asked == 0
    plain.container.lending.give(request)
    assert plain.asked == 1
    peer.close()


def test_a_certified_dongle_promises_the_button_and_another_does_not() -> None:
    assert Capability.TOUCH in CAPABILITIES
    assert Capability.TOUCH not in UNCERTIFIED


# -- nobody presses, or too early


def test_without_a_press_it_is_refused_in_time_and_nothing_is_done(quick: Desk) -> None:
    made = quick.license(touch=TOUCH_USE)
    quick.hand = nothing
    with quick.container.checkout("cad") as seat:
        state, begun = quick.dongle.firmware.account.current(), quick.clock.monotonic()
        refusal = refused("touch_needed", seat.consume, 7)
        assert 15 <= quick.clock.monotonic() - begun < 15.5
        assert "button" in refusal.remedy
        assert quick.dongle.firmware.account.current() is state
        assert (quick.asked, quick.used()) == (1, 0)
        quick.hand = quick.press
        assert seat.consume(7) == 93
    assert made.terms.touch == TOUCH_USE


def test_a_wait_that_is_over_is_over_on_every_transport(desk: Desk) -> None:
    desk.license(touch=TOUCH_USE)
    desk.hand = lambda: desk.clock.advance(15)
    refused("touch_needed", consume, desk)
    assert desk.used() == 0
    desk.hand = desk.press
    assert consume(desk) == 93


def test_a_press_from_before_the_call_does_not_count(quick: Desk) -> None:
    quick.license(touch=TOUCH_USE)
    quick.press()
    quick.hand = nothing
    refused("touch_needed", consume, quick)
    assert (quick.used(), quick.board.presses) == (0, 0)


def test_a_press_late_in_the_wait_counts(quick: Desk) -> None:
    quick.license(touch=TOUCH_USE)
    begun = quick.clock.monotonic()
    pressed_at = begun + 12
    monotonic = quick.clock.monotonic

    def ticking() -> float:
        if quick.asked and monotonic() >= pressed_at and not quick.used() and not quick.board.presses:
            quick.press()
        return monotonic()

    quick.board._monotonic = ticking
    quick.hand = nothing
    assert consume(quick) == 93
    assert 12 <= monotonic() - begun < 12.2


# -- cancelled, cut off


@pytest.mark.parametrize("reason", [KeyboardInterrupt(), error("closed", "the window was closed")])
def test_an_interrupted_program_takes_its_call_back(quick: Desk, reason: BaseException) -> None:
    def interrupt() -> None:
        raise reason

    quick.license(touch=TOUCH_USE)
    quick.hand = interrupt
    with quick.container.checkout("cad") as seat:
        with pytest.raises(type(reason)):
            seat.consume(7)
        quick.press()
        assert quick.dongle.poll() is False, "it waits no more"
        assert quick.used() == 0
        quick.board.presses = 0
        quick.hand = quick.press
        assert seat.consume(7) == 93
    assert quick.asked == 2


def test_a_dongle_pulled_out_while_it_waits_has_done_nothing(desk: Desk) -> None:
    desk.license(touch=TOUCH_USE)
    image = desk.board.flash.image()
    desk.hand = desk.pull
    with pytest.raises(TallystickError) as caught:
        consume(desk)
    assert caught.value.code == "device_removed"
    assert Flash.load(desk.board.flash.image()).image() == desk.board.flash.image() == image


@pytest.mark.parametrize("way", VIRTUAL)
def test_power_that_fails_when_it_is_pressed_leaves_before_or_after(tmp_path: Path, way: str) -> None:
    used = {0: 0}
    cut = 0
    while used[cut] == 0:
        cut += 1
        with sat(tmp_path / str(cut), way) as desk:
            desk.license(touch=TOUCH_USE)

            def press(desk: Desk = desk, cut: int = cut) -> None:
                desk.dongle.power_cut(cut)
                desk.press()

            desk.hand = press
            try:
                consume(desk)
            except TallystickError as refusal:
                assert refusal.code == "device_removed"
            desk.board.flash.power_on()
            again = SimulatedDongle(SimulatedBoard(Flash.load(desk.board.flash.image())))
            (holding,) = again.firmware.account.current().holdings.values()
            used[cut] = holding.usage().used.get("", 0)
    assert used[cut] == 7
    assert cut > 3


# -- on the bare wire


class Waits:
    """A call that waits, with nothing but the wire between."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.made = desk.license(touch=TOUCH_USE)
        self.wire = Wire(desk.dongle)
        self.channel = self.wire.greet()
        self.call = self.apply()
        (told,) = self.say(self.channel, 1, self.call)
        assert (told.type, told.transaction, told.payload) == (frames.WAIT, 1, bytes((frames.TOUCH,)))

    def apply(self) -> bytes:
        state = self.desk.dongle.firmware.account.current()
        body = c.encode(self.desk.clock.read(), (c.Consume(self.made.license_id, "", 7),))
        return encode_call("apply", state.generation, body)

    def say(self, channel: Channel, transaction: int, call: bytes) -> list[frames.Frame]:
        return self.wire.say(frames.encode(frames.MESSAGE, transaction, channel.seal(transaction, call)))

    def later(self, seconds: float) -> list[frames.Frame]:
        """Let time pass, poll, and return what comes."""
        self.desk.clock.advance(seconds)
        self.desk.dongle.poll()
        return frames.FrameReader().feed(self.desk.dongle.transmit())

    def pressed(self) -> list[frames.Frame]:
        """Press, and return what comes."""
        self.desk.press()
        return self.later(0.01)


@pytest.fixture
def waits(plain: Desk) -> Waits:
    return Waits(plain)


def error_of(answers: list[frames.Frame], transaction: int) -> int:
    (answer,) = answers
    assert (answer.type, answer.transaction) == (frames.ERROR, transaction)
    return answer.payload[0]


def test_the_host_is_told_at_least_every_second(waits: Waits) -> None:
    told = [0.0]
    for step in range(1, TOUCH_MS // 50):
        told += [step * 0.05 for frame in waits.later(0.05) if frame.type == frames.WAIT]
    assert max(late - early for early, late in pairwise(told)) <= 1
    assert waits.desk.board.blinks >= len(told)
    (answer,) = waits.later(0.05)
    assert answer.type == frames.MESSAGE
    _, refusal = decode_answer("apply", waits.channel.open(1, answer.payload))
    assert refusal is not None
    assert refusal.code == "touch_needed"
    assert waits.pressed() == []


def test_a_host_that_does_not_listen_is_not_told_more_and_more(waits: Waits) -> None:
    for _ in range(100):
        waits.desk.clock.advance(0.1)
        waits.desk.dongle.poll()
    assert len(waits.desk.dongle.transmit()) == frames.HEAD + 1


def test_a_wait_nobody_polls_ends_all_the_same(waits: Waits) -> None:
    """A transport that stopped polling does not let a press of tomorrow do what was asked today."""
    waits.desk.clock.advance(3600)
    waits.desk.press()
    waits.desk.dongle.poll()
    assert waits.desk.dongle.transmit()
    assert waits.desk.used() == 0
    again = Wire(waits.desk.dongle)
    assert again.ask(again.greet(), "status")[0]


def test_cancel_drops_the_call_and_says_so(waits: Waits) -> None:
    assert waits.wire.say(frames.encode(frames.CANCEL, 2)) == [], "another one is not meant"
    assert error_of(waits.wire.say(frames.encode(frames.CANCEL, 1)), 1) == frames.CANCELLED
    assert waits.pressed() == []
    assert waits.desk.used() == 0
    assert waits.wire.say(frames.encode(frames.CANCEL, 1)) == []
    (told,) = waits.say(waits.channel, 2, waits.apply())
    assert told.type == frames.WAIT, "the channel goes on"


def test_another_channel_is_busy_meanwhile(waits: Waits) -> None:
    second = waits.wire.greet()
    for transaction, call in enumerate((encode_call("status"), waits.apply(), encode_call("prove", bytes(32))), 7):
        assert error_of(waits.say(second, transaction, call), transaction) == frames.BUSY
    (answer,) = waits.pressed()
    assert decode_answer("apply", waits.channel.open(1, answer.payload))[1] is None
    assert waits.desk.used() == 7
    (answer,) = waits.say(second, 10, encode_call("status"))
    assert decode_answer("status", second.open(10, answer.payload))[1] is None, "the channel counts on"


@pytest.mark.parametrize("how", ["sync", "reset", "unplug", "evicted", "broken"])
def test_who_loses_the_channel_loses_the_call(waits: Waits, how: str) -> None:
    dongle, wire = waits.desk.dongle, waits.wire
    if how == "sync":
        (answer,) = wire.say(frames.encode(frames.SYNC, 0, bytes(8)))
        assert answer.type == frames.SYNC
    elif how == "reset":
        dongle.reset()
    elif how == "unplug":
        dongle.unplug()
        dongle.plug()
    elif how == "evicted":
        for _ in range(CHANNELS - 1):
            wire.greet()
        hello = frames.encode(frames.HELLO, 9, b"")
        assert error_of(wire.say(hello), 9) == frames.REFUSED
        assert dongle.poll(), "who cannot greet evicts nobody"
        with pytest.raises(ValueError, match="too many"):  # two frames: it tells the evicted one
            wire.greet()
    else:
        lost, why = wire.say(frames.encode(frames.MESSAGE, 2, waits.channel.seal(3, waits.call)))
        assert (lost.transaction, lost.payload[0]) == (1, frames.NO_CHANNEL)
        assert (why.transaction, why.payload[0]) == (2, frames.NO_CHANNEL)
    assert waits.pressed() == []
    assert dongle.poll() is False
    assert waits.desk.used() == 0


def test_a_recorded_call_and_its_press_replayed_do_nothing(waits: Waits) -> None:
    (answer,) = waits.pressed()
    assert answer.type == frames.MESSAGE
    assert waits.desk.used() == 7
    state = waits.desk.dongle.firmware.account.current()
    for data in tuple(waits.wire.sent):
        for frame in waits.wire.say(data):
            assert frame.type in (frames.HELLO, frames.ERROR)
        assert waits.pressed() == []
    assert waits.desk.dongle.firmware.account.current() is state


# -- the host and a device that is busy


def test_a_program_waits_until_another_ones_touch_is_over(plain: Desk) -> None:
    """The other one died, and its call waits on."""
    made = plain.license(touch=TOUCH_USE)
    client = DongleClient(
        DirectLink(plain.dongle, plain.clock.advance), plain.clock.monotonic, bytes, plain.clock.advance
    )
    status = client.call("status")
    wire = Wire(plain.dongle)
    body = c.encode(plain.clock.read(), (c.Consume(made.license_id, "", 7),))
    channel = wire.greet()
    (told,) = wire.say(frames.encode(frames.MESSAGE, 1, channel.seal(1, encode_call("apply", status[0], body))))
    assert told.type == frames.WAIT
    begun = plain.clock.monotonic()
    assert client.call("status") == status
    assert TOUCH_MS / 1000 <= plain.clock.monotonic() - begun < BUSY_S
    assert plain.used() == 0


def test_a_device_that_is_always_busy_is_believed_for_a_while(plain: Desk) -> None:
    class Busy(DirectLink):
        busy = False

        def read(self, timeout_s: float) -> bytes:
            data = super().read(timeout_s)
            kind, transaction = data[1], int.from_bytes(data[2:4])
            if kind != frames.MESSAGE or not self.busy:
                return data
            return frames.encode(frames.ERROR, transaction, bytes((frames.BUSY,)))

    link = Busy(plain.dongle)
    client = DongleClient(link, plain.clock.monotonic, bytes, plain.clock.advance)
    client.call("status")
    link.busy = True
    begun = plain.clock.monotonic()
    refused("busy", client.call, "status")
    assert BUSY_S <= plain.clock.monotonic() - begun < BUSY_S + 1
    link.busy = False
    assert client.call("status")
