# SPDX-License-Identifier: Apache-2.0
"""A key that was on the token before: one container lives by it, and keeps what is its own, whatever others try."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from token_in_memory import AFTER, BEFORE, MODULE, PIN, Chip, Half, Hook, Loaded, Traits
from token_owner import code_of

from fakes import FakeClock
from tallystick.backends.pkcs11.backend import Pkcs11Backend
from tallystick.container.base import Container
from tallystick.errors import TallystickError

ADOPTING = "pkcs11:id=%07"
TRAITS = [Traits(), Traits(agrees=False)]


class DiedError(BaseException):
    """The process ended."""


class Computer:
    """A token with a key, and folders for containers."""

    def __init__(self, folder: Path, traits: Traits) -> None:
        self.folder = folder
        self.chip = Chip(traits)
        halves = [Half(-number, number == 1, b"\x07", "mine", "sign", bytes(31) + b"\x07") for number in (1, 2)]
        self.chip.change(lambda contents: contents.halves.extend(halves))

    def backend(self, name: str, hook: Hook | None = None) -> Pkcs11Backend:
        where = str(self.folder / name)
        module = Loaded(self.chip, hook)
        return Pkcs11Backend(FakeClock(), module.connect, lambda _: where, allowed=lambda _: (MODULE,))

    def create(self, name: str, more: str = "", hook: Hook | None = None) -> None:
        self.backend(name, hook).create(ADOPTING + more, secrets=lambda _: PIN).close()

    def open(self, name: str) -> Container:
        return self.backend(name).open(ADOPTING, background=False, secrets=lambda _: PIN)

    def destroy(self, name: str) -> tuple[str, ...]:
        return self.backend(name).destroy(ADOPTING, force=True, secrets=lambda _: PIN)

    def cut_off(self, name: str, operation: str, more: str = "", at: str = AFTER, passed: int = 0) -> None:
        """A creation ends before or after an operation of that name; some of them pass."""
        left = [*range(passed)]

        def hook(when: str, what: str) -> None:
            if (when, what) == (at, operation):
                if not left:
                    raise DiedError
                left.pop()

        with pytest.raises(DiedError):
            self.create(name, more, hook)


@pytest.fixture(params=TRAITS, ids=["agrees", "secret"])
def computer(request: pytest.FixtureRequest, tmp_path: Path) -> Computer:
    return Computer(tmp_path, request.param)


@pytest.mark.parametrize("more", ["", "?ratchet=yes"])
def test_a_key_that_serves_a_container_is_not_adopted_by_another(computer: Computer, more: str) -> None:
    computer.create("first", more)
    before = computer.chip.contents
    with pytest.raises(TallystickError, match="lives by this key") as caught:
        computer.create("second", more)
    assert caught.value.code == "already_exists"
    assert computer.chip.contents == before
    computer.open("first").close()


def test_the_remedy_works(computer: Computer) -> None:
    computer.create("first")
    computer.destroy("first")
    computer.create("second")
    computer.open("second").close()


@pytest.mark.parametrize(
    ("operation", "more"),
    [*itertools.product(["put_data", "drop_data", "sign"], ["", "?ratchet=yes"]), ("generate", "?ratchet=yes")],
)
def test_an_interrupted_creation_is_repeated_in_its_folder(computer: Computer, operation: str, more: str) -> None:
    computer.cut_off("first", operation, more)
    if operation == "sign":
        computer.open("first").close()  # its first state was there: opening finishes it
        return
    computer.create("first", more)
    computer.open("first").close()
    computer.destroy("first")
    assert computer.chip.pairs() == ["mine"]
    assert computer.chip.labels() == []


@pytest.mark.parametrize("go_on", ["create", "destroy"])
def test_what_an_interrupted_creation_clears_is_not_that_of_another_container(computer: Computer, go_on: str) -> None:
    """It left no more than what it recorded; then the key was adopted in another folder."""
    recorded = "generate" if computer.chip.traits.agrees else "put_data"
    computer.cut_off("first", recorded, "?ratchet=yes", BEFORE, 1)
    computer.create("second", "?ratchet=yes")
    others = computer.chip.labels()
    if go_on == "create":
        assert code_of(computer.create, "first", "?ratchet=yes") == "already_exists"
    else:
        computer.destroy("first")
    assert computer.chip.labels() == others
    computer.open("second").close()
