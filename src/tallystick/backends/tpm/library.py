# SPDX-License-Identifier: Apache-2.0
"""tpm2-pytss, imported in one place, so that its absence is told by name and libtss2 keeps quiet."""

from __future__ import annotations

import os

from tallystick.errors import error

if os.getenv("TSS2_LOG") is None:  # read by libtss2 when it logs first: it prints each refusal of a TPM otherwise
    os.putenv("TSS2_LOG", "all+NONE")

try:
    from tpm2_pytss import ESAPI, TCTI, TCTILdr, TSS2_Exception, types
    from tpm2_pytss.constants import (
        ESYS_TR,
        TPM2_ALG,
        TPM2_CAP,
        TPM2_CC,
        TPM2_ECC,
        TPM2_NT,
        TPM2_PT,
        TPM2_RC,
        TPM2_RH,
        TPM2_SE,
        TPM2_ST,
        TPMA_NV,
        TPMA_OBJECT,
        TPMA_PERMANENT,
        TPMA_SESSION,
    )
    from tpm2_pytss.tsskey import TSSPrivKey
    from tpm2_pytss.utils import NoSuchIndex, create_ek_template
except ImportError as cause:
    raise error(
        "backend_unavailable",
        "tpm: containers need the extra 'tpm'",
        'Install it: pip install "tallystick[tpm]"; on Debian first: apt-get install libtss2-dev pkg-config gcc',
        extra="tpm",
    ) from cause

__all__ = [
    "ESAPI",
    "ESYS_TR",
    "TCTI",
    "TPM2_ALG",
    "TPM2_CAP",
    "TPM2_CC",
    "TPM2_ECC",
    "TPM2_NT",
    "TPM2_PT",
    "TPM2_RC",
    "TPM2_RH",
    "TPM2_SE",
    "TPM2_ST",
    "TPMA_NV",
    "TPMA_OBJECT",
    "TPMA_PERMANENT",
    "TPMA_SESSION",
    "NoSuchIndex",
    "TCTILdr",
    "TSS2_Exception",
    "TSSPrivKey",
    "create_ek_template",
    "types",
]  # fmt: skip
