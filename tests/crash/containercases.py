# SPDX-License-Identifier: Apache-2.0
"""Whole containers under the knife: what each may hold after any accident is what it held after some step, told by
itself.

A `Script` is a container as it was, and steps done to it. It is first played without accidents, and what the container
says of itself after each step is written down. Then, whatever happens, an opened container must say one of these
things: that of the last step acknowledged, or of the one under way; requests and receipts that left the container must
be there byte for byte; and it must work.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Protocol

from explore import Acknowledge, Check, Operation, Setup
from simfs import SimFs, SimVfs

from anchored import AnchoredBackend, Device
from backends.computer import ALL, Hand
from fakes import FakeClock
from issuer import DAY, Issuer
from tallystick.backends.file import FileBackend
from tallystick.container.base import Container
from tallystick.container.ledger import as_of
from tallystick.container.store_os import CREATE_NEW, READ
from tallystick.errors import TallystickError
from tallystick.license.messages import read_request
from tallystick.license.model import Feature, License
from tallystick.license.trust import Trust

HOME = "/home/c"
DEVICE = "/device"
PROBE = "probe"
LEVELS = 2
_UNTOLD = ("requested", PROBE, "drift")  # a drift is recorded in the anchor file; the history may miss it after a cut


class Kit(Protocol):
    """How containers of a backend are made and opened on a simulated disk."""

    def prepare(self, vfs: SimVfs) -> None:
        """Make what the backend needs before a container."""

    def create(self, vfs: SimVfs, trust: Trust) -> Container:
        """Make a container."""

    def open(self, vfs: SimVfs, trust: Trust, clock: FakeClock) -> Container:
        """Open it."""


class FileKit:
    """File containers.

    Args:
        changed: traits with another value than when the container was made.
    """

    def __init__(self, **changed: str) -> None:
        self.now = {**ALL, **changed}

    def prepare(self, vfs: SimVfs) -> None:
        """Nothing more than a folder to be in."""
        vfs.mkdir("/home")

    def create(self, vfs: SimVfs, trust: Trust) -> Container:
        """Make a container."""
        return FileBackend(FakeClock(), [Hand(ALL)], vfs).create(f"file:{HOME}", [trust])

    def open(self, vfs: SimVfs, trust: Trust, clock: FakeClock) -> Container:
        """Open it, on the computer as it is now."""
        return FileBackend(clock, [Hand(self.now)], vfs).open(f"file:{HOME}", [trust], background=False)


class AnchoredKit:
    """Anchored containers; their device is on the same disk, and every move of it is one name that appears."""

    def prepare(self, vfs: SimVfs) -> None:
        """Make the device."""
        vfs.mkdir("/home")
        Device.make(DEVICE, vfs)

    def create(self, vfs: SimVfs, trust: Trust) -> Container:
        """Make a container."""
        return AnchoredBackend(Device(DEVICE, vfs), FakeClock(), vfs).create(f"anchored:{HOME}", [trust])

    def open(self, vfs: SimVfs, trust: Trust, clock: FakeClock) -> Container:
        """Open it."""
        return AnchoredBackend(Device(DEVICE, vfs), clock, vfs).open(f"anchored:{HOME}", [trust], background=False)


class Shop:
    """The vendor, what it has ready for the container, and another container, where a script needs one."""

    def __init__(self) -> None:
        self.acme = Issuer()
        self.peer: Container | None = None
        self.made: dict[str, License] = {}
        self.ready: dict[str, bytes] = {}

    def sell(self, container: Container, product: str, **terms: Any) -> None:
        """Activate a license."""
        request = container.request(product=product)
        self.made[product] = self.acme.license(request, **terms)
        container.install(self.acme.answer(request, self.made[product]))


Emit = Callable[[bytes], None]
Step = Callable[[Container, Shop, Emit], None]


def _stock(container: Container, shop: Shop) -> None:
    """What every container of these cases holds."""
    shop.sell(container, PROBE, units=1000)
    shop.sell(container, "cad", units=100, features={"render": Feature(units=9)})
    shop.sell(container, "trial", usage_period=DAY)
    container.request(code="open")
    asked = container.request(product="more", variables={"host": "ws7"})
    shop.ready["answer"] = shop.acme.answer(asked, shop.acme.license(asked))
    shop.ready["refusal"] = shop.acme.refuse(container.request(code="refused"))
    shop.ready["cancel"] = read_request(container.request(code="cancelled")).request_id
    shop.acme.rotate("time")
    shop.ready["refresh"] = shop.acme.refresh(shop.made["cad"], units=50)


# ---------------------------------------------------------------------------------------------------------- the steps


def request(container: Container, shop: Shop, emit: Emit) -> None:
    emit(container.request(code="new", variables={"rack": "4"}))


def refresh_request(container: Container, shop: Shop, emit: Emit) -> None:
    emit(container.request(refresh=True))


def install(container: Container, shop: Shop, emit: Emit) -> None:
    emit(container.install(shop.ready["answer"]).receipt)


def refresh(container: Container, shop: Shop, emit: Emit) -> None:
    emit(container.install(shop.ready["refresh"]).receipt)


def refuse(container: Container, shop: Shop, emit: Emit) -> None:
    container.install(shop.ready["refusal"])


def cancel(container: Container, shop: Shop, emit: Emit) -> None:
    container.cancel_request(shop.ready["cancel"])


def consume(container: Container, shop: Shop, emit: Emit) -> None:
    container.checkout("cad").consume(3, idempotency_key="job")


def consume_feature(container: Container, shop: Shop, emit: Emit) -> None:
    container.checkout("cad").consume(2, "render")


def reserve(container: Container, shop: Shop, emit: Emit) -> None:
    shop.ready["seat"] = container.checkout("cad", reserve=10)  # type: ignore[assignment] # kept for the next step


def serve_and_release(container: Container, shop: Shop, emit: Emit) -> None:
    seat: Any = shop.ready["seat"]
    seat.consume(4)
    seat.close()


def first_use(container: Container, shop: Shop, emit: Emit) -> None:
    container.checkout("trial").close()


def deactivate(container: Container, shop: Shop, emit: Emit) -> None:
    emit(container.deactivate(shop.made["cad"].license_id))


def note(container: Container, shop: Shop, emit: Emit) -> None:
    container.note("note", "a line")  # type: ignore[attr-defined] # of sealed containers


def fill(container: Container, shop: Shop, emit: Emit) -> None:
    """A journal record of almost the largest size."""
    container.note("fill", "x" * 65_000)  # type: ignore[attr-defined] # as above


def look(container: Container, shop: Shop, emit: Emit) -> None:
    """Only open it: the first step of a container whose computer changed, or whose clock moved."""
    container.checkout("cad").close()


# ---------------------------------------------------------------------------------------------------------- playing


@dataclass(frozen=True)
class Script:
    """A container as it was, and what is done to it.

    Attributes:
        name: for people.
        steps: done in order, each acknowledged by its number.
        kit: the backend.
        stocked: steps done before, durably.
        creates: the container is made by the operation.
        later: seconds by which the clock has moved when the steps are done.
    """

    name: str
    steps: tuple[Step, ...]
    kit: Kit
    stocked: tuple[Step, ...] = ()
    creates: bool = False
    later: int = 0

    def prepared(self) -> tuple[Setup, Operation, Check]:
        """Play it once, and return what `explore` needs."""
        shop, disk = Shop(), SimFs()
        self._set_up(SimVfs(disk, seed="setup"), shop)
        told = self._dry_run(_copied(disk), shop)
        files = _files(disk)

        def setup(vfs: SimVfs) -> None:
            _restore(vfs, files)

        def operation(vfs: SimVfs, acknowledge: Acknowledge) -> None:
            container = self._start(vfs, shop)
            acknowledge("step 0")
            for number, step in enumerate(self.steps, 1):
                emitted: list[bytes] = []
                step(container, shop, emitted.append)
                acknowledge(f"step {number}")
                for data in emitted:
                    acknowledge(sha256(data).hexdigest())
            container.close()

        def check(vfs: SimVfs, acknowledged: tuple[str, ...], acknowledge: Acknowledge) -> None:
            self._check(vfs, shop, told, acknowledged, acknowledge)

        return setup, operation, check

    def _set_up(self, vfs: SimVfs, shop: Shop) -> None:
        self.kit.prepare(vfs)
        if not self.creates:
            container = (FileKit() if isinstance(self.kit, FileKit) else self.kit).create(vfs, shop.acme.trust)
            _stock(container, shop)
            for step in self.stocked:
                step(container, shop, lambda _: None)
            container.close()
        vfs.fs.sync()

    def _start(self, vfs: SimVfs, shop: Shop) -> Container:
        if self.creates:
            return self.kit.create(vfs, shop.acme.trust)
        return self._open(vfs, shop)

    def _open(self, vfs: SimVfs, shop: Shop) -> Container:
        clock = FakeClock()
        clock.advance(self.later)
        return self.kit.open(vfs, shop.acme.trust, clock)

    def _dry_run(self, fs: SimFs, shop: Shop) -> list[Any]:
        """What the container says of itself before and after each step."""
        told = []
        container = self._start(SimVfs(fs, seed="dry"), shop)
        for step in (None, *self.steps):
            if step is not None:
                step(container, shop, lambda _: None)
            told.append(summary(container))
        container.close()
        return told

    def _check(
        self, vfs: SimVfs, shop: Shop, told: list[Any], acknowledged: tuple[str, ...], acknowledge: Acknowledge
    ) -> None:
        steps = sum(word.startswith("step ") for word in acknowledged)  # step 0 is being open, or made
        try:
            container = self._open(vfs, shop)
        except TallystickError as refusal:
            assert self.creates, refusal
            assert refusal.code == "container_not_found", refusal
            assert not steps, "an acknowledged container is gone"
            container = self.kit.create(vfs, shop.acme.trust)  # what was interrupted can be done again
        found = summary(container)
        possible = told[max(0, steps - 1) : steps + 1]
        assert found in possible, f"found {found}, not one of {possible}"
        emitted = {sha256(one.message).hexdigest() for one in container.requests()}
        emitted |= {sha256(receipt).hexdigest() for receipt in container.receipts().values()}
        state = container._session.peek()  # type: ignore[attr-defined] # grants and their receipts, wherever they lie
        emitted |= {sha256(given.message).hexdigest() for given in state.given.values()}
        emitted |= {sha256(arrival.receipt).hexdigest() for arrival in state.arrivals.values()}
        promised = {word for word in acknowledged if len(word) == 64}
        assert promised <= emitted, "an emitted message is gone"
        if PROBE in shop.made:
            self._probe(container, acknowledged.count(PROBE))
        else:
            container.note(PROBE, "works")  # type: ignore[attr-defined] # of sealed containers
        acknowledge(PROBE)
        container.close()

    @staticmethod
    def _probe(container: Container, least: int) -> None:
        used = next(view.usage.used.get("", 0) for view in container.licenses() if view.product == PROBE)
        assert least <= used <= least + LEVELS, f"{used} probes used, {least} acknowledged"
        container.checkout(PROBE).consume(1)


def summary(container: Container) -> Any:
    """What a container says of itself, without what differs from run to run and without the probes."""
    state = container._session.peek()  # type: ignore[attr-defined] # variables and retries are nowhere else to be seen
    held = [
        (view.product, view.license_.seq if view.license_ else None, sorted(view.usage.used.items()),
         sorted(view.usage.first_use))
        for view in container.licenses() if view.product != PROBE
    ]  # fmt: skip
    return (
        sorted(held),
        [pending.status for pending in container.requests()],
        len(container.receipts()),
        sorted(container.info().vendors),
        sorted(state.variables.items()),
        sorted(state.retries),
        [event.kind for event in container.history() if event.kind not in _UNTOLD],
        *lending(container),
    )


def lending(container: Container) -> Any:
    """What a container says of loans and transfers, as it would show them now."""
    state = as_of(container._session.peek(), container.info().now)  # type: ignore[attr-defined] # as above
    counters = [
        [(name, [getattr(counter, field) for field in type(counter).fields]) for name, counter in part.counters.items()]
        for part in state.holdings.values() if part.product != PROBE
    ]  # fmt: skip
    given = [
        (one.xid, one.status, one.outcome, one.seq, one.ends, dict(one.amounts), dict(one.returned), dict(one.used),
         bool(one.message), bool(one.recalled_at))
        for one in state.given.values()
    ]  # fmt: skip
    taken = [
        (one.xid, one.status, one.ends, dict(one.amounts), dict(one.returned), dict(one.used), bool(one.receipt),
         one.recalled)
        for one in state.arrivals.values()
    ]  # fmt: skip
    return counters, given, taken, {key: policy.to_map() for key, policy in state.policies.items()}


def _files(fs: SimFs) -> dict[str, bytes | None]:
    """Every file and folder (None) by path, parents first."""
    vfs, found = SimVfs(fs), dict[str, bytes | None]()

    def walk(path: str) -> None:
        folder = vfs.open_dir(path)
        for name in sorted(vfs.listdir(folder)):
            where = f"{path.rstrip('/')}/{name}"
            if vfs.stat(where).kind == "directory":
                found[where] = None
                walk(where)
            else:
                fd = vfs.open(name, READ, folder)
                found[where] = vfs.pread(fd, vfs.fstat(fd).size, 0)
                vfs.close(fd)
        vfs.close(folder)

    walk("/")
    return found


def _restore(vfs: SimVfs, files: dict[str, bytes | None]) -> None:
    for where, data in files.items():
        parent, _, name = where.rpartition("/")
        if data is None:
            vfs.mkdir(where)
            continue
        folder = vfs.open_dir(parent or "/")
        fd = vfs.open(name, CREATE_NEW, folder)
        if data:
            vfs.preallocate(fd, len(data))
            vfs.pwrite(fd, data.rstrip(b"\0") or b"\0", 0)
            vfs.pwrite(fd, data[-1:], len(data) - 1)
        vfs.close(fd)
        vfs.close(folder)


def _copied(fs: SimFs) -> SimFs:
    copy = SimFs()
    _restore(SimVfs(copy), _files(fs))
    copy.sync()
    return copy


FILE, ANCHORED = FileKit(), AnchoredKit()
_COMMON: tuple[tuple[str, tuple[Step, ...], dict[str, Any]], ...] = (
    ("create", (request,), {"creates": True}),
    ("request", (request,), {}),
    ("refresh-request", (refresh_request,), {}),
    ("install", (install,), {}),
    ("refresh", (refresh,), {}),
    ("refusal", (refuse,), {}),
    ("cancel", (cancel,), {}),
    ("consume", (consume, consume_feature), {}),
    ("reserve-release", (reserve, serve_and_release), {}),
    ("first-use", (first_use,), {}),
    ("deactivate", (deactivate,), {}),
    ("note", (note,), {}),
    ("observe", (look,), {"later": 3600}),
    ("mixed", (consume, install, consume_feature, deactivate), {}),
)
SCRIPTS = (
    *(Script(f"file-{name}", steps, FILE, **more) for name, steps, more in _COMMON),
    Script("file-drift", (look,), FileKit(nic="aabbccddee02")),
    Script("file-journal-full", (note, consume), FILE, stocked=(fill, fill, fill, fill)),
    *(Script(f"anchored-{name}", steps, ANCHORED, **more) for name, steps, more in _COMMON),
)
