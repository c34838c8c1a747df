# SPDX-License-Identifier: Apache-2.0
"""What proves to an issuer that a container lives in a TPM, and what only that TPM can open.

The evidence (``docs/format.md``, section 6) is signed by an attestation key (AK) that is made anew each time from the
TPM's endorsement seed, one for each container. The issuer seals its answer to the pair (endorsement key, AK): whoever
has not got that TPM cannot open it, and that is the whole challenge. In the endorsement hierarchy the TPM tells its
clock, its resets and its firmware as they are; keys of the owner see them disguised.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Protocol

from tallystick.backends.tpm.chip import Chip, answer
from tallystick.backends.tpm.endorsement import endorsed, endorsement_key, find
from tallystick.backends.tpm.library import ESAPI, ESYS_TR, TPM2_ALG, TPM2_RC
from tallystick.backends.tpm.library import types as t
from tallystick.backends.tpm.nv import Index
from tallystick.backends.tpm.storage import StorageKey
from tallystick.backends.tpm.templates import ATTESTING, area_bytes, ecc_template
from tallystick.codec import cbor
from tallystick.codec.digest import sha256
from tallystick.codec.keys import PublicKey
from tallystick.errors import TallystickError, error

EVIDENCE: Final = "tpm"
AK_WORD: Final = b"tallystick AK"
_NOT_FOR_US: Final = (TPM2_RC.INTEGRITY, TPM2_RC.VALUE, TPM2_RC.SIZE, TPM2_RC.INSUFFICIENT, TPM2_RC.FAILURE)


class Holder(Protocol):
    """What an attestor needs of an anchor."""

    @property
    def public_key(self) -> PublicKey:
        """The identity key."""

    @property
    def storage(self) -> StorageKey:
        """The storage key, and the session salted to it."""

    @property
    def indices(self) -> tuple[Index, ...]:
        """The counter, and the chain where there is one."""

    def identity(self, esys: ESAPI) -> ESYS_TR:
        """Return the handle of the identity key, loaded."""

    def authorization(self, esys: ESAPI) -> ESYS_TR:
        """Return what authorizes it."""


class Attestor:
    """Speaks for one container before issuers.

    Args:
        chip: the TPM.
        holder: its anchor.
    """

    def __init__(self, chip: Chip, holder: Holder) -> None:
        self._chip = chip
        self._holder = holder

    def evidence(self, challenge: bytes) -> Mapping[str, bytes]:
        """Collect the evidence.

        Args:
            challenge: 32 bytes it covers.

        Returns:
            It, by its name; nothing where the TPM keeps its endorsement hierarchy from us: that costs the level only.

        Raises:
            BackendError: the TPM does not answer.
        """
        try:
            return {EVIDENCE: cbor.encode(self._collect(challenge))}
        except TallystickError as reason:
            if reason.code != "backend_failed":
                raise
            return {}

    def activate(self, credential: bytes, secret: bytes) -> bytes:
        """Open what was sealed to this TPM and this container's attestation key; see `Anchor.activate`."""
        _, kind = find(self._chip)

        def open_it(esys: ESAPI) -> bytes:
            sealed = t.TPM2B_ID_OBJECT(credential), t.TPM2B_ENCRYPTED_SECRET(secret)
            storage = self._holder.storage
            hidden, salt = storage.session(esys), storage.at(esys)  # what is opened must not be seen on its way
            with self.attesting(esys) as ak, endorsement_key(self._chip, esys, kind) as (ek, public):
                with endorsed(self._chip, esys, public, salt) as policy:
                    by = {"session1": ESYS_TR.PASSWORD, "session2": policy, "session3": hidden}
                    return bytes(esys.activate_credential(ak, ek, *sealed, **by))

        try:
            return self._chip.run(open_it, again=True)
        except TallystickError as reason:
            if answer(reason) in _NOT_FOR_US:
                raise error("decrypt_failed", "this answer was sealed to another TPM") from reason
            raise

    @contextmanager
    def attesting(self, esys: ESAPI) -> Iterator[ESYS_TR]:
        """Give the attestation key.

        Args:
            esys: the library's object.
        """
        template = ecc_template(ATTESTING, x=sha256(AK_WORD + self._holder.public_key.thumbprint))
        handle, *_ = esys.create_primary(t.TPM2B_SENSITIVE_CREATE(), template, ESYS_TR.ENDORSEMENT)
        with self._chip.loaded(esys, handle):
            yield handle

    def _collect(self, challenge: bytes) -> dict[int, Any]:
        certificates, kind = find(self._chip)

        def collect(esys: ESAPI) -> dict[int, Any]:
            holder = self._holder
            with endorsement_key(self._chip, esys, kind) as (_, ek):
                found: dict[int, Any] = {1: certificates, 2: area_bytes(ek)}
            with self.attesting(esys) as ak:
                identity = holder.identity(esys)
                found[3] = area_bytes(esys.read_public(ak)[0])
                found[4] = area_bytes(esys.read_public(identity)[0])
                found[5] = certify(esys, ak, identity, holder.authorization(esys), challenge)
                for label, index in zip((6, 8), holder.indices, strict=False):
                    found[label] = index.public(esys)
                    found[label + 1] = index.certify(esys, ak, challenge)
            return found

        return self._chip.run(collect, again=True)


def certify(esys: ESAPI, ak: ESYS_TR, key: ESYS_TR, session: ESYS_TR, challenge: bytes) -> list[bytes]:
    """Let an attestation key state that a loaded key is in its TPM.

    Args:
        esys: the library's object.
        ak: the attestation key.
        key: the key.
        session: authorizes the key.
        challenge: 32 bytes it covers.

    Returns:
        TPMS_ATTEST and TPMT_SIGNATURE.
    """
    scheme = t.TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL)
    attest, signature = esys.certify(key, ak, challenge, in_scheme=scheme, session1=session)
    return [bytes(attest), bytes(signature.marshal())]
