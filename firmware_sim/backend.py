# SPDX-License-Identifier: Apache-2.0
"""Containers in simulated dongles (``sim:``), for whoever wants to try or test without a device.

    sim:PATH                    a dongle in a file, made by ``tally create sim:PATH``
    sim:                        a dongle in memory, gone when it is closed
    ?pin-source=file:PATH       a file with the PIN, where the dongle asks for one

Whoever has the file has the dongle: an older copy of it is an older account, and nobody can tell. A simulated dongle
is therefore of level L0, and promises nothing a file does not.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from firmware_sim.control import Control, ControlledClock
from firmware_sim.dongle import DirectLink, SimulatedDongle
from firmware_sim.flash import Flash, FlashError
from firmware_sim.flash_image import CHIP_ID_BYTES
from firmware_sim.image import PAGES, ImageFlash, ImageLink
from firmware_sim.platform import SimulatedBoard
from tallystick.clock import Clock, SystemClock
from tallystick.container.base import Container
from tallystick.container.secrets import SecretsHandler, secrets_of
from tallystick.dongle.anchor import UNCERTIFIED
from tallystick.dongle.client import DongleClient
from tallystick.dongle.link import Link
from tallystick.dongle.opening import open_dongle, seats_folder
from tallystick.dongle.uri import pin_file
from tallystick.errors import error
from tallystick.license.trust import Trust


class SimBackend:
    """Creates and opens simulated dongles.

    Args:
        clock: where time comes from; the machine's if omitted.
        pages: of 4 KiB, of the flash of dongles made.
    """

    scheme: Final = "sim"
    asks_secrets: Final = True

    def __init__(self, clock: Clock | None = None, pages: int = PAGES) -> None:
        self._clock: Clock = SystemClock() if clock is None else clock
        self._pages = pages

    def create(self, uri: str, trusts: Sequence[Trust] = (), **options: Any) -> Container:
        """Make a dongle.

        Args:
            uri: ``sim:`` URI.
            trusts: vendors the application trusts.
            options: `secrets`, as in `open`; nothing else.

        Returns:
            The open container.

        Raises:
            UsageError: ``bad_uri``, ``usage``.
            ContainerError: ``already_exists``.
            StorageError: ``io_error``.
        """
        secrets = options.pop("secrets", None)
        if options.pop("tolerance", "medium") != "medium" or options:
            raise error("usage", "a simulated dongle has no options")
        path, _ = _parsed(uri)
        if path:
            try:
                ImageFlash.create(path, self._pages)
            except FileExistsError as cause:
                raise error("already_exists", f"there is something at {path}", path=path) from cause
            except OSError as cause:
                raise error("io_error", f"cannot make {path}: {cause.strerror}", path=path) from cause
        return self.open(uri, trusts, secrets=secrets)

    def connect(self, uri: str) -> DongleClient:
        """Reach a dongle in a file without opening its container: for its PIN.

        Args:
            uri: ``sim:`` URI.

        Returns:
            The dongle; whoever asked closes it.

        Raises:
            UsageError, NotFoundError, LockedError, StorageError, ContainerError: as `open`.
        """
        path, _ = _parsed(uri)
        return DongleClient(self._image(path) if path else self._memory(), self._clock.monotonic, os.urandom)

    def open(
        self,
        uri: str,
        trusts: Sequence[Trust] = (),
        *,
        reproof_s: float = 60.0,
        background: bool = True,
        secrets: SecretsHandler | None = None,
    ) -> Container:
        """Open a dongle.

        Args:
            uri: ``sim:`` URI.
            trusts: vendors the application trusts.
            reproof_s: seconds a proof of the key holds.
            background: renew seats from a thread.
            secrets: asked for the PIN where the dongle wants one, unless the URI names a file with it.

        Returns:
            The container.

        Raises:
            UsageError: ``bad_uri``.
            NotFoundError: ``container_not_found``.
            LockedError: ``tampered``, ``pin_needed``, ``pin_wrong``, ``pin_blocked``.
            StorageError, BackendError, ContainerError (``busy``).
        """
        path, pin_source = _parsed(uri)
        clock: Clock = ControlledClock(self._clock, Control(path)) if path else self._clock
        folder: Callable[[bytes], str] = (lambda _: f"{path}.seats") if path else seats_folder
        link = self._image(path) if path else self._memory()
        return open_dongle(
            uri, link, trusts, clock, folder=folder, secrets=secrets_of(pin_source, secrets),
            capabilities=UNCERTIFIED, location=path or "memory", reproof_s=reproof_s, background=background,
        )  # fmt: skip

    def view(self, uri: str, *, secrets: SecretsHandler | None = None) -> Container:
        """Open a dongle; there is no half-open one."""
        return self.open(uri, background=False, secrets=secrets)

    def _memory(self) -> Link:
        board = SimulatedBoard(Flash(self._pages), os.urandom(CHIP_ID_BYTES))
        return DirectLink(SimulatedDongle(board, self._clock.read()))

    def _image(self, path: str) -> ImageLink:
        try:
            return ImageLink(path, self._clock.read())
        except FileNotFoundError as cause:
            remedy = f"Make it: `tally create --container sim:{path}`."
            raise error("container_not_found", f"no simulated dongle at {path}", remedy, path=path) from cause
        except OSError as cause:
            raise error("io_error", f"cannot open {path}: {cause.strerror}", path=path) from cause
        except FlashError as cause:
            raise error("tampered", f"{path} is no simulated dongle, or damaged: {cause}", path=path) from cause


def _parsed(uri: str) -> tuple[str, str]:
    path, _, query = uri.partition(":")[2].partition("?")
    return str(Path(path).absolute()) if path else "", pin_file(query)
