# SPDX-License-Identifier: Apache-2.0
"""From a link to a container: what every way to reach a dongle has in common."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from tallystick.clock import Clock
from tallystick.codec.keys import PublicKey
from tallystick.container.anchor import Capability
from tallystick.container.places import user_folder
from tallystick.container.vfs import Directory
from tallystick.dongle.anchor import CAPABILITIES, UNCERTIFIED, DongleAnchor
from tallystick.dongle.client import DongleClient
from tallystick.dongle.container import DongleContainer
from tallystick.dongle.link import Link
from tallystick.dongle.session import DongleSession
from tallystick.errors import FormatError, VerificationError, error
from tallystick.license.device import DeviceCertificate, read_certificate
from tallystick.license.trust import Trust


def seats_folder(thumbprint: bytes) -> str:
    """Return the folder in which this user's programs count the seats of a dongle on this computer."""
    return os.path.join(user_folder("dongles"), thumbprint.hex()[:32])


def open_dongle(
    uri: str,
    link: Link,
    trusts: Sequence[Trust],
    clock: Clock,
    *,
    folder: Callable[[bytes], str] = seats_folder,
    pin: str = "",
    capabilities: Capability = CAPABILITIES,
    location: str = "",
    reproof_s: float = 60.0,
    background: bool = True,
    random: Callable[[int], bytes] = os.urandom,
) -> DongleContainer:
    """Open the container in a dongle.

    Args:
        uri: how it was named.
        link: the pipe to it; closed with the container, and where it does not open.
        trusts: vendors the application trusts.
        clock: where time comes from.
        folder: where seats are counted, by the container's thumbprint.
        pin: given where the dongle asks for one.
        capabilities: what a device of its kind promises, if a factory certified it.
        location: where it is, for people.
        reproof_s: seconds a proof of the key holds.
        background: renew seats from a thread.
        random: source of nonces.

    Returns:
        The container.

    Raises:
        BackendError: ``device_removed``, ``device_silent``, ``backend_failed``.
        LockedError: ``pin_needed``, ``pin_wrong``, ``pin_blocked``, ``tampered``.
        VerificationError, ContainerError (``busy``), StorageError.
    """
    client = DongleClient(link, clock.monotonic, random)
    try:
        with client.held():
            anchor, details = _met(client, pin, capabilities)
            directory = Directory.open(folder(anchor.public_key.thumbprint), create=True)
            session = DongleSession(client, anchor, clock, directory)
            session.current()
    except BaseException:
        client.close()
        raise
    return DongleContainer(
        uri, session, trusts, location=location, details=details, reproof_s=reproof_s, background=background
    )


def _met(client: DongleClient, pin: str, capabilities: Capability) -> tuple[DongleAnchor, dict[str, str]]:
    """Ask a dongle what it is, and give it the PIN if it wants one."""
    _, agreement, lifetime, tries, unlocked, _, firmware = client.call("status")
    if not unlocked and pin:
        client.unlock(pin)
    identity = client.identity
    if identity is None:
        raise error("backend_failed", "the dongle has not told who it is")
    named = _certificate(client.certificate, identity)
    details = {
        "firmware": firmware,
        "flash left": f"{lifetime / 10:.1f} %",
        "certified": "by nobody: level L0" if named is None else f"by {named.factory}, for level L{named.level}",
        "PIN": "none" if tries is None else f"{tries} tries left",
    }
    promised = capabilities if named is not None else capabilities & UNCERTIFIED
    return DongleAnchor(client, identity, PublicKey.from_cose(agreement), promised), details


def _certificate(message: bytes, identity: PublicKey) -> DeviceCertificate | None:
    """Read what a factory says of this device, None for nothing; to verify it is for issuers."""
    try:
        read = read_certificate(message) if message else None
    except (FormatError, VerificationError):
        return None
    return read if read is not None and read.key == identity else None
