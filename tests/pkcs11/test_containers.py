# SPDX-License-Identifier: Apache-2.0
"""Containers on tokens that can do more or less: what they promise, how they say so, and what they leave behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from faults_rig import Faults
from held import Held
from modules_rig import Rig, SoftHsm

from tallystick.backends.pkcs11.modules import Module
from tallystick.backends.pkcs11.port import Port
from tallystick.container.anchor import Capability
from tallystick.errors import TallystickError


@pytest.fixture
def hsm(tmp_path: Path) -> Iterator[SoftHsm]:
    with SoftHsm(tmp_path / "hsm") as made:
        yield made


@pytest.fixture
def held(hsm: SoftHsm, tmp_path: Path) -> Held:
    return Held(hsm, tmp_path)


@pytest.fixture
def odd(hsm: SoftHsm, tmp_path: Path) -> Callable[..., Held]:
    """A container on a token with oddities, by name as `Faults` has them."""

    def made(**settings: str) -> Held:
        rig: Rig = Faults(hsm, tmp_path / "faults", **settings)
        return Held(rig, tmp_path)

    return made


def refused(call: Callable[..., object], *arguments: object) -> TallystickError:
    with pytest.raises(TallystickError) as caught:
        call(*arguments)
    assert caught.value.remedy
    return caught.value


def counted(held: Held) -> int:
    with held.open() as container:
        return container.licenses()[0].usage.used.get("", 0)


def use(held: Held) -> None:
    """Three units of ten, and once more in another session."""
    with held.create() as container:
        held.sell(container, units=10)
        container.checkout("cad").consume(3)
    with held.open() as container:
        assert container.checkout("cad").consume(1) == 6


class TestWhatATokenCanDo:
    def test_one_that_can_do_all(self, held: Held) -> None:
        use(held)
        with held.open() as container:
            info = container.info()
        assert info.capabilities == Capability.UNLOCK
        assert "brings the old mark back" in info.details["restored files"]
        assert info.details["content keys"] == "yes"

    def test_one_that_keeps_no_data_works_and_says_that_rollback_costs_nothing(self, odd: Callable[..., Held]) -> None:
        held = odd(NODATA="1")
        use(held)
        with held.open() as container:
            assert "not noticed" in container.info().details["restored files"]
        assert any(path.name.startswith("journal.") for path in held.files.iterdir())

    def test_one_that_cannot_agree_says_that_content_stays_locked(self, odd: Callable[..., Held]) -> None:
        held = odd(NODERIVE="1")
        use(held)
        with held.open() as container:
            info = container.info()
            assert info.capabilities == Capability.NONE
            assert info.details["content keys"].startswith("no")
            assert "data object" in info.details["state key"]
            request = container.request(held.acme.trust, product="cad")
        from tallystick.license.messages import read_request

        assert read_request(request).agreement_key is None

    def test_one_that_can_neither_holds_no_container_and_nothing_is_left_there(self, odd: Callable[..., Held]) -> None:
        held = odd(NODERIVE="1", NODATA="1")
        refusal = refused(held.create)
        assert refusal.code == "not_supported"
        assert "neither agrees on keys" in refusal.message
        assert held.on_token("private_keys") == held.on_token("public_keys") == []

    def test_ratchet_needs_private_data(self, odd: Callable[..., Held]) -> None:
        assert refused(odd(NODATA="1").create, "?ratchet=yes").code == "not_supported"

    def test_a_full_token_is_told_and_nothing_is_lost(self, hsm: SoftHsm, tmp_path: Path) -> None:
        held = Held(hsm, tmp_path)
        use(held)
        full = Held(Faults(hsm, tmp_path / "full", FULL="1"), tmp_path)
        full.acme = held.acme
        with full.open() as container:
            assert refused(container.checkout("cad").consume, 1).code == "chip_full"
        assert counted(held) == 4


class TestWhichToken:
    def test_several_that_answer_are_not_chosen_from(self, hsm: SoftHsm, held: Held) -> None:
        hsm.add("other", hsm.pin)
        refusal = refused(held.backend.create, "pkcs11:")
        assert refusal.code == "ambiguous"
        assert "'other'" in refusal.message
        held.create().close()

    def test_none_that_answers(self, held: Held) -> None:
        assert refused(held.backend.create, "pkcs11:token=absent").code == "device_removed"

    def test_a_container_is_found_whatever_its_token_is_called(self, hsm: SoftHsm, held: Held) -> None:
        """By its key: another token is there too, and the URI names neither."""
        use(held)
        hsm.add("other", hsm.pin)
        with held.backend.open("pkcs11:", [held.acme.trust], background=False, secrets=held.pin) as container:
            assert container.licenses()[0].usage.used == {"": 4}

    def test_a_key_that_is_there_is_adopted_where_the_uri_names_it(self, held: Held) -> None:
        public = held.on_token("generate", b"\x07", "mine", "sign")["public"]
        with held.create(";object=mine;id=%07") as container:
            from tallystick.codec.keys import PublicKey

            assert container.info().thumbprint == PublicKey.from_p256_point(public).thumbprint
        left = held.backend.destroy(held.uri(), force=True, secrets=held.pin)
        assert [row[1] for row in held.on_token("private_keys")] == ["mine"], left

    def test_an_id_that_is_not_there_makes_nothing(self, held: Held) -> None:
        assert refused(held.create, ";id=%07").code == "usage"
        assert held.on_token("private_keys") == []

    def test_a_label_that_is_not_there_is_given_to_the_new_key(self, held: Held) -> None:
        held.create(";object=line%204").close()
        assert sorted(row[1] for row in held.on_token("private_keys")) == ["line 4", "line 4 agreement"]


class TestPins:
    def test_a_wrong_one_is_sent_once_and_told(self, hsm: SoftHsm, tmp_path: Path) -> None:
        faults = Faults(hsm, tmp_path / "faults")
        use(Held(faults, tmp_path))
        held = Held(faults, tmp_path, ["000000", "111111"])
        before = faults.log().count("C_Login")
        refusal = refused(held.open)
        assert refusal.code == "pin_wrong"
        assert refusal.details["few_left"] is True
        assert "tries were used up" in refusal.message
        assert faults.log().count("C_Login") == before + 1
        assert len(held.asked) == 1

    def test_none_at_all_is_never_sent(self, hsm: SoftHsm, tmp_path: Path) -> None:
        faults = Faults(hsm, tmp_path / "faults")
        use(Held(faults, tmp_path))
        before = faults.log().count("C_Login")
        assert refused(Held(faults, tmp_path, [""]).open).code == "pin_needed"
        held = Held(faults, tmp_path)
        assert refused(held.backend.open, held.uri()).code == "pin_needed"
        assert faults.log().count("C_Login") == before

    def test_the_last_try_is_told_before_it_is_used(self, hsm: SoftHsm, tmp_path: Path) -> None:
        use(Held(hsm, tmp_path))
        held = Held(Faults(hsm, tmp_path / "faults", TOKENFLAGS="30000"), tmp_path)
        held.open().close()
        assert [(request.few_left, request.last_try) for request in held.asked] == [(True, True)]

    def test_a_locked_one_is_not_asked_for(self, hsm: SoftHsm, tmp_path: Path) -> None:
        use(Held(hsm, tmp_path))
        held = Held(Faults(hsm, tmp_path / "faults", TOKENFLAGS="40000"), tmp_path)
        assert refused(held.open).code == "pin_blocked"
        assert not held.asked

    def test_a_pad_is_used_where_the_token_has_one(self, hsm: SoftHsm, tmp_path: Path) -> None:
        use(Held(hsm, tmp_path))
        held = Held(Faults(hsm, tmp_path / "faults", TOKENFLAGS="100", PADPIN=hsm.pin), tmp_path)
        held.open().close()
        assert [request.on_pad for request in held.asked] == [True], "somebody must be told to go there"


class TestTheEnd:
    def test_destroying_leaves_nothing_on_the_token(self, held: Held) -> None:
        use(held)
        assert len(held.on_token("private_keys")) == 2
        lines = held.backend.destroy(held.uri(), force=True, secrets=held.pin)
        assert not any(line.startswith("not removed") for line in lines)
        assert held.on_token("private_keys") == held.on_token("data", "") == held.on_token("public_keys") == []
        assert not held.files.exists()

    @pytest.mark.parametrize("nth", range(1, 40, 4))
    def test_a_list_that_leaves_one_out_leaves_nothing_on_the_token(
        self, hsm: SoftHsm, tmp_path: Path, nth: int
    ) -> None:
        faults = Faults(hsm, tmp_path / "faults")
        held = Held(faults, tmp_path)
        held.create().close()
        faults.arm(nth, "short", only="C_FindObjects")
        try:
            held.backend.destroy(held.uri(), force=True, secrets=held.pin)
        except TallystickError:
            faults.disarm()
            held.backend.destroy(held.uri(), force=True, secrets=held.pin)
        assert faults.calls >= nth
        faults.disarm()
        assert held.on_token("private_keys") == held.on_token("data", "") == held.on_token("public_keys") == []

    def test_without_the_file_that_knows_its_keys_it_is_locked_and_says_what_stays(self, held: Held) -> None:
        use(held)
        (held.files / "anchor").unlink()
        refusal = refused(held.open)
        assert (refusal.code, "is missing" in refusal.message) == ("tampered", True)
        assert "destroy --force" in refusal.remedy
        lines = held.backend.destroy(held.uri(), force=True, secrets=held.pin)
        assert lines[0].startswith("not removed: what the container has on a token")
        assert not held.files.exists()

    def test_what_the_token_keeps_is_told(self, hsm: SoftHsm, held: Held) -> None:
        held.create().close()
        connect = held.backend._connect

        class Keeping:
            """A token that says it destroyed something, and did not."""

            def __init__(self, module: Module) -> None:
                self._real: Port = connect(module)

            def call(self, operation: str, *arguments: Any) -> Any:
                return 1 if operation == "drop_data" else self._real.call(operation, *arguments)

            def close(self) -> None:
                self._real.close()

        held.backend._connect = Keeping
        refusal = refused(lambda: held.backend.destroy(held.uri(), force=True, secrets=held.pin))
        assert (refusal.code, "keeps" in refusal.message) == ("backend_failed", True)
        held.backend._connect = connect
        held.backend.destroy(held.uri(), force=True, secrets=held.pin)
        assert held.on_token("data", "") == []

    def test_a_dry_run_removes_nothing(self, held: Held) -> None:
        use(held)
        lines = held.backend.destroy(held.uri(), force=True, dry_run=True, secrets=held.pin)
        assert sum("of the token" in line for line in lines) == 3
        assert counted(held) == 4

    def test_without_its_token_only_force_removes_it_and_says_what_stays(self, hsm: SoftHsm, held: Held) -> None:
        use(held)
        hsm.remove()
        assert refused(lambda: held.backend.destroy(held.uri(), secrets=held.pin)).code == "device_removed"
        lines = held.backend.destroy(held.uri(), force=True, secrets=held.pin)
        assert any(line.startswith("not removed") and "tally" in line for line in lines)
        assert not held.files.exists()
