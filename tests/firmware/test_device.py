# SPDX-License-Identifier: Apache-2.0
"""The firmware against whoever holds the cable: it does what the table of calls says, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dongle_rig import Rig, Wire

from firmware_sim import pin
from firmware_sim.pin import TRIES
from tallystick.codec import cbor
from tallystick.container import commands as c
from tallystick.container.proof import DOMAIN
from tallystick.dongle import frames
from tallystick.dongle.calls import CALLS
from tallystick.dongle.container import DongleContainer
from tallystick.errors import TallystickError


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


@pytest.fixture
def container(rig: Rig) -> Iterator[DongleContainer]:
    with rig.open() as opened:
        yield opened


def refused(code: str, call: Any, *arguments: Any, **more: Any) -> TallystickError:
    with pytest.raises(TallystickError) as caught:
        call(*arguments, **more)
    assert caught.value.code == code, caught.value
    return caught.value


def state_of(rig: Rig) -> bytes:
    return rig.dongle.firmware.account.current().to_bytes()


class TestApply:
    def apply(self, rig: Rig, wire: Wire, *commands: c.Command, generation: int | None = None) -> Any:
        known = rig.dongle.firmware.account.current().generation if generation is None else generation
        return wire.ask(self.channel, "apply", known, c.encode(rig.clock.read(), commands))

    @pytest.fixture(autouse=True)
    def _wire(self, rig: Rig) -> None:
        self.wire = Wire(rig.dongle)
        self.channel = self.wire.greet()

    @pytest.mark.parametrize("number", c.CODES)
    def test_only_commands_that_need_no_signature_are_applied(self, rig: Rig, number: int) -> None:
        """What a program could use to author an account, it cannot have applied."""
        cls = c.CODES[number]
        values = {"bytes": b"\1" * 16, "str": "x", "int": 1, "Mapping[str, int]": {}, "Mapping[int, Any]": {}}
        annotations = cls.__annotations__
        command = cls(*[values.get(str(annotations[field]), None) for field in cls.fields])
        before = state_of(rig)
        answer = self.apply(rig, self.wire, command)
        own = {1, 3, 7, 8, 9, 10, 12, 13, 14, 24}
        if number not in own:
            assert answer.code == "not_supported"
            assert state_of(rig) == before
        else:
            assert getattr(answer, "code", "") != "not_supported"

    def test_a_transaction_is_applied_whole_or_not_at_all(self, rig: Rig, container: DongleContainer) -> None:
        license_ = rig.activate(container, units=5)
        before = state_of(rig)
        wire = Wire(rig.dongle)
        self.channel = wire.greet()
        use, too_much = c.Consume(license_.license_id, "", 3), c.Consume(license_.license_id, "", 3)
        assert self.apply(rig, wire, use, too_much).code == "units_exhausted"
        assert state_of(rig) == before

    def test_what_was_decided_on_an_older_account_is_refused(self, rig: Rig, container: DongleContainer) -> None:
        rig.activate(container, units=5)
        wire = Wire(rig.dongle)
        self.channel = wire.greet()
        assert self.apply(rig, wire, c.Observe(), generation=0).code == "busy"

    @pytest.mark.parametrize(
        "body",
        [b"", b"\xff", cbor.encode([]), cbor.encode([[0, 0, ""]]), cbor.encode([[0, 0, ""], [12, 1]]),
         cbor.encode([[-1, 0, ""], [12]]), cbor.encode([[True, 0, ""], [12]]), cbor.encode([[0, 0, ""], [99]]),
         cbor.encode([[0, 0, ""], [7, bytes(16), "", -1, b""]]), cbor.encode([[0, 0, ""], [7, "x", "", 1, b""]]),
         cbor.encode([[0, 0, ""], *[[12]] * 65])],
    )  # fmt: skip
    def test_bytes_that_are_no_transaction_change_nothing(self, rig: Rig, body: bytes) -> None:
        before = state_of(rig)
        message = cbor.encode([CALLS["apply"].number, 0, body])
        answer = self.wire.ask_plain(self.channel, message, "apply")
        assert answer.code in ("malformed", "not_supported")
        assert state_of(rig) == before


class TestCalls:
    @pytest.mark.parametrize(
        "message",
        [b"", b"\xff", cbor.encode({}), cbor.encode([]), cbor.encode([True]), cbor.encode([5]),
         cbor.encode([5, b"short"]), cbor.encode([5, bytes(32), 1]), cbor.encode(["prove", bytes(32)]),
         cbor.encode([3, 0, 0])],
    )  # fmt: skip
    def test_what_is_no_call_is_refused_inside_the_channel(self, rig: Rig, message: bytes) -> None:
        wire = Wire(rig.dongle)
        channel = wire.greet()
        assert wire.ask_plain(channel, message).code in ("malformed", "usage")
        assert wire.ask(channel, "status")[0] == 0

    def test_a_call_of_a_newer_version_says_so(self, rig: Rig) -> None:
        wire = Wire(rig.dongle)
        assert wire.ask_plain(wire.greet(), cbor.encode([200])).code == "unsupported_version"

    def test_nothing_but_a_nonce_is_signed(self, rig: Rig, container: DongleContainer) -> None:
        """The host cannot have a message of its own signed: a proof is of its own domain."""
        key = container._session.anchor.public_key
        wire = Wire(rig.dongle)
        nonce = os.urandom(32)
        signature = wire.ask(wire.greet(), "prove", nonce)
        assert key.verify_raw(DOMAIN + nonce, signature)
        assert not key.verify_raw(nonce, signature)
        refused("not_supported", container._session.anchor.sign, b"\x84\x6aSignature1")
        refused("not_supported", container._session.anchor.agree, bytes(65))

    def test_the_content_key_of_a_license_that_ended_stays_shut(self, rig: Rig, container: DongleContainer) -> None:
        license_ = rig.activate(container)
        reading = rig.clock.read()
        wire = Wire(rig.dongle)
        channel = wire.greet()
        assert wire.ask(channel, "content_key", reading, license_.license_id, "k").code == "feature_not_licensed"
        assert wire.ask(channel, "content_key", reading, bytes(16), "k").code == "license_not_found"
        ended = rig.activate(container, expires=rig.clock.read().wall + 60)
        rig.clock.advance(61)
        assert wire.ask(channel, "content_key", rig.clock.read(), ended.license_id, "k").code == "expired"


class TestBlocks:
    def test_only_the_program_that_reserved_a_block_gives_its_rest_back(
        self, rig: Rig, container: DongleContainer
    ) -> None:
        """Else its owner could have units back that the program goes on serving from memory."""
        rig.activate(container, units=100)
        seat = container.checkout("cad", reserve=50)
        state = container._session.current()
        (holding,) = state.holdings.values()
        (block,) = holding.reservations
        wire = Wire(rig.dongle)
        release = c.encode(rig.clock.read(), (c.Release(holding.license_id, block, 50),))
        assert wire.ask(wire.greet(), "apply", state.generation, release).code == "no_reservation"
        assert seat.consume(10) == 40
        seat.close()
        assert container.licenses()[0].usage.used == {"": 10}

    def test_a_block_does_not_survive_a_loss_of_power(self, rig: Rig, container: DongleContainer) -> None:
        rig.activate(container, units=100)
        seat = container.checkout("cad", reserve=50)
        rig.dongle.unplug()
        rig.dongle.plug()
        seat.close()
        assert container.licenses()[0].usage.used == {"": 50}


class TestChannels:
    def test_a_recorded_session_changes_nothing_when_it_is_played_again(
        self, rig: Rig, container: DongleContainer
    ) -> None:
        recorded: list[bytes] = []
        receive = rig.dongle.receive
        rig.dongle.receive = lambda data: (recorded.append(data), receive(data))[1]  # type: ignore[method-assign]
        license_ = rig.activate(container, units=10)
        with container.checkout("cad") as seat:
            seat.consume(3)
        container.deactivate(license_.license_id)
        rig.dongle.receive = receive  # type: ignore[method-assign]
        before = state_of(rig)
        for _ in range(2):
            for data in recorded:
                receive(data)
                for frame in frames.FrameReader().feed(rig.dongle.transmit()):
                    assert frame.type in (frames.HELLO, frames.SYNC) or frame.payload == bytes((frames.NO_CHANNEL,))
            assert state_of(rig) == before
            rig.dongle.unplug()
            rig.dongle.plug()

    def test_a_recorded_device_does_not_answer_a_new_program(self, rig: Rig, container: DongleContainer) -> None:
        answers: list[bytes] = []
        transmit = rig.dongle.transmit
        rig.dongle.transmit = lambda: (answers.append(transmit()), answers[-1])[1]  # type: ignore[method-assign]
        rig.activate(container)
        container.checkout("cad").close()
        played = iter(answers)
        rig.dongle.transmit = lambda: next(played, b"")  # type: ignore[method-assign]
        refused("device_silent", rig.open)

    def test_more_programs_than_channels_all_go_on(self, rig: Rig) -> None:
        opened = [rig.open() for _ in range(6)]
        for _ in range(3):
            for one in opened:
                assert one.info().generation == 0
        for one in opened:
            one.close()

    def test_another_dongle_in_its_place_is_told_apart_by_its_key(
        self, rig: Rig, container: DongleContainer, tmp_path: Path
    ) -> None:
        rig.activate(container)
        seat = container.checkout("cad")
        other = Rig(tmp_path / "other")
        other.dongle.claim_serial(rig.dongle.serial)
        rig.link.dongle = other.dongle
        refused("bad_signature", container.info)
        rig.clock.advance(61)
        assert not seat.check()
        rig.link.dongle = rig.dongle
        assert seat.check()


class TestPin:
    def set(self, rig: Rig) -> None:
        wire = Wire(rig.dongle)
        assert wire.ask(wire.greet(), "change_pin", "", "1234") is None

    def test_without_it_nothing_is_told_or_done(self, rig: Rig) -> None:
        self.set(rig)
        wire = Wire(rig.dongle)
        channel = wire.greet()
        for named, call in CALLS.items():
            if not call.open and not call.arguments:
                assert wire.ask(channel, named).code == "pin_needed"
        assert wire.ask(channel, "state", 0).code == "pin_needed"
        assert wire.ask(channel, "prove", bytes(32)).code == "pin_needed"
        refused("pin_needed", rig.open)
        with rig.open(pin="1234") as container:
            assert container.info().details["PIN"] == f"{TRIES} tries left"

    def test_tries_are_counted_down_and_end(self, rig: Rig) -> None:
        self.set(rig)
        for left in range(TRIES - 1, 0, -1):
            assert refused("pin_wrong", rig.open, pin="0000").details["left"] == left
        refused("pin_blocked", rig.open, pin="0000")
        refused("pin_blocked", rig.open, pin="1234")

    def test_the_right_one_gives_all_tries_back(self, rig: Rig) -> None:
        self.set(rig)
        refused("pin_wrong", rig.open, pin="0000")
        rig.open(pin="1234").close()
        assert refused("pin_wrong", rig.open, pin="0000").details["left"] == TRIES - 1

    def test_cutting_the_power_at_any_moment_gives_no_further_try(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.set(rig)
        compared: list[bool] = []
        compare = pin.hmac.compare_digest
        monkeypatch.setattr(pin.hmac, "compare_digest", lambda a, b: (compared.append(compare(a, b)), compared[-1])[1])
        codes = []
        for attempt in range(160):
            rig.dongle.plug()
            rig.dongle.power_cut(1 + attempt % 40)
            with pytest.raises(TallystickError) as caught:
                rig.open(pin="0000")
            codes.append(caught.value.code)
            rig.dongle.unplug()
        assert 0 < len(compared) <= TRIES  # a try may be lost to a cut, never won
        assert not any(compared)
        assert {"device_removed", "pin_wrong", "pin_blocked"} >= set(codes)
        assert codes[-1] == "pin_blocked"

    def test_it_never_travels_in_the_clear(self, rig: Rig) -> None:
        seen = bytearray()
        receive = rig.dongle.receive
        rig.dongle.receive = lambda data: (seen.extend(data), receive(data))[1]  # type: ignore[method-assign]
        wire = Wire(rig.dongle)
        wire.ask(wire.greet(), "change_pin", "", "87654321")
        rig.open(pin="87654321").close()
        assert b"87654321" not in seen

    @pytest.mark.parametrize("short", ["1", "123"])
    def test_a_pin_that_is_too_short_is_refused(self, rig: Rig, short: str) -> None:
        wire = Wire(rig.dongle)
        assert wire.ask(wire.greet(), "change_pin", "", short).code == "usage"

    def test_an_empty_new_one_takes_it_away(self, rig: Rig) -> None:
        self.set(rig)
        wire = Wire(rig.dongle)
        assert wire.ask(wire.greet(), "change_pin", "1234", "") is None
        rig.open().close()

    def test_without_a_puk_it_cannot_be_unblocked(self, rig: Rig) -> None:
        self.set(rig)
        wire = Wire(rig.dongle)
        assert wire.ask(wire.greet(), "unblock_pin", "00000000", "4321").code == "not_supported"

    def test_a_program_goes_on_when_the_dongle_was_pulled_out_and_put_back(self, rig: Rig) -> None:
        self.set(rig)
        with rig.open(pin="1234") as container:
            for _ in range(2):
                rig.dongle.unplug()
                with pytest.raises(TallystickError):
                    container.note("drift", "out")
                rig.dongle.plug()
                container.note("drift", "in again")

    def test_a_pin_that_another_program_changed_is_tried_once(self, rig: Rig) -> None:
        self.set(rig)
        with rig.open(pin="1234") as container:
            wire = Wire(rig.dongle)
            assert wire.ask(wire.greet(), "change_pin", "1234", "4321") is None
            rig.dongle.unplug()
            rig.dongle.plug()
            codes = []
            for _ in range(4):
                with pytest.raises(TallystickError) as caught:
                    container.note("drift", "in again")
                codes.append(caught.value.code)
            assert codes == ["pin_wrong", "pin_needed", "pin_needed", "pin_needed"]

    def test_a_channel_broken_by_somebody_leaves_nothing_unlocked_to_the_next_of_its_number(self, rig: Rig) -> None:
        """Numbers come again after 65,536 greetings; here the device is set back to just before that."""
        self.set(rig)
        wire, firmware = Wire(rig.dongle), rig.dongle.firmware
        before = firmware._last
        channel = wire.greet()
        assert wire.ask(channel, "verify_pin", "1234") is None
        (closed,) = wire.say(frames.encode(frames.MESSAGE, 9, channel.number.to_bytes(2) + bytes(40)))
        assert (closed.type, closed.payload) == (frames.ERROR, bytes((frames.NO_CHANNEL,)))
        firmware._last = before
        again = wire.greet()
        assert again.number == channel.number
        assert wire.ask(again, "state", 0).code == "pin_needed"


def test_a_host_that_never_listens_fills_no_memory(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("firmware_sim.firmware.MAX_UNREAD", 4096)
    unknown = frames.encode(frames.MESSAGE, 3, bytes(64))
    for _ in range(2000):
        rig.dongle.receive(unknown)
    assert len(rig.dongle.transmit()) < 5000
    rig.open().close()


def test_whoever_looks_for_it_sees_it_blink(rig: Rig) -> None:
    wire = Wire(rig.dongle)
    assert wire.ask(wire.greet(), "identify") is None
    assert rig.dongle.board.blinks == 1


def test_garbage_never_stops_it(rig: Rig) -> None:
    before = state_of(rig)
    wire = Wire(rig.dongle)
    good = frames.encode(frames.MESSAGE, 3, bytes(64))
    for data in (b"\0" * 9, b"T" * 4096, os.urandom(3000), good, good[:-1], frames.encode(frames.WAIT, 1, b"\1"),
                 frames.encode(frames.HELLO, 1, b"x"), frames.encode(frames.CANCEL, 9)):  # fmt: skip
        rig.dongle.receive(data)
        rig.dongle.transmit()
    rig.dongle.receive(frames.encode(frames.SYNC, 0, b"12345678"))  # half a frame may still be waiting for its rest
    rig.dongle.transmit()
    assert wire.say(frames.encode(frames.SYNC, 0, b"12345678"))[-1].payload == b"12345678"
    assert wire.ask(wire.greet(), "status")[0] == 0
    assert state_of(rig) == before
