# SPDX-License-Identifier: Apache-2.0
"""Which firmware of which TPMs and tokens is known to keep keys badly, and the level its containers are capped at.

A row is here where a manufacturer's own notice, or a source quoting it, gives the affected versions *and* the
versions are those the TPM reports in its attestations. Bugs that only stop a TPM are not here. Not here either,
because no source was found that ties them to versions a TPM reports: CVE-2025-2884 of the reference code (Intel,
AMD, Infineon; Nuvoton: denial of service only), its twin CVE-2025-49133 in libtpms (which reports the date of the
reference code whatever its own version), and TPM-FAIL in Intel's firmware 12 and later (which reports other numbers
than the notice lists). A vendor adds rows of its own, see `verify.Beliefs`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_LAST: Final = 0xFFFF
YUBIKEY: Final = "YUBI"  # the sign of YubiKeys; no manufacturer of TPMs has it
YUBIKEY_BIO: Final = "YBIO"  # of those with a fingerprint reader, besides


@dataclass(frozen=True, slots=True)
class Advisory:
    """Caps the level of TPMs, or tokens, of one manufacturer and a range of firmware versions.

    Attributes:
        manufacturer: as the certificates of its TPMs have it, for example ``"IFX"``; or `YUBIKEY`, `YUBIKEY_BIO`.
        first: the first version affected, 64 bits, as attested (see `version`).
        last: the last version affected.
        level: the highest level a container in such a TPM gets.
        reason: a sentence for the operator, with the number of the advisory.
    """

    manufacturer: str
    first: int
    last: int
    level: int
    reason: str


def version(major: int, minor: int, build: int = 0, revision: int = 0) -> int:
    """Return the attested number of a version as its manufacturer writes it, ``major.minor.build.revision``."""
    return major << 48 | minor << 32 | build << 16 | revision


def _rows(
    manufacturer: str, reason: str, ranges: Iterable[tuple[tuple[int, ...], tuple[int, ...]]]
) -> tuple[Advisory, ...]:
    """One row for each range; a last version of two or three numbers means all its builds."""
    return tuple(
        Advisory(manufacturer, version(*first), version(*last, *(_LAST,) * (4 - len(last))), 1, reason)
        for first, last in ranges
    )


# Versions up to 4.33, 4.40 to 4.42, up to 5.61, up to 6.42, up to 7.61 and up to 133.32: Microsoft ADV170012 (October
# 2017) for Infineon's notice, as quoted at https://vanstechelman.eu/node/304. Keys of other kinds are sound, and a weak
# RSA key stays weak after an update: `roca` looks at the keys themselves.
_ROCA: Final = _rows(
    "IFX",
    "this firmware makes RSA keys that can be factored (CVE-2017-15361, ROCA)",
    (
        ((4, 0), (4, 33)),
        ((4, 40), (4, 42)),
        ((5, 0), (5, 61)),
        ((6, 0), (6, 42)),
        ((7, 0), (7, 61)),
        ((133, 0), (133, 32)),
    ),
)

# The versions listed in ST's notice: https://st.com/content/st_com/en/campaigns/tpm-update.html
_TPM_FAIL_ST: Final = _rows(
    "STM",
    "this firmware's ECDSA signatures give their key away by their timing (CVE-2019-16863, TPM-FAIL)",
    [
        (one, one)
        for one in (
            *((71, minor) for minor in (0, 4, 12)),
            *((73, minor) for minor in (0, 4, 5, 8, 9)),
            *((74, minor) for minor in (0, 4, 5, 8, 9, 16)),
        )
    ],
)

# Fixed in 11.8.65, 11.11.65 and 11.22.65: INTEL-SA-00241 (November 2019), as listed at
# https://heise.de/news/Angriffe-auf-Trusted-Platform-Modules-von-Intel-und-STMicroelectronics-4585573.html. That such
# a TPM reports these numbers: 720904.3280226 is 11.8.50.3426, https://github.com/petrs/TPM_PCR/issues/4.
_TPM_FAIL_INTEL: Final = _rows(
    "INTC",
    "this firmware's ECDSA signatures give their key away by their timing (CVE-2019-11090, TPM-FAIL)",
    (((11, 0), (11, 8, 64)), ((11, 11), (11, 11, 64)), ((11, 22), (11, 22, 64))),
)

# Fixed in 5.7.0, with a fingerprint reader in 5.7.2: YSA-2024-03 (September 2024). No YubiKey's firmware is updated.
_MEASURED: Final = "who holds a token with this firmware can measure its ECDSA key (CVE-2024-45678, EUCLEAK)"
_EUCLEAK: Final = (
    *_rows(YUBIKEY, _MEASURED, (((0, 0), (5, 6)),)),
    *_rows(YUBIKEY_BIO, _MEASURED, (((5, 7), (5, 7, 1)),)),
)

BUILT_IN: Final = (*_ROCA, *_TPM_FAIL_ST, *_TPM_FAIL_INTEL, *_EUCLEAK)


def applying(manufacturer: str, firmware: int, own: Iterable[Advisory] = ()) -> tuple[Advisory, ...]:
    """Find what is known of a TPM's firmware.

    Args:
        manufacturer: from the certificate of the endorsement key.
        firmware: as attested, 64 bits.
        own: the vendor's own rows.

    Returns:
        The rows, those built in first.
    """
    rows = (*BUILT_IN, *own)
    return tuple(row for row in rows if row.manufacturer == manufacturer and row.first <= firmware <= row.last)
