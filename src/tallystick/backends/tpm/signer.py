# SPDX-License-Identifier: Apache-2.0
"""Issuers' keys in a TPM: the same kind of key as a container's, in a file only that TPM can use.

    key-file = [body: bstr .cbor body, checksum: bstr .size 32]        ; checksum = SHA-256(body)
    body = {
      1: 1,                                       ; version
      2: uint,                                    ; persistent handle of the SRK; 0: made anew each time
      3: bstr,                                    ; Name of the SRK
      4: [bstr, bstr],                            ; key: TPMT_PUBLIC, TPM2B_PRIVATE's contents
      5: bstr,                                    ; SHA-256 of what identifies the TPM itself; empty: nothing does
      6: bool,                                    ; whether a user secret is needed
    }

A signer holds no connection: each signature opens one, checks that this is the TPM it knows, and leaves nothing behind.
An issuer signs seldom, and what stands for a TPM may be started again in between.
"""

from __future__ import annotations

import threading
from typing import Final

from tallystick.backends.framed import framed, unframed, versioned
from tallystick.backends.tpm import objects
from tallystick.backends.tpm.anchor import auth_of
from tallystick.backends.tpm.chip import Chip, answer
from tallystick.backends.tpm.endorsement import fingerprint, was_cleared
from tallystick.backends.tpm.library import ESAPI, ESYS_TR, TPM2_RC, TSS2_Exception
from tallystick.backends.tpm.record import Blob, blob
from tallystick.backends.tpm.storage import StorageKey
from tallystick.backends.tpm.templates import SIGNING, key_of
from tallystick.backends.tpm.transport import Connect, transport
from tallystick.codec.keys import PublicKey
from tallystick.errors import FormatError, TallystickError, error
from tallystick.record import Record

VERSION: Final = 1
_LIMIT: Final = 16384
_ROWS: Final = {1: int, 2: int, 3: bytes, 4: list, 5: bytes, 6: bool}
_GONE_REMEDY: Final = (
    "Make a new key: `tally vendor keys rotate --use USE --key tpm:`; what this one signed stays good."
)
_BACKUP: Final = "Bring the file back from a backup; it works with the TPM it was made in only."
_NAME_IT: Final = "Name the file with it in the key's URI: `?auth-source=file:PATH`."


class KeyRecord(Record):
    """What a key file says; see the module.

    Attributes:
        srk: persistent handle; 0 where it is made anew each time.
        srk_name: 34 bytes.
        key: the key.
        chip: digest of what identifies the TPM; empty for nothing.
        secret: whether a user secret is needed.
    """

    srk: int
    srk_name: bytes
    key: Blob
    chip: bytes
    secret: bool

    def to_bytes(self) -> bytes:
        """Encode as the file."""
        key = [self.key.public, self.key.private]
        return framed({1: VERSION, 2: self.srk, 3: self.srk_name, 4: key, 5: self.chip, 6: self.secret})

    @classmethod
    def from_bytes(cls, data: bytes) -> KeyRecord:
        """Read the file.

        Args:
            data: its contents.

        Raises:
            VerificationError: ``bad_key``: it is damaged, or none.
            FormatError: ``unsupported_version``.
        """
        try:
            return _record(data)
        except FormatError as cause:
            if cause.code == "unsupported_version":
                raise
            raise error("bad_key", "this is not the file of a key in a TPM, or it is damaged", _BACKUP) from cause


class TpmSigner:
    """One key of an issuer, in a TPM (ESP256). Threads take turns.

    Args:
        known: the key.
        tcti: which TPM.
        user_secret: the key asks for; empty for none.
        owner_password: of the TPM, where it has one and keeps no storage key.
        connect: opens the way to it.
    """

    def __init__(
        self,
        known: KeyRecord,
        tcti: str,
        user_secret: bytes = b"",
        owner_password: bytes = b"",
        connect: Connect = transport,
    ) -> None:
        self._known = known
        self._auth = auth_of(user_secret)
        self._chip = _chip(tcti, owner_password, connect)
        self._storage = StorageKey(self._chip, known.srk, known.srk_name)
        self._lock = threading.Lock()
        self.public_key: PublicKey = _public(known)
        if known.secret and not user_secret:
            raise error("secret_needed", "this key in the TPM was made with a user secret", _NAME_IT)

    @classmethod
    def create(
        cls, tcti: str, user_secret: bytes = b"", owner_password: bytes = b"", connect: Connect = transport
    ) -> tuple[TpmSigner, bytes]:
        """Make a key.

        Args:
            tcti: which TPM.
            user_secret: whoever signs must know; empty for none.
            owner_password: of the TPM, where it has one.
            connect: opens the way to it.

        Returns:
            Its signer, and what must be kept in a file.

        Raises:
            BackendUnavailableError: there is no such TPM.
            StorageError: ``no_permission``.
            BackendError: the TPM refuses, or does not answer.
        """
        chip = _chip(tcti, owner_password, connect)
        try:
            storage, _ = StorageKey.provision(chip)
            key = objects.create_key(chip, storage, SIGNING, auth_of(user_secret))
            known = KeyRecord(storage.number, storage.name, key, fingerprint(chip), bool(user_secret))
        finally:
            chip.close()
        return cls(known, tcti, user_secret, owner_password, connect), known.to_bytes()

    def sign(self, message: bytes) -> bytes:
        """Sign a message.

        Args:
            message: the bytes to sign.

        Returns:
            The signature in COSE form, 64 bytes.

        Raises:
            LockedError: ``chip_changed``, ``chip_cleared``, ``secret_needed``, ``secret_wrong``.
            VerificationError: ``bad_key``: the file was changed.
            BackendUnavailableError, StorageError, BackendError: the TPM cannot be reached, or refuses.
        """

        def signed(esys: ESAPI) -> bytes:
            with self._chip.loaded(esys, objects.load(esys, self._storage, self._known.key, self._auth)) as key:
                session = self._storage.session(esys) if self._auth else ESYS_TR.PASSWORD
                return objects.sign(esys, key, message, session)

        with self._lock:
            try:
                return self._chip.run(signed, again=True)
            except TallystickError as reason:
                raise self._explained(reason) from reason
            finally:
                self._chip.close()

    def _explained(self, reason: TallystickError) -> TallystickError:
        """Say of a refusal what it means for an issuer."""
        if reason.code == "chip_changed":
            if was_cleared(self._chip, self._known.chip):
                return error("chip_cleared", "the TPM was cleared, and the issuer's key with it", _GONE_REMEDY)
            remedy = f"Sign on the computer it was made on. If its board was replaced: {_GONE_REMEDY}"
            return error("chip_changed", "this is not the TPM the issuer's key was made in", remedy)
        if answer(reason) in (TPM2_RC.BAD_AUTH, TPM2_RC.AUTH_FAIL):
            if self._auth:
                return error("secret_wrong", "the user secret is not the one this key was made with", _NAME_IT)
            return error("secret_needed", "this key in the TPM was made with a user secret", _NAME_IT)
        if reason.code == "tampered":
            return error("bad_key", "the TPM does not know this key: its file was changed", _BACKUP)
        return reason


def _chip(tcti: str, owner_password: bytes, connect: Connect) -> Chip:
    chip = Chip(tcti, connect)
    if owner_password:
        chip.own(owner_password)
    return chip


def _public(known: KeyRecord) -> PublicKey:
    try:
        return key_of(known.key.public)
    except (TSS2_Exception, TallystickError) as cause:
        raise error("bad_key", "the file of the key in the TPM holds no key", _BACKUP) from cause


def _record(data: bytes) -> KeyRecord:
    rows = versioned(unframed(data, _LIMIT), VERSION, _ROWS, "the file of the key in the TPM")
    return KeyRecord(rows[2], rows[3], blob(rows[4]), rows[5], rows[6])
