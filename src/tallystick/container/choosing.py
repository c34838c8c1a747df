# SPDX-License-Identifier: Apache-2.0
"""Which licenses permit what an application asks for, in the order in which they should be used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from tallystick.container.slots_record import MODES
from tallystick.container.state import Holding, State
from tallystick.errors import TallystickError, error
from tallystick.license.model import License
from tallystick.license.policy import Facts, earlier, evaluate

_FOREVER: Final = 1 << 62
_SAYS_LITTLE: Final = ("feature_not_licensed", "mode_denied")  # another license's refusal may say more


def candidates(
    state: State,
    accept: Callable[[Holding], License],
    owner: tuple[str, str],
    features: Sequence[str],
    mode: str,
    facts: Facts,
) -> list[License]:
    """Find the licenses that permit all that is asked.

    Args:
        state: the account.
        accept: verifies a holding's license; raises what is wrong with it.
        owner: vendor and product.
        features: that must be licensed, all of them.
        mode: access mode, a key of `slots_record.MODES`.
        facts: about the application and the time.

    Returns:
        At least one license, the one that lasts longest first.

    Raises:
        NotLicensedError: the refusal that says most.
        VerificationError: no license is acceptable.
    """
    found: list[tuple[int, License]] = []
    refusal: TallystickError | None = None
    for holding in state.holdings.values():
        if (holding.vendor, holding.product) != owner:
            continue
        try:
            license_ = accept(holding)
            until: int | None = None
            for feature in ("", *features):
                verdict = evaluate(license_, holding.usage(), facts.replace(feature=feature) if feature else facts)
                verdict.require()
                until = earlier(until, verdict.valid_until)
            _require_permitted(license_, mode)
        except TallystickError as reason:
            if refusal is None or refusal.code in _SAYS_LITTLE:
                refusal = reason
            continue
        found.append((_FOREVER if until is None else until, license_))
    if found:
        return [license_ for _, license_ in sorted(found, key=lambda row: -row[0])]  # sorted keeps the older one first
    raise refusal or error("not_licensed", f"this container holds no license for {owner[1]} of {owner[0]}")


def _require_permitted(license_: License, mode: str) -> None:
    denied = license_.terms.denied_modes
    if MODES[mode] in denied:
        left = ", ".join(name for name, number in MODES.items() if number not in denied) or "none"
        message = f"{license_.product} may not be used in the mode {mode}; permitted: {left}"
        raise error("mode_denied", message, mode=mode)
