# SPDX-License-Identifier: Apache-2.0
"""Books that are older than what containers hold: a database restored from its backup.

A container passes over every license whose `seq` is not above the one it holds. So the books take the `seq` that a
container names of a license of its own: the next one signed is above it. They take no more than `MOST`, which leaves as
many numbers again to the vendor, who alone uses these up: no report can exhaust them.

What the container holds was signed by this vendor, later than anything the books know, and may have been paid for: an
answer does not replace it by what it said before, but warns. A person decides: ``tally vendor refresh`` signs what the
books say, above it. Only what the books have as revoked or given up goes out at once, for that is final.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from tallystick.authority.licensing import read_license, status_of
from tallystick.authority.office import Work
from tallystick.authority.schema import ENTITLEMENT, LICENSE
from tallystick.authority.sql import sa
from tallystick.codec.ident import container_id
from tallystick.license.messages import Account
from tallystick.license.model import REVOKED

MOST: Final = 1 << 31  # a `seq` goes up to twice that
_SHOWN: Final = 3  # whoever has a key can name any number of licenses that nobody has


def notice(work: Work, container: bytes, accounts: Iterable[Account]) -> tuple[str, ...]:
    """Take the numbers a container names, and warn of licenses it has newer than the books, or that they do not have.

    Args:
        work: the transaction.
        container: its thumbprint.
        accounts: what it says it holds.

    Returns:
        Warnings for the operator, until the license is signed again.
    """
    shown, warnings, missing = container_id(container), [], []
    for account in accounts:
        row, name = work.find(LICENSE, id=account.license_id), account.license_id.hex()
        if row is None:
            missing.append(name)
            continue
        if row.container != container:
            continue
        if min(account.seq, MOST) > row.seq:
            work.update(LICENSE, {"id": row.id}, seq=min(account.seq, MOST))
        if stays(work, row, account.seq):
            known = read_license(row.message).seq
            work.audit("books.older", name, container=shown, seq=account.seq, known=known)
            warnings.append(
                f"{shown} holds issue {account.seq} of license {name}, and these books know {known}: they are older. "
                f"It keeps what it has; bring the license's terms up to date, then `tally vendor refresh {name[:8]}`"
            )
    if missing:
        named = ", ".join(missing[:_SHOWN]) + (f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else "")
        work.audit("books.missing", shown, licenses=named)
        warnings.append(f"{shown} holds what these books do not have, so they are older: license {named}")
    return tuple(warnings)


def stays(work: Work, row: sa.Row[Any], held: int | None) -> bool:
    """Tell whether a container is to keep what it holds of a license, because the books know nothing as new.

    Args:
        work: the transaction.
        row: of the license.
        held: `seq` that its container names; None where it does not hold it.
    """
    if held is None or not row.message or held <= read_license(row.message).seq:
        return False
    return status_of(row, work.one(ENTITLEMENT, "entitlement", id=row.entitlement))[0] != REVOKED
