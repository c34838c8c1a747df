# SPDX-License-Identifier: Apache-2.0
"""A customer's computer with a TPM and a vendor's office, end to end: activation with attestation, and every mishap."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from shop import Shop
from swtpm_rig import Prepared, Swtpm

from fakes import FakeClock
from tallystick.authority import attestations, settings, tpm_pins
from tallystick.authority.correspondence import cases
from tallystick.authority.issuing import IssueResult, issue
from tallystick.backends.tpm.backend import TpmBackend
from tallystick.container.base import Container
from tallystick.errors import TallystickError
from tallystick.license.model import Terms

MakeTpm = Callable[..., Swtpm]


class Computer:
    """A customer's computer."""

    def __init__(self, folder: Path, tpm: Swtpm, shop: Shop) -> None:
        self.folder, self.tpm, self.shop = folder, tpm, shop
        self.backend = TpmBackend(shop.clock, folder=lambda _: str(folder))
        self.uri = f"tpm:tcti={tpm.tcti}"

    def create(self) -> None:
        self.backend.create(self.uri, [self.shop.trust]).close()

    def open(self) -> Container:
        return self.backend.open(self.uri, [self.shop.trust], background=False)

    def activate(self, code: str) -> IssueResult:
        with self.open() as container:
            result = issue(self.shop.office, container.request(self.shop.trust, code=code))
            container.install(result.message)
        return result

    def consume(self, units: int = 1) -> int:
        with self.open() as container, container.checkout("cad") as seat:
            return seat.consume(units)

    def repair(self) -> IssueResult:
        with self.backend.view(self.uri) as view:
            result = issue(self.shop.office, view.repair_request())
            outcome = view.install(result.message)
        if outcome.refusal is not None:
            assert result.kind == "refusal"
        return result

    def copy(self, to: Path) -> Path:
        shutil.copytree(self.folder, to)
        return to

    def restore(self, copy: Path) -> None:
        shutil.rmtree(self.folder)
        shutil.copytree(copy, self.folder)


def code_of(call: Callable[[], object]) -> str:
    with pytest.raises(TallystickError) as caught:
        call()
    return caught.value.code


@pytest.fixture
def shop(tmp_path: Path, factory: Prepared) -> Iterator[Shop]:
    """A vendor who believes the maker, and sells one thing for attested containers only."""
    clock = FakeClock(wall=int(time.time()))  # certificates are valid today
    made = Shop(tmp_path / "shop", clock)
    tpm_pins.add(made.office, [factory.root.read_bytes(), factory.issuer.read_bytes()])
    made.sell("cad-tpm", Terms(units=10, min_level=2))
    yield made
    made.office.close()


@pytest.fixture
def computer(tmp_path: Path, make_tpm: MakeTpm, factory: Prepared, shop: Shop) -> Computer:
    made = Computer(tmp_path / "c", make_tpm(template=factory.state), shop)
    made.create()
    return made


def test_activated_with_attestation_and_used(computer: Computer, shop: Shop) -> None:
    result = computer.activate(shop.entitle("cad-tpm").code.reveal())
    assert result.kind == "update"
    assert "only its TPM opens it" in result.text
    assert computer.consume(3) == 7
    (seen,) = attestations.attested(shop.office)
    assert (seen.level, seen.rewound_at) == (2, None)


def test_the_answer_opens_in_no_other_tpm(
    computer: Computer, shop: Shop, tmp_path: Path, make_tpm: MakeTpm, factory: Prepared
) -> None:
    with computer.open() as container:
        result = issue(shop.office, container.request(shop.trust, code=shop.entitle("cad-tpm").code.reveal()))
    other = Computer(tmp_path / "other", make_tpm("other"), shop)
    other.create()
    with other.open() as container:
        container.record_trust(shop.trust)
        assert code_of(lambda: container.install(result.message)) in ("wrong_container", "unknown_issuer")
        anchor = container._session.anchor  # type: ignore[attr-defined]
        from tallystick.codec import cose
        from tallystick.license.answers import Update
        from tallystick.license.sealed import open_update

        _, claims = cose.peek(result.message)
        assert code_of(lambda: open_update(Update.from_claims(claims), anchor.activate)) == "decrypt_failed"
    with computer.open() as container:
        assert [change.change for change in container.install(result.message).changes] == ["installed"]
        assert container.install(result.message).repeated


def test_a_maker_nobody_pinned_is_level_1(tmp_path: Path, make_tpm: MakeTpm, factory: Prepared) -> None:
    stranger = Shop(tmp_path / "stranger", FakeClock(wall=int(time.time())))
    stranger.sell("cad-tpm", Terms(units=10, min_level=2))
    computer = Computer(tmp_path / "c", make_tpm(template=factory.state), stranger)
    computer.create()
    with computer.open() as container:
        result = issue(
            stranger.office, container.request(stranger.trust, code=stranger.entitle("cad-tpm").code.reveal())
        )
        refusal = container.install(result.message).refusal
    assert refusal is not None
    assert refusal.code == "level_too_low"
    assert "L1" in refusal.message
    computer.activate(stranger.entitle("cad-pro").code.reveal())
    assert computer.consume() == 999
    stranger.office.close()


def test_copied_to_another_computer_it_does_not_open(
    computer: Computer, shop: Shop, tmp_path: Path, make_tpm: MakeTpm, factory: Prepared
) -> None:
    computer.activate(shop.entitle("cad-tpm").code.reveal())
    thief = Computer(computer.copy(tmp_path / "stolen"), make_tpm("thief"), shop)
    assert code_of(thief.open) == "chip_changed"
    assert computer.consume() == 9


def test_restored_files_are_repaired_once_and_booked(computer: Computer, shop: Shop, tmp_path: Path) -> None:
    computer.activate(shop.entitle("cad-tpm").code.reveal())
    copy = computer.copy(tmp_path / "copy")
    assert computer.consume(4) == 6
    computer.restore(copy)
    assert code_of(computer.consume) == "rolled_back"
    assert computer.repair().kind == "update"
    assert computer.consume() == 9, "what was used after the copy was made is the price of a repair"
    copy = computer.copy(tmp_path / "again")
    computer.consume()
    computer.restore(copy)
    refused = computer.repair()
    assert (refused.kind, refused.sent.code) == ("refusal", "resync_quota")
    assert code_of(computer.consume) == "rolled_back"
    settings.choose(shop.office, settings.RESYNC_QUOTA, "2")
    computer.restore(copy)
    assert computer.repair().kind == "update"
    assert computer.consume() == 8


def test_a_machine_set_back_with_its_tpm_is_noticed_at_the_next_contact(
    computer: Computer, shop: Shop, tmp_path: Path
) -> None:
    """A snapshot of a virtual machine: nothing on it can tell."""
    computer.activate(shop.entitle("cad-tpm").code.reveal())
    computer.tpm.kill()
    saved, copy = computer.tpm.snapshot(tmp_path / "snapshot"), computer.copy(tmp_path / "copy")
    computer.tpm.start()
    assert computer.consume(5) == 5
    shop.clock.advance(60)
    with computer.open() as container:
        assert issue(shop.office, container.request(shop.trust, refresh=True)).kind == "update"
    computer.tpm.kill()
    computer.tpm.restore(saved)
    computer.restore(copy)
    computer.tpm.start()
    assert computer.consume(1) == 9, "it opens: this is what a TPM cannot see"
    shop.clock.advance(60)
    with computer.open() as container:
        result = issue(shop.office, container.request(shop.trust, refresh=True))
    assert result.sent.code == "container_rewound"
    assert cases(shop.office)
    (seen,) = attestations.attested(shop.office)
    assert seen.rewound_at is not None


def test_a_tpm_that_stops_in_the_middle_is_typed_and_comes_back(computer: Computer, shop: Shop) -> None:
    computer.activate(shop.entitle("cad-tpm").code.reveal())
    with computer.open() as container, container.checkout("cad") as seat:
        assert seat.consume() == 9
        computer.tpm.kill()
        assert code_of(seat.consume) == "device_silent"
        computer.tpm.start()
        assert seat.consume() in (7, 8), "counted once, whether the first one got through or not"
    left = computer.consume()
    assert left in (6, 7)
