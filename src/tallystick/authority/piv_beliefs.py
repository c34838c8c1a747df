# SPDX-License-Identifier: Apache-2.0
"""What the attestation of a YubiKey proves to this vendor: by the certificates it pinned and the advisories it keeps.

Tallystick brings no certificate of Yubico's: until the vendor pins a root (``tally vendor piv root add``), a YubiKey
counts as any token, level 1. Advisories stand with those of TPMs, under the signs ``YUBI`` and, for those with a
fingerprint reader, ``YBIO``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from tallystick.authority import piv_keys
from tallystick.authority.office import Work
from tallystick.authority.standing import Standing, unattested
from tallystick.errors import AuthorityError, FormatError, error
from tallystick.license.messages import Request

if TYPE_CHECKING:
    from tallystick.authority.attest.chains import Pinned

EVIDENCE: Final = "piv"  # the name of the evidence in requests
_PROVEN: Final = 2


def examine(work: Work, request: Request, data: bytes) -> Standing:
    """Derive the level that an attestation proves, and put the token on record where it is proven.

    Args:
        work: the transaction.
        request: accepted: its signature proves the key that must be the attested one.
        data: the evidence.

    Returns:
        The level with warnings for the operator; where a check fails, the one the container has without attestation.

    Raises:
        FormatError: ``malformed`` where something pinned cannot be read any more.
    """
    from tallystick.authority import tpm_advisories
    from tallystick.authority.attest import piv

    try:
        pinned = _pinned(work, piv.certificates(data))
        found = piv.examine(data, request.key, pinned, tpm_advisories.own(work), work.now)
    except AuthorityError as refused:
        return _nothing(request, f"{refused.message} ({refused.details.get('reason', refused.code)})")
    if found.pinned and not piv_keys.record(work, request, found):
        return _nothing(request, "its key was attested in another token before (piv_serial_other)")
    if found.level >= _PROVEN:
        return Standing(found.level, found.warnings)
    hint = "; `tally vendor piv root add` pins one" if any("root" in one for one in found.remarks) else ""
    remark = f"its token counts up to L{found.level}: {'; '.join(found.remarks)}{hint}"
    return Standing(found.level, (remark, *found.warnings))


def _pinned(work: Work, certificates: Iterable[bytes]) -> Pinned:
    """Read what is pinned of those who issued certificates, and of their issuers."""
    from tallystick.authority import tpm_pins
    from tallystick.authority.attest.chains import Pinned

    pins = tpm_pins.concerning(work, certificates, tpm_pins.PIV)
    try:
        return Pinned.read(pins[tpm_pins.ROOT], pins[tpm_pins.INTERMEDIATE], pins[tpm_pins.CRL])
    except FormatError as cause:
        message = "a certificate or revocation list that was pinned for YubiKeys cannot be read"
        remedy = "Find it with `tally vendor piv root list`, remove it, and add it again."
        raise error("malformed", message, remedy) from cause


def _nothing(request: Request, why: str) -> Standing:
    level = unattested(request)
    return Standing(level, (f"its level is L{level}, for its attestation proves nothing: {why}",))
