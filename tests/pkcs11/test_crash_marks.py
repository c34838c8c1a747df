# SPDX-License-Identifier: Apache-2.0
"""A container on a token survives being cut off at every change of its disk and of its token: as before, or as after;
it opens without help, and nothing is left on the token that is not in use.

CI explores a slice of it, down to two cuts in a row; ``python tests/pkcs11/crash_campaign.py`` explores all of it and
takes hours. What a mark does not promise is pinned at the end.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from crash_campaign import ANSWER_LOST, CASES, COMMAND_LOST, KITS, ON_TOKEN, TwoProcesses
from explore import Report, explore, explore_errors, explore_kills
from simfs import Limits
from token_in_memory import AFTER, AMID, BEFORE, MODULE, PIN, Chip, Contents, Data, Hook, Loaded, Traits, gone

from backends.computer import ALL, Hand
from fakes import FakeClock
from issuer import Issuer
from tallystick.backends.file import FileBackend
from tallystick.backends.pkcs11.backend import Pkcs11Backend
from tallystick.backends.pkcs11.record import TokenRecord
from tallystick.container.base import Container
from tallystick.container.vfs import Directory
from tallystick.errors import TallystickError, error
from tallystick.license.grant_policy import MAY_ALL, GrantPolicy

Book = Callable[[Report], Report]


@pytest.fixture
def explored(request: pytest.FixtureRequest) -> Book:
    """As in ``tests/crash/conftest.py``: books what a driver covered."""

    def book(report: Report) -> Report:
        request.node.user_properties.append(("explored", [report.states, report.cuts, report.deepest]))
        return report

    return book


_FEW = Limits(exhaustive=1, samples=1, tears=1)
_CUT = {
    "plain": ("create", "install", "consume", "give", "give-whole", "returned", "take", "give-back", "mended",
              "mended-robbed", "destroyed"),
    "ratchet": ("create", "install", "take-move", "mended-robbed", "destroyed"),
    "secret": ("create", "destroyed"),
    "caching-ratchet": ("install",),
    "markless": ("create", "consume"),
    "torn": ("consume",),
}  # fmt: skip
_STRUCK = ("plain-create", "plain-consume", "plain-retry", "plain-destroyed", "ratchet-install", "ratchet-mended")
_LONG = ("create", "consume", "mended-robbed")  # many changes: fewer of the disks are followed into a second cut


@pytest.mark.parametrize("name", [f"{kit}-{case}" for kit, cases in _CUT.items() for case in cases])
def test_a_power_cut_leaves_before_or_after(name: str, explored: Book) -> None:
    every = 96 if name.endswith(_LONG) else 24
    report = explored(explore(*CASES[name].prepared(), limits=_FEW, every=every))
    assert report.states > 10


def test_a_power_cut_of_two_processes_that_take_turns_leaves_before_or_after(explored: Book) -> None:
    case = TwoProcesses("turns", KITS["ratchet"], turns="abBa")
    assert explored(explore(*case.prepared(), limits=_FEW, depth=1)).states > 100


@pytest.mark.parametrize("name", ["ratchet-turns", "caching-turns"])
def test_a_process_goes_on_where_another_was_killed(name: str, explored: Book) -> None:
    case = CASES[name]
    assert isinstance(case, TwoProcesses)
    assert explored(explore_kills(*case.killed(), limits=_FEW, step=32)).states > 100


@pytest.mark.parametrize("name", _STRUCK)
def test_a_command_or_an_answer_that_is_lost_leaves_before_or_after(name: str, explored: Book) -> None:
    lost = COMMAND_LOST, ANSWER_LOST
    run = explore_errors(*CASES[name].prepared(), errors=lost, only=ON_TOKEN, limits=_FEW)
    assert explored(run).states > 10


@pytest.mark.parametrize("name", ["torn-create", "torn-mended"])
def test_a_mark_that_was_torn_is_replaced(name: str) -> None:
    explore(*CASES[name].prepared(), limits=_FEW, depth=1)


# ------------------------------------------------------------------------------------------------- single accidents


class Died(BaseException):
    """The process is gone."""


def at(when: str, operation: str, do: Callable[[], object]) -> Hook:
    """Do something once, when an operation on the token comes to that point."""
    left = [do]

    def hook(now: str, what: str) -> None:
        if (now, what) == (when, operation) and left:
            left.pop()()

    return hook


def dies() -> None:
    raise Died


class Bench:
    """A token, a folder for files and their copies, a vendor."""

    def __init__(self, folder: Path, traits: Traits, *, ratchet: bool) -> None:
        self.folder = folder
        self.chip = Chip(traits)
        self.acme = Issuer()
        self.uri = f"pkcs11:token=chip{'?ratchet=yes' * ratchet}"

    def backend(self, copy: str = "c", hook: Hook | None = None) -> Pkcs11Backend:
        """In a process of its own."""
        where = str(self.folder / copy)
        return Pkcs11Backend(
            FakeClock(), Loaded(self.chip, hook).connect, lambda _: where, allowed=lambda _: (MODULE,)
        )  # fmt: skip

    def create(self, hook: Hook | None = None, **terms: Any) -> None:
        with self.backend(hook=hook).create(self.uri, [self.acme.trust], secrets=lambda _: PIN) as container:
            container.install(self.acme.answer(container.request(self.acme.trust), units=100, **terms))

    def open(self, copy: str = "c", hook: Hook | None = None) -> Container:
        return self.backend(copy, hook).open(self.uri, [self.acme.trust], background=False, secrets=lambda _: PIN)

    def destroy(self) -> tuple[str, ...]:
        return self.backend().destroy(self.uri, force=True, secrets=lambda _: PIN)

    def copy(self, source: str = "c", target: str = "copy") -> None:
        """Copy the files, instead of what is there."""
        shutil.rmtree(self.folder / target, ignore_errors=True)
        shutil.copytree(self.folder / source, self.folder / target)

    def marks(self) -> list[Data]:
        return [one for one in self.chip.contents.data if one.label.startswith("tallystick mark")]

    def bring_back(self, marks: list[Data]) -> None:
        """Put marks back instead of those that are there, as whoever has the PIN can."""

        def change(contents: Contents) -> None:
            contents.drop_data(lambda one: one.label.startswith("tallystick mark"))
            contents.data += marks

        self.chip.change(change)

    def importing(self) -> bytes:
        """An update for the container."""
        with self.open() as container:
            return self.acme.answer(container.request(self.acme.trust, product="more"))


Make = Callable[..., Bench]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    numbers = iter(range(9))

    def bench(traits: Traits | None = None, *, ratchet: bool = False, **terms: Any) -> Bench:
        made = Bench(tmp_path / str(next(numbers)), traits or Traits(), ratchet=ratchet)
        made.create(**terms)
        return made

    return bench


def code_of(call: Callable[[], object]) -> str:
    with pytest.raises(TallystickError) as caught:
        call()
    return caught.value.code


def use(container: Container, units: int = 1) -> int:
    left = container.checkout("cad").consume(units)
    assert left is not None
    return left


def used(bench: Bench) -> int:
    with bench.open() as container:
        return next(view.usage.used.get("", 0) for view in container.licenses() if view.product == "cad")


def test_a_token_that_says_it_took_a_mark_and_did_not_is_found_out(make: Make) -> None:
    bench = make()
    container = bench.open()
    bench.chip.traits = Traits(swallows=1)
    assert code_of(lambda: use(container)) == "backend_failed"
    container.close()
    assert used(bench) == 0
    with bench.open() as container:
        assert use(container) == 99


def test_a_running_process_goes_on_after_its_token_was_away(make: Make) -> None:
    bench = make(ratchet=True)
    update = bench.importing()

    def vanishes() -> None:
        raise gone()

    for when in (BEFORE, AFTER):
        for operation in ("sign", "put_data"):
            with bench.open(hook=at(when, operation, vanishes)) as container:
                if operation == "put_data":
                    assert code_of(lambda: use(container)) == "device_removed"
                assert use(container)
    with bench.open(hook=at(AMID, "generate", vanishes)) as container:
        assert code_of(lambda: container.install(update)) == "device_removed"
        container.install(update)
        assert len(bench.marks()) == 1
        assert len(bench.chip.contents.halves) == 6


def test_copies_of_the_files_that_take_turns_are_told_apart(make: Make) -> None:
    bench = make()
    bench.copy()
    first, second = bench.open(), bench.open("copy")
    assert use(first) == 99
    assert code_of(lambda: use(second)) == "rolled_back"
    assert use(first) == 98
    assert code_of(lambda: bench.open("copy")) in ("rolled_back", "tampered")


@pytest.mark.parametrize("ahead", [1, 2])
def test_of_copies_that_mark_at_the_same_time_one_lets_its_effect_out(make: Make, ahead: int) -> None:
    bench = make()
    bench.copy()
    first = bench.open()
    second = bench.open("copy", at(BEFORE, "put_data", lambda: [use(first) for _ in range(ahead)]))
    assert code_of(lambda: use(second)) == "rolled_back"
    assert use(first) == 99 - ahead
    first.close()
    assert used(bench) == ahead + 1


def test_a_copy_that_was_overtaken_destroys_no_key_in_force(make: Make) -> None:
    bench = make(ratchet=True)
    update = bench.importing()
    bench.copy()
    first, second = bench.open(), bench.open("copy")
    first.install(update)
    first.close()
    assert code_of(lambda: second.install(update)) == "rolled_back"
    with bench.open() as container:
        assert len(container.licenses()) == 2


def test_what_another_process_saw_of_a_killed_ones_transfer_cannot_be_taken_back(make: Make, tmp_path: Path) -> None:
    """Not even with the PIN: the key before is destroyed before anybody goes by the new state."""
    policy = GrantPolicy(MAY_ALL, max_depth=2)
    bench = make(ratchet=True, lend=policy, transfer=policy)
    receiver: Any = FileBackend(FakeClock(), [Hand(ALL)]).create(f"file:{tmp_path / 'other'}", [bench.acme.trust])
    invitation = receiver.lending.ask(bench.acme.trust)
    other: Any = bench.open()
    other.licenses()
    bench.copy()
    marks = bench.marks()
    killed: Any = bench.open(hook=at(BEFORE, "drop_key", dies))
    with pytest.raises(Died):
        killed.lending.give(invitation, product="cad", transfer=True)
    grant = other.lending.give(invitation, product="cad", transfer=True)
    receiver.install(grant)
    bench.bring_back(marks)
    assert code_of(lambda: bench.open("copy")) == "anchor_lost"


@pytest.mark.parametrize(("when", "operation"), [(BEFORE, "generate"), (AFTER, "generate"), (AFTER, "put_data")])
def test_what_an_interrupted_creation_left_can_be_destroyed(tmp_path: Path, when: str, operation: str) -> None:
    bench = Bench(tmp_path, Traits(), ratchet=False)
    with pytest.raises(Died):
        bench.create(at(when, operation, dies))
    bench.destroy()
    assert not bench.chip.contents.halves
    assert not bench.chip.contents.data
    assert not (tmp_path / "c").exists()


def test_a_container_whose_creation_was_interrupted_at_its_end_is_recorded_when_it_opens(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Traits(), ratchet=False)
    with pytest.raises(Died):
        bench.create(at(AFTER, "sign", dies))
    bench.open().close()
    with Directory.open(str(tmp_path / "c")) as directory:
        assert TokenRecord.load(directory).begun
    for name in ("state.A", "state.B"):
        (tmp_path / "c" / name).unlink(missing_ok=True)
    assert code_of(bench.create) == "rolled_back", "its keys are not those of a creation to be begun again"


def refusing(operation: str) -> Hook:
    """A token that refuses this each time."""

    def hook(now: str, what: str) -> None:
        if (now, what) == (BEFORE, operation):
            raise error("backend_failed", "the PKCS#11 module refused", rv="FunctionFailed")

    return hook


@pytest.mark.parametrize("ratchet", [False, True])
def test_an_old_mark_that_cannot_be_destroyed_is_in_nobodys_way(make: Make, ratchet: bool) -> None:
    bench = make(ratchet=ratchet)
    with bench.open(hook=refusing("drop_data")) as container:
        assert [use(container), use(container)] == [99, 98]
    with bench.open(hook=refusing("drop_data")) as container:
        assert use(container) == 97
    assert len(bench.marks()) == 4
    bench.open().close()
    assert len(bench.marks()) == 1


def test_a_ratchet_key_that_cannot_be_destroyed_stops_what_relies_on_it(make: Make) -> None:
    bench = make(ratchet=True)
    update = bench.importing()
    with bench.open(hook=refusing("drop_key")) as container:
        assert code_of(lambda: container.install(update)) == "backend_failed"
    assert code_of(lambda: bench.open(hook=refusing("drop_key"))) == "backend_failed"
    with bench.open() as container:
        assert "more" in [view.product for view in container.licenses()], "the state was there"
    assert len(bench.chip.pairs("tallystick ratchet")) == 1


# ------------------------------------------------------------------------------------------------- what is not promised


def test_without_ratchet_whoever_has_the_pin_brings_mark_and_files_back(make: Make) -> None:
    bench = make()
    bench.copy()
    marks = bench.marks()
    with bench.open() as container:
        use(container, 7)
    bench.copy("copy", "c")
    assert code_of(bench.open) == "rolled_back", "the files alone do not do"
    bench.bring_back(marks)
    assert used(bench) == 0


def test_with_ratchet_mark_and_files_come_back_to_the_last_import_and_not_beyond(make: Make) -> None:
    bench = make(ratchet=True)
    update = bench.importing()
    bench.copy(target="before")
    before = bench.marks()
    with bench.open() as container:
        container.install(update)
        bench.copy(target="after")
        after = bench.marks()
        use(container, 7)
    bench.copy("after", "c")
    bench.bring_back(after)
    assert used(bench) == 0
    bench.copy("before", "c")
    bench.bring_back(before)
    assert code_of(bench.open) == "anchor_lost"


def test_copies_that_run_side_by_side_on_a_module_that_looks_once_are_found_when_one_is_opened(make: Make) -> None:
    bench = make(Traits(caches=True))
    bench.copy()
    with bench.open() as first, bench.open("copy") as second:
        assert (use(first), use(second)) == (99, 99)
        use(second)
    assert code_of(bench.open) == "rolled_back"
