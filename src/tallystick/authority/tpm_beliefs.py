# SPDX-License-Identifier: Apache-2.0
"""What the evidence of a TPM proves to this vendor: by the certificates it pinned and the advisories it keeps."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from tallystick.authority.office import Work
from tallystick.authority.standing import Standing
from tallystick.errors import AuthorityError, FormatError, error
from tallystick.license.messages import Request

if TYPE_CHECKING:
    from tallystick.authority.attest.verify import Beliefs

EVIDENCE: Final = "tpm"  # the name of the evidence in requests
_PROVEN: Final = 2
_BOOKS: Final = 1 << 63  # numbers from here on have no place in a database


def examine(work: Work, request: Request, data: bytes) -> Standing:
    """Derive the level that a TPM's evidence proves.

    Args:
        work: the transaction.
        request: accepted: its signature proves the key that the evidence must be about.
        data: the evidence.

    Returns:
        The level with warnings for the operator, and what the TPM says; level 0 where a check fails.

    Raises:
        FormatError: ``malformed`` where something pinned cannot be read any more.
    """
    from tallystick.authority.attest import verify
    from tallystick.authority.attest.evidence import Evidence

    challenge = sha256(request.challenge()).digest()
    try:
        believed = beliefs(work, Evidence.parse(data).certificates)
        attested = verify.examine(data, request.key, challenge, believed, work.now)
    except AuthorityError as refused:
        return _nothing(f"{refused.message} ({refused.details.get('reason', refused.code)})")
    except FormatError as cause:
        message = "a certificate or revocation list that was pinned for TPMs cannot be read"
        remedy = "Find it with `tally vendor tpm root list`, remove it, and add it again."
        raise error("malformed", message, remedy) from cause
    if max(attested.counter, attested.clock) >= _BOOKS:
        return _nothing("its counter or clock is beyond all numbers")
    if attested.level >= _PROVEN:
        return Standing(attested.level, attested.remarks, attested)
    hint = "; `tally vendor tpm root add` pins one" if any("root" in one for one in attested.remarks) else ""
    remark = f"its TPM counts up to L{attested.level}: {'; '.join(attested.remarks)}{hint}"
    return Standing(attested.level, (remark,), attested)


def beliefs(work: Work, certificates: Iterable[bytes]) -> Beliefs:
    """Return what the verifier takes for granted.

    Args:
        work: the transaction.
        certificates: those it is about, DER.
    """
    from tallystick.authority import tpm_advisories, tpm_pins
    from tallystick.authority.attest.verify import Beliefs

    pins = tpm_pins.concerning(work, certificates)
    return Beliefs(pins[tpm_pins.ROOT], pins[tpm_pins.INTERMEDIATE], pins[tpm_pins.CRL], tpm_advisories.own(work))


def _nothing(why: str) -> Standing:
    return Standing(remarks=(f"its level is L0, for its TPM proves nothing: {why}",))
