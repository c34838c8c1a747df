# SPDX-License-Identifier: Apache-2.0
"""Which licenses may leave in an update, and who can read it.

What a TPM says of a container is proven only when the TPM opens something made for it. So an answer to such a request
is sealed to that TPM (`license.sealed`), and a license that asks for an attested container leaves in no other way until
the container has shown that it opened one: by naming the license, whose id nobody else was told. A license that needs a
higher level than its container proves now stays here, too, unless it says that it may not be used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from tallystick.authority.office import Work
from tallystick.authority.schema_tpm import ATTESTED
from tallystick.authority.sql import sa
from tallystick.authority.standing import Standing
from tallystick.license.answers import Update
from tallystick.license.model import ACTIVE, License

_PROVEN_BY_OPENING: Final = 2  # from this level on, a TPM's word alone is not enough


def is_sealed(standing: Standing | None) -> bool:
    """Tell whether the answer to a request is for one TPM only.

    Args:
        standing: what the request proves; None for an update that answers none.
    """
    return standing is not None and standing.attested is not None and standing.attested.level > 0


def may_leave(
    work: Work, container: bytes, rows: Sequence[sa.Row[Any]], licenses: Sequence[License], standing: Standing | None
) -> list[bool]:
    """Tell which licenses an update may carry.

    Args:
        work: the transaction.
        container: thumbprint of the receiver.
        rows: of its licenses.
        licenses: what these say now.
        standing: what the request proves that the update answers; None where it answers none.

    Returns:
        The answer for each.
    """
    unread = not is_sealed(standing) and work.find(ATTESTED, container=container) is not None
    found = []
    for row, license_ in zip(rows, licenses, strict=True):
        needed = license_.terms.min_level
        unopened = unread and needed >= _PROVEN_BY_OPENING and row.installed_at is None
        counted = license_.meter is not None and standing is not None and standing.level >= _PROVEN_BY_OPENING
        too_low = standing is not None and license_.status == ACTIVE and needed > standing.level and not counted
        found.append(not unopened and not too_low)
    return found


def seal(work: Work, update: Update, standing: Standing | None) -> Update:
    """Seal an update where its receiver has a TPM.

    Args:
        work: the transaction.
        update: what is to be sent.
        standing: what the request proves that it answers; None where it answers none.

    Returns:
        The update, sealed or as it was.

    Raises:
        AuthorityError: the endorsement key cannot encrypt.
    """
    attested = None if standing is None else standing.attested
    if attested is None or not is_sealed(standing):
        return update
    from tallystick.authority.attest.credential import make_credential
    from tallystick.license.sealed import seal_update

    return seal_update(update, lambda secret: make_credential(attested, secret, work.random), work.random)
