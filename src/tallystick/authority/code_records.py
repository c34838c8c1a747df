# SPDX-License-Identifier: Apache-2.0
"""Activation codes in the database: made so that no two share a selector, looked up so that a stranger learns nothing.

A look-up always fetches one row, that of the next selector on record, and always computes one HMAC and the same
comparisons; whether the row is the code's, and whether it may be used, is decided at the end. So neither the answer nor
its time tells an unknown code from a replaced, suspended or revoked one.
"""

from __future__ import annotations

from typing import Any, Final

from tallystick.authority.codes import ActivationCode, matches
from tallystick.authority.office import Work
from tallystick.authority.schema import ENTITLEMENT
from tallystick.authority.sql import sa
from tallystick.errors import error
from tallystick.license.model import ACTIVE

_LOWEST: Final = sa.select(ENTITLEMENT.c.id).order_by(ENTITLEMENT.c.selector).limit(1)
_NEXT: Final = _LOWEST.where(ENTITLEMENT.c.selector >= sa.bindparam("least"))
_LOOK: Final = sa.select(ENTITLEMENT).where(
    ENTITLEMENT.c.id == sa.func.coalesce(_NEXT.scalar_subquery(), _LOWEST.scalar_subquery())
)


def new_code(work: Work) -> tuple[ActivationCode, dict[str, Any]]:
    """Make a code.

    Args:
        work: the transaction.

    Returns:
        The code, and the columns that are stored of it.
    """
    code = ActivationCode.generate(work.random)
    while work.find(ENTITLEMENT, selector=code.selector) is not None:  # once in a million sales to a million customers
        code = ActivationCode.generate(work.random)
    return code, {"selector": code.selector, "verifier": code.verifier(work.office.pepper)}


def by_code(work: Work, text: str) -> sa.Row[Any]:
    """Find the entitlement of an activation code.

    Args:
        work: the transaction.
        text: the code, as typed.

    Returns:
        The row of an active entitlement.

    Raises:
        AuthorityError: ``code_typo`` by the checksum alone; ``code_invalid`` for everything else.
    """
    given = bool(text.strip())
    code = ActivationCode.from_text(text) if given else ActivationCode(0)
    row = work.db.execute(_LOOK, {"least": code.selector}).one_or_none()
    if row is not None:
        right = matches(code, work.office.pepper, row.selector, row.verifier)
        if right & (row.status == ACTIVE) & given:
            return row
    raise error("code_invalid", "this activation code cannot be used")
