# SPDX-License-Identifier: Apache-2.0
"""The software anchor: a container's keys in a file that opens on one computer only.

`SoftwareAnchor.create` makes two P-256 key pairs and a random master key, binds the master key to the traits of the
computer (`backends.binding`) and seals the private keys under it (`backends.anchor_file`). `SoftwareAnchor.open` reads
the traits again and decides:

* everything as it was: open, nothing is written;
* something changed, within the tolerance: open, and the traits are enrolled as they are now (same master key, durable
  replace), recorded in `drift`. Drift is cumulative: each step must be within the tolerance of the computer enrolled
  *last*, so an honest computer may change part by part over the years;
* too much changed: ``binding_lost`` with names, score and threshold; too little readable: ``binding_unreadable``.
  Nothing is deleted, `backends.header.read_header` still names the container;
* the file does not hold together: ``tampered``.

With an operator-supplied identity (OS containers, Kubernetes) that identity is the whole binding; hardware plays no
part.

What it promises is level L0: the owner of a computer can, with effort, imitate its traits, and an older file is as good
as a newer one. There is no position, and nothing here pretends otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tallystick.backends import anchor_file, enrollment
from tallystick.backends.anchor_file import AnchorFile, Drift, Secrets
from tallystick.backends.binding import MASTER_BYTES, recover
from tallystick.backends.comparison import require_tolerance
from tallystick.backends.traits import default_sources
from tallystick.backends.traits.base import TraitSource
from tallystick.codec.keys import PublicKey
from tallystick.codec.signing import SoftwareKey
from tallystick.container.anchor import Anchor, Capability
from tallystick.container.vfs import Directory
from tallystick.errors import LockedError, StorageError, TallystickError, error

_NONCE: Final = 12
_STATE_KEY: Final = b"tallystick state key"


class SoftwareAnchor(Anchor):
    """The keys of one file container, opened. Made by `create` and `open`."""

    capabilities = Capability.UNLOCK

    def __init__(self, directory: Directory, file: AnchorFile, secrets: Secrets, master: bytes) -> None:
        self._random = directory.vfs.random
        self._file = file
        self._identity: SoftwareKey | None = SoftwareKey.from_p256_scalar(secrets.identity)
        self._public_key = self._identity.public_key
        self._agreement: SoftwareKey | None = None
        self._secrets: Secrets | None = secrets
        self._state_key = _derive(master, file.binding.salt, b"tallystick state")
        self._drift: tuple[str, ...] = ()

    @classmethod
    def create(
        cls,
        directory: Directory,
        *,
        tolerance: str = "medium",
        sources: Sequence[TraitSource] | None = None,
        identity: bytes | None = None,
        now: int,
    ) -> SoftwareAnchor:
        """Make the keys of a new container and bind them.

        Args:
            directory: the container's folder.
            tolerance: loose, medium or strict; kept in the container.
            sources: trait readers; those of this system if omitted.
            identity: operator-supplied, 1 byte or more: then it is the whole binding, for good.
            now: seconds since 1970.

        Returns:
            The open anchor.

        Raises:
            UsageError: ``usage`` for another tolerance or an empty identity.
            ContainerError: ``already_exists``.
            BackendError: ``identity_missing`` where nothing readable identifies this computer and no identity is given.
            StorageError: the file cannot be written.
        """
        require_tolerance(tolerance)
        if anchor_file.NAME in directory.names():
            raise error("already_exists", f"there is a container in {directory.path}", path=directory.path)
        draw = directory.vfs.random
        salt, master = draw(32), draw(MASTER_BYTES)
        binding, secrets_of_traits, profile = enrollment.enroll(
            master, salt, tolerance, default_sources() if sources is None else sources, identity
        )
        keys = SoftwareKey.generate(), SoftwareKey.generate()
        secrets = Secrets(keys[0].p256_scalar(), keys[1].p256_scalar(), secrets_of_traits)
        points = [key.public_key.p256_point() for key in keys]
        clear = AnchorFile(binding, points[0], points[1], profile, now, (), b"")
        file = anchor_file.seal(clear, secrets, _seal_key(master, salt), draw(_NONCE))
        directory.replace(anchor_file.NAME, anchor_file.encode(file))
        return cls(directory, file, secrets, master)

    @classmethod
    def open(
        cls,
        directory: Directory,
        *,
        sources: Sequence[TraitSource] | None = None,
        identity: bytes | None = None,
        now: int,
    ) -> SoftwareAnchor:
        """Open the keys on the computer they are bound to, and follow its changes.

        Args:
            directory: the container's folder; nothing is written where it is read-only.
            sources: trait readers; those of this system if omitted.
            identity: the operator-supplied identity, where the container was created with one.
            now: seconds since 1970, for the record of changes.

        Returns:
            The open anchor; `drift` names what was enrolled anew.

        Raises:
            NotFoundError: ``container_not_found``.
            LockedError: ``binding_lost``, ``binding_unreadable`` or ``tampered``.
            BackendError: ``identity_missing``.
            UsageError: ``usage`` for an identity where the container was created without.
            FormatError: ``unsupported_version``.
            StorageError: the file cannot be read.
        """
        file = anchor_file.load(directory)
        sources = default_sources() if sources is None else sources
        reading = enrollment.readings(file.binding, sources, identity)
        seen, comparison = enrollment.judge(file.binding, reading)
        master = recover(file.binding, seen)
        seal_key = _seal_key(master, file.binding.salt)
        secrets = anchor_file.unseal(file, seal_key)
        anchor = cls(directory, file, secrets, master)
        if not enrollment.is_settled(file, seen, comparison):
            renewed = enrollment.renew(file, secrets, master, sources=sources, first=reading, now=now)
            if renewed is not None:
                sealed = anchor_file.seal(renewed[0], renewed[1], seal_key, directory.vfs.random(_NONCE))
                anchor._adopt(directory, sealed)
        return anchor

    def _adopt(self, directory: Directory, file: AnchorFile) -> None:
        """Write a re-enrollment. Where that fails the old one still opens: it is tried again at the next open."""
        try:
            directory.replace(anchor_file.NAME, anchor_file.encode(file))
        except (StorageError, LockedError):  # no space, a read-only folder: no reason to lock anybody out
            return
        self._file = file
        self._drift = file.drift[-1].traits

    @property
    def public_key(self) -> PublicKey:
        """The identity key (P-256, ESP256)."""
        return self._public_key

    @property
    def agreement_key(self) -> PublicKey:
        """The agreement key (P-256)."""
        return PublicKey.from_p256_point(self._file.agreement)

    @property
    def tolerance(self) -> str:
        """The tolerance chosen at creation: loose, medium or strict."""
        return self._file.binding.tolerance

    @property
    def profile(self) -> str:
        """Kind of computer at the last enrollment: physical, vm, wsl or container."""
        return self._file.profile

    @property
    def drift(self) -> tuple[str, ...]:
        """Names of the traits this `open` enrolled anew, added or dropped; empty where nothing was written."""
        return self._drift

    @property
    def drift_log(self) -> tuple[Drift, ...]:
        """The last 16 re-enrollments, oldest first."""
        return self._file.drift

    def close(self) -> None:
        """Forget the private keys."""
        self._identity = self._agreement = self._secrets = None
        self._state_key = b""

    def _sign(self, message: bytes) -> bytes:
        if self._identity is None:
            raise _closed()
        return self._identity.sign(message)

    def _agree(self, peer_public: bytes) -> bytes:
        secrets = self._require_open()
        if self._agreement is None:  # parsed when content is first unlocked: most programs never do
            self._agreement = SoftwareKey.from_p256_scalar(secrets.agreement)
        return self._agreement.agree(peer_public)

    def _seal(self, secret: bytes) -> bytes:
        self._require_open()
        nonce = self._random(_NONCE)
        return nonce + AESGCM(self._state_key).encrypt(nonce, secret, _STATE_KEY)

    def _unseal(self, sealed: bytes) -> bytes:
        self._require_open()
        try:
            return AESGCM(self._state_key).decrypt(sealed[:_NONCE], sealed[_NONCE:], _STATE_KEY)
        except (InvalidTag, ValueError) as cause:
            raise error("tampered", "the container's state key was changed, or belongs to another container") from cause

    def _require_open(self) -> Secrets:
        if self._secrets is None:
            raise _closed()
        return self._secrets


def explain(
    directory: Directory, sources: Sequence[TraitSource] | None = None, identity: bytes | None = None
) -> enrollment.Explanation:
    """Show, trait by trait, why a container opens here or does not. Changes nothing; shows digests only.

    Args:
        directory: the container's folder.
        sources: trait readers; those of this system if omitted.
        identity: the operator-supplied identity, where the container was created with one.

    Returns:
        The explanation.

    Raises:
        NotFoundError: ``container_not_found``.
        LockedError: ``tampered``.
        UsageError: ``usage`` for an identity where the container was created without.
        FormatError: ``unsupported_version``.
        StorageError: the file cannot be read.
    """
    file = anchor_file.load(directory)
    return enrollment.explain(file, default_sources() if sources is None else sources, identity)


def _closed() -> TallystickError:
    return error("closed", "the container was closed")


def _derive(master: bytes, salt: bytes, purpose: bytes) -> bytes:
    return HKDF(hashes.SHA256(), 32, salt, purpose).derive(master)


def _seal_key(master: bytes, salt: bytes) -> bytes:
    return _derive(master, salt, b"tallystick anchor")
