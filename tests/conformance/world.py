# SPDX-License-Identifier: Apache-2.0
"""What every test of the suite is given: a place, a vendor, and containers that are closed when the test ends."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conformance.cases import BackendCase, Place
from fakes import FakeClock
from issuer import Issuer
from tallystick.container.anchor import Capability
from tallystick.container.base import Container
from tallystick.container.seat import Seat
from tallystick.errors import TallystickError
from tallystick.license.model import License
from tallystick.license.trust import Trust


class World:
    """A case at work.

    Attributes:
        case: the backend.
        place: where its container is.
        clock: the container's clock.
        acme: the vendor.
    """

    def __init__(self, case: BackendCase, folder: Path) -> None:
        self.case = case
        self.place = Place(folder)
        self.clock: FakeClock = self.place.clock
        self.acme = Issuer()
        self._opened: list[Container] = []
        self._left: list[Place] = []

    def create(self, *trusts: Trust) -> Container:
        """Make the container; it trusts acme unless told otherwise."""
        return self._kept(self.case.create(self.place, trusts or (self.acme.trust,)))

    def open(self, *trusts: Trust, reproof_s: float = 60.0) -> Container:
        """Open it once more."""
        return self._kept(self.case.open(self.place, trusts or (self.acme.trust,), reproof_s))

    def open_untrusting(self) -> Container:
        """Open it without any vendor."""
        return self._kept(self.case.open(self.place, (), 60.0))

    def view(self) -> Container:
        """Look at it; skips where the backend cannot."""
        return self._kept(self.given("view")(self.place))

    def _kept(self, container: Container) -> Container:
        self._opened.append(container)
        return container

    def activate(self, container: Container, issuer: Issuer | None = None, **license_: Any) -> License:
        """Ask for a license, make it and install it; see `Issuer.license`."""
        issuer = issuer or self.acme
        request = container.request(issuer.trust, product=license_.pop("product", "cad"))
        made = issuer.license(request, **license_)
        container.install(issuer.answer(request, made))
        return made

    def seat(self, container: Container, *features: str, product: str = "cad", **more: Any) -> Seat:
        """Check out."""
        return container.checkout(product, features=features, **more)

    def need(self, capability: Capability) -> None:
        """Skip where the backend does not claim a capability."""
        if capability not in self.case.capabilities:
            pytest.skip(f"{capability.name} is absent")

    def move(self, folder: str) -> None:
        """Go to another place, with the same clock."""
        self._left.append(self.place)
        self.place = Place(self.place.path / folder, self.clock)
        self.place.path.mkdir(mode=0o700)

    def need_shared(self) -> None:
        """Skip where no other process can open the container."""
        if not self.case.shared:
            pytest.skip("the case is in one process")

    def given(self, what: str) -> Any:
        """A function of the case; skips where the backend has none."""
        function = getattr(self.case, what)
        if function is None:
            pytest.skip(f"the case gives no {what!r}")
        return function

    def close(self) -> None:
        """Close what the test left open."""
        for container in self._opened:
            container.close()
        if self.case.leave is not None:
            for place in (*self._left, self.place):
                self.case.leave(place)


def refused(code: str, call: Callable[..., object], /, *args: object, **values: object) -> TallystickError:
    """Call, and demand a refusal with that code, a message and a remedy."""
    with pytest.raises(TallystickError) as caught:
        call(*args, **values)
    assert caught.value.code == code, caught.value
    assert caught.value.message
    assert caught.value.remedy
    return caught.value


def left(container: Container, license_: License, counter: str = "") -> int:
    """Units left of a counter."""
    view = next(view for view in container.licenses() if view.license_id == license_.license_id)
    assert view.license_ is not None
    counted = view.license_.features[counter] if counter else view.license_.terms
    assert counted.units is not None
    return counted.units - view.usage.used.get(counter, 0)


def facts(container: Container) -> dict[str, Any]:
    """Everything a container says of itself that time alone does not change."""
    info = container.info()
    return {
        "info": (info.thumbprint, info.created_at, info.generation, info.licenses, info.open_requests, info.vendors),
        "licenses": [
            (view.license_id, view.vendor, view.product, view.license_, view.usage) for view in container.licenses()
        ],
        "requests": container.requests(),
        "receipts": dict(container.receipts()),
        "history": container.history(),
    }


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder of the test's own, in memory where the system offers that: durability is the crash tests' business."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="tallystick-", dir=memory) as name:
        yield Path(name)


@pytest.fixture
def world(case: BackendCase, folder: Path) -> Iterator[World]:
    """A case at work in a folder of its own."""
    made = World(case, folder)
    yield made
    made.close()


@pytest.fixture
def container(world: World) -> Container:
    """A new container that trusts acme."""
    return world.create()
