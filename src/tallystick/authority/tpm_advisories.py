# SPDX-License-Identifier: Apache-2.0
"""What is known of the firmware of TPMs and YubiKeys: ranges of versions that cap the level. Tallystick brings the
published cases (`attest.advisories`); a vendor adds its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from tallystick.authority.attest.advisories import BUILT_IN, Advisory, version
from tallystick.authority.office import Office, Work
from tallystick.authority.plain import one_line
from tallystick.authority.schema_tpm import TPM_ADVISORY
from tallystick.authority.sql import sa
from tallystick.errors import error

_PARTS: Final = 4
_LAST: Final = 0xFFFF
_MAX_REASON: Final = 256
_MAKER: Final = re.compile(r"[A-Z0-9]{2,4}|id:[0-9A-F]{8}")


@dataclass(frozen=True, slots=True)
class KnownAdvisory:
    """A range of versions that caps the level.

    Attributes:
        id: to remove it; None for those that Tallystick brings.
        manufacturer: as the certificates of its TPMs have it, for example ``IFX``; or ``YUBI``, ``YBIO``.
        first, last: versions affected, ``major.minor.build.revision``.
        max_level: the highest level a container in such a TPM or token gets.
        reason: for the operator.
    """

    id: int | None
    manufacturer: str
    first: str
    last: str
    max_level: int
    reason: str


def add(office: Office, manufacturer: str, *, first: str, last: str, max_level: int, reason: str) -> KnownAdvisory:
    """Cap the level of some TPMs or tokens from their next request on.

    Args:
        office: whose.
        manufacturer: as the certificates of its TPMs have it, for example ``IFX``; or ``YUBI``, ``YBIO``.
        first: the first version affected; numbers left out are 0.
        last: the last version affected; numbers left out are the highest.
        max_level: 0, 1 or 2.
        reason: why; required.

    Returns:
        What is on the books.

    Raises:
        UsageError: ``usage`` for a version, a manufacturer or a level that cannot be, or without a reason.
        StorageError: the database refuses.
    """
    low, high = _version(first, 0), _version(last, _LAST)
    if low > high:
        raise error("usage", f"version {last} comes before {first}")
    if not _MAKER.fullmatch(manufacturer):
        raise error("usage", f"{manufacturer[:40]!r} is no manufacturer's sign", "Use two to four letters: AMD, IFX.")
    if max_level not in (0, 1, 2):
        raise error("usage", "an advisory caps the level at 0, 1 or 2")
    reason = one_line(reason.strip())[:_MAX_REASON]
    if not reason:
        raise error("usage", "an advisory needs a reason", "Say where it is told: `--reason TEXT`.")

    def change(work: Work) -> KnownAdvisory:
        number = int(work.db.execute(sa.select(sa.func.max(TPM_ADVISORY.c.id))).scalar() or 0) + 1
        values = {"manufacturer": manufacturer, "max_level": max_level, "reason": reason}
        values |= {"from_version": dotted(low), "to_version": dotted(high)}
        work.insert(TPM_ADVISORY, id=number, **values, added_at=work.now)
        work.audit("tpm.advisory.add", str(number), **values)
        return _known(work.one(TPM_ADVISORY, "advisory", id=number))

    return office.write(change)


def remove(office: Office, number: int) -> KnownAdvisory:
    """Cap the level of some TPMs or tokens no more.

    Args:
        office: whose.
        number: the advisory's id.

    Returns:
        What was on the books.

    Raises:
        AuthorityError: ``record_not_found``.
        StorageError: the database refuses.
    """

    def change(work: Work) -> KnownAdvisory:
        known = _known(work.one(TPM_ADVISORY, "advisory", id=number))
        work.db.execute(sa.delete(TPM_ADVISORY).where(TPM_ADVISORY.c.id == number))
        work.audit("tpm.advisory.remove", str(number), manufacturer=known.manufacturer, reason=known.reason)
        return known

    return office.write(change)


def advisories(office: Office) -> tuple[KnownAdvisory, ...]:
    """List the vendor's own, then those that Tallystick brings.

    Args:
        office: whose.

    Raises:
        StorageError: the database cannot be read.
    """
    query = sa.select(TPM_ADVISORY).order_by(TPM_ADVISORY.c.id)
    own = office.read(lambda work: tuple(_known(row) for row in work.db.execute(query)))
    brought = (
        KnownAdvisory(None, one.manufacturer, dotted(one.first), dotted(one.last), one.level, one.reason)
        for one in BUILT_IN
    )
    return (*own, *brought)


def own(work: Work) -> tuple[Advisory, ...]:
    """Return the vendor's own as the verifier takes them.

    Args:
        work: the transaction.
    """
    return tuple(
        Advisory(
            row.manufacturer,
            _version(row.from_version, 0),
            _version(row.to_version, 0),
            row.max_level,
            row.reason,
        )
        for row in work.db.execute(sa.select(TPM_ADVISORY))
    )


def dotted(firmware: int) -> str:
    """Write the version a TPM attests.

    Args:
        firmware: 64 bits.

    Returns:
        ``major.minor.build.revision``.
    """
    return ".".join(str(firmware >> shift & _LAST) for shift in (48, 32, 16, 0))


def _version(text: str, rest: int) -> int:
    parts = text.strip().split(".")
    numbers = [int(part) for part in parts if part.isascii() and part.isdigit() and len(part) <= 5]
    if len(numbers) != len(parts) or len(parts) > _PARTS or max(numbers) > _LAST:
        raise error("usage", f"{text[:40]!r} is no version", "Write one to four numbers: 7.61 or 7.61.2785.0.")
    return version(*numbers, *(rest,) * (_PARTS - len(numbers)))


def _known(row: sa.Row[Any]) -> KnownAdvisory:
    return KnownAdvisory(row.id, row.manufacturer, row.from_version, row.to_version, row.max_level, row.reason)
