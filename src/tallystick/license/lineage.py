# SPDX-License-Identifier: Apache-2.0
"""A license held by grants: the chain from the issuer's signature to this container, verified offline.

Performed by `read_chain` for every grant of the chain, from the issuer's license down; for a grant that can be read,
``error.details["step"]`` names the step that failed:

(0) Shape: a grant; at most `MAX_DEPTH` in a row.
(1) Giver: the parent's `cnf` is the thumbprint of the key the grant names.
(2) Signature: over the very bytes received, by that key.
(3) Vendor: the license's.
(4) Permission: the license's terms allow this kind of grant, at this depth, to this receiver, for this long.
(5) Amounts: of counters the license has, none above what the parent gives; a seat at least, where seats are counted.
(6) Features: only ones the parent has.
(7) Ends: not after the parent's.

What comes out is the *effective license*: the issuer's, with the granted amounts in place of its own, the earliest end,
and the receiver as its container. The policy, the seat and the ledger read it as they read any license.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tallystick.codec import cose, kinds
from tallystick.errors import error
from tallystick.license.grant_policy import MAX_DEPTH, SEATS, TOLERANCE_S, GrantPolicy, held, policy_of
from tallystick.license.grants import Grant, read_grant
from tallystick.license.model import Feature, License
from tallystick.license.policy import earlier


def read_chain(message: bytes, accept_license: Callable[[bytes], License], depth: int = 0) -> License:
    """Verify a grant and everything it comes from.

    Args:
        message: the bytes received.
        accept_license: verifies the issuer's license at the top, whatever container it is bound to.
        depth: grants below this one.

    Returns:
        The effective license.

    Raises:
        FormatError: malformed, another kind, or an unknown field.
        VerificationError: ``grant_invalid``, ``bad_signature``, ``unknown_issuer``, ``wrong_vendor`` or ``bad_key``;
            and what `accept_license` raises.
    """
    if depth >= MAX_DEPTH:  # (0)
        raise error("grant_invalid", f"more than {MAX_DEPTH} grants in a row", step=0)
    grant = read_grant(message)
    if cose.seems(grant.parent, kinds.GRANT):
        parent = read_chain(grant.parent, accept_license, depth + 1)
    else:
        parent = accept_license(grant.parent)
        parent.require_complete()
    if parent.container != grant.giver.thumbprint:  # (1), and with it (2): `read_grant` verified under that key
        raise error("grant_invalid", "the giver of this grant is not the container that held the license", step=1)
    if grant.vendor != parent.vendor:  # (3)
        raise error("wrong_vendor", f"a grant of {grant.vendor} for a license of {parent.vendor}", step=3)
    check_shrinks(parent, grant)
    return effective(parent, grant)


def check_shrinks(parent: License, grant: Grant) -> None:
    """Steps (4) to (7): a grant gives nothing its giver did not have.

    Raises:
        VerificationError: ``grant_invalid``.
    """
    policy = policy_of(parent, grant.ends)
    if policy is None or (parent.borrowed_until is not None and grant.ends is None):
        raise _invalid("the license may not be given on like this", 4)
    if parent.depth > policy.max_depth or (policy.receivers and grant.receiver not in policy.receivers):
        raise _invalid("the license may not be given on so often, or not to this container", 4)
    if grant.ends is not None and policy.max_duration is not None:
        if grant.ends - grant.issued_at > policy.max_duration:
            raise _invalid("the loan is longer than the license allows", 4)
    if not any(grant.amounts.values()) or (parent.terms.seats is not None and not grant.amounts.get(SEATS)):
        raise _invalid("the grant gives nothing, or no seat of a license that counts seats", 5)
    for counter, amount in grant.amounts.items():
        most = held(parent, counter)
        if most is None or amount > most:
            raise _invalid("the grant gives more than its giver had", 5)
    if grant.features is not None and not set(grant.features) <= set(parent.features):
        raise _invalid("the grant gives features its giver did not have", 6)
    if grant.ends is not None and parent.borrowed_until is not None and grant.ends > parent.borrowed_until:
        raise _invalid("the loan ends after the one it comes from", 7)


def effective(parent: License, grant: Grant) -> License:
    """Put a grant into force.

    Args:
        parent: the effective license of the giver.
        grant: verified.

    Returns:
        The effective license of the receiver.
    """
    terms = parent.terms
    policy = policy_of(parent, grant.ends) or GrantPolicy()
    names = parent.features if grant.features is None else grant.features
    features = {name: _feature(parent.features[name], name, grant.amounts) for name in names}
    end = None if grant.ends is None else grant.ends - TOLERANCE_S
    changes: dict[str, Any] = {
        "expires": earlier(terms.expires, end),
        "overage": 0,
        "min_level": max(terms.min_level, policy.min_level),
    }
    if terms.units is not None:
        changes["units"] = grant.amounts.get("", 0)
    if terms.seats is not None:
        changes["seats"] = grant.amounts.get(SEATS, 0)
    return parent.replace(
        terms=terms.replace(**changes),
        features=features,
        container=grant.receiver,
        content_keys=grant.content_keys,
        xid=grant.xid,
        giver=grant.giver.thumbprint,
        depth=parent.depth + 1,
        borrowed_at=parent.borrowed_at if grant.ends is None else grant.issued_at,
        borrowed_until=parent.borrowed_until if grant.ends is None else grant.ends,
    )


def _feature(feature: Feature, name: str, amounts: Mapping[str, int]) -> Feature:
    if feature.units is None:
        return feature
    return feature.replace(units=amounts.get(name, 0), overage=0)


def _invalid(message: str, step: int) -> Exception:
    return error("grant_invalid", message, step=step)
