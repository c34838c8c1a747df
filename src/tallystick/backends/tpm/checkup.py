# SPDX-License-Identifier: Apache-2.0
"""What can be wrong with a TPM, for ``tally doctor``; nothing is changed in it.

Sources: TCG TPM 2.0 Library, part 2 (6.10, 6.13, 8.6, 8.9).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tallystick.backends.tpm.chip import Chip
from tallystick.backends.tpm.details import maker
from tallystick.backends.tpm.endorsement import find
from tallystick.backends.tpm.library import ESAPI, TPM2_CAP, TPM2_CC, TPM2_ECC, TPM2_PT, TPMA_PERMANENT
from tallystick.backends.tpm.transport import Connect, transport

_MANY: Final = 254
_INDEX: Final = 0xFFFF  # of a command, in its attributes
_NEEDED: Final = (
    TPM2_CC.CreatePrimary, TPM2_CC.Create, TPM2_CC.Load, TPM2_CC.Unseal, TPM2_CC.Sign, TPM2_CC.ECDH_ZGen,
    TPM2_CC.StartAuthSession, TPM2_CC.NV_DefineSpace, TPM2_CC.NV_Increment, TPM2_CC.NV_Read,
)  # fmt: skip
_CHAINS: Final = (TPM2_CC.NV_Extend,)
_PROVES: Final = (TPM2_CC.Certify, TPM2_CC.NV_Certify, TPM2_CC.ActivateCredential)
_METERS: Final = (TPM2_CC.StirRandom, TPM2_CC.GetSessionAuditDigest)
_OWNED: Final = "is set: to create and to destroy a container, name the file with it: ?owner-auth-source=file:PATH"
_LOCKED_OUT: Final = (
    "yes, somebody gave wrong passwords; containers go on working: nothing of them is under that protection; it ends "
    "by itself, or with `tpm2_dictionarylockout --clear-lockout`"
)


def examine(tcti: str, connect: Connect = transport) -> Mapping[str, str]:
    """Ask a TPM what it is, and what of it is in the way of containers.

    Args:
        tcti: which.
        connect: opens the way to it.

    Returns:
        Facts by name, for people.

    Raises:
        BackendUnavailableError: there is no such TPM.
        StorageError: ``no_permission``.
        BackendError: ``device_silent``, ``backend_failed``.
    """
    chip = Chip(tcti, connect)
    try:
        return _facts(chip)
    finally:
        chip.close()


def _facts(chip: Chip) -> Mapping[str, str]:
    fixed = chip.properties()
    commands, state, curves = chip.run(_asked, again=True)
    revision = fixed.get(TPM2_PT.REVISION, 0)
    certificates, _ = find(chip)
    lacks = [_named(one) for one in _NEEDED if one not in commands]
    if TPM2_ECC.NIST_P256 not in curves:
        lacks.append("the curve P-256")
    return {
        "tpm": f"{maker(fixed)} at {chip.tcti}",
        "revision": f"{revision // 100}.{revision % 100:02d}",
        "can hold containers": f"no: it lacks {', '.join(lacks)}" if lacks else "yes",
        "notices restored files": "yes" if not _lacking(_CHAINS, commands) else "one program at a time: no chain (P2)",
        "proves itself to vendors": _proves(bool(certificates), _lacking(_PROVES, commands)),
        "counts units itself": _lacking((*_METERS, *_PROVES), commands) or "yes",
        "lockout": _LOCKED_OUT if state & TPMA_PERMANENT.INLOCKOUT else "no",
        "owner password": _OWNED if state & TPMA_PERMANENT.OWNERAUTHSET else "none",
    }


def _asked(esys: ESAPI) -> tuple[set[int], int, set[int]]:
    """Read which commands it has, what state it is in, and its curves."""
    commands: set[int] = set()
    first, more = 0, True
    while more:
        more, data = esys.get_capability(TPM2_CAP.COMMANDS, first, _MANY)
        listed = data.data.command
        found = {int(listed.commandAttributes[at]) & _INDEX for at in range(listed.count)}
        first, more = max(found, default=0) + 1, bool(more and found)
        commands |= found
    _, data = esys.get_capability(TPM2_CAP.TPM_PROPERTIES, TPM2_PT.PERMANENT, 1)
    rows = data.data.tpmProperties
    state = int(rows[0].value) if len(rows) and rows[0].property == TPM2_PT.PERMANENT else 0
    _, data = esys.get_capability(TPM2_CAP.ECC_CURVES, 0, _MANY)
    return commands, state, {int(curve) for curve in data.data.eccCurves}


def _lacking(needed: tuple[TPM2_CC, ...], commands: set[int]) -> str:
    lacks = [_named(one) for one in needed if one not in commands]
    return f"no: it lacks {', '.join(lacks)}" if lacks else ""


def _proves(certified: bool, lacking: str) -> str:
    return lacking or ("yes" if certified else "no: it has no certificate of its maker; containers in it are level L1")


def _named(command: int) -> str:
    return next(f"TPM2_{name}" for name, value in vars(TPM2_CC).items() if value == command)
