# SPDX-License-Identifier: Apache-2.0
"""The factory line: looks at a new device, certifies its key, and keeps a record of every device that left.

    HOME/factory.json                    {"schema": 1, "name": NAME}
    HOME/ca/                             the anchor of the factory's key; anchors of other kinds take its place
    HOME/devices/ID.tallydev             the certificate of each device, durable before the device has it

What the line does it does through the calls anybody can make (`tallystick.dongle.calls`). A device gets no certificate
while its debug port is open (rule R46), after it was used, or where it does not prove the key it names. A line that was
interrupted gives the device the certificate on record when it comes again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

from tallystick.backends.software import SoftwareAnchor
from tallystick.codec.ident import container_id
from tallystick.codec.keys import PublicKey
from tallystick.codec.kinds import DEVICE
from tallystick.container.anchor import Anchor
from tallystick.container.proof import DOMAIN, NONCE_BYTES
from tallystick.container.vfs import Directory
from tallystick.dongle.client import DongleClient
from tallystick.errors import FormatError, error
from tallystick.license.device import MAX_BYTES, DeviceCertificate, read_certificate
from tallystick.license.pins import ACCOUNT_STAYS, Factory
from tallystick.license.schema import name as check_name
from tallystick.record import Record

_ABOUT: Final = "factory.json"
_CA, _DEVICES = "ca", "devices"
_NEW: Final = 0  # generation of an account that nothing happened to
PUK_DIGITS: Final = 8


class Certified(Record):
    """A device that left the line.

    Attributes:
        container: its printed container id.
        certificate: what the factory said of it.
        puk: its PUK, if one was set now; nowhere else is it kept.
        again: it had its certificate, or got the one on record.
    """

    container: str
    certificate: DeviceCertificate
    puk: str = ""
    again: bool = False


class Line:
    """A factory, open. Made by `found` and `open`.

    Args:
        home: its folder.
        name: its name, in every certificate.
        anchor: the factory's key.
        now: says what time it is, seconds since 1970.
        random: source of ids and nonces.
    """

    def __init__(
        self, home: Path, name: str, anchor: Anchor, now: Callable[[], int], random: Callable[[int], bytes]
    ) -> None:
        self.home = home
        self.factory = Factory(name, anchor.public_key)
        self._anchor = anchor
        self._now = now
        self._random = random

    @classmethod
    def found(
        cls,
        home: Path,
        name: str,
        *,
        now: Callable[[], int],
        identity: bytes | None = None,
        random: Callable[[int], bytes] = os.urandom,
    ) -> Self:
        """Make a factory: a folder, and a key bound to this computer.

        Args:
            home: the folder.
            name: 1 to 64 letters, digits or ``. _ + -``.
            now: says what time it is, seconds since 1970.
            identity: the key is bound to this and not to the computer.
            random: source of ids and nonces.

        Returns:
            The line.

        Raises:
            FormatError: ``malformed`` for a name that is none.
            ContainerError: ``already_exists``.
            BackendError: ``identity_missing`` where nothing identifies this computer.
            StorageError: the folder cannot be written.
        """
        check_name(name)
        with Directory.open(str(home), create=True) as folder:
            if _ABOUT in folder.names():
                raise error("already_exists", f"there is a factory in {home}", "`factory show` prints its line.")
            with Directory.open(str(home / _CA), create=True) as ca:
                for leftover in ca.names():  # of an interrupted attempt: nothing was certified with it
                    ca.remove(leftover)
                anchor = SoftwareAnchor.create(ca, tolerance="loose", identity=identity, now=now())
            folder.replace(_ABOUT, json.dumps({"schema": 1, "name": name}).encode())
        return cls(home, name, anchor, now, random)

    @classmethod
    def open(
        cls,
        home: Path,
        *,
        now: Callable[[], int],
        identity: bytes | None = None,
        random: Callable[[int], bytes] = os.urandom,
    ) -> Self:
        """Open a factory.

        Args:
            home: its folder.
            now: says what time it is, seconds since 1970.
            identity: as it was made with.
            random: source of ids and nonces.

        Returns:
            The line.

        Raises:
            NotFoundError: ``container_not_found``.
            LockedError: the key belongs to another computer, or was tampered with.
            StorageError: the folder cannot be read.
        """
        name = _name_in(home)
        with Directory.open(str(home / _CA)) as ca:
            anchor = SoftwareAnchor.open(ca, identity=identity, now=now())
        return cls(home, name, anchor, now, random)

    def certify(
        self, client: DongleClient, *, level: int = ACCOUNT_STAYS, model: str = "", puk: bool = False
    ) -> Certified:
        """Look at a device and certify it.

        Args:
            client: the device; nothing but public calls are made.
            level: `KEY_STAYS` or `ACCOUNT_STAYS`: what its chip and firmware are good for.
            model: for people.
            puk: draw a PUK and set it.

        Returns:
            What left the line.

        Raises:
            BackendError: ``debug_port_open``, ``device_removed``, ``device_silent``, ``backend_failed``.
            ContainerError: ``already_exists`` for a device used or certified elsewhere, ``busy``.
            VerificationError: ``bad_signature``: the device does not prove its key.
            StorageError: the record cannot be written.
        """
        with client.held():
            chip, locked, _ = client.call("chip")
            if not locked:
                raise error("debug_port_open", "anybody can read this device's memory through its debug port")
            key = _prove(client, self._random(NONCE_BYTES))
            record = f"{container_id(key.thumbprint)}{DEVICE.extension}"
            with Directory.open(str(self.home / _DEVICES), create=True) as devices:
                kept = devices.read(record, MAX_BYTES)
                if kept is None:
                    kept = self._sign(client, key, chip, level, model)
                    devices.replace(record, kept)
                    again = False
                else:
                    again = True
            if client.certificate != kept:
                client.call("certify", kept)
            number = f"{int.from_bytes(self._random(16)) % 10**PUK_DIGITS:0{PUK_DIGITS}}" if puk else ""
            if puk:
                client.call("change_puk", "", number)
        return Certified(container_id(key.thumbprint), read_certificate(kept), number, again)

    def devices(self) -> tuple[DeviceCertificate, ...]:
        """List the certificates on record, the oldest first.

        Raises:
            StorageError, FormatError: the record cannot be read.
        """
        if not (self.home / _DEVICES).exists():
            return ()
        with Directory.open(str(self.home / _DEVICES), read_only=True) as devices:
            kept = [devices.read(name, MAX_BYTES) for name in devices.names() if name.endswith(DEVICE.extension)]
        read = [read_certificate(one) for one in kept if one is not None]
        return tuple(sorted(read, key=lambda one: (one.issued_at, one.message_id)))

    def _sign(self, client: DongleClient, key: PublicKey, chip: bytes, level: int, model: str) -> bytes:
        generation = client.call("status")[0]
        if client.certificate or generation != _NEW:
            what = "has a certificate of another factory" if client.certificate else "was used already"
            raise error("already_exists", f"the device {what}", "Only new devices are certified.")
        certificate = DeviceCertificate(self.factory.name, self._now(), self._random(16), key, chip, level, model)
        return certificate.sign(self._anchor)


def _name_in(home: Path) -> str:
    about = b""
    if home.exists():
        with Directory.open(str(home), read_only=True) as folder:
            about = folder.read(_ABOUT, MAX_BYTES) or b""
    try:
        name: str = check_name(json.loads(about)["name"])
    except (ValueError, TypeError, KeyError, FormatError) as cause:
        raise error("container_not_found", f"no factory in {home}", "Make one: `factory init NAME`.") from cause
    return name


def _prove(client: DongleClient, nonce: bytes) -> PublicKey:
    signature = client.call("prove", nonce)
    key = client.identity
    if key is None or not key.verify_raw(DOMAIN + nonce, signature):
        raise error("bad_signature", "the device does not prove the key it names", "Take it off the line.")
    return key
