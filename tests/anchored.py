# SPDX-License-Identifier: Apache-2.0
"""A backend with a monotonic position, for tests: the "device" is a folder that is believed never to be restored.

It is to `container.session` what a TPM is: a counter that is incremented, a chain that is extended, keys that stay
inside. Both moves are one name that appears in the device's folder, so that a simulated disk can lose power before or
after them, and not between; two processes can share it.

    device = Device.make(str(folder / "device"))
    container = AnchoredBackend(device, clock).create("anchored:" + str(folder / "files"), [trust])
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tallystick.clock import Clock
from tallystick.codec.keys import PublicKey
from tallystick.codec.signing import SoftwareKey
from tallystick.container.anchor import Anchor, Capability, Position
from tallystick.container.base import Container, ContainerInfo
from tallystick.container.clear_header import read_clear_header
from tallystick.container.sealed import SealedContainer
from tallystick.container.session import GENESIS, Session
from tallystick.container.store import Store
from tallystick.container.store_os import CREATE_NEW, READ, default_vfs
from tallystick.container.vfs import Directory, Vfs
from tallystick.container.view import LockedView
from tallystick.errors import LockedError, error
from tallystick.license.trust import Trust

_KEY_FILE = "key"
_NONCE = 12


class Device:
    """A counter, a chain and keys.

    Args:
        path: the device's folder, which exists.
        vfs: the operating system.
    """

    def __init__(self, path: str, vfs: Vfs | None = None) -> None:
        self.path = path
        self.vfs = default_vfs() if vfs is None else vfs
        try:
            keys = [SoftwareKey.from_pkcs8(self._read(name)) for name in ("identity", "agreement")]
        except OSError as cause:
            raise error("backend_failed", "the device does not answer") from cause
        self.identity, self.agreement = keys

    @classmethod
    def make(cls, path: str, vfs: Vfs | None = None) -> Device:
        """Make a device in a new folder."""
        vfs = default_vfs() if vfs is None else vfs
        vfs.mkdir(path)
        folder = vfs.open_dir(path)
        for name in ("identity", "agreement"):
            fd = vfs.open(name, CREATE_NEW, folder)
            vfs.pwrite(fd, SoftwareKey.generate().to_pkcs8(), 0)
            vfs.fsync(fd)
            vfs.close(fd)
        vfs.fsync_dir(folder)
        vfs.close(folder)
        return cls(path, vfs)

    def position(self) -> Position:
        """Read counter and chain.

        Each name tells the whole, so that one the disk lost for good under a failed call is not missed once a later
        one is there: a device has no such failures, only its picture on a disk has.
        """
        counter, chain, extended = 0, GENESIS, 0
        for kind, number, *value in (name.split(".") for name in self._names() if "." in name):
            at = int(number) + 1
            counter = max(counter, at)
            if kind == "extend" and at > extended:
                extended, chain = at, bytes.fromhex(value[0])
        return Position(counter, chain)

    def increment(self) -> None:
        """Count."""
        self.plant(f"increment.{self.position().counter}")

    def extend(self, digest: bytes) -> None:
        """Extend the chain to the counter's place."""
        position = self.position()
        self.plant(f"extend.{position.counter - 1}.{sha256(position.chain + digest).hexdigest()}")

    def plant(self, name: str) -> None:
        """Let a name appear, durably; ``unplugged`` and ``impostor`` are what their names say."""
        folder = self.vfs.open_dir(self.path)
        try:
            self.vfs.close(self.vfs.open(name, CREATE_NEW, folder))
            self.vfs.fsync_dir(folder)
        finally:
            self.vfs.close(folder)

    def signer(self) -> SoftwareKey:
        """The identity key, as far as the device is there and is itself."""
        names = self._names()
        if "unplugged" in names:
            raise OSError("no such device")
        return SoftwareKey.generate() if "impostor" in names else self.identity

    def _names(self) -> list[str]:
        folder = self.vfs.open_dir(self.path)
        try:
            return self.vfs.listdir(folder)
        finally:
            self.vfs.close(folder)

    def _read(self, name: str) -> bytes:
        folder = self.vfs.open_dir(self.path)
        fd = self.vfs.open(name, READ, folder)
        try:
            return self.vfs.pread(fd, 4096, 0)
        finally:
            self.vfs.close(fd)
            self.vfs.close(folder)


class DeviceAnchor(Anchor):
    """The anchor that stands for a device."""

    capabilities = Capability.UNLOCK | Capability.ROLLBACK_PROOF | Capability.NON_EXPORTABLE

    def __init__(self, device: Device) -> None:
        self.device = device

    @property
    def public_key(self) -> PublicKey:
        """The identity key."""
        return self.device.identity.public_key

    @property
    def agreement_key(self) -> PublicKey:
        """The agreement key."""
        return self.device.agreement.public_key

    def _sign(self, message: bytes) -> bytes:
        return self.device.signer().sign(message)

    def _agree(self, peer_public: bytes) -> bytes:
        self.device.signer()
        return self.device.agreement.agree(peer_public)

    def _cipher(self) -> AESGCM:
        return AESGCM(sha256(self.device.identity.to_pkcs8()).digest())

    def _seal(self, secret: bytes) -> bytes:
        nonce = self.device.vfs.random(_NONCE)
        return nonce + self._cipher().encrypt(nonce, secret, b"")

    def _unseal(self, sealed: bytes) -> bytes:
        return self._cipher().decrypt(sealed[:_NONCE], sealed[_NONCE:], b"")

    def _position(self) -> Position:
        return self.device.position()

    def _advance(self, expected: Position, state_digest: bytes) -> None:
        before = Position(expected.counter - 1, expected.chain)
        after = Position(expected.counter, sha256(expected.chain + state_digest).digest())
        found = self.device.position()
        if found == after:
            return
        if found not in (before, expected):
            code = "rolled_back" if found.counter > expected.counter else "tampered"
            raise error(code, f"the device stands at {found.counter}, not at {expected.counter}")
        if found == before:
            self.device.increment()
        if self.device.position() != expected:
            raise error("tampered", "the device moved for somebody else")
        self.device.extend(state_digest)
        if self.device.position() != after:
            raise error("tampered", "the device moved for somebody else")


class AnchoredBackend:
    """Containers whose files are bound to a device and a moment of it.

    Args:
        device: the device.
        clock: where time comes from.
        vfs: the operating system under the files.
    """

    scheme = "anchored"

    def __init__(self, device: Device, clock: Clock, vfs: Vfs | None = None) -> None:
        self._device = device
        self._clock = clock
        self._vfs = vfs

    def create(self, uri: str, trusts: Sequence[Trust] = (), *, tolerance: str = "") -> Container:
        """Make a container."""
        directory = Directory.open(uri.partition(":")[2], self._vfs, create=True)
        key = directory.vfs.random(32)
        store, anchor = Store(directory, key, journal=False), DeviceAnchor(self._device)
        try:
            with store.lock():
                if any(name.startswith("state.") for name in directory.names()):
                    raise error("already_exists", "a container is already there")
                directory.replace(_KEY_FILE, anchor.seal(key))
                session = Session(store, anchor, self._clock, directory)
                session.begin()
        except BaseException:
            store.close()
            directory.close()
            raise
        return SealedContainer(uri, session, trusts)

    def open(
        self, uri: str, trusts: Sequence[Trust] = (), *, reproof_s: float = 60.0, background: bool = True
    ) -> Container:
        """Open a container."""
        directory = Directory.open(uri.partition(":")[2], self._vfs)
        try:
            sealed = directory.read(_KEY_FILE, 4096)
            if sealed is None or not any(name.startswith("state.") for name in directory.names()):
                raise error("container_not_found", "no container there")
            anchor = DeviceAnchor(self._device)
            session = Session(Store(directory, anchor.unseal(sealed), journal=False), anchor, self._clock, directory)
        except BaseException:
            directory.close()
            raise
        try:
            session.current()
        except BaseException:
            session.close()
            raise
        return SealedContainer(uri, session, trusts, reproof_s=reproof_s, background=background)

    def view(self, uri: str) -> Container:
        """Open a container, read-only if it is locked."""
        try:
            return self.open(uri, background=False)
        except LockedError as reason:
            with Directory.open(uri.partition(":")[2], self._vfs, read_only=True) as directory:
                slots = Store(directory, None, journal=False).slots(skip_damaged=True)
            known: tuple[bytes, int, list[tuple[bytes, str, str]], tuple[str, ...]]
            known = self._device.identity.public_key.thumbprint, 0, [], ()
            thumbprint, created, held, vendors = read_clear_header(slots[0].header) if slots else known
            info = ContainerInfo(
                uri, self.scheme, thumbprint, created_at=created, licenses=len(held), vendors=vendors,
                locked=(reason.code, reason.message),
            )  # fmt: skip
            return LockedView(info, held, reason, dict, self._clock.read().wall)
