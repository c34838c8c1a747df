# SPDX-License-Identifier: Apache-2.0
"""Containers, tokens, programs and forked children that share a module, and modules that fail as a whole."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import token_in_memory
from faults_rig import Faults
from modules_rig import Rig, SoftHsm
from token_in_memory import Chip, Loaded
from token_owner import apart, code_of

from fakes import FakeClock
from issuer import Issuer
from tallystick.backends.pkcs11.backend import Pkcs11Backend
from tallystick.backends.pkcs11.driver import driver
from tallystick.backends.pkcs11.modules import Module
from tallystick.backends.pkcs11.token import Token
from tallystick.backends.pkcs11.uri import parse_pkcs11_uri
from tallystick.container.anchor import Capability
from tallystick.container.base import Container
from tallystick.container.secrets import SecretRequest
from tallystick.errors import TallystickError

PIN = "739146"
WRONG = "111111"


class People:
    """Containers on tokens of one module, which runs in this process.

    Args:
        rig: with the tokens.
        folder: for their files.
        isolate: whether it runs in a process of its own instead.
    """

    def __init__(self, rig: Rig, folder: Path, *, isolate: bool = False) -> None:
        self.path = os.path.realpath(rig.module_path)
        self.module = Module(self.path, "module", isolate, 5.0)
        self.asked: list[SecretRequest] = []
        self.pin = PIN
        self.backend = Pkcs11Backend(
            FakeClock(), folder=lambda name: str(folder / name), allowed=lambda _: (self.module,)
        )

    def ask(self, request: SecretRequest) -> str:
        self.asked.append(request)
        return self.pin

    def create(self, label: str, more: str = "") -> Container:
        return self.backend.create(f"pkcs11:token={label}?name={label}{more}", secrets=self.ask)

    def open(self, label: str) -> Container:
        return self.backend.open(f"pkcs11:token={label}?name={label}", background=False, secrets=self.ask)

    def token(self, label: str) -> Token:
        return Token(parse_pkcs11_uri(f"pkcs11:token={label}"), (self.module,), self.backend._connect, None, self.ask)


@pytest.fixture
def hsm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SoftHsm:
    """Tokens a and b, whose module is nobody else's."""
    made = SoftHsm(tmp_path / "hsm", "a", PIN)
    made.add("b", PIN)
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    return apart(made, tmp_path)


@pytest.fixture
def faults(hsm: SoftHsm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Faults]:
    """The same tokens behind a module that misbehaves when told to, and has these oddities."""

    def make(**settings: str) -> Faults:
        made = apart(Faults(hsm, tmp_path / "faults", **settings), tmp_path)
        for name, value in made.environment.items():
            monkeypatch.setenv(name, value)
        return made

    return make


@pytest.fixture
def people(hsm: SoftHsm, tmp_path: Path) -> People:
    return People(hsm, tmp_path)


def signs(container: Container) -> bool:
    anchor = anchor_of(container)
    return anchor.public_key.verify_raw(b"x", anchor.sign(b"x"))


def anchor_of(container: Container) -> Any:
    return container._session.anchor  # type: ignore[attr-defined]


class TestOneModule:
    def test_looking_afresh_for_one_token_takes_nothing_from_another(self, people: People) -> None:
        with people.create("a") as one, people.create("b") as other:
            for _ in range(3):
                anchor_of(one).position(afresh=True)
                assert signs(other)
                anchor_of(other).position(afresh=True)
                assert signs(one)

    def test_a_token_that_is_away_does_not_disturb_another(self, people: People, hsm: SoftHsm) -> None:
        with people.create("a") as one, people.create("b") as other:
            anchor = anchor_of(one)
            serial = anchor.token.facts["serial"].encode()
            (away,) = [
                folder for folder in hsm.tokens.iterdir()
                if any(serial in file.read_bytes() for file in folder.iterdir())
            ]  # fmt: skip
            away.rename(hsm.tokens.parent / "away")
            for _ in range(3):
                assert code_of(anchor.sign, b"x") == "device_removed"
                assert signs(other)
            (hsm.tokens.parent / "away").rename(away)
            assert signs(one)

    def test_who_typed_on_a_pad_is_not_sent_there_again_for_anothers_sake(
        self, faults: Callable[..., Faults], tmp_path: Path
    ) -> None:
        people = People(faults(TOKENFLAGS="100", PADPIN=PIN), tmp_path)
        with people.create("a"), people.create("b") as other:
            people.asked.clear()
            for _ in range(3):
                assert code_of(lambda: people.token("c").run("private_keys")) == "device_removed"
                assert signs(other)
            assert people.asked == []

    def test_closing_the_last_container_on_a_token_logs_out_of_it(self, people: People) -> None:
        with people.create("a"):
            other = people.create("b")
            slot = anchor_of(other).token.facts["slot"]
            assert driver(people.path).call("is_open", slot)
            other.close()
            assert not driver(people.path).call("is_open", slot)
            people.pin = WRONG
            assert code_of(people.open, "b") == "pin_wrong"

    def test_a_closed_container_does_not_open_its_token_again(self, people: People) -> None:
        container = people.create("a")
        anchor = anchor_of(container)
        container.close()
        people.asked.clear()
        assert code_of(anchor.sign, b"x") == "closed"
        assert people.asked == []

    def test_a_typo_in_the_uri_of_a_container_is_not_blamed_on_its_token(self, people: People) -> None:
        people.create("a").close()
        with pytest.raises(TallystickError, match="no token that the URI describes") as caught:
            people.backend.open("pkcs11:token=A?name=a", secrets=people.ask)
        assert caught.value.code == "device_removed"
        assert "tally tokens" in caught.value.remedy


class TestFailures:
    def test_a_module_that_failed_as_a_whole_is_initialized_anew(
        self, faults: Callable[..., Faults], tmp_path: Path
    ) -> None:
        rig = faults()
        with People(rig, tmp_path).create("a") as container:
            rig.arm(1, "error:5", only="C_Sign")
            before = rig.log().count("C_Finalize")
            assert code_of(anchor_of(container).sign, b"x") == "backend_failed"
            rig.disarm()
            assert signs(container)
            assert rig.log().count("C_Finalize") == before + 1

    def test_a_closed_container_leaves_no_broken_module_behind(
        self, faults: Callable[..., Faults], tmp_path: Path
    ) -> None:
        rig = faults()
        people = People(rig, tmp_path)
        with people.create("a") as container:
            rig.arm(1, "error:5", only="C_Sign")
            assert code_of(anchor_of(container).sign, b"x") == "backend_failed"
        rig.disarm()
        before = rig.log().count("C_Finalize")
        with people.open("a") as container:
            assert rig.log().count("C_Finalize") == before + 1
            assert signs(container)

    @pytest.mark.parametrize("failure", [("error:30", "C_Initialize"), ("error:5", "C_Finalize")])
    def test_a_wrong_pin_stays_wrong_whatever_fails_afterwards(
        self, faults: Callable[..., Faults], tmp_path: Path, failure: tuple[str, str]
    ) -> None:
        rig = faults()
        people = People(rig, tmp_path)
        token = people.token("a")
        assert code_of(lambda: driver(people.path).call("login", 99, None)) == "device_removed"  # it is loaded
        people.pin = WRONG
        rig.arm(1, failure[0], only=failure[1], repeat=True)
        assert code_of(token.run, "private_keys") == "pin_wrong"
        assert code_of(token.run, "private_keys") in ("pin_wrong", "device_removed")
        rig.disarm()
        assert code_of(token.run, "private_keys") == "pin_wrong"
        assert (rig.log().count("C_Login"), len(people.asked)) == (1, 1)

    @pytest.mark.parametrize("fault", ["crash", "error-after:5"])
    def test_a_pin_that_was_never_accepted_is_not_sent_again_after_a_login_without_an_answer(
        self, faults: Callable[..., Faults], tmp_path: Path, fault: str
    ) -> None:
        rig = faults()
        people = People(rig, tmp_path, isolate=True)
        token = people.token("a")
        rig.arm(1, fault, only="C_Login", repeat=True)
        with pytest.raises(TallystickError, match="when the PIN was sent") as caught:
            token.run("private_keys")
        assert [code_of(token.run, "private_keys") for _ in range(2)] == [caught.value.code] * 2
        assert (rig.log().count("C_Login"), len(people.asked)) == (1, 1)
        rig.disarm()

    def test_a_module_that_is_none_is_told_again_and_again(self, tmp_path: Path) -> None:
        broken = tmp_path / "broken.so"
        broken.write_bytes(b"\x7fELF and no more")
        for _ in range(2):
            assert driver(str(broken)).claim()
            assert code_of(driver(str(broken)).call, "tokens") == "backend_unavailable"


FORKS = """
import os, sys
from tallystick.backends.pkcs11.backend import Pkcs11Backend
from tallystick.backends.pkcs11.modules import Module
path, folder, pin, log = sys.argv[1:]
module = Module(path, "module", False)
backend = Pkcs11Backend(folder=lambda _: folder, allowed=lambda _: (module,))
container = backend.create("pkcs11:token=a", secrets=lambda _: pin)
def calls(): return len(open(log).read().split())
before = calls()
pid = os.fork()
if pid == 0:
    if sys.stdin.readline() == "close":
        container.close()
    sys.exit(0)
assert os.waitpid(pid, 0)[1] == 0
print(calls() - before)
container.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
@pytest.mark.parametrize("manner", ["", "close"])
def test_a_forked_child_that_ends_leaves_its_parents_module_alone(
    faults: Callable[..., Faults], tmp_path: Path, manner: str
) -> None:
    rig = faults()
    command = [
        sys.executable,
        "-c",
        FORKS,
        rig.module_path,
        str(tmp_path / "c"),
        PIN,
        str(tmp_path / "faults/shim.log"),
    ]
    done = subprocess.run(command, input=manner, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr


# ------------------------------------------------------------------------------------------------------- by its word


class Claiming(Loaded):
    """A token that says what kind of slot it is in."""

    def __init__(self, chip: Chip, slot_flags: int) -> None:
        super().__init__(chip)
        self._slot_flags = slot_flags

    def _tokens(self) -> Any:
        return [{**row, "slot_flags": self._slot_flags} for row in super()._tokens()]


@pytest.mark.parametrize(("slot_flags", "min_level", "code"), [(0, 1, ""), (0, 2, "level_too_low"), (7, 2, "")])
def test_a_level_means_after_opening_what_it_meant_before(
    tmp_path: Path, slot_flags: int, min_level: int, code: str
) -> None:
    acme = Issuer()
    claiming = Claiming(Chip(), slot_flags)
    backend = Pkcs11Backend(
        FakeClock(), claiming.connect, folder=lambda _: str(tmp_path / "c"), allowed=lambda _: (token_in_memory.MODULE,)
    )

    def used(container: Container) -> str:
        try:
            container.checkout("cad").close()
        except TallystickError as reason:
            return reason.code
        return ""

    def pin(_: SecretRequest) -> str:
        return token_in_memory.PIN

    with backend.create("pkcs11:", [acme.trust], secrets=pin) as container:
        request = container.request(acme.trust, product="cad")
        container.install(acme.answer(request, acme.license(request, min_level=min_level)))
        made = container.info().capabilities
        assert used(container) == code
    with backend.open("pkcs11:", [acme.trust], secrets=pin, background=False) as container:
        assert container.info().capabilities == made
        assert (Capability.NON_EXPORTABLE in made) == bool(slot_flags & 4)
        assert used(container) == code


@pytest.mark.parametrize("uri", ["pkcs11:", "pkcs11:?ratchet=yes"])
def test_a_repair_does_not_replace_a_mark_that_was_not_seen_for_a_moment(tmp_path: Path, uri: str) -> None:
    chip, blind = Chip(), [0]

    class Shy(Loaded):
        def _data(self, beginning: str) -> Any:
            if blind[0]:
                blind[0] -= 1
                return []
            return super()._data(beginning)

    backend = Pkcs11Backend(
        FakeClock(),
        Shy(chip).connect,
        folder=lambda _: str(tmp_path / "c"),
        allowed=lambda _: (token_in_memory.MODULE,),
    )
    with backend.create(uri, secrets=lambda _: token_in_memory.PIN) as container:
        container.note("repair", "not needed")
        before = [mark.label for mark in chip.contents.data]
        blind[0] = 1
        anchor_of(container).renew(anchor_of(container).position().counter)
        assert [mark.label for mark in chip.contents.data] == before
