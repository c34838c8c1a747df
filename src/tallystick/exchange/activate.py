# SPDX-License-Identifier: Apache-2.0
"""Taking in what an issuer or another container sent: the right kind into the right container, and a refusal named for
what it is.
"""

from __future__ import annotations

from typing import Final

from tallystick.codec import kinds
from tallystick.container.base import Container, Outcome
from tallystick.errors import TallystickError, error
from tallystick.exchange.identify import expect, identify
from tallystick.license.trust import Trust

FROM_CONTAINERS: Final = (kinds.GRANT, kinds.MOVE, kinds.RECALL, kinds.RECEIPT)


def import_message(container: Container, data: bytes) -> Outcome:
    """Import what a vendor or another container sent. The same file again changes nothing and returns the same receipt.

    Args:
        container: open.
        data: the file's contents, armor taken off (`exchange.files.read_message`).

    Returns:
        What it did; a refusal is taken and returned as `Outcome.refusal`, see `refused`.

    Raises:
        FormatError: ``wrong_kind`` saying what the file is, what is needed and where it belongs; ``malformed``.
        VerificationError, NotFoundError, LendingError, LockedError, StorageError, BackendError: as `Container.install`.
    """
    if identify(data).kind not in FROM_CONTAINERS:
        expect(data, kinds.UPDATE, kinds.REFUSAL)
    return container.install(data)


def refused(outcome: Outcome) -> TallystickError | None:
    """Return the issuer's refusal as an error, to be shown after it was taken.

    Args:
        outcome: of an import.

    Returns:
        ``request_refused`` with the issuer's code in ``details["reason"]``; None where it was no refusal.
    """
    refusal = outcome.refusal
    if refusal is None:
        return None
    message = f"{refusal.vendor} refused the request: {refusal.message}"
    request_id = refusal.in_reply_to.hex()
    return error("request_refused", message, refusal.remedy or None, reason=refusal.code, request_id=request_id)


def record_trust(container: Container, trust: Trust) -> None:
    """Record a vendor's root key in a container, so that later requests need not name it.

    Args:
        container: open.
        trust: the vendor's.

    Raises:
        VerificationError: ``wrong_vendor`` where the vendor is known with another root key.
        ContainerError: ``not_supported`` where the container records no trust.
        LockedError, StorageError, BackendError.
    """
    record = getattr(container, "record_trust", None)
    if record is None:
        raise error("not_supported", "this container records no vendor's key", "Name the vendor with each request.")
    record(trust)
