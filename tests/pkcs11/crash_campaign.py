# SPDX-License-Identifier: Apache-2.0
"""Containers on a token under the knife: a disk and a token that lose power at the same moment, and stories on them.

The token's image is a file of the simulated disk that is replaced at once and durably. So the drivers of `explore` cut
between any two changes of disk and token, and what a cut may leave is every disk they know, with the token of that
moment. Cuts fall also between the halves of a key pair that is made or destroyed.

Run from the project's folder, for hours: ``PYTHONPATH=src:tests:tests/crash:tests/pkcs11 python
tests/pkcs11/crash_campaign.py [--every N] [NAME ...]``
"""

from __future__ import annotations

import argparse
import errno
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from containercases import HOME, SCRIPTS, Emit, Script, Shop
from explore import Acknowledge, Check, Operation, Report, Setup, explore, explore_errors, explore_kills
from lendingcases import LENDING
from simdisk import File, SimFs
from simfs import Limits, SimVfs
from simplatter import SECTOR, Content
from token_in_memory import AFTER, BEFORE, CHANGES, MODULE, PIN, Chip, Hook, Loaded, Traits, gone

from fakes import FakeClock
from issuer import Issuer
from tallystick.backends.pkcs11.backend import Pkcs11Backend
from tallystick.container.base import Container
from tallystick.container.store_os import CREATE, CREATE_NEW, READ
from tallystick.errors import TallystickError
from tallystick.license.mending import Resync
from tallystick.license.messages import read_request
from tallystick.license.trust import Trust

TOKEN = "/token"
STATES = ("state.A", "state.B")
COMMAND_LOST, ANSWER_LOST = errno.ENODEV, errno.EPIPE
AMID = tuple(f"{operation} amid" for operation in CHANGES)
ON_TOKEN = frozenset((*CHANGES, *AMID))
"""Names under which `explore_errors` knows what happens on the token."""


class Image:
    """The image of a token, as a file that no power cut touches: a `Memory`.

    Args:
        fs: the machine the file is on.
    """

    def __init__(self, fs: SimFs) -> None:
        self._fs = fs

    def read(self) -> bytes:
        """Return it."""
        content = self._file().cache
        return content.read(content.size, 0)

    def write(self, image: bytes) -> None:
        """Replace it, in memory and on disk."""
        content, file = Content(), self._file()
        for at in range(0, len(image), SECTOR):
            content.write(at, image[at : at + SECTOR])
        file.cache, file.disk = content, content.copy()
        file.pending.clear()

    def _file(self) -> File:
        return self._fs.files[self._fs.lookup(TOKEN)]


class Turns(SimVfs):
    """A process beside another one, whose power is cut at the same moment: what both change is counted there.

    Args:
        fs: their machine.
        beside: the other one; None to count alone.
    """

    def __init__(self, fs: SimFs, beside: SimVfs | None = None) -> None:
        super().__init__(fs, seed="beside")
        self.beside = beside

    def _enter(self, call: str, *, mutates: bool) -> bool:
        if self.beside is None:
            return super()._enter(call, mutates=mutates)
        return self.beside._enter(call, mutates=mutates)


def around(vfs: SimVfs) -> Hook:
    """Let what a process does to its token be cut, and fail, where what it does to its disk can."""
    lost: list[str] = []

    def hook(when: str, operation: str) -> None:
        if when == AFTER:
            if lost:
                raise gone()
            return
        if when == BEFORE:
            lost.clear()
        try:
            vfs._enter(operation if when == BEFORE else f"{operation} amid", mutates=True)
        except OSError as fault:
            if fault.errno == COMMAND_LOST or when != BEFORE:
                raise gone() from fault
            lost.append(operation)

    return hook


@dataclass(frozen=True)
class TokenKit:
    """How containers on a token are made and opened on a simulated disk; a kit of `containercases`.

    Attributes:
        traits: of the token.
        ratchet: whether imports and transfers destroy keys.
        home: the container's folder.
        alone: whether no other process is in the middle of something on the token.
    """

    traits: Traits = field(default_factory=Traits)
    ratchet: bool = False
    home: str = HOME
    alone: bool = True

    @property
    def uri(self) -> str:
        """Where its containers are."""
        return f"pkcs11:token=chip{'?ratchet=yes' * self.ratchet}"

    def prepare(self, vfs: SimVfs) -> None:
        """Make the token, and a folder to be in."""
        vfs.mkdir("/home")
        folder = vfs.open_dir("/")
        vfs.close(vfs.open(TOKEN[1:], CREATE_NEW, folder))
        vfs.close(folder)

    def chip(self, fs: SimFs) -> Chip:
        """The token."""
        return Chip(self.traits, Image(fs))

    def backend(self, vfs: SimVfs, clock: FakeClock | None = None) -> Pkcs11Backend:
        """The backend, in a process."""
        module = Loaded(self.chip(vfs.fs), around(vfs))
        return Pkcs11Backend(
            clock or FakeClock(), module.connect, lambda _: self.home, vfs, lambda _: (MODULE,)
        )  # fmt: skip

    def create(self, vfs: SimVfs, trust: Trust) -> Container:
        """Make a container; then nothing but its own is on the token."""
        container = self.backend(vfs).create(self.uri, [trust], secrets=lambda _: PIN)
        self.require_tidy(vfs.fs)
        return container

    def open(self, vfs: SimVfs, trust: Trust, clock: FakeClock | None = None) -> Container:
        """Open it; then nothing is left of what was interrupted, unless the token fails meanwhile."""
        container = self.backend(vfs, clock).open(self.uri, [trust], background=False, secrets=lambda _: PIN)
        if not vfs.struck:
            self.require_tidy(vfs.fs)
        return container

    def view(self, vfs: SimVfs) -> Container:
        """Look at it."""
        return self.backend(vfs).view(self.uri, secrets=lambda _: PIN)

    def destroy(self, vfs: SimVfs, *, force: bool = False) -> tuple[str, ...]:
        """Destroy it."""
        return self.backend(vfs).destroy(self.uri, force=force, secrets=lambda _: PIN)

    def require_tidy(self, fs: SimFs, *, committed: bool = False) -> None:
        """Refuse more than an open container has on a token: one mark, one key of each kind, its secret.

        Args:
            fs: the machine.
            committed: something was committed since it was opened; before, half of a pair that never was may stay.
        """
        if not self.alone:
            return
        chip = self.chip(fs)
        labels = [" ".join(label.split()[:2]) for label in chip.labels()]
        wanted = ["tallystick key"] * (not self.traits.agrees) + ["tallystick mark"] * self.traits.keeps_data
        assert sorted(labels) == wanted, f"data on the token: {chip.labels()}"
        count = 1 + self.traits.agrees + self.ratchet
        halves = chip.contents.halves
        assert sum(half.private for half in halves) == count, f"keys on the token: {chip.pairs()}"
        if committed:
            assert len(halves) == 2 * count, f"half a pair: {[(half.label, half.private) for half in halves]}"


KITS = {
    "plain": TokenKit(),
    "ratchet": TokenKit(ratchet=True),
    "secret": TokenKit(Traits(agrees=False)),
    "secret-ratchet": TokenKit(Traits(agrees=False), ratchet=True),
    "caching": TokenKit(Traits(caches=True)),
    "caching-ratchet": TokenKit(Traits(caches=True), ratchet=True),
    "markless": TokenKit(Traits(keeps_data=False)),
    "torn": TokenKit(Traits(tears=True)),
}


class Case(Protocol):
    """What can be explored."""

    @property
    def name(self) -> str:
        """What people call it."""

    def prepared(self) -> tuple[Setup, Operation, Check]:
        """Return what `explore` needs."""


def retry(container: Container, shop: Shop, emit: Emit) -> None:
    """Consume; once more where the token was away for a moment, as an application would."""
    try:
        container.checkout("cad").consume(3, idempotency_key="again")
    except TallystickError as refusal:
        if refusal.code != "device_removed":
            raise
        container.checkout("cad").consume(3, idempotency_key="again")


class TokenScript(Script):
    """A script of `containercases`, after which nothing else is on the token."""

    def _check(
        self, vfs: SimVfs, shop: Shop, told: list[Any], acknowledged: tuple[str, ...], acknowledge: Acknowledge
    ) -> None:
        super()._check(vfs, shop, told, acknowledged, acknowledge)
        assert isinstance(self.kit, TokenKit)
        self.kit.require_tidy(vfs.fs, committed=True)


def _scripts() -> Iterator[Case]:
    for name, kit in KITS.items():
        for script in (*SCRIPTS, *LENDING):
            of, _, case = script.name.partition("-")
            if of == "anchored":
                more = script.stocked, script.creates, script.later
                yield TokenScript(f"{name}-{case}", script.steps, kit, *more)
        yield TokenScript(f"{name}-retry", (retry,), kit)


# --------------------------------------------------------------------------------------------- destroying, mending


def _used(container: Container) -> int:
    return next(view.usage.used.get("", 0) for view in container.licenses() if view.product == "cad")


def _stocked(kit: TokenKit, vfs: SimVfs, acme: Issuer) -> None:
    kit.prepare(vfs)
    with kit.create(vfs, acme.trust) as container:
        container.install(acme.answer(container.request(product="cad"), units=100))
        container.checkout("cad").consume(1)


@dataclass(frozen=True)
class Destroyed:
    """A container that is destroyed opens as before, or not at all; destroyed again, it has left nothing on the token.

    Attributes:
        name: for people.
        kit: how it was made.
    """

    name: str
    kit: TokenKit

    def prepared(self) -> tuple[Setup, Operation, Check]:
        """Return what `explore` needs."""
        kit, acme = self.kit, Issuer()

        def destroy(vfs: SimVfs, acknowledge: Acknowledge) -> None:
            kit.destroy(vfs, force=True)
            acknowledge("gone")
            self._require_bare(vfs)

        def check(vfs: SimVfs, acknowledged: tuple[str, ...], acknowledge: Acknowledge) -> None:
            held = self._products(vfs, acme)
            assert held in ((None, []) if "gone" in acknowledged else (None, ["cad"])), held
            try:
                kit.destroy(vfs, force=held is not None)  # begun, it needs no force
                acknowledge("gone")
            except TallystickError as refusal:
                assert (refusal.code, held) == ("container_not_found", None), refusal
            if held is not None:
                self._require_bare(vfs)
            with kit.create(vfs, acme.trust) as container:
                assert container.licenses() == ()

        return lambda vfs: _stocked(kit, vfs, acme), destroy, check

    def _require_bare(self, vfs: SimVfs) -> None:
        chip = self.kit.chip(vfs.fs)
        assert not chip.labels(), f"data left on the token: {chip.labels()}"
        assert not chip.contents.halves, f"keys left on the token: {chip.contents.halves}"

    def _products(self, vfs: SimVfs, acme: Issuer) -> list[str] | None:
        try:
            with self.kit.open(vfs, acme.trust) as container:
                return [view.product for view in container.licenses()]
        except TallystickError as refusal:
            assert refusal.code == "container_not_found", refusal
            return None


def read_states(vfs: SimVfs, home: str = HOME) -> dict[str, bytes]:
    """Read a container's snapshots, as somebody who copies them away."""
    folder, found = vfs.open_dir(home), {}
    for name in set(STATES) & {*vfs.listdir(folder)}:
        fd = vfs.open(name, READ, folder)
        found[name] = vfs.pread(fd, vfs.fstat(fd).size, 0)
        vfs.close(fd)
    vfs.close(folder)
    return found


def write_states(vfs: SimVfs, states: dict[str, bytes], home: str = HOME) -> None:
    """Put snapshots back, instead of those that are there."""
    folder = vfs.open_dir(home)
    for name in set(STATES) & {*vfs.listdir(folder)}:
        vfs.unlink(name, folder)
    for name, data in states.items():
        fd = vfs.open(name, CREATE, folder)
        vfs.pwrite(fd, data, 0)
        vfs.fsync(fd)
        vfs.close(fd)
    vfs.fsync_dir(folder)
    vfs.close(folder)


@dataclass(frozen=True)
class Mended:
    """A container that parted from its token stays locked until its vendor answered, and then goes on.

    Attributes:
        name: for people.
        kit: how it was made.
        robbed: the mark was removed from the token; else older files were put back.
    """

    name: str
    kit: TokenKit
    robbed: bool = False

    def prepared(self) -> tuple[Setup, Operation, Check]:
        """Return what `explore` needs."""
        kit, acme = self.kit, Issuer()

        def setup(vfs: SimVfs) -> None:
            _stocked(kit, vfs, acme)
            older = read_states(vfs)
            with kit.open(vfs, acme.trust) as container:
                container.install(acme.answer(container.request(product="second")))
                container.checkout("cad").consume(5)
            if self.robbed:
                kit.chip(vfs.fs).change(lambda on: on.drop_data(lambda one: one.label.startswith("tallystick mark")))
            else:
                write_states(vfs, older)

        def use(vfs: SimVfs, acknowledge: Acknowledge) -> None:
            with kit.open(vfs, acme.trust) as container:
                assert container.history()[-1].kind in ("resync", "consumed")
                container.checkout("cad").consume(1)
                acknowledge("used")

        def operation(vfs: SimVfs, acknowledge: Acknowledge) -> None:
            self.mend(vfs, acme, acknowledge)
            use(vfs, acknowledge)

        def check(vfs: SimVfs, acknowledged: tuple[str, ...], acknowledge: Acknowledge) -> None:
            try:
                container = kit.open(vfs, acme.trust)
            except TallystickError as refusal:
                assert refusal.code in ("rolled_back", "anchor_lost"), refusal
                assert "mended" not in acknowledged, "a container that went on is locked again"
                self.mend(vfs, acme, acknowledge)
                container = kit.open(vfs, acme.trust)
            with container:
                least = 1 + 5 * self.robbed + acknowledged.count("used")
                assert least <= _used(container) <= least + 2, f"{_used(container)} used, {least} acknowledged"
                assert [event.kind for event in container.history()].count("resync") == 1
            use(vfs, acknowledge)

        return setup, operation, check

    def mend(self, vfs: SimVfs, acme: Issuer, acknowledge: Acknowledge) -> None:
        """Ask the vendor, and take the answer."""
        with self.kit.view(vfs) as view:
            request = read_request(view.repair_request())
            assert request.halt is not None
            told = Resync(request.halt.counter, request.halt.digest, request.halt.chain)
            view.install(acme.update(request.key.thumbprint, in_reply_to=request.request_id, resync=told))
            acknowledge("mended")


# ------------------------------------------------------------------------------------------------------ two processes


@dataclass(frozen=True)
class TwoProcesses:
    """Two processes with one container, by turns; one letter for each commit, large where it imports a license.

    Attributes:
        name: for people.
        kit: how it was made.
        turns: of the processes "a" and "b".
    """

    name: str
    kit: TokenKit
    turns: str = "abBabAba"

    def prepared(self) -> tuple[Setup, Operation, Check]:
        """Return what `explore` needs."""
        acme, updates = Issuer(), dict[str, bytes]()

        def setup(vfs: SimVfs) -> None:
            self.set_up(vfs, acme, updates)

        def operation(vfs: SimVfs, acknowledge: Acknowledge) -> None:
            kit = replace(self.kit, alone=False)
            pair = {"a": kit.open(vfs, acme.trust), "b": kit.open(Turns(vfs.fs, vfs), acme.trust)}
            for number, turn in enumerate(self.turns):
                self.commit(pair[turn.lower()], updates[f"{number}"] if turn.isupper() else b"", acknowledge)

        return setup, operation, lambda *given: self.check(acme, 1, *given)

    def killed(self) -> tuple[Setup, Operation, Operation, Check]:
        """Return what `explore_kills` needs: "b" stays open while "a" is killed in its last turn, and goes on."""
        acme, updates = Issuer(), dict[str, bytes]()
        survivors: list[tuple[Turns, Container]] = []

        def setup(vfs: SimVfs) -> None:
            self.set_up(vfs, acme, updates)

        def operation(vfs: SimVfs, acknowledge: Acknowledge) -> None:
            kit = replace(self.kit, alone=False)
            beside = Turns(vfs.fs)
            survivors[:] = [(beside, kit.open(beside, acme.trust))]
            first = kit.open(vfs, acme.trust)
            self.commit(first, b"", acknowledge)
            self.commit(first, updates["import"], acknowledge)

        def go_on(vfs: SimVfs, acknowledge: Acknowledge) -> None:
            ((beside, container),) = survivors
            beside.beside = vfs
            self.commit(container, b"", acknowledge)
            self.commit(container, updates["after"], acknowledge)

        return setup, operation, go_on, lambda *given: self.check(acme, 2, *given)

    def set_up(self, vfs: SimVfs, acme: Issuer, updates: dict[str, bytes]) -> None:
        """Make the container, and what it will import."""
        _stocked(self.kit, vfs, acme)
        with self.kit.open(vfs, acme.trust) as container:
            for name in ("import", "after", *(f"{at}" for at, turn in enumerate(self.turns) if turn.isupper())):
                updates[name] = acme.answer(container.request(product=f"product-{name}"))

    @staticmethod
    def commit(container: Container, update: bytes, acknowledge: Acknowledge) -> None:
        """One turn."""
        if update:
            container.install(update)
            acknowledge("imported")
        else:
            container.checkout("cad").consume(1)
            acknowledge("used")

    def check(
        self, acme: Issuer, open_ended: int, vfs: SimVfs, acknowledged: tuple[str, ...], acknowledge: Acknowledge
    ) -> None:
        """Open what is left, and use it."""
        with self.kit.open(vfs, acme.trust) as container:
            least, imported = 1 + acknowledged.count("used"), acknowledged.count("imported")
            most = least + open_ended + 1
            assert least <= _used(container) <= most, f"{_used(container)} used, {least} acknowledged"
            assert imported <= len(container.licenses()) - 1 <= imported + open_ended
            self.commit(container, b"", acknowledge)


def _others() -> Iterator[Case]:
    for name, kit in KITS.items():
        yield Destroyed(f"{name}-destroyed", kit)
        if kit.traits.keeps_data:
            yield Mended(f"{name}-mended", kit)
            yield Mended(f"{name}-mended-robbed", kit, robbed=True)
        yield TwoProcesses(f"{name}-turns", kit)


CASES: dict[str, Case] = {case.name: case for case in (*_scripts(), *_others())}


# ------------------------------------------------------------------------------------------------------- the campaign


def explored(case: Case, limits: Limits, every: int) -> Iterator[tuple[str, Report]]:
    """Explore a case in every way there is.

    Args:
        case: what is explored.
        limits: of the disks looked at for each cut.
        every: how many of them are followed deeper.
    """
    yield "power cut", explore(*case.prepared(), limits=limits, every=every)
    few = replace(limits, samples=min(limits.samples, 8), tears=min(limits.tears, 8))
    lost = COMMAND_LOST, ANSWER_LOST
    yield "token error", explore_errors(*case.prepared(), errors=lost, only=ON_TOKEN, limits=few)
    yield "I/O error", explore_errors(*case.prepared(), errors=(errno.EIO, errno.ENOSPC), limits=few)
    if isinstance(case, TwoProcesses):
        yield "kill, then power cut", explore_kills(*case.killed(), limits=few, step=every)


def main(arguments: list[str]) -> int:
    """Explore cases, all if none is named, and print what was covered.

    Returns:
        0; a violation ends the run with its story.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--every", type=int, default=1, help="follow one disk in so many into a second cut")
    parser.add_argument("--limits", type=int, nargs=3, default=(8, 64, 64), help="see Limits")
    parser.add_argument("names", nargs="*", metavar="NAME", help="of a case, or the beginning of names")
    asked = parser.parse_args(arguments)
    total, begun = 0, time.monotonic()
    for name, case in CASES.items():
        if asked.names and not name.startswith(tuple(asked.names)):
            continue
        for kind, report in explored(case, Limits(*asked.limits), asked.every):
            total += report.states
            seconds = time.monotonic() - begun
            counted = f"{report.states:>8} states {report.cuts:>7} cuts  depth {report.deepest}"
            print(f"{seconds:>7.0f} s {counted}  {kind} {name}", flush=True)
    print(f"{total:>8} states in all")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
