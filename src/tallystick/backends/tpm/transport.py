# SPDX-License-Identifier: Apache-2.0
"""The ways to a TPM: a device of the kernel, the resource manager of user space, or a TPM in software."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final, TypeAlias

from tallystick.backends.tpm.library import TCTI, TCTILdr
from tallystick.backends.tpm.uri import DEFAULT_TCTI
from tallystick.errors import error

Connect: TypeAlias = Callable[[str], TCTI]
"""Given ``device:PATH``, ``swtpm:...`` or ``abrmd``, returns the library's transport to that TPM."""

PERMISSION_REMEDY: Final = "Join the group that may use TPMs and log in again: `sudo usermod -aG tss $USER`."


def transport(tcti: str) -> TCTI:
    """Open the way to a TPM.

    Args:
        tcti: ``device:PATH``, ``swtpm:CONFIGURATION`` or ``abrmd``.

    Returns:
        The library's transport.

    Raises:
        BackendUnavailableError: ``backend_unavailable``: there is no such device.
        StorageError: ``no_permission``.
        tpm2_pytss.TSS2_Exception: it does not open.
    """
    kind, _, configuration = tcti.partition(":")
    if kind == "device":
        device = configuration or DEFAULT_TCTI.partition(":")[2]
        if not os.path.exists(device):
            remedy = "Switch the TPM on in the firmware's setup, or name another one: `tpm:tcti=...`."
            raise error("backend_unavailable", f"this computer has no TPM at {device}", remedy)
        if not os.access(device, os.R_OK | os.W_OK):
            raise error("no_permission", f"this user may not use the TPM at {device}", PERMISSION_REMEDY)
    return TCTILdr("tabrmd" if kind == "abrmd" else kind, configuration or None)
