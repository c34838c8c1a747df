# SPDX-License-Identifier: Apache-2.0
"""The power fails at each flash operation of each command: the account is as before or as after, and nothing between.

Depth 2: it fails again at each operation of the recovery.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dongle_rig import Rig

from firmware_sim.account import Account
from firmware_sim.dongle import SimulatedDongle
from firmware_sim.firmware import Firmware
from firmware_sim.flash import Flash, PowerLoss
from firmware_sim.platform import SimulatedBoard
from tallystick.container.state import State
from tallystick.dongle.container import DongleContainer
from tallystick.errors import TallystickError
from tallystick.license.grant_policy import MAY_ALL, SEATS, GrantPolicy
from tallystick.license.model import License

FREE = GrantPolicy(MAY_ALL, max_depth=4)
PAGES = 16


class Story:
    """A command, and what has to be there before it."""

    def __init__(self, prepare: Callable[[Rig, DongleContainer], Any], command: Callable[..., Any]) -> None:
        self.prepare = prepare
        self.command = command


def licensed(rig: Rig, container: DongleContainer) -> License:
    return rig.activate(container, units=100, seats=5, lend=FREE, transfer=FREE)


def asked(rig: Rig, container: DongleContainer) -> tuple[License, bytes]:
    made = licensed(rig, container)
    other = Rig(rig.folder / "other", PAGES)
    with other.open() as receiver:
        return made, receiver.lending.ask(rig.acme.trust, product="cad", amounts={SEATS: 1, "": 10}, duration=86_400)


def offered(rig: Rig, container: DongleContainer) -> bytes:
    request = container.lending.ask(rig.acme.trust, product="cad", amounts={SEATS: 1, "": 10}, duration=86_400)
    other = Rig(rig.folder / "other", PAGES)
    other.acme = rig.acme
    with other.open() as giver:
        licensed(other, giver)
        return giver.lending.give(request)


def borrowed(rig: Rig, container: DongleContainer) -> bytes:
    container.install(offered(rig, container))
    (loan,) = container.lending.loans()
    return loan.xid


def consume(rig: Rig, container: DongleContainer, made: License) -> None:
    with container.checkout("cad") as seat:
        seat.consume(7)


def update(rig: Rig, container: DongleContainer) -> bytes:
    request = container.request(rig.acme.trust, product="cad")
    return rig.acme.answer(request, rig.acme.license(request, units=100))


STORIES = {
    "request": Story(lambda rig, container: None, lambda rig, container, _: container.request(rig.acme.trust)),
    "install": Story(update, lambda rig, container, message: container.install(message)),
    "consume": Story(licensed, consume),
    "deactivate": Story(licensed, lambda rig, container, made: container.deactivate(made.license_id)),
    "give": Story(asked, lambda rig, container, it: container.lending.give(it[1])),
    "take": Story(offered, lambda rig, container, grant: container.install(grant)),
    "give back": Story(borrowed, lambda rig, container, xid: container.lending.give_back(xid)),
}


def image_of(rig: Rig) -> bytes:
    return rig.dongle.board.flash.image()


def restarted(image: bytes, cut: int = 0) -> tuple[Flash, State | None]:
    """Switch a device with this flash on; the power may fail while it starts."""
    flash = Flash.load(image)
    if cut:
        flash.cut_power_after(cut)
    try:
        return flash, Firmware(SimulatedBoard(flash)).account.current()
    except PowerLoss:
        return flash, None


def prepared(folder: Path, story: Story) -> tuple[Rig, bytes, Any]:
    rig = Rig(folder, PAGES)
    with rig.open() as container:
        given = story.prepare(rig, container)
    return rig, image_of(rig), given


def run(rig: Rig, image: bytes, story: Story, given: Any, cut: int) -> bool:
    """Run the command on a device with this flash; True where the power failed."""
    rig.dongle = SimulatedDongle(SimulatedBoard(Flash.load(image)))
    rig.link.dongle = rig.dongle
    with rig.open() as container:
        if cut:
            rig.dongle.power_cut(cut)
        try:
            story.command(rig, container, given)
        except TallystickError as refusal:
            assert refusal.code == "device_removed", refusal
            return True
    return False


def steps(rig: Rig, image: bytes, story: Story, given: Any, patch: pytest.MonkeyPatch) -> list[bytes]:
    """The states a command goes through, without what differs each time: each is a transaction of its own."""
    seen: list[State] = []
    rig.dongle = SimulatedDongle(SimulatedBoard(Flash.load(image)))
    rig.link.dongle = rig.dongle
    seen.append(rig.dongle.firmware.account.current())
    write = Account._write

    def watched(account: Account, entry: list[Any], state: State, **more: Any) -> None:
        write(account, entry, state, **more)
        seen.append(state)

    with patch.context() as patched:
        patched.setattr(Account, "_write", watched)
        with rig.open() as container:
            story.command(rig, container, given)
    return [shape(state) for state in seen]


def shape(state: State) -> bytes:
    """What of a state does not depend on random ids and signatures."""
    counters = {
        key.hex(): {name: repr(counter) for name, counter in holding.counters.items()}
        for key, holding in state.holdings.items()
    }
    parts = (
        sorted(counters.items()), len(state.pending), [p.status for p in state.pending.values()], len(state.receipts),
        len(state.tombstones), [bool(t.receipt) for t in state.tombstones.values()],
        [(bool(g.message), g.status) for g in state.given.values()],
        [(bool(a.receipt), a.status) for a in state.arrivals.values()], state.generation,
    )  # fmt: skip
    return repr(parts).encode()


@pytest.mark.parametrize("name", STORIES)
def test_a_cut_at_any_flash_operation_leaves_before_or_after(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = STORIES[name]
    rig, image, given = prepared(tmp_path, story)
    allowed = steps(rig, image, story, given, monkeypatch)
    assert len(allowed) >= 2
    cut, states, again = 0, 0, 0
    while True:
        cut += 1
        failed = run(rig, image, story, given, cut)
        after = image_of(rig)
        if not failed:
            break
        _, state = restarted(after)
        assert state is not None
        assert shape(state) in allowed
        states += 1
        second = 0
        while True:
            second += 1
            flash, started = restarted(after, second)
            if started is not None:
                break
            again += 1
            _, recovered = restarted(flash.image())
            assert recovered is not None
            assert shape(recovered) == shape(state)
    assert states >= 10
    assert again >= states


def test_a_command_cut_off_is_finished_by_repeating_it(tmp_path: Path) -> None:
    """With an idempotency key nothing is used twice, wherever the power failed."""
    rig, image, _ = prepared(tmp_path, STORIES["consume"])
    cut = 0
    failed = True
    while failed:
        cut += 1
        rig.dongle = SimulatedDongle(SimulatedBoard(Flash.load(image)))
        rig.link.dongle = rig.dongle
        with rig.open() as container, container.checkout("cad") as seat:
            rig.dongle.power_cut(cut)
            try:
                seat.consume(7, idempotency_key="job 1")
                failed = False
            except TallystickError as refusal:
                assert refusal.code == "device_removed"
                rig.dongle.plug()
                assert seat.consume(7, idempotency_key="job 1") == 93
            assert container.licenses()[0].usage.used == {"": 7}
