# SPDX-License-Identifier: Apache-2.0
"""A customer's computer with a token, for tests of what can be done with tokens and files: ``from token_owner import``.

A module is initialized once in a process, with the environment of that moment. So each token here has a copy of its
module (`apart`), or the module runs in a process of its own: several tokens are used beside each other, and nothing is
left behind that other tests would see.
"""

from __future__ import annotations

import itertools
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from modules_rig import Rig
from shop import Shop

from fakes import FakeClock
from tallystick.authority.issuing import IssueResult, issue
from tallystick.backends.pkcs11.backend import Pkcs11Backend
from tallystick.backends.pkcs11.loading import connect
from tallystick.backends.pkcs11.modules import Module
from tallystick.container.base import Container
from tallystick.container.secrets import Pin, SecretRequest
from tallystick.errors import TallystickError
from tallystick.license.model import Terms

R = TypeVar("R", bound=Rig)
_numbers = itertools.count()


def apart(rig: R, folder: Path) -> R:
    """Give a rig a module of its own, which shares nothing with another in this process."""
    folder.mkdir(parents=True, exist_ok=True)
    module = folder / f"{next(_numbers)}-{Path(rig.module_path).name}"
    rig.module_path = str(shutil.copy(os.path.realpath(rig.module_path), module))
    return rig


@contextmanager
def selling(folder: Path) -> Iterator[Shop]:
    """A vendor who sells 100 units."""
    shop = Shop(folder, FakeClock(wall=int(time.time())))
    shop.sell("small", Terms(units=100))
    yield shop
    shop.office.close()


class Owner:
    """Somebody with a token.

    Args:
        rig: the token; in this process, `apart`.
        folder: where the container's files are.
        shop: the vendor.
        query: of the container's URI.
        isolate: whether the module is loaded elsewhere.

    Attributes:
        asked: what the PIN was asked for with.
    """

    def __init__(self, rig: Rig, folder: Path, shop: Shop, query: str = "", *, isolate: bool = False) -> None:
        self.rig, self.folder, self.shop = rig, folder, shop
        self.uri = f"pkcs11:token={rig.label}{'?' if query else ''}{query}"
        self.module = Module(os.path.realpath(rig.module_path), "module", isolate)
        self.backend = Pkcs11Backend(shop.clock, folder=lambda _: str(folder), allowed=lambda _: (self.module,))
        self.pin = rig.pin
        self.asked: list[SecretRequest] = []

    @contextmanager
    def here(self) -> Iterator[None]:
        """Be at this computer: its environment is what modules see that are loaded now."""
        before = dict(os.environ)
        os.environ.update(self.rig.environment)
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)

    def ask(self, request: SecretRequest) -> str:
        """Type the PIN."""
        self.asked.append(request)
        return self.pin

    # -- the container

    def create(self) -> None:
        """Make it."""
        with self.here():
            self.backend.create(self.uri, [self.shop.trust], secrets=self.ask).close()

    @contextmanager
    def open(self, **more: Any) -> Iterator[Container]:
        """Open it, and be at this computer meanwhile."""
        with (
            self.here(),
            self.backend.open(self.uri, [self.shop.trust], background=False, secrets=self.ask, **more) as container,
        ):
            yield container

    def activate(self, code: str) -> IssueResult:
        """Get a license."""
        with self.open() as container:
            result = issue(self.shop.office, container.request(self.shop.trust, code=code))
            container.install(result.message)
        return result

    def contact(self) -> IssueResult:
        """Write to the vendor, a minute later, and install the answer."""
        self.shop.clock.advance(60)
        with self.open() as container:
            result = issue(self.shop.office, container.request(self.shop.trust, refresh=True))
            container.install(result.message)
        return result

    def consume(self, units: int = 1) -> int:
        """Use units; what is left."""
        with self.open() as container, container.checkout("cad") as seat:
            return seat.consume(units)

    def repair(self) -> IssueResult:
        """Ask the vendor to let it go on."""
        with self.here(), self.backend.view(self.uri, secrets=self.ask) as view:
            result = issue(self.shop.office, view.repair_request())
            view.install(result.message)
        return result

    # -- what somebody does to it who knows the PIN

    def save(self, to: Path) -> Path:
        """Copy its files."""
        shutil.copytree(self.folder, to)
        return to

    def restore(self, copy: Path) -> None:
        """Put a copy back."""
        shutil.rmtree(self.folder)
        shutil.copytree(copy, self.folder)

    @contextmanager
    def at_the_token(self) -> Iterator[Callable[..., Any]]:
        """Operations of the port, logged in: ``call("data", "")``."""
        with self.here():
            port = connect(self.module)
            try:
                rows: Any = port.call("tokens")
                slot = next(row["slot"] for row in rows if row.get("label") == self.rig.label)
                port.call("login", slot, Pin(self.rig.pin))
                yield lambda operation, *arguments: port.call(operation, slot, *arguments)
            finally:
                port.close()

    def marks(self) -> dict[str, bytes]:
        """The data objects on the token, by label."""
        with self.at_the_token() as call:
            return dict(call("data", ""))

    def put_marks(self, wanted: dict[str, bytes]) -> None:
        """Have exactly these data objects on the token."""
        with self.at_the_token() as call:
            for label, _ in call("data", ""):
                call("drop_data", label)
            for label, value in wanted.items():
                call("put_data", label, value)


def code_of(call: Callable[..., object], *arguments: Any, **more: Any) -> str:
    """The code of the refusal that this must be."""
    with pytest.raises(TallystickError) as caught:
        call(*arguments, **more)
    return caught.value.code


def licensed(owner: Owner) -> Owner:
    """Give somebody what `selling` sells."""
    owner.create()
    owner.activate(owner.shop.entitle("small").code.reveal())
    return owner
