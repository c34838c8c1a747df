# SPDX-License-Identifier: Apache-2.0
"""A container on a token whose module misbehaves, a partner in files, and a vendor: to a scene, disturbed, judged.

A scene is everything there is (the token, both folders). What is done and what is judged is done in forked processes:
a module's state is its process's, and whoever judges must not see what a disturbed module left in a memory. So whoever
uses this has loaded no module and has one thread: ``token_fault_campaign.py``.
"""

from __future__ import annotations

import os
import pickle
import select
import shutil
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from conservation import Books
from faults_rig import Faults
from modules_rig import SoftHsm
from rig_parts import program, run

from backends.computer import ALL, Hand
from conformance.pairs import free
from conformance.world import facts
from fakes import FakeClock
from issuer import Issuer
from tallystick.backends.file import FileBackend
from tallystick.backends.pkcs11.backend import Pkcs11Backend
from tallystick.backends.pkcs11.loading import connect
from tallystick.backends.pkcs11.modules import Module
from tallystick.backends.pkcs11.port import Port
from tallystick.container.base import Container
from tallystick.container.secrets import Pin
from tallystick.errors import TallystickError
from tallystick.license.model import License

UNITS = 100
OTHER_PIN = "654321"
DEADLINE_S = 3.0  # of a call to a module that hangs; generating a key may take ten times as long
LIMIT_S = 120.0
ERRORS: Final = {
    "device removed": 0x32, "session handle invalid": 0xB3, "function failed": 0x6, "host memory": 0x2,
    "device memory": 0x31, "general error": 0x5,
}  # fmt: skip
HERE: Final = (
    *(f"error:{number:x}" for number in ERRORS.values()),
    *(f"error-after:{number:x}" for number in ERRORS.values()),
    "short",
    "gone",  # every call from the n-th on says that the device was removed
    "pin",  # the session is lost, and meanwhile somebody else changed the PIN
)
ELSEWHERE: Final = (*HERE, "long", "huge", "hang", "crash", "scribble")
"""What may be done to a module in its user's process, and to one in a process of its own."""

HONEST = ("device_removed", "device_silent", "backend_failed", "backend_unavailable", "chip_full")
"""What a user may be told where a module says that something failed."""
_LYING: Final = ("anchor_lost", "not_supported", "tampered", "rolled_back", "pin_needed", "ambiguous")
"""And besides where it conceals objects, or says so of its abilities."""


@dataclass(frozen=True)
class Case:
    """One disturbance.

    Attributes:
        number: at which call of the operation, from 1.
        fault: one of `HERE` or `ELSEWHERE`.
        isolated: the module is in a process of its own.
        same: the application goes on with what it had; else it is started anew.
    """

    number: int
    fault: str
    isolated: bool = False
    same: bool = False

    def __str__(self) -> str:
        where = "isolated" if self.isolated else "in process"
        return f"{self.fault} at {self.number}, {where}, {'same' if self.same else 'new'} process"


class Stage:
    """Where it happens.

    Args:
        folder: an empty folder; in memory, for speed.
        query: of the container's URI: ``ratchet=yes``.
        **settings: of the module, as `Faults` has them.

    Attributes:
        context: what a scene's preparation left for its operation.
        isolated: whether the module is loaded in a process of its own.
    """

    def __init__(self, folder: Path, query: str = "", **settings: str) -> None:
        self.folder = folder
        self.hsm = SoftHsm(folder / "hsm")
        self.faults = Faults(self.hsm, folder / "faults", **settings)
        os.environ.update(self.faults.environment)
        self.clock = FakeClock()
        self.acme = Issuer()
        self.files, self.partners_files = folder / "files", folder / "partner"
        for one in (self.files, self.partners_files):
            one.mkdir()
        self.context: Any = None
        self.isolated = False
        self.typed = self.hsm.pin
        self._query = f"?{query}" if query else ""
        self._opened: list[Container] = []
        self._known: dict[str, Any] = {}
        self._empty = folder / "empty"
        shutil.copytree(self.hsm.tokens, self._empty)

    # -- the container

    @property
    def module(self) -> Module:
        """The one there is."""
        return Module(os.path.realpath(self.faults.module_path), "module", self.isolated, DEADLINE_S)

    @property
    def backend(self) -> Pkcs11Backend:
        """What an application would make."""
        return Pkcs11Backend(self.clock, folder=lambda name: str(self.files / name), allowed=lambda _: (self.module,))

    @property
    def uri(self) -> str:
        """Where the container is."""
        return f"pkcs11:token={self.hsm.label}{self._query}"

    def create(self) -> Container:
        """Make it."""
        return self._kept(self.backend.create(self.uri, [self.acme.trust], secrets=self.pin))

    def open(self) -> Container:
        """Open it."""
        return self._kept(self.backend.open(self.uri, [self.acme.trust], background=False, secrets=self.pin))

    def destroy(self, *, force: bool = False) -> None:
        """Destroy it."""
        self.backend.destroy(self.uri, force=force, secrets=self.pin)

    def pin(self, _: object) -> str:
        """What the user types."""
        return self.typed

    def change_pin(self) -> None:
        """Change the token's, at another computer."""
        tool = [program("pkcs11-tool", "opensc"), "--module", self.hsm.module_path, "--token-label", self.hsm.label]
        run([*tool, "--login", "--pin", self.hsm.pin, "--change-pin", "--new-pin", OTHER_PIN], self.hsm.environment)

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

    def objects(self) -> tuple[int, int]:
        """How many key pairs and data objects of ours the token holds; of a pair there are both halves."""
        port: Port = connect(self.module)
        rows: Any = port.call("tokens")
        (slot,) = [row["slot"] for row in rows if row.get("label") == self.hsm.label]

        port.call("login", slot, Pin(self.typed))
        private: Any = port.call("private_keys", slot)
        public: Any = port.call("public_keys", slot)
        data: Any = port.call("data", slot, "")
        port.close()
        # What a module concealed while it was to be destroyed goes with the key of its id.
        assert {key_id for key_id, _ in private} == {key_id for key_id, *_ in public}, "half a pair is left"
        return len(private), len(data)

    def leave(self) -> None:
        """Close what is open, as far as it can be closed."""
        while self._opened:
            try:
                self._opened.pop().close()
            except TallystickError:
                continue

    def _kept(self, container: Container) -> Container:
        self._opened.append(container)
        return container

    # -- scenes

    def scene(self, name: str, prepare: Callable[[Stage], Any]) -> None:
        """Be at a scene; it is prepared the first time."""
        self.faults.disarm()
        (self.folder / "faults" / "shim.log").unlink(missing_ok=True)
        saved = self.folder / "scenes" / name
        fresh = name not in self._known
        parts = {"token": self.hsm.tokens, "files": self.files, "partner": self.partners_files}
        for part, folder in parts.items():
            shutil.rmtree(folder)
            if not fresh:
                shutil.copytree(saved / part, folder)
            elif part == "token":
                shutil.copytree(self._empty, folder)
            else:
                folder.mkdir(mode=0o700)
        if fresh:
            self._known[name] = in_a_child(lambda: self._prepared(prepare))
            for part, folder in parts.items():
                shutil.copytree(folder, saved / part)
        self.context = self._known[name]
        self.acme._drawn += 100  # what is drawn in a child is not remembered here

    def _prepared(self, prepare: Callable[[Stage], Any]) -> Any:
        context = prepare(self)
        self.leave()
        return context

    # -- judging

    def sound(self, container: Container, keys: int = 2) -> None:
        """Demand that it works on, keeps what it commits, that the books of both containers balance, that nothing is
        left over on the token.
        """
        partner = self.partner()
        self.balanced(container, partner)
        container.note("test", "it works on")  # type: ignore[attr-defined]
        before = facts(container)
        assert container.info().details["restored files"].startswith("refused"), "it has its marks"
        assert container.info().details["content keys"] == "yes", "it has its agreement key"
        container.close()
        again = self.open()
        assert facts(again) == before, "what was committed is there when it is opened anew"
        self.balanced(again, partner)
        self.leave()
        self.holds(keys + ("ratchet" in self._query), 1)

    def holds(self, keys: int, data: int) -> None:
        """Demand that the token holds so many key pairs and data objects of ours."""
        found = self.objects()
        assert found == (keys, data), f"the token holds {found[0]} key pairs and {found[1]} data objects"

    def balanced(self, *containers: Container) -> None:
        """Demand that what was issued is there once."""
        states = [container._session.current() for container in containers]  # type: ignore[attr-defined]
        Books(states, [int(self.clock.wall)] * len(states), {}).check()


class Operation:
    """Something a user does; subclasses say what, and what must be true of it afterwards.

    `prepare` brings about the scene, `begin` opens the container and what else the operation needs; then one call of
    `act` to the module is disturbed, and `judge` is given a container that works again.
    """

    name = ""
    ends_container = False
    """Whether the container is not usable afterwards even if nothing went wrong."""
    logins = 2
    """How often the right PIN may be sent at most: for what was open, and once more for what was lost."""

    def prepare(self, stage: Stage) -> Any:
        """Bring about the scene; what is returned, of plain values, is `Stage.context`."""
        stage.create()

    def begin(self, stage: Stage) -> Any:
        """Open; what is returned is given to `act`."""
        return stage.open()

    def act(self, stage: Stage, begun: Any) -> Any:
        """The operation. What it returns, a plain value, was acknowledged."""
        raise NotImplementedError

    def judge(self, stage: Stage, container: Any, result: Any) -> None:
        """Demand all or nothing, and all where there is a result; then finish the operation, and demand all.

        Args:
            stage: everything.
            container: a working one: the same, or opened anew.
            result: what `act` returned; None where it raised.
        """

    def recovered(self, stage: Stage, begun: Any) -> Any:
        """The same container, to be used on."""
        return begun

    def again(self, stage: Stage) -> Any:
        """The container, opened anew, or made where there is none."""
        return stage.open()


def in_a_child(work: Callable[[], Any], limit_s: float = LIMIT_S) -> Any:
    """Do something in a forked process, which ends without a farewell; return its plain value, or fail as it failed."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            answer = pickle.dumps((True, work()))
        except BaseException:
            answer = pickle.dumps((False, traceback.format_exc()))
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(answer)
        os._exit(0)
    os.close(writing)
    data, until = b"", time.monotonic() + limit_s
    try:
        while select.select([reading], [], [], max(0.0, until - time.monotonic()))[0]:
            part = os.read(reading, 1 << 16)
            if not part:
                break
            data += part
        else:
            os.kill(child, signal.SIGKILL)
            raise AssertionError(f"no end within {limit_s:g} s")
    finally:
        os.close(reading)
        _, status = os.waitpid(child, 0)
    assert data, f"the process died: {os.waitstatus_to_exitcode(status)}"
    good, value = pickle.loads(data)
    assert good, value
    return value


def calls_of(stage: Stage, operation: Operation, *, isolated: bool = False) -> list[str]:
    """The functions of the module it calls when nobody disturbs it; it is judged as if it had been disturbed."""

    def watched() -> tuple[list[str], Any]:
        stage.isolated = isolated
        begun = operation.begin(stage)
        before = len(stage.faults.log())
        result = operation.act(stage, begun)
        return stage.faults.log()[before:], result

    stage.scene(operation.name, operation.prepare)
    names, result = in_a_child(watched)
    in_a_child(lambda: operation.judge(stage, operation.again(stage), result))
    return list(names)


def disturb(stage: Stage, operation: Operation, case: Case) -> str:
    """Disturb one call, and judge.

    Args:
        stage: everything.
        operation: what is done.
        case: how it is disturbed.

    Returns:
        What the application was told: a code; ``nothing`` where it noticed nothing; ``-`` where there are fewer calls.
    """
    stage.scene(operation.name, operation.prepare)
    try:
        code, result, happened = in_a_child(lambda: _disturbed(stage, operation, case))
        stage.faults.disarm()
        stage.typed = OTHER_PIN if case.fault == "pin" else stage.hsm.pin
        if not case.same or operation.ends_container or case.fault == "pin":
            in_a_child(lambda: operation.judge(stage, operation.again(stage), result))
    finally:
        stage.typed = stage.hsm.pin
    return code if happened else "-"


def _allowed(fault: str) -> tuple[str, ...]:
    if fault == "pin":
        return (*HONEST, "pin_wrong")
    return HONEST + _LYING if fault in ("short", "long", "huge") else HONEST


def _disturbed(stage: Stage, operation: Operation, case: Case) -> tuple[str, Any, bool]:
    stage.isolated = case.isolated
    begun = operation.begin(stage)
    logins = stage.faults.log().count("C_Login")
    if case.fault == "pin":
        stage.change_pin()
    fault = {"gone": "error:32", "pin": "error:b3"}.get(case.fault, case.fault)
    stage.faults.arm(case.number, fault, repeat=case.fault == "gone")
    result, code = None, "nothing"
    try:
        result = operation.act(stage, begun)
    except TallystickError as reason:
        code = reason.code
        assert code in _allowed(case.fault), f"{reason!r} is said of a module that failed"
        assert stage.hsm.pin not in f"{reason!r} {reason}", "the PIN shows"
    happened = stage.faults.calls >= case.number
    stage.faults.disarm()
    logins = stage.faults.log().count("C_Login") - logins
    if case.fault == "pin":
        if code == "pin_wrong":
            assert logins == 1, f"a PIN that was refused was sent {logins} times"
        return code, result, happened
    assert logins <= operation.logins, f"the PIN was sent {logins} times"
    if case.same and not operation.ends_container:
        operation.judge(stage, operation.recovered(stage, begun), result)
    return code, result, happened


def units_here(container: Container) -> int:
    """Units that can be used in a container now, of all its licenses."""
    now = container.info().now
    return sum(free(view, "", now) for view in container.licenses())
