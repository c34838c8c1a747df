# SPDX-License-Identifier: Apache-2.0
"""Containers in dongles on the USB bus (``usb:``, extra ``usb``)."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Final

from tallystick.clock import Clock, SystemClock
from tallystick.container.base import Container
from tallystick.container.secrets import SecretsHandler, secrets_of
from tallystick.dongle.client import DongleClient
from tallystick.dongle.opening import open_dongle, seats_folder
from tallystick.dongle.uri import UsbUri, parse_usb_uri
from tallystick.dongle.usb_link import NO_PERMISSION_REMEDY, Found, UsbLink, find
from tallystick.errors import NotFoundError, error
from tallystick.license.trust import Trust


class UsbBackend:
    """Opens dongles.

    Args:
        clock: where time comes from; the machine's if omitted.
        usb: pyusb's backend; the system's libusb if omitted.
        folder: where seats are counted, by the container's thumbprint.
    """

    scheme: Final = "usb"
    asks_secrets: Final = True

    def __init__(
        self, clock: Clock | None = None, usb: Any = None, folder: Callable[[bytes], str] = seats_folder
    ) -> None:
        self._clock: Clock = SystemClock() if clock is None else clock
        self._usb = usb
        self._folder = folder

    def create(self, uri: str, trusts: Sequence[Trust] = (), **options: Any) -> Container:
        """Refused: a dongle has its container from the factory.

        Raises:
            ContainerError: ``already_exists``.
        """
        raise error("already_exists", "a dongle comes with its container", "Use it: `tally info --container usb:`.")

    def connect(self, uri: str) -> DongleClient:
        """Reach a dongle without opening its container: for its PIN.

        Args:
            uri: ``usb:`` URI.

        Returns:
            The dongle; whoever asked closes it.

        Raises:
            UsageError, NotFoundError, StorageError, BackendError: as `open`.
        """
        return DongleClient(self._link(parse_usb_uri(uri))[0], self._clock.monotonic, os.urandom)

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
            uri: ``usb:`` URI.
            trusts: vendors the application trusts.
            reproof_s: seconds a proof of the key holds.
            background: renew seats from a thread.
            secrets: asked for the PIN where the dongle wants one, unless the URI names a file with it.

        Returns:
            The container.

        Raises:
            UsageError: ``bad_uri``; ``ambiguous`` where several are plugged in.
            NotFoundError: ``container_not_found``.
            BackendError, LockedError, VerificationError, StorageError, ContainerError (``busy``).
        """
        where = parse_usb_uri(uri)
        link, first = self._link(where)
        return open_dongle(
            uri,
            link,
            trusts,
            self._clock,
            folder=self._folder,
            secrets=secrets_of(where.pin_file, secrets),
            location=first.location,
            reproof_s=reproof_s,
            background=background,
        )

    def view(self, uri: str, *, secrets: SecretsHandler | None = None) -> Container:
        """Open a dongle; there is no half-open one."""
        return self.open(uri, background=False, secrets=secrets)

    def _link(self, where: UsbUri) -> tuple[UsbLink, Found]:
        first = self._choose(where)
        known = where.replace(serial=where.serial or first.serial)
        return UsbLink(lambda: self._again(known), self._clock.monotonic, first), first

    def _again(self, where: UsbUri) -> Found:
        try:
            return self._choose(where)
        except NotFoundError as cause:
            raise error("device_removed", cause.message) from cause

    def _choose(self, where: UsbUri) -> Found:
        found = find(where.vendor, where.product, self._usb)
        named = tuple([one for one in found if where.serial in ("", one.serial)])
        if not named:
            # who may not open a dongle cannot read its serial number either: it may be the one that is meant
            named = tuple([one for one in found if one.problem == "no_permission"][:1])
        if not named:
            what = f"the dongle {where.serial} is not" if where.serial else "no dongle is"
            remedy = "Plug it in; `tally doctor` says what stands in the way."
            raise error("container_not_found", f"{what} plugged in", remedy, plugged=len(found))
        if len(named) > 1:
            listed = ", ".join(f"{one.serial or 'unreadable'} ({one.location})" for one in named)
            raise error("ambiguous", f"several dongles are plugged in: {listed}", "Name one: `usb:serial=TS-...`.")
        if named[0].problem == "no_permission":
            raise error(
                "no_permission",
                f"no permission for the dongle on {named[0].location}",
                NO_PERMISSION_REMEDY,
            )
        if named[0].problem:
            raise error("backend_failed", f"the device on {named[0].location} is not a Tallystick dongle")
        return named[0]
