# SPDX-License-Identifier: Apache-2.0
"""In the guest: the TPM by tpm2-pytss and nothing else, for questions about the kernel and its resource manager.

The library is imported when it is needed: the host, which may lack it, imports this module for the names of the checks.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

MANAGED, BARE = Path("/dev/tpmrm0"), Path("/dev/tpm0")
"""Through the kernel's resource manager, for everybody who may, and past it, for root and for looking."""
DRIVER, BOARD = Path("/sys/bus/acpi/drivers/tpm_crb"), "MSFT0101:00"
"""Of the TPM, and where ACPI says it is."""
SLOTS = 3
"""Objects that this TPM holds at once."""
DIGEST = hashlib.sha256(b"anything").digest()


def chip(device: Path = MANAGED) -> Any:
    """A connection; use it as a context manager."""
    from tpm2_pytss import ESAPI

    return ESAPI(f"device:{device}")


def make_key(connection: Any) -> Any:
    """The handle of a new key that signs."""
    from tpm2_pytss import TPM2_ALG, TPM2B_PUBLIC, TPM2B_SENSITIVE_CREATE, TPMA_OBJECT

    may = TPMA_OBJECT.FIXEDTPM | TPMA_OBJECT.FIXEDPARENT | TPMA_OBJECT.SENSITIVEDATAORIGIN
    may |= TPMA_OBJECT.USERWITHAUTH | TPMA_OBJECT.SIGN_ENCRYPT | TPMA_OBJECT.NODA
    template = TPM2B_PUBLIC.parse("ecc256:ecdsa-sha256", objectAttributes=may)
    template.publicArea.parameters.eccDetail.symmetric.algorithm = TPM2_ALG.NULL
    return connection.create_primary(TPM2B_SENSITIVE_CREATE(), template)[0]


def sign(connection: Any, key: Any) -> Any:
    """Sign `DIGEST`."""
    from tpm2_pytss import TPM2_ALG, TPM2_RH, TPM2_ST, TPMT_SIG_SCHEME, TPMT_TK_HASHCHECK

    ticket = TPMT_TK_HASHCHECK(tag=TPM2_ST.HASHCHECK, hierarchy=TPM2_RH.NULL)
    return connection.sign(key, DIGEST, TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL), ticket)


def session(connection: Any) -> Any:
    """The handle of a new session."""
    from tpm2_pytss import ESYS_TR, TPM2_ALG, TPM2_SE, TPMT_SYM_DEF

    nothing = TPMT_SYM_DEF(algorithm=TPM2_ALG.NULL)
    return connection.start_auth_session(ESYS_TR.NONE, ESYS_TR.NONE, TPM2_SE.HMAC, nothing, TPM2_ALG.SHA256)


def clear(connection: Any) -> None:
    """Do what the firmware's setup offers: whatever the owner had is gone."""
    from tpm2_pytss import ESYS_TR

    connection.clear(ESYS_TR.LOCKOUT)


def left_behind() -> list[str]:
    """Handles of objects and sessions in the TPM itself, whoever they belong to. For root."""
    return _handles("TRANSIENT_FIRST", "LOADED_SESSION_FIRST", "ACTIVE_SESSION_FIRST")


def kept_in_it() -> list[str]:
    """Handles of indices and persistent objects. For root."""
    return _handles("NV_INDEX_FIRST", "PERSISTENT_FIRST")


def _handles(*kinds: str) -> list[str]:
    from tpm2_pytss import TPM2_CAP, TPM2_HC

    found = []
    with chip(BARE) as connection:
        for kind in kinds:
            said = connection.get_capability(TPM2_CAP.HANDLES, getattr(TPM2_HC, kind), 64)[1]  # its data is a view
            found += [f"{handle:#x}" for handle in said.data.handles]
    return found
