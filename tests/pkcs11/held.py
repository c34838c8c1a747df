# SPDX-License-Identifier: Apache-2.0
"""A container on a rig's token, in a folder of its own; the module runs in a process of its own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from modules_rig import Rig

from fakes import FakeClock
from issuer import Issuer
from tallystick.backends.pkcs11.backend import Pkcs11Backend
from tallystick.backends.pkcs11.isolation import Isolated
from tallystick.backends.pkcs11.modules import Module
from tallystick.container.base import Container
from tallystick.container.secrets import SecretRequest
from tallystick.errors import TallystickError


class Held:
    """Where a container is, and whoever asks for it.

    Args:
        rig: with the token.
        folder: for the container's files.
        pins: what is typed when the PIN is asked for, one after the other; the right one if omitted.
    """

    def __init__(self, rig: Rig, folder: Path, pins: Sequence[str] | None = None) -> None:
        self.rig = rig
        self.files = folder / "container"
        self.asked: list[SecretRequest] = []
        self.acme = Issuer()
        self.clock = FakeClock()
        self.ports: list[Isolated] = []
        self._pins = None if pins is None else iter(pins)
        module = Module(os.path.realpath(rig.module_path), "module", True)
        self.backend = Pkcs11Backend(
            self.clock, self.connect, folder=lambda _: str(self.files), allowed=lambda _: (module,)
        )

    def connect(self, module: Module) -> Isolated:
        """A module that is told where the rig's token is; this process forgets it, for other tests have others."""
        before = dict(os.environ)
        os.environ.update(self.rig.environment)
        port = Isolated(module.path, module.deadline_s)
        try:
            with suppress(TallystickError):  # it is started now, for it keeps this environment
                port.call("tokens")
        finally:
            os.environ.clear()
            os.environ.update(before)
        self.ports.append(port)
        return port

    def pin(self, request: SecretRequest) -> str:
        """Type the PIN."""
        self.asked.append(request)
        return self.rig.pin if self._pins is None else next(self._pins)

    def uri(self, more: str = "") -> str:
        """The URI, with what a test adds."""
        label = self.rig.label.replace(" ", "%20")
        return f"pkcs11:token={label}{more}"

    def create(self, more: str = "") -> Container:
        """Make it."""
        return self.backend.create(self.uri(more), [self.acme.trust], secrets=self.pin)

    def open(self, more: str = "") -> Container:
        """Open it."""
        return self.backend.open(self.uri(more), [self.acme.trust], background=False, secrets=self.pin)

    def sell(self, container: Container, **license_: Any) -> None:
        """Install a license for ``cad``."""
        request = container.request(self.acme.trust, product="cad")
        container.install(self.acme.answer(request, self.acme.license(request, **license_)))

    def on_token(self, operation: str, *arguments: Any) -> Any:
        """Do something on the token as somebody with its PIN."""
        from tallystick.container.secrets import Pin

        port = self.connect(Module(os.path.realpath(self.rig.module_path), "module", True))
        try:
            rows: Any = port.call("tokens")
            (slot,) = [row["slot"] for row in rows if row.get("label") == self.rig.label]
            port.call("login", slot, Pin(self.rig.pin))
            return port.call(operation, slot, *arguments)
        finally:
            port.close()
