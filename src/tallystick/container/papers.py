# SPDX-License-Identifier: Apache-2.0
"""What a container writes: requests and receipts, from its account and signed by its anchor."""

from __future__ import annotations

from tallystick.codec.digest import sha256
from tallystick.container.anchor import Anchor
from tallystick.container.ledger_install import account_of
from tallystick.container.state import State
from tallystick.errors import FormatError, error
from tallystick.license.messages import Account, Receipt, Request
from tallystick.version import __version__


def write_request(
    anchor: Anchor,
    state: State,
    *,
    vendor: str,
    now: int,
    request_id: bytes,
    action: int,
    code: str,
    product: str,
    quantity: int,
    backend: str,
) -> bytes:
    """Write a request with everything the vendor wants to know of this container.

    Args:
        anchor: whose keys.
        state: the account.
        vendor: whom.
        now: container's time.
        request_id: 16 random bytes.
        action, code, product, quantity: as in `Request`.
        backend: scheme of the container.

    Returns:
        The signed message.

    Raises:
        UsageError: ``usage`` for an argument no issuer could read.
        BackendError: the anchor fails.
    """
    request = Request(
        vendor=vendor,
        created_at=now,
        request_id=request_id,
        key=anchor.public_key,
        action=action,
        code=code,
        product=product,
        quantity=quantity,
        agreement_key=anchor.agreement_key,
        accounts=tuple(account_of(holding) for holding in state.holdings.values() if holding.vendor == vendor),
        variables=dict(state.variables),
        generation=state.generation,
        backend=backend,
        keyset_seq=state.vendors[vendor].keyset_seq,
        software=f"tallystick/{__version__}",
    )
    challenge = _checked(request)
    return request.replace(evidence=anchor.evidence(sha256(challenge))).sign(anchor)


def write_receipt(
    anchor: Anchor,
    state: State,
    *,
    vendor: str,
    now: int,
    message_id: bytes,
    purpose: int,
    about: bytes | None,
    accounts: tuple[Account, ...],
) -> bytes:
    """Write a receipt.

    Args:
        anchor: whose keys.
        state: the account.
        vendor: whom.
        now: container's time.
        message_id: 16 random bytes.
        purpose, about, accounts: as in `Receipt`.

    Returns:
        The signed message.

    Raises:
        BackendError: the anchor fails.
    """
    receipt = Receipt(
        vendor=vendor,
        created_at=now,
        message_id=message_id,
        container=state.container,
        purpose=purpose,
        about=about,
        accounts=accounts,
        variables=dict(state.variables),
        generation=state.generation,
    )
    return receipt.sign(anchor)


def _checked(request: Request) -> bytes:
    """Read a request as the issuer will, and return its challenge."""
    try:
        table = Request.table()
        table.read(table.write(request))
        if not request.quantity:
            raise error("malformed", "a quantity of 1 or more is needed")
        return request.challenge()
    except (FormatError, TypeError, UnicodeEncodeError) as cause:
        why = cause.message if isinstance(cause, FormatError) else "not a text"
        raise error("usage", f"a request no vendor could read: {why}") from cause
