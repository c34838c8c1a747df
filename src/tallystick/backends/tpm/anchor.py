# SPDX-License-Identifier: Apache-2.0
"""The anchor of a container in a TPM: two key pairs, a sealed secret, and a position that only moves forward.

The position is a counter and a chain (protocol P4, ``docs/format.md`` section 10): a state on disk is the committed one
if its generation is the counter and its link is the chain. Where the TPM has no room for the chain, the counter stands
alone (protocol P2). The secret in the file ``key`` is the 32-byte state key and the 32 bytes that authorize writing the
indices: who cannot unseal it moves nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tallystick.backends.tpm import objects, record
from tallystick.backends.tpm.chip import Chip
from tallystick.backends.tpm.endorsement import fingerprint, was_cleared
from tallystick.backends.tpm.evidence import Attestor
from tallystick.backends.tpm.library import ESAPI, ESYS_TR
from tallystick.backends.tpm.nv import CHAIN, COUNTER, Index, belongs, vacant
from tallystick.backends.tpm.record import ChipRecord, Place
from tallystick.backends.tpm.storage import StorageKey
from tallystick.backends.tpm.templates import AGREEING, SIGNING, own_key
from tallystick.codec import cbor
from tallystick.codec.digest import sha256
from tallystick.codec.keys import PublicKey
from tallystick.container import anchor
from tallystick.container.anchor import Anchor, Capability, Position
from tallystick.container.metering import MeterBank
from tallystick.container.vfs import Directory
from tallystick.errors import FormatError, LockedError, TallystickError, error

SECRET: Final = 32
_ALONE: Final = b"\x01"  # sealed behind the secrets of a container whose counter has no chain beside it
_SEALED_LIMIT: Final = 4096
_AUTH: Final = b"tallystick user secret\x00"


def auth_of(user_secret: bytes) -> bytes:
    """Return what the TPM asks for where a container has a user secret; empty where it has none."""
    return sha256(_AUTH + user_secret) if user_secret else b""


class TpmAnchor(Anchor):
    """The keys and position of one container. Made by `provision` and `open`.

    Args:
        chip: the TPM.
        known: what the container remembers of it.
        auth: as `auth_of` makes it.
        index_auth: 32 bytes, while the container is made; else they come with `unseal`.
    """

    def __init__(self, chip: Chip, known: ChipRecord, auth: bytes, index_auth: bytes = b"") -> None:
        self.chip = chip
        self.known = known
        self.storage = StorageKey(chip, known.srk, known.srk_name)
        self._auth = auth
        self._index_auth = index_auth
        self._public_key = known.public_key
        self._agreement_key = own_key(known.agreement.public)
        self._counter, self._chain = self._indices()
        self.capabilities = Capability.UNLOCK | Capability.ROLLBACK_PROOF | Capability.NON_EXPORTABLE
        if known.promises & record.CERTIFIED:
            self.capabilities |= Capability.ATTESTED
        if known.promises & record.CAN_METER:
            self.capabilities |= Capability.METERED

    @classmethod
    def provision(cls, directory: Directory, chip: Chip, auth: bytes, now: int) -> TpmAnchor:
        """Make the keys of a new container and record them; `define` follows when the secret was sealed.

        Args:
            directory: the container's folder.
            chip: the TPM.
            auth: as `auth_of` makes it.
            now: seconds since 1970.

        Returns:
            The anchor, without indices yet.

        Raises:
            BackendError, BackendUnavailableError, StorageError.
        """
        storage, made = StorageKey.provision(chip)
        identity = objects.create_key(chip, storage, SIGNING, auth)
        agreement = objects.create_key(chip, storage, AGREEING, auth)
        counter, chain = vacant(chip, 2, directory.vfs.random(2))
        chip_id = fingerprint(chip)
        known = ChipRecord(
            now, storage.number, storage.name, made, identity, agreement, Place(counter), Place(chain), chip_id,
            bool(auth), record.CERTIFIED if chip_id else 0,
        )  # fmt: skip
        known.save(directory)
        return cls(chip, known, auth, directory.vfs.random(SECRET))

    def define(self, directory: Directory) -> None:
        """Make the indices, write each once and record their Names.

        Args:
            directory: the container's folder.

        Raises:
            BackendError: ``chip_full``, ``backend_failed``.
            StorageError: the record cannot be written.
        """
        self._make(self._counter, directory)
        if self._chain is not None:
            try:
                self._make(self._chain, directory)
            except TallystickError as reason:
                if reason.code != "chip_full":
                    raise
                self._chain = None
        self._record(directory)

    def begun(self, directory: Directory) -> None:
        """Record that there is a state: from now on, none is one that was taken away."""
        self.known = self.known.replace(promises=self.known.promises | record.BEGUN)
        self.known.save(directory)

    def require_indices(self) -> None:
        """Refuse where a repair was interrupted after it had given an index up.

        Raises:
            LockedError: ``anchor_lost``.
        """
        if not all(index.name for index in self.indices):
            raise error("anchor_lost", "the container's counter was not made anew yet")

    def renew(self, directory: Directory, generation: int) -> None:
        """Make anew what is gone from the TPM, or is another one than before; then the vendor must agree.

        Args:
            directory: the container's folder, locked.
            generation: of the newest state. The counter follows where it is one behind, as whoever finds the chain
                gone in the middle of a commit leaves it: no vendor can let go on what is ahead of the counter.

        Raises:
            BackendError: ``chip_full``, ``backend_failed``, ``device_silent``.
            StorageError: the record cannot be written.
        """
        for index in self.indices:
            if index.name and self._is_there(index):
                continue
            index.name = b""
            if belongs(self.chip, index.number, self._public_key.thumbprint):
                index.undefine()
            (index.number,) = vacant(self.chip, 1, directory.vfs.random(2))
            self._record(directory)  # before it is made: a repair that is interrupted here leaves nothing behind
            self._make(index, directory)
            self._record(directory)
        if generation == self._read(proven=False).counter + 1:  # never more: it would hide that the TPM was set back
            self._counter.increment()

    def _make(self, index: Index, directory: Directory) -> None:
        """Define an index and write it once: only then it has the Name it keeps."""
        index.define(self._public_key.thumbprint)
        if index.kind == COUNTER:
            index.increment()
        else:
            index.extend(directory.vfs.random(SECRET))
        index.settle()

    def _is_there(self, index: Index) -> bool:
        try:
            return bool(index.read(proven=True))
        except TallystickError as reason:
            if reason.code not in ("anchor_lost", "anchor_redefined"):
                raise
            return False

    def _record(self, directory: Directory) -> None:
        places = [Place(index.number, index.name) for index in self.indices]
        self.known = self.known.replace(counter=places[0], chain=places[1] if len(places) > 1 else None)
        self.known.save(directory)

    @property
    def public_key(self) -> PublicKey:
        """The identity key (P-256, ESP256)."""
        return self._public_key

    @property
    def agreement_key(self) -> PublicKey:
        """The agreement key (P-256)."""
        return self._agreement_key

    @property
    def memory(self) -> int:
        """What it remembers of states, without asking the TPM."""
        return anchor.COUNTER if self._chain is None else anchor.CHAIN

    @property
    def indices(self) -> tuple[Index, ...]:
        """The counter, and the chain where there is one."""
        return (self._counter,) if self._chain is None else (self._counter, self._chain)

    def metering(self, directory: Directory) -> MeterBank:
        """Return the meters of the container; see `Anchor.metering`."""
        from tallystick.backends.tpm.meters import Meters  # few containers have one

        return Meters(directory, self, self._index_auth)

    def close(self) -> None:
        """Flush the keys and close the connection."""
        self.chip.close()

    def identity(self, esys: ESAPI) -> ESYS_TR:
        """Return the handle of the identity key, loaded."""
        known = self.known.identity
        return self.chip.kept(esys, "identity", lambda it: objects.load(it, self.storage, known, self._auth))

    def authorization(self, esys: ESAPI) -> ESYS_TR:
        """Return what authorizes the container's keys: nothing, or a session that does not show the user secret."""
        return self.storage.session(esys) if self._auth else ESYS_TR.PASSWORD

    def _sign(self, message: bytes) -> bytes:
        def signed(esys: ESAPI) -> bytes:
            return objects.sign(esys, self.identity(esys), message, self.authorization(esys))

        signature = self.chip.run(signed, again=True)
        if not self.chip.managed and not self._public_key.verify_raw(message, signature):
            self.chip.disconnect()  # somebody else's key is under our handle: nobody keeps them apart
            signature = self.chip.run(signed, again=True)
        return signature

    def _agree(self, peer_public: bytes) -> bytes:
        PublicKey.from_p256_point(peer_public)  # refuses what is not on the curve, in the words of all anchors

        def shared(esys: ESAPI) -> bytes:
            with self.chip.loaded(esys, objects.load(esys, self.storage, self.known.agreement, self._auth)) as key:
                return objects.agree(esys, key, peer_public, self.storage.session(esys))

        return self.chip.run(shared, again=True)

    def _seal(self, secret: bytes) -> bytes:
        alone = b"" if self._chain is not None else _ALONE
        blob = objects.seal(self.chip, self.storage, secret + self._index_auth + alone, self._auth)
        return cbor.encode([blob.public, blob.private])

    def _unseal(self, sealed: bytes) -> bytes:
        try:
            row = cbor.decode(sealed, _SEALED_LIMIT)
            blob = record.blob(row)
            opened = objects.unseal(self.chip, self.storage, blob, self._auth)
        except FormatError as cause:
            raise error("tampered", "the container's state key file is damaged") from cause
        except LockedError as reason:
            if reason.code == "chip_changed" and was_cleared(self.chip, self.known.chip):
                raise error("chip_cleared", "this is the container's TPM, but it was cleared since") from reason
            raise
        secret, self._index_auth, alone = opened[:SECRET], opened[SECRET : 2 * SECRET], opened[2 * SECRET :]
        if len(opened) < 2 * SECRET or alone not in (b"", _ALONE):
            raise error("tampered", "the container's state key file holds something else")
        if (alone == _ALONE) != (self._chain is None):  # protocol P2 would take what P4 has passed by
            raise error("tampered", "the container's record of its TPM does not know all its indices")
        self._counter, self._chain = self._indices()
        return secret

    def _position(self) -> Position:
        """Read it; what says that nothing newer was committed, by a session nobody on the bus can speak in."""
        return self._read(proven=True)

    def _advance(self, expected: Position, state_digest: bytes) -> None:
        """Increment, check, extend, check; whatever was interrupted before is gone on with, nothing is done twice."""
        before = Position(expected.counter - 1, expected.chain)
        after = expected if expected.chain is None else expected.replace(chain=sha256(expected.chain + state_digest))
        # A count alone may be another copy's: it is of the state here only if it is moved here.
        places = (before,) if expected.chain is None else (before, expected, after)
        found = self._read(proven=False)
        if found not in places:
            code = "rolled_back" if found.counter > places[-1].counter else "tampered"
            raise error(code, f"the TPM stands at {found.counter}, the new state is {expected.counter}")
        if found == before:
            self._counter.increment()
            if self._read(proven=False) != expected:
                raise error("tampered", "the TPM's counter moved for somebody else")
        if self._chain is not None and found != after:
            self._chain.extend(state_digest)
            if self._read(proven=False) != after:
                raise error("tampered", "the TPM's chain moved for somebody else")

    def _evidence(self, challenge: bytes) -> Mapping[str, bytes]:
        return Attestor(self.chip, self).evidence(challenge)

    def _activate(self, credential: bytes, secret: bytes) -> bytes:
        return Attestor(self.chip, self).activate(credential, secret)

    def _read(self, *, proven: bool) -> Position:
        if self._chain is None:
            return Position(int.from_bytes(self._counter.read(proven=proven)), None)
        chain = self._chain.read(proven=proven)
        return Position(int.from_bytes(self._counter.read(proven=False)), chain)

    def _indices(self) -> tuple[Index, Index | None]:
        known, common = self.known, (self.chip, self.storage)
        counter = Index(*common, COUNTER, known.counter.number, self._index_auth, known.counter.name)
        if known.chain is None:
            return counter, None
        return counter, Index(*common, CHAIN, known.chain.number, self._index_auth, known.chain.name)
