# SPDX-License-Identifier: Apache-2.0
"""What ``tally doctor`` finds out about the TPM."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from tallystick import registry
from tallystick.backends.tpm.uri import DEFAULT_TCTI, parse_tpm_uri
from tallystick.container.places import user_folder

SCHEME: Final = "tpm"


def tpm(uri: str) -> dict[str, Any]:
    """Ask the TPM of a container, or that of this computer, what it is and what is in the way.

    Args:
        uri: of the container.

    Raises:
        BackendUnavailableError: there is none, or a library is missing.
        StorageError: ``no_permission``.
        UsageError: ``bad_uri``.
        BackendError: it does not answer.
    """
    registry.backend(f"{SCHEME}:")  # says what is missing
    from tallystick.backends.tpm.checkup import examine

    return dict(examine(parse_tpm_uri(uri).tcti if uri.partition(":")[0] == SCHEME else DEFAULT_TCTI))


def folder(uri: str) -> str:
    """Return where the files of a container in a TPM are.

    Args:
        uri: of the container.

    Raises:
        UsageError: ``bad_uri``.
    """
    where = parse_tpm_uri(uri)
    return where.path or str(Path(user_folder(SCHEME)) / where.name)
