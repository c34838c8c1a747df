# SPDX-License-Identifier: Apache-2.0
"""What a container writes: requests and receipts, from its account and signed by its anchor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from tallystick.codec.digest import sha256
from tallystick.codec.envelope import open_key, seal_key
from tallystick.codec.keys import PublicKey
from tallystick.container.anchor import Anchor
from tallystick.container.exchanges import Given
from tallystick.container.ledger_install import account_of
from tallystick.container.state import State
from tallystick.errors import FormatError, error
from tallystick.license.grants import Grant
from tallystick.license.messages import FOLLOWED, Account, Exchange, Request
from tallystick.license.model import License
from tallystick.license.receipts import FOLLOWED as CONFIRMED
from tallystick.license.receipts import Receipt, Share
from tallystick.version import __version__

_NOTHING: Final[Mapping[bytes, tuple[bytes, ...]]] = {}


def write_request(
    anchor: Anchor, state: State, draft: Request, more: Callable[[bytes], Mapping[str, bytes]] | None = None
) -> bytes:
    """Write a request with everything the vendor, or another container, wants to know of this one.

    Args:
        anchor: whose keys.
        state: the account.
        draft: whom it asks, when, for what; the rest is filled in.
        more: collects further evidence that covers a challenge.

    Returns:
        The signed message.

    Raises:
        UsageError: ``usage`` for an argument no issuer could read.
        BackendError: the anchor fails.
    """
    vendor, lending = draft.vendor, draft.want is not None
    request = draft.replace(
        agreement_key=anchor.agreement_key,
        accounts=() if lending else _accounts(state, vendor),
        variables={} if lending else dict(state.variables),
        generation=state.generation,
        keyset_seq=state.vendors[vendor].keyset_seq,
        software=f"tallystick/{__version__}",
        exchanges=() if lending else _exchanges(state, vendor),
        previous=state.written.get(vendor, ()) if draft.action in FOLLOWED else None,
    )
    challenge = _checked(request)
    covered = sha256(challenge)
    evidence = {**anchor.evidence(covered), **({} if more is None else more(covered))}
    return request.replace(evidence=evidence).sign(anchor)


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
    shares: tuple[Share, ...] = (),
    given_back: Mapping[bytes, tuple[bytes, ...]] = _NOTHING,
) -> bytes:
    """Write a receipt.

    Args:
        anchor: whose keys.
        state: the account.
        vendor: whom.
        now: container's time.
        message_id: 16 random bytes.
        purpose, about, accounts, shares, given_back: as in `Receipt`.

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
        shares=shares,
        given_back=given_back,
        previous=state.written.get(vendor, ()) if purpose in CONFIRMED else None,
    )
    return receipt.sign(anchor)


def write_grant(anchor: Anchor, state: State, entry: Given, now: int, content_keys: Mapping[str, bytes]) -> bytes:
    """Write a grant that was debited.

    Args:
        anchor: whose keys.
        state: the account, the debit in it.
        entry: the grant's entry.
        now: container's time.
        content_keys: content keys sealed to the receiver, by name.

    Returns:
        The signed message.

    Raises:
        BackendError: the anchor fails.
    """
    holding = state.holdings[entry.part]
    grant = Grant(
        vendor=holding.vendor,
        issued_at=now,
        xid=entry.xid,
        receiver=PublicKey.from_cose(entry.receiver).thumbprint,
        giver=anchor.public_key,
        parent=holding.message,
        in_reply_to=entry.request_id,
        amounts=entry.amounts,
        seq=entry.seq,
        features=entry.features,
        ends=entry.ends,
        first_use=dict(holding.first_use),
        contact=holding.contact,
        content_keys=dict(content_keys),
        keyset=state.vendors[holding.vendor].keyset,
    )
    return grant.sign(anchor)


def sealed_for(anchor: Anchor, license_: License, receiver: PublicKey | None) -> dict[str, bytes]:
    """Seal a license's content keys to another container.

    Args:
        anchor: opens them.
        license_: held here.
        receiver: the agreement key of the receiver; None where it has none.

    Returns:
        The sealed keys, by name; none where either side cannot agree.

    Raises:
        BackendError: the anchor fails.
    """
    if receiver is None or anchor.agreement_key is None:
        return {}
    return {name: seal_key(open_key(sealed, anchor.agree), receiver) for name, sealed in license_.content_keys.items()}


def _accounts(state: State, vendor: str) -> tuple[Account, ...]:
    """Report what is held of a vendor; what came by grants is the giver's to report."""
    return tuple(
        account_of(holding)
        for part, holding in state.holdings.items()
        if holding.vendor == vendor and part not in state.arrivals
    )


def _exchanges(state: State, vendor: str) -> tuple[Exchange, ...]:
    if not (state.given or state.arrivals):
        return ()
    from tallystick.container.loans import exchanges_of  # only where something was lent

    return exchanges_of(state, vendor)


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
