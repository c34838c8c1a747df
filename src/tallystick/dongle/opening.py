# SPDX-License-Identifier: Apache-2.0
"""From a link to a container: what every way to reach a dongle has in common."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Final

from tallystick.clock import Clock
from tallystick.codec.ident import container_id
from tallystick.codec.keys import PublicKey
from tallystick.container.anchor import Capability
from tallystick.container.places import user_folder
from tallystick.container.secrets import SecretRequest, SecretsHandler
from tallystick.container.vfs import Directory
from tallystick.dongle.anchor import CAPABILITIES, UNCERTIFIED, DongleAnchor
from tallystick.dongle.client import DongleClient
from tallystick.dongle.container import DongleContainer
from tallystick.dongle.link import Link
from tallystick.dongle.session import DongleSession
from tallystick.errors import FormatError, VerificationError, error
from tallystick.license.device import DeviceCertificate, read_certificate
from tallystick.license.trust import Trust

_PIN_TRIES: Final = 5  # docs/dongles.md, "A PIN"


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
    secrets: SecretsHandler | None = None,
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
        secrets: asked for the PIN where the dongle wants one.
        capabilities: what a device of its kind promises, if a factory certified it.
        location: where it is, for people.
        reproof_s, background: as `tallystick.open` has them.
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
        _let_in(client, secrets)
        with client.held():
            anchor, details = _met(client, capabilities)
            directory = Directory.open(folder(anchor.public_key.thumbprint), create=True)
            session = DongleSession(client, anchor, clock, directory)
            session.current()
    except BaseException:
        client.close()
        raise
    return DongleContainer(
        uri, session, trusts, location=location, details=details, reproof_s=reproof_s, background=background
    )


def _let_in(client: DongleClient, secrets: SecretsHandler | None) -> None:
    """Give a dongle the PIN it wants; while somebody types it, other programs may have the dongle."""
    if secrets is None:
        return
    tries, unlocked = client.call("status")[3:5]
    if unlocked or client.identity is None:
        return
    if not tries:
        raise error("pin_blocked", f"the PIN was wrong {_PIN_TRIES} times")
    name = container_id(client.identity.thumbprint)
    pin = secrets(SecretRequest("PIN", name, few_left=tries < _PIN_TRIES, last_try=tries == 1))
    if pin:
        client.unlock(pin)


def _met(client: DongleClient, capabilities: Capability) -> tuple[DongleAnchor, dict[str, str]]:
    """Ask a dongle what it is."""
    _, agreement, lifetime, tries, _, _, firmware = client.call("status")
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
