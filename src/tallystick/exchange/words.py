# SPDX-License-Identifier: Apache-2.0
"""Terms in words for people, and in plain values for programs (`plain` makes what `json.dumps` takes)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from tallystick.codec.ident import container_id
from tallystick.codec.keys import ALGORITHMS, PublicKey
from tallystick.license.dates import show, span
from tallystick.license.grant_policy import MAY_EXTEND, MAY_PULL, MAY_PUSH, MAY_RECALL, MAY_RETURN, GrantPolicy
from tallystick.license.model import (
    EXCLUSIVE,
    NO_LIMIT,
    STATION_SHARE,
    TOUCH_LEND,
    TOUCH_UNLOCK,
    TOUCH_USE,
    USER_LIMIT,
    Feature,
    Terms,
)
from tallystick.record import Record

Line = tuple[str, str]

STATUS_NAMES: Final = ("active", "suspended", "revoked")
_MODES: Final = {
    USER_LIMIT: "user limit", STATION_SHARE: "station share", EXCLUSIVE: "exclusive", NO_LIMIT: "no limit",
}  # fmt: skip
_TOUCH: Final = (
    (TOUCH_USE, "to use units or begin a usage period"), (TOUCH_UNLOCK, "to open content"),
    (TOUCH_LEND, "to lend or give it up"),
)  # fmt: skip
RIGHTS: Final[Mapping[str, int]] = {
    "return": MAY_RETURN, "recall": MAY_RECALL, "extend": MAY_EXTEND, "pull": MAY_PULL, "push": MAY_PUSH,
}  # fmt: skip
_AFTERWARDS: Final = ((MAY_RETURN, "early return"), (MAY_RECALL, "recall"), (MAY_EXTEND, "extension"))
_DIRECTIONS: Final = {
    MAY_PULL: "where the receiver asks for it",
    MAY_PUSH: "by a standing invitation only", MAY_PULL | MAY_PUSH: "",
}  # fmt: skip
_NO_COUNTS: Final[Mapping[str, int]] = {}


def terms_in_words(terms: Terms | Feature) -> tuple[Line, ...]:
    """Say what terms restrict, one line each.

    Args:
        terms: of a license or a feature.

    Returns:
        ``(name, text)`` in the order a reader asks; empty where nothing is restricted.
    """
    lines = [*_times(terms)]
    if terms.units is not None:
        extra = f", and {terms.overage} over, which are reported" if terms.overage else ""
        lines.append(("units", f"{terms.units}{extra}"))
    if isinstance(terms, Terms):
        lines += _license_wide(terms)
    return tuple(lines)


def summary(terms: Terms | Feature) -> str:
    """Say what terms restrict, on one line.

    Args:
        terms: of a license or a feature.

    Returns:
        For example ``expires 2027-01-01 00:00 UTC; units 100``; ``without limit`` where nothing is restricted.
    """
    return "; ".join(f"{name} {text}" for name, text in terms_in_words(terms)) or "without limit"


def counted(terms: Terms | Feature, used: int) -> str:
    """Say how much of a counter is left.

    Args:
        terms: with units.
        used: how many are gone.

    Returns:
        For example ``97 of 100 left``.
    """
    units = terms.units or 0
    if used > units:
        return f"0 of {units} left, {used - units} over"
    return f"{units - used} of {units} left"


def key_in_words(key: PublicKey) -> str:
    """Name a public key: its algorithm and the beginning of its thumbprint."""
    return f"{ALGORITHMS[key.alg].name} {key.thumbprint.hex()[:16]}"


def code_redacted(code: str) -> str:
    """Show of an activation code only what tells one from another: its first group.

    Args:
        code: as it stands in a request.

    Returns:
        For example ``7K3QF-... (redacted)``.
    """
    shown = code[:5] if len(code) >= 20 else ""
    return f"{shown}-... (redacted)" if shown else "(redacted)"


def plain(value: Any) -> Any:
    """Turn records, bytes and keys into what JSON knows.

    Args:
        value: a record, mapping, sequence or plain value.

    Returns:
        Records as objects without the fields that have their default, bytes in hexadecimal, keys as
        ``{"alg", "thumbprint"}``; instants stay seconds since 1970.
    """
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, PublicKey):
        return {"alg": ALGORITHMS[value.alg].name, "thumbprint": value.thumbprint.hex()}
    if isinstance(value, Record):
        defaults = type(value).defaults
        shown = {name: getattr(value, name) for name in type(value).fields}
        return {name: plain(one) for name, one in shown.items() if name not in defaults or one != defaults[name]}
    if isinstance(value, Mapping):
        return {plain(key): plain(value[key]) for key in value}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item) for item in value]
    return value


def counts(used: Mapping[str, int] = _NO_COUNTS) -> str:
    """Write counters on one line; the license's own is ``units``."""
    return ", ".join(f"{name or 'units'} {value}" for name, value in used.items())


def _times(terms: Terms | Feature) -> list[Line]:
    lines: list[Line] = []
    if terms.not_before is not None:
        lines.append(("starts", show(terms.not_before)))
    if terms.expires is not None:
        lines.append(("expires", show(terms.expires)))
    if terms.usage_period is not None:
        lines.append(("usage period", f"{span(terms.usage_period)} from first use"))
    if terms.maintenance_from is not None or terms.maintenance_to is not None:
        since = "" if terms.maintenance_from is None else f" from {show(terms.maintenance_from)}"
        until = "" if terms.maintenance_to is None else f" before {show(terms.maintenance_to)}"
        lines.append(("maintenance", f"releases dated{since}{until}"))
    if terms.max_version is not None:
        lines.append(("version", f"up to {terms.max_version}"))
    return lines


def _license_wide(terms: Terms) -> list[Line]:
    lines: list[Line] = []
    if terms.seats is not None:
        lines.append(("seats", str(terms.seats)))
    if terms.min_level:
        lines.append(("container", f"of level L{terms.min_level} or higher"))
    if terms.check_in is not None:
        grace = f", with {span(terms.grace)} of grace" if terms.grace else ""
        lines.append(("check-in", f"contact with the vendor every {span(terms.check_in)}{grace}"))
    for name, policy in (("lending", terms.lend), ("transfer", terms.transfer)):
        if policy is not None:
            lines.append((name, policy_in_words(policy)))
    if not terms.offline:
        lines.append(("activation", "online only"))
    if terms.denied_modes:
        lines.append(("denied modes", ", ".join(_MODES[mode] for mode in terms.denied_modes)))
    if terms.linger:
        lines.append(("linger", f"a seat stays taken for {span(terms.linger)}"))
    if terms.touch:
        acts = ", ".join(text for bit, text in _TOUCH if terms.touch & bit)
        lines.append(("touch", f"in a dongle, press its button {acts}"))
    return lines


def policy_in_words(policy: GrantPolicy) -> str:
    """Say what a policy for lending or transfer allows.

    Args:
        policy: of a license, or of a container's administrator.

    Returns:
        For example ``allowed, up to 30 days, with early return, recall, 2 stay here``.
    """
    directions = policy.allowed & (MAY_PULL | MAY_PUSH)
    if not directions:
        return "not allowed"
    parts = ["allowed"]
    if policy.max_duration is not None:
        parts.append(f"up to {span(policy.max_duration)}")
    if _DIRECTIONS[directions]:
        parts.append(_DIRECTIONS[directions])
    rights = [name for bit, name in _AFTERWARDS if policy.allowed & bit]
    if rights:
        parts.append("with " + " and ".join(rights))
    if policy.max_depth:
        parts.append(f"given on {policy.max_depth} more time{'s' if policy.max_depth > 1 else ''}")
    if policy.min_level:
        parts.append(f"to level L{policy.min_level} or higher")
    if policy.low_water:
        parts.append(f"{policy.low_water} always stay here")
    if policy.max_per_receiver is not None:
        parts.append(f"at most {policy.max_per_receiver} to one receiver")
    if policy.receivers:
        parts.append("to " + " or ".join(container_id(receiver) for receiver in policy.receivers) + " only")
    return ", ".join(parts)
