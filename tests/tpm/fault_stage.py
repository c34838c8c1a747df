# SPDX-License-Identifier: Apache-2.0
"""A container in a TPM, a partner in files, and a vendor: brought to a scene, disturbed, and judged afterwards.

A scene is everything there is (the TPM's memory, both folders), so that the same operation can be disturbed at each of
its commands in turn without being prepared each time.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from conservation import Books
from swtpm_rig import NV_INDEX, Swtpm
from wire import Cut, Wire

from backends.computer import ALL, Hand
from conformance.pairs import free
from conformance.world import facts
from fakes import FakeClock
from issuer import Issuer
from tallystick.backends.file import FileBackend
from tallystick.backends.tpm.backend import TpmBackend
from tallystick.container.base import Container
from tallystick.errors import TallystickError
from tallystick.license.model import License

OWN_INDICES = range(0x01800000, 0x01C00000)
UNITS = 100


class Stage:
    """Where it happens.

    Args:
        folder: an empty folder; in memory, for speed.
        template: the TPM it begins with.

    Attributes:
        wire: between the TPM and whoever opens the container.
        context: what a scene's preparation left for its operation.
    """

    def __init__(self, folder: Path, template: Path | None = None) -> None:
        self.folder = folder
        self._template = template
        self.tpm = Swtpm(folder / "tpm", template)
        self.wire = Wire(self.tpm)
        self.clock = FakeClock()
        self.acme = Issuer()
        self.files, self.partners_files = folder / "files", folder / "partner"
        self.files.mkdir()
        self.partners_files.mkdir()
        self.context: Any = None
        self._opened: list[Container] = []
        self._scenes: dict[str, Any] = {}

    # -- the container

    @property
    def backend(self) -> TpmBackend:
        """What an application would make."""
        return TpmBackend(self.clock, connect=self.wire.connect, folder=lambda name: str(self.files / name))

    def uri(self, name: str = "a") -> str:
        """Where a container is."""
        return f"tpm:name={name};tcti={self.tpm.tcti}"

    def create(self, name: str = "a") -> Container:
        """Make it."""
        return self._kept(self.backend.create(self.uri(name), [self.acme.trust]))

    def open(self, name: str = "a") -> Container:
        """Open it."""
        return self._kept(self.backend.open(self.uri(name), [self.acme.trust], background=False))

    def partner(self) -> Container:
        """A container in files, made if it is not there."""
        backend, uri = FileBackend(self.clock, [Hand(ALL)]), f"file:{self.partners_files / 'b'}"
        if (self.partners_files / "b").exists():
            return self._kept(backend.open(uri, [self.acme.trust], background=False))
        return self._kept(backend.create(uri, [self.acme.trust]))

    def activate(self, container: Container, **terms: Any) -> License:
        """Bring a license into a container."""
        request = container.request(self.acme.trust, product="cad")
        license_ = self.acme.license(request, **{"units": UNITS, **terms})
        container.install(self.acme.answer(request, license_))
        return license_

    def own_indices(self) -> list[int]:
        """NV indices of containers."""
        return [number for number in self.tpm.listed(NV_INDEX) if number in OWN_INDICES]

    def leave(self) -> None:
        """Close what is open, as far as it can be closed."""
        while self._opened:
            try:
                self._opened.pop().close()
            except TallystickError:  # it was disturbed
                continue
        self.wire.close()

    def close(self) -> None:
        """End everything."""
        self.leave()
        self.tpm.close()

    def _kept(self, container: Container) -> Container:
        self._opened.append(container)
        return container

    # -- scenes

    def scene(self, name: str, prepare: Callable[[Stage], Any]) -> None:
        """Be at a scene; it is prepared the first time."""
        self.leave()
        self.wire.leave()
        saved = self.folder / "scenes" / name
        self.tpm.kill()
        if name in self._scenes:
            self._fill(self.tpm.state, saved / "state")
            self._fill(self.files, saved / "files")
            self._fill(self.partners_files, saved / "partner")
            self.context = self._scenes[name]
        else:
            self._fill(self.tpm.state, self._template)
            self._fill(self.files, None)
            self._fill(self.partners_files, None)
        self.tpm.start()
        if name not in self._scenes:
            self.context = self._scenes[name] = prepare(self)
            self.leave()
            for folder, part in ((self.tpm.state, "state"), (self.files, "files"), (self.partners_files, "partner")):
                shutil.copytree(folder, saved / part)
            self.tpm.restart()

    @staticmethod
    def _fill(folder: Path, contents: Path | None) -> None:
        shutil.rmtree(folder)
        if contents is None:
            folder.mkdir(mode=0o700)
        else:
            shutil.copytree(contents, folder)

    # -- judging

    def sound(self, container: Container) -> None:
        """Demand that it works on, keeps what it commits, and that the books of both containers balance."""
        partner = self.partner()
        self.balanced(container, partner)
        container.note("test", "it works on")  # type: ignore[attr-defined]
        before = facts(container)
        container.close()
        again = self.open()
        assert facts(again) == before, "what was committed is there when it is opened anew"
        self.balanced(again, partner)
        self.leave()
        assert self.tpm.lockout_counter() == 0
        assert len(self.own_indices()) == 2, "nothing is left of an interrupted creation"

    def balanced(self, *containers: Container) -> None:
        """Demand that what was issued is there once."""
        states = [container._session.current() for container in containers]  # type: ignore[attr-defined]
        Books(states, [int(self.clock.wall)] * len(states), {}).check()


class Operation:
    """Something a user does; subclasses say what, and what must be true of it afterwards.

    `prepare` brings about the scene, `begin` opens the container and what else the operation needs; then every command
    of `act` is disturbed in turn, and `judge` is given a container that works again.
    """

    name = ""
    ends_container = False
    """Whether the container is not usable afterwards even if nothing went wrong."""

    def prepare(self, stage: Stage) -> Any:
        """Bring about the scene; what is returned is `Stage.context`."""
        stage.create().close()

    def begin(self, stage: Stage) -> Any:
        """Open; what is returned is given to `act`."""
        return stage.open()

    def act(self, stage: Stage, begun: Any) -> Any:
        """The operation. What it returns was acknowledged."""
        raise NotImplementedError

    def judge(self, stage: Stage, container: Container, result: Any) -> None:
        """Demand all or nothing, and all where there is a result; then finish the operation, and demand all.

        Args:
            stage: everything.
            container: a working one: the same, or opened anew.
            result: what `act` returned; None where it raised.
        """

    def recovered(self, stage: Stage, begun: Any) -> Container:
        """The same container, to be used on."""
        assert isinstance(begun, Container)
        return begun

    def again(self, stage: Stage) -> Container:
        """The container, opened anew, or made where there is none."""
        return stage.open()


def commands_of(stage: Stage, operation: Operation) -> int:
    """How many commands it takes when nobody disturbs it."""
    stage.scene(operation.name, operation.prepare)
    begun = operation.begin(stage)
    stage.wire.listen()
    result = operation.act(stage, begun)
    number = len(stage.wire.exchanges)
    operation.judge(stage, _again(stage, operation, begun, same=False), result)
    stage.leave()
    assert not stage.tpm.handles(), f"{operation.name} leaves {stage.tpm.handles()}"
    return number


SILENT = ("device_silent",)


def disturb(stage: Stage, operation: Operation, cut: Cut, number: int, *, same: bool) -> str:
    """Disturb one command, and judge.

    Args:
        stage: everything.
        operation: what is done.
        cut: how it is disturbed.
        number: which of its commands, from 1.
        same: go on with the same container; else open it anew.

    Returns:
        What the application was told: a code, or nothing where it noticed nothing.
    """
    stage.scene(operation.name, operation.prepare)
    begun = operation.begin(stage)
    stage.wire.cut(cut, number)
    result, code = None, ""
    try:
        result = operation.act(stage, begun)
    except TallystickError as reason:
        code = reason.code
        assert code in SILENT, f"{cut.value} {number}: {reason!r}"
    assert stage.wire.happened, f"{operation.name} has fewer than {number} commands"
    stage.wire.leave()
    if not stage.tpm.running:
        stage.tpm.start()
    container = _again(stage, operation, begun, same=same and not operation.ends_container)
    operation.judge(stage, container, result)
    return code


def _again(stage: Stage, operation: Operation, begun: Any, *, same: bool) -> Container:
    if same:
        return operation.recovered(stage, begun)
    stage.leave()
    return operation.again(stage)


def units_here(container: Container) -> int:
    """Units that can be used in a container now, of all its licenses."""
    now = container.info().now
    return sum(free(view, "", now) for view in container.licenses())
