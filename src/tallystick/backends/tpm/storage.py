# SPDX-License-Identifier: Apache-2.0
"""The storage root key (SRK) of a TPM: what a container's keys hang from, and what its secrets are encrypted to.

The template is the ECC one of the TCG's "TPM v2.0 Provisioning Guidance", with ``noDA``; the same seed gives the same
key for ever, so its Name tells one TPM, and one TPM before it was cleared, from another.
"""

from __future__ import annotations

from typing import Final

from tallystick.backends.tpm.chip import OWNER_REMEDY, Chip
from tallystick.backends.tpm.library import ESAPI, ESYS_TR, TPM2_ALG, TPM2_RC, TPM2_SE, TPMA_SESSION, TSS2_Exception
from tallystick.backends.tpm.library import types as t
from tallystick.backends.tpm.templates import STORAGE, ecc_template
from tallystick.errors import error

SRK_HANDLE: Final = 0x81000001  # "TCG TPM v2.0 Provisioning Guidance", table 2
_PERSISTENT: Final = 0x81000000


class StorageKey:
    """The storage root key (SRK) of a TPM, and the session salted to it.

    Args:
        chip: the TPM.
        number: persistent handle; 0 where it is made anew each time.
        name: recorded at provisioning, 34 bytes; empty for any, at provisioning.
    """

    def __init__(self, chip: Chip, number: int, name: bytes) -> None:
        self._chip = chip
        self.number = number
        self.name = name

    @classmethod
    def provision(cls, chip: Chip) -> tuple[StorageKey, bool]:
        """Find the SRK, or make it persistent where there is room.

        Args:
            chip: the TPM.

        Returns:
            The key, and whether this call made it persistent.

        Raises:
            BackendError: the TPM refuses.
        """

        def make(esys: ESAPI) -> tuple[int, bytes, bool]:
            primary, public, *_ = _primary(esys)
            with chip.loaded(esys, primary):
                name = bytes(public.get_name())
                if SRK_HANDLE in taken:
                    there = bytes(esys.tr_get_name(esys.tr_from_tpmpublic(SRK_HANDLE)))
                    return (SRK_HANDLE if there == name else 0), name, False
                try:
                    esys.evict_control(ESYS_TR.OWNER, primary, SRK_HANDLE)
                except TSS2_Exception as reason:
                    if int(reason.error) != TPM2_RC.NV_SPACE:
                        raise
                    return 0, name, False
                return SRK_HANDLE, name, True

        taken = chip.handles(_PERSISTENT)
        number, name, made = chip.as_owner(make)
        return cls(chip, number, name), made

    def at(self, esys: ESAPI) -> ESYS_TR:
        """Return its handle, after its Name was compared with the one recorded.

        Args:
            esys: the library's object.

        Raises:
            LockedError: ``chip_changed``: the TPM has another one.
        """
        return self._chip.kept(esys, "srk", self._load)

    def session(self, esys: ESAPI) -> ESYS_TR:
        """Return the session that hides secrets on the way: salted to the SRK, AES-128-CFB both ways.

        A session without a salt would have a key that anybody on the bus can compute.

        Args:
            esys: the library's object.
        """
        return self._chip.kept(esys, "session", self._start)

    def _load(self, esys: ESAPI) -> ESYS_TR:
        if self.number and self.number in self._chip.handles(_PERSISTENT):
            handle = esys.tr_from_tpmpublic(self.number)
            if self._is_own(esys, handle):
                return handle  # else somebody put another key there since: the TPM may be the same all the same
        handle = self._remade(esys)
        if not self._is_own(esys, handle):
            esys.flush_context(handle)
            raise error("chip_changed", "the TPM has another storage key than the one this container was made under")
        return handle

    def _is_own(self, esys: ESAPI, handle: ESYS_TR) -> bool:
        return not self.name or bytes(esys.tr_get_name(handle)) == self.name

    def _remade(self, esys: ESAPI) -> ESYS_TR:
        try:
            handle, *_ = _primary(esys)
        except TSS2_Exception as reason:
            if int(reason.error) not in (TPM2_RC.BAD_AUTH, TPM2_RC.AUTH_FAIL):
                raise
            message = "the container's storage key has to be made anew, and this TPM has an owner password"
            raise error("backend_failed", message, OWNER_REMEDY) from reason
        return handle

    def _start(self, esys: ESAPI) -> ESYS_TR:
        symmetric = t.TPMT_SYM_DEF(
            algorithm=TPM2_ALG.AES, keyBits=t.TPMU_SYM_KEY_BITS(aes=128), mode=t.TPMU_SYM_MODE(aes=TPM2_ALG.CFB)
        )
        session = esys.start_auth_session(
            tpm_key=self.at(esys), bind=ESYS_TR.NONE, session_type=TPM2_SE.HMAC, symmetric=symmetric,
            auth_hash=TPM2_ALG.SHA256,
        )  # fmt: skip
        esys.trsess_set_attributes(session, TPMA_SESSION.CONTINUESESSION | TPMA_SESSION.DECRYPT | TPMA_SESSION.ENCRYPT)
        return session


def _primary(esys: ESAPI) -> tuple[ESYS_TR, t.TPM2B_PUBLIC, object, object, object]:
    made: tuple[ESYS_TR, t.TPM2B_PUBLIC, object, object, object] = esys.create_primary(
        t.TPM2B_SENSITIVE_CREATE(), ecc_template(STORAGE), ESYS_TR.OWNER
    )
    return made
